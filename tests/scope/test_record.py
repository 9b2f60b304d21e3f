"""A recorded training: statistics as NumPy gives them, nothing changed, nothing left behind."""

import json
import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, optim, scope
from glassgrad.errors import ArgumentError
from glassgrad.nn import functional as F
from glassgrad.scope.record import BINS, SPAN


def made(seed=0):
    gg.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, gg.randn(64, 6), gg.randint(3, (64,))


def train(model, x, y, steps, rec=None, lr=0.1):
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if rec:
            rec.loss(loss)
        loss.backward()
        optimizer.step()


def hooks(model):
    return sum(
        len(value)
        for m in model.modules()
        for key, value in vars(m).items()
        if "hooks" in key and hasattr(value, "__len__")
    )


def test_statistics_are_numpys():
    model, x, y = made()
    seen = {}
    model[2].register_forward_hook(
        lambda m, args, out: (
            seen.update(y=out.data.copy()),
            out.register_hook(lambda dy: seen.update(dy=dy.data.copy())),
        )[0]
    )
    before = model[0].weight.data.copy()
    with scope.record(model, every=5, budget=None) as rec:
        train(model, x, y, 1, rec)
    column = {key: values[0] for key, values in rec.layers["2"].items()}
    a, dy = seen["y"].astype(np.float64), seen["dy"].astype(np.float64)
    for prefix, array in (("", a), ("gradient_", dy)):
        assert column[prefix + "rms"] == pytest.approx(math.sqrt((array**2).mean()), rel=1e-5)
        assert column[prefix + "mean"] == pytest.approx(array.mean(), rel=1e-4, abs=1e-9)
        assert column[prefix + "std"] == pytest.approx(array.std(), rel=1e-4)
    assert column["saturated"] == pytest.approx((1 - a**2 < 0.1).mean(), abs=1e-6)
    assert column["histogram"] == np.histogram(np.clip(a, -SPAN, SPAN), BINS, (-SPAN, SPAN))[0].tolist()
    assert sum(column["gradient_histogram"]) == dy.size
    ratio = rec.parameters["0.weight"]["update_ratio"][0]
    moved = model[0].weight.data - before
    assert ratio == pytest.approx(math.log10(np.sqrt((moved**2).mean()) / before.std()), abs=1e-4)
    assert rec.parameters["0.weight"]["spectrum"][0] == pytest.approx(np.linalg.svd(before, compute_uv=False), rel=1e-4)


def test_dead_units_are_those_that_are_off_for_every_sample():
    model, x, y = made()
    model[3].bias.data[:4] = -100
    with scope.record(model, every=1, budget=None) as rec:
        train(model, x, y, 1)
    assert rec.layers["4"]["dead"] == [0.5]


def test_the_terms_of_batch_norm_add_up_to_its_gradient():
    model, x, y = made()
    x.requires_grad_()
    norm = nn.Sequential(nn.BatchNorm1d(6))
    weight = gg.randn(64, 6)
    with scope.record(norm, every=1, budget=None) as rec:
        (norm(x) * weight).sum().backward()
    data, dy = x.data, weight.data
    sigma = np.sqrt(data.var(axis=0) + 1e-5)
    xhat = (data - data.mean(axis=0)) / sigma
    terms = dy / sigma, dy.mean(axis=0) / sigma * np.ones_like(dy), xhat * (dy * xhat).mean(axis=0) / sigma
    assert np.allclose(terms[0] - terms[1] - terms[2], x.grad.data, atol=1e-5)
    columns = rec.norms["0"]
    for key, term in zip(("term_dy", "term_mean", "term_xhat"), terms, strict=True):
        assert columns[key][0] == pytest.approx(math.sqrt((term**2).mean()), rel=1e-4)
    assert columns["batch_mean"][0] == pytest.approx(data.mean(axis=0), abs=1e-5)


def test_recording_changes_no_bit_and_leaves_no_hook():
    plain, x, y = made()
    train(plain, x, y, 12)
    model, x, y = made()
    before = hooks(model)
    with scope.record(model, every=1, budget=None) as rec:
        train(model, x, y, 12, rec)
    assert len(rec.steps) == 12 and hooks(model) == before
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    train(model, x, y, 2)
    assert len(rec.steps) == 12


def test_what_was_sampled_before_an_error_is_kept():
    model, x, y = made()
    before = hooks(model)
    with pytest.raises(RuntimeError, match="mine"):
        with scope.record(model, every=1, budget=None) as rec:
            train(model, x, y, 3)
            raise RuntimeError("mine")
    assert rec.steps == [0, 1, 2] and hooks(model) == before
    with scope.record(model, every=1, budget=None) as again:
        train(model, x, y, 1)
    assert again.steps == [0]


