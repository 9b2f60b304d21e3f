"""The demo end to end, its theory against the papers' numbers, and the parts of ``glassgrad.scope`` it is made of."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.demo import main, pictures, report, trainings
from glassgrad.errors import ArgumentError
from glassgrad.scope import Recorder, per_layer, theory, thermometer

for package in ("matplotlib", "tqdm", "sklearn"):
    pytest.importorskip(package)

# ---------------------------------------------------------------------------------------------------------- the demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert main(["--fast", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_every_claim_that_needs_no_training_holds(results):
    wrong = [c["says"] for c in results["claims"] if c["holds"] is False]
    assert not wrong
    assert [c["name"] for c in results["claims"] if c["holds"] is None] == [
        "loss_xavier", "loss_he", "loss_plain", "loss_batchnorm", "loss_clipped",
    ]  # fmt: skip


def test_measured_factors_come_from_the_recorded_gradients(results):
    for row in results["thermometer"]["networks"]:
        assert len(row["gradients"]) == 30
        factor = (row["gradients"][0] / row["gradients"][-1]) ** (1 / 29)
        assert row["measured"] == pytest.approx(factor, rel=1e-4)
        assert 0 <= row["histogram"]["saturated"] <= 1


def test_one_seed_gives_he_and_xavier_the_same_draws(results):
    stuck, learns = results["relu_depth"]["sides"]
    for layer, (a, b) in enumerate(zip(stuck["signals"], learns["signals"], strict=True), start=1):
        assert a / b == pytest.approx(2 ** (-layer / 2), rel=1e-4)


def test_overflow_and_clipping(results):
    free, held = (side["run"] for side in results["exploding"]["sides"])
    assert free["overflow_step"] == len(free["losses"]) < 10
    assert held["overflow_step"] is None
    assert max(held["clipped"]) == pytest.approx(1, abs=1e-4)
    assert max(held["norms"]) > 100


def test_pictures(folder):
    from PIL import Image

    names = {path.stem for path in folder.glob("*.png")}
    assert names == {"thermometer", "relu_depth", "sigmoid_batchnorm", "exploding", "expression"}
    for path in folder.glob("*.png"):
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert image.width > 1000
            assert len(image.convert("L").getcolors()) > 20  # not blank


class Page(HTMLParser):
    """Collects what a browser would fetch or look up, and checks that tags close in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def _attributes(self, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action", "data", "poster") or name.startswith("xlink"):
                self.links.append(value)


def test_report_is_one_self_contained_page(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?://|//\w+\.\w+/|@import", text)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert page.tags.count("svg") == 14
    assert len(set(page.ids)) == len(page.ids)
    inside = [link[1:] for link in page.links if link.startswith("#")] + re.findall(r"url\(#([^)]+)\)", text)
    assert set(inside) <= set(page.ids)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)


def test_report_shows_the_numbers_of_the_run(folder, results):
    text = (folder / "report.html").read_text(encoding="utf-8")
    for row in results["thermometer"]["networks"]:
        assert pictures.factor_text(row["measured"]) in text
    for claim in results["claims"]:
        assert f"<td>{report.number(claim['measured'])}</td>" in text
    for value in results["versions"].values():
        assert value in text
    assert results["command"] in text


def test_table_has_a_row_per_claim(results):
    lines = report.table(results["claims"]).splitlines()
    assert len(lines) == len(results["claims"]) + 2
    assert lines[-1] == "15 of 15 predictions hold; 5 need the full run"


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest)
    )
    with pytest.raises(ArgumentError, match=r'no scikit-learn; .*pip install "glassgrad\[tutorials\]"'):
        main(["--out", str(tmp_path)])


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ArgumentError, match="--out: got"):
        main(["--fast", "--out", str(tmp_path / "taken")])


@pytest.mark.papers
@pytest.mark.parametrize(
    "act",
    [trainings.thermometer, trainings.relu_depth, trainings.sigmoid_batchnorm, trainings.exploding],
    ids=lambda act: act.__name__,
)
def test_every_claim_holds(act):
    _, claims = act(trainings.Digits(), trainings.Settings(), lambda: None)
    for claim in claims:
        assert claim.judged(fast=False).holds, (claim.says, claim.measured, claim.theory)


# ------------------------------------------------------------------------------------------------------------ theory


