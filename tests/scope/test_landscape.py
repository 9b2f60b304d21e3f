"""The loss surface against a closed form; decision regions against known ones; nothing of the user's moved."""

import copy

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, scope
from glassgrad.errors import ArgumentError, ShapeError
from glassgrad.nn import functional as F


def test_a_quadratic_loss_gives_its_closed_form():
    gg.manual_seed(0)
    model = nn.Linear(6, 3, bias=False)
    w = model.weight.data.astype(np.float64)
    found = scope.landscape(model, (gg.eye(6), gg.zeros(6, 3)), steps=5, span=0.5, seed=4)
    rng = np.random.default_rng(4)
    u, v = (
        d * np.linalg.norm(w, axis=1, keepdims=True) / np.linalg.norm(d, axis=1, keepdims=True)
        for d in (rng.standard_normal(w.shape), rng.standard_normal(w.shape))
    )
    for i, b in enumerate(found.alphas):
        for j, a in enumerate(found.alphas):
            assert found.losses[i, j] == pytest.approx(np.mean((w + a * u + b * v) ** 2), rel=1e-4)
    assert found.centre == pytest.approx(np.mean(w**2), rel=1e-5)


def test_directions_are_as_long_as_the_filters():
    weights = np.random.default_rng(0).standard_normal((8, 3, 5, 5)) * np.arange(1, 9)[:, None, None, None]
    from glassgrad.scope.landscape import _like

    direction = _like(weights, np.random.default_rng(1))
    norms = [np.linalg.norm(a.reshape(8, -1), axis=1) for a in (weights, direction)]
    assert np.allclose(*norms)


def test_nothing_of_the_model_changes():
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
    x, y = gg.randn(32, 4), gg.randint(2, (32,))
    before, rng = copy.deepcopy(model.state_dict()), np.asarray(gg.get_rng_state())
    one, two = (scope.landscape(model, (x, y), steps=3) for _ in range(2))
    assert np.array_equal(one.losses, two.losses)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.data, before[key].data)
    assert np.array_equal(np.asarray(gg.get_rng_state()), rng) and model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_pit_is_sharper_than_a_plain():
    x, y = gg.eye(4), gg.zeros(4, 4)
    model = nn.Linear(4, 4, bias=False)
    gentle = scope.landscape(model, (x, y), lambda a, b: 0.1 * F.mse_loss(a, b))
    steep = scope.landscape(model, (x, y), lambda a, b: 10 * F.mse_loss(a, b))
    assert steep.sharpness > gentle.sharpness
    assert "in the middle" in repr(steep)


def test_regions_are_where_they_should_be():
    gg.manual_seed(0)

    class Corners(nn.Module):
        def forward(self, x):
            return gg.stack([x[:, 0], -x[:, 0], 2 * x[:, 1] - 0.5], dim=1)

    x = gg.randn(60, 2)
    found = scope.boundary(Corners(), x, gg.randint(3, (60,)), steps=50)
    for i, b in enumerate(found.ys):
        for j, a in enumerate(found.xs):
            assert found.answers[i, j] == int(np.argmax([a, -a, 2 * b - 0.5]))
    assert found.sure.min() >= 1 / 3 - 1e-6 and found.sure.max() <= 1


def test_eval_mode_for_the_question_and_the_old_mode_after():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    scope.boundary(model, gg.randn(10, 2), gg.randint(3, (10,)), steps=5)
    assert model.training and model[1].training
    model[1].eval()
    scope.boundary(model, gg.randn(10, 2), gg.randint(3, (10,)), steps=5)
    assert model.training and not model[1].training


def test_pictures_have_labels(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    gg.manual_seed(0)
    x, y = gg.randn(40, 2), gg.randint(2, (40,))
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    land = scope.landscape(model, (x, y), steps=7)
    for view in (
        land.plot(),
        land.plot(like=land),
        scope.boundary(model, x, y, steps=30).plot(),
        scope.boundary(nn.Linear(2, 1), x, y.float(), steps=30).plot(),
    ):
        assert view.get_xlabel() and view.get_ylabel()
        view.figure.savefig(tmp_path / "view.png")
        matplotlib.pyplot.close(view.figure)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: scope.landscape(3, (gg.ones(2, 2), gg.ones(2))), ArgumentError, "model: got int"),
        (lambda: scope.landscape(nn.Linear(2, 1), gg.ones(2, 2)), ArgumentError, "expected a pair of tensors"),
        (lambda: scope.landscape(nn.Linear(2, 1), (gg.ones(2, 2), gg.ones(2, 1)), steps=4), ArgumentError, "expected an odd number"),
        (lambda: scope.landscape(nn.Linear(3, 1), (gg.ones(2, 2), gg.ones(2, 1))), ArgumentError, "can't be computed"),
        (lambda: scope.boundary(nn.Linear(3, 2), gg.ones(5, 3), gg.ones(5)), ShapeError, r"expected \(n, 2\)"),
        (lambda: scope.boundary(nn.Linear(2, 2), gg.ones(5, 2), gg.ones(4)), ShapeError, "for 5 points"),
        (lambda: scope.boundary(nn.Linear(2, 2), np.ones((5, 2)), gg.ones(5)), ArgumentError, "x: got ndarray"),
        (lambda: scope.boundary(nn.Linear(2, 2), gg.ones(5, 2) / 0, gg.ones(5).long()), ArgumentError, "finite points"),
        (lambda: scope.boundary(nn.Linear(2, 2), gg.ones(5, 2), gg.ones(5).long(), steps=1), ArgumentError, "steps: got 1"),
        (lambda: scope.boundary(nn.Linear(2, 9), gg.ones(5, 2), gg.ones(5).long()), ArgumentError, "9 classes"),
        (lambda: scope.boundary(nn.Linear(2, 3), gg.ones(5, 2), gg.ones(5)), ShapeError, "the model gave"),
    ],
)  # fmt: skip
def test_bad_use_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()