def test_only_training_steps_count():
    model, x, y = made()
    with scope.record(model, every=2, budget=None) as rec:
        for _ in range(4):
            train(model, x, y, 1)
            model.eval()
            model(x)
            model.train()
            with gg.no_grad():
                model(x)
    assert rec.steps == [0, 2]


def test_nan_infinity_and_denormals_are_counted():
    class Odd(nn.Module):
        def forward(self, x):
            return x * gg.tensor([1.0, math.nan, math.inf, 1e-40])

    model = nn.Sequential(nn.Linear(4, 4), Odd())
    nn.init.ones_(model[0].weight)
    with scope.record(model, every=1, budget=None) as rec:
        model(gg.ones(8, 4)).sum().backward()
    column = rec.layers["1"]
    assert column["nonfinite"] == [16] and column["denormal"] == [8]
    assert "NaN or infinite" in rec.line()
    json.loads(rec.to_json(), parse_constant=pytest.fail)


class Poke(nn.Module):
    """One NaN among many numbers."""

    def forward(self, x):
        factor = np.ones(x.shape, np.float32)
        factor[1, 1] = np.nan
        return x * gg.tensor(factor)


@pytest.mark.parametrize("width", [96, 128])
def test_large_arrays_are_thinned_without_missing_a_nan_or_a_column(width):
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), Poke())
    model[0].weight.data[:] = 0
    model[0].bias.data[:] = np.where(np.arange(width) % 2, -1, 1)  # every other unit is off
    with scope.record(model, every=1, budget=None) as rec:
        model(gg.randn(512, 4)).sum().backward()
    assert rec.layers["1"]["saturated"][0] == pytest.approx(0.5, abs=0.01)
    assert rec.layers["2"]["nonfinite"] == [1]


def test_modules_that_return_integers_are_passed_over():
    class Pick(nn.Module):
        def forward(self, x):
            return x.argmax(dim=1)

    model = nn.Sequential(nn.Linear(4, 3), Pick())
    with scope.record(model, every=1, budget=None) as rec:
        model(gg.randn(5, 4))
    assert rec.layers["1"] == {} and rec.layers["0"]["rms"]


def test_a_look_without_gradients_takes_nothing_away():
    model = nn.Sequential(nn.Linear(4, 3))
    with scope.record(model, every=1, budget=None) as rec:
        loss = model(gg.randn(5, 4)).sum()
        with gg.no_grad():
            model(gg.randn(5, 4))
        loss.backward()
    assert rec.parameters["0.weight"]["gradient_rms"][0] > 0


def test_a_budget_leaves_samples_out_and_says_what_it_cost():
    model, x, y = made()
    with scope.record(model, every=1) as rec:
        train(model, x, y, 200)
    assert 1 <= len(rec.steps) < 200
    assert 0 < rec.cost < 0.5


def test_a_record_comes_back_from_its_file(tmp_path):
    model, x, y = made()
    with scope.record(model, every=3, budget=None) as rec:
        train(model, x, y, 20, rec)
    path = tmp_path / "run.json"
    text = rec.to_json(path)
    again = scope.Record.from_json(path)
    assert again.to_json() == text and again.line() == rec.line()
    assert rec.losses[0] > rec.losses[-1]
    path.write_text("{}")
    with pytest.raises(ArgumentError, match="expected what to_json"):
        scope.Record.from_json(path)


def test_the_figure_has_six_panels_with_labels(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    for model, x, y in (made(), (nn.Sequential(nn.Linear(6, 3)), *made()[1:])):
        with scope.record(model, every=2, budget=None) as rec:
            train(model, x, y, 25)
        figure = rec.plot()
        assert len(figure.axes) == 6
        for ax in figure.axes:
            assert ax.get_title(loc="left") and (ax.get_xlabel() or ax.texts)
        figure.savefig(tmp_path / "record.png")
        matplotlib.pyplot.close(figure)


def test_live_prints_plain_words(capsys):
    model, x, y = made()
    with scope.record(model, every=5, budget=None, live=True) as rec:
        train(model, x, y, 11, rec)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 3 and lines[1].startswith("step 5 | loss ")


def test_bad_use_is_named():
    model, x, y = made()
    for bad, says in (
        ({"model": 3}, "model: got int"),
        ({"model": model, "every": 0}, "every: got 0"),
        ({"model": model, "kinds": (nn.Sigmoid,)}, "without any Sigmoid"),
    ):
        with pytest.raises(ArgumentError, match=says):
            scope.record(**bad)
    with scope.record(model) as rec:
        with pytest.raises(ArgumentError, match="recorded already"):
            with scope.record(model):
                pass
    for view in (rec.plot, rec.to_html):
        with pytest.raises(ArgumentError, match="got no sample"):
            view()