def test_theory_gives_the_published_numbers():
    assert theory.batchnorm_growth(8) == pytest.approx(1.7882, abs=1e-4)
    assert theory.batchnorm_growth(64) == pytest.approx(1.4931, abs=1e-4)
    assert theory.batchnorm_growth(10**9) == pytest.approx(math.pi / (math.pi - 1), abs=1e-6)
    assert theory.batchnorm_growth(8, "linear") == 1.2
    assert theory.batchnorm_limit("relu") == pytest.approx(math.pi / (math.pi - 1), abs=1e-10)
    assert theory.batchnorm_limit("linear") == pytest.approx(1, abs=1e-10)
    assert theory.chi_1(0.8, "tanh", 0.3) == pytest.approx(0.4957, abs=1e-4)
    assert theory.chi_1(2.0, "tanh", 0.3) == pytest.approx(1.3271, abs=1e-4)
    assert theory.chi_1(math.sqrt(2), "relu") == pytest.approx(1, abs=1e-12)
    assert theory.glorot_backward_ratio(100, 1 / 300) == pytest.approx(1 / 3)
    assert 1 / theory.xavier_over_he(30) == 2**15


@pytest.mark.parametrize("phi", theory.PHI)
def test_derivatives_of_phi(phi):
    f, derivative = theory.PHI[phi]
    z, h = np.linspace(-3, 3, 40), 1e-6
    np.testing.assert_allclose(derivative(z), (f(z + h) - f(z - h)) / (2 * h), atol=1e-8)


def test_gradients_grow_with_batchnorm_for_every_phi():
    assert all(theory.batchnorm_limit(phi) >= 1 - 1e-12 for phi in theory.PHI)


def test_theory_refuses_what_has_no_meaning():
    with pytest.raises(ArgumentError, match="at least 4"):
        theory.batchnorm_growth(3)
    with pytest.raises(ArgumentError, match="one of linear, relu, sigmoid, tanh"):
        theory.chi_1(1.0, "swish")


# ------------------------------------------------------------------------------------------------------------- scope


def test_recorder_sees_outputs_and_gradients():
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh())
    x = gg.randn(5, 3)
    with Recorder(model) as record:
        for _ in range(2):  # the last step is what stays
            y = model(x)
            y.square().sum().backward()
    relu, tanh = record.layers
    np.testing.assert_array_equal(tanh.output, y.data)
    np.testing.assert_allclose(tanh.gradient, 2 * y.data, rtol=1e-6)
    assert relu.name == "1" and relu.kind == "ReLU" and relu.gradient.shape == (5, 4)
    assert relu.saturated == np.mean(relu.output == 0)
    assert tanh.rms == pytest.approx(np.sqrt(np.mean(y.data.astype(float) ** 2)))
    before = record.layers[0]
    model(x)
    assert record.layers[0] is before  # no hook is left behind


def test_recorder_without_backward_and_without_activations():
    with Recorder(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())) as record:
        pass
    assert record.layers == []
    with pytest.raises(ArgumentError, match="expected at least one"):
        Recorder(nn.Linear(2, 2))


def test_gradient_size_does_not_underflow():
    layer = trainings.Layer("", nn.Sigmoid(), np.zeros((2, 2), np.float32))
    assert math.isnan(layer.gradient_rms)
    layer.gradient = np.full((2, 2), 1e-30, np.float32)
    assert layer.gradient_rms == pytest.approx(1e-30, rel=1e-5)


def test_thermometer_draws_what_was_recorded():
    import matplotlib

    matplotlib.use("Agg")
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    with Recorder(model) as record:
        y = model(gg.ones(3, 4))
        with pytest.raises(ArgumentError, match="Run backward"):
            thermometer(record.layers)
        y.sum().backward()
    first, last = (layer.gradient_rms for layer in record.layers)
    assert per_layer(record.layers) == pytest.approx(first / last)
    theory_line, dots = thermometer(record.layers, theory=0.5).lines
    np.testing.assert_allclose(dots.get_ydata(), [1, first / last])
    np.testing.assert_allclose(theory_line.get_ydata(), [1, 0.5])


def test_labels_keep_apart():
    places = pictures._apart([0.5, 0.51, 0.52, 0.9], 0.1)
    assert all(b - a >= 0.1 - 1e-12 for a, b in zip(places, places[1:], strict=False))
    assert places[1] == pytest.approx(0.51)
    assert pictures._apart([0.0], 0.1)[0] > 0
