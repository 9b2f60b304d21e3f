"""softmax, log_softmax, softmin: against PyTorch, and what they refuse."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from oracle import same_as_torch

F = gg.nn.functional
NAMES = ["softmax", "log_softmax", "softmin"]
inf, nan = np.inf, np.nan


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((3, 5), 1), ((3, 5), 0), ((2, 17, 3), -2), ((9,), 0), ((), 0), ((0, 3), 1), ((3, 0), 1), ((4, 1), 1)],
)
def test_same_as_torch(name, dtype, shape, dim, backend, rng):
    torch = pytest.importorskip("torch")
    x = np.asarray(rng.standard_normal(shape) * 5, dtype)
    theirs = getattr(torch.nn.functional, name)
    same_as_torch(torch, lambda t: getattr(F, name)(t, dim), lambda t: theirs(t, dim), x, tolerance=4)


@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_nan_are_torchs(name, backend):
    torch = pytest.importorskip("torch")
    x = np.array(
        [[0, -inf, 1], [-inf, -inf, -inf], [inf, 0, 1], [inf, inf, 0], [nan, 0, 1], [3e38, -3e38, 0]], np.float32
    )
    theirs = getattr(torch.nn.functional, name)
    with np.errstate(all="ignore"):
        same_as_torch(torch, lambda t: getattr(F, name)(t, 1), lambda t: theirs(t, 1), x)


def test_probabilities_sum_to_one(backend, rng):
    x = gg.from_numpy((rng.standard_normal((50, 1000)) * 30).astype(np.float32))
    np.testing.assert_allclose(gg.softmax(x, 1).sum(1).numpy(), 1, rtol=1e-5)


def test_log_softmax_is_finite_where_softmax_underflows(backend):
    x = gg.tensor([0.0, 1000.0])
    assert gg.softmax(x, 0).tolist() == [0.0, 1.0]
    assert gg.log_softmax(x, 0).tolist() == [-1000.0, 0.0]


def test_a_shift_changes_nothing(backend):
    x = gg.tensor([[1.0, 2.0, 4.0]], dtype=gg.float64)
    np.testing.assert_allclose(gg.softmax(x + 1e3, 1).numpy(), gg.softmax(x, 1).numpy(), rtol=1e-12)


def test_methods_and_dtype():
    x = gg.tensor([0, 0])
    assert gg.softmax(x, 0, dtype=gg.float64).dtype == gg.float64
    assert x.to(gg.float32).softmax(-1).tolist() == [0.5, 0.5]
    assert x.to(gg.float32).log_softmax(dim=0).shape == (2,)


def test_half_precision_keeps_its_dtype_and_its_digits():
    x = gg.from_numpy(np.linspace(-8, 8, 4000, dtype=np.float16)).requires_grad_()
    y = gg.softmax(x, 0)
    assert y.dtype == gg.float16
    expected = np.exp(x.detach().numpy().astype(np.float64))
    np.testing.assert_allclose(y.detach().numpy(), expected / expected.sum(), rtol=1e-3, atol=6e-8)
    y.sum().backward()
    assert x.grad.dtype == gg.float16


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name):
    f = getattr(F, name)
    with pytest.raises(ArgumentError, match=r"PyTorch would guess 1 here"):
        f(gg.ones(2, 3))
    with pytest.raises(ArgumentError, match=r"PyTorch would guess 0 here"):
        f(gg.ones(2, 3, 4))
    with pytest.raises(AxisError, match="softmax: dim out of range: got dim=2"):
        f(gg.ones(2, 3), 2)
    with pytest.raises(DTypeError, match=f"{name}: input is not floating: got int64"):
        f(gg.tensor([1, 2]), 0)
    with pytest.raises(DTypeError, match="bool"):
        f(gg.tensor([True, False]), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", ["relu6", "hardtanh", "hardsigmoid", "hardswish", "selu", "mish", "softsign", "glu", "elu", "leaky_relu"]
)
def test_composed_activations(name, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x = (rng.standard_normal((4, 6)) * 4).astype(dtype)
    tolerance = 1e5 if name == "hardsigmoid" else 8  # torch has a float32 1/6 in its float64 gradient
    if name in ("relu6", "hardtanh"):
        x[0, :3] = 0.0, -1.0, 6.0  # the kinks, where the gradient is 0
    same_as_torch(torch, getattr(F, name), getattr(torch.nn.functional, name), x, tolerance=tolerance)


@pytest.mark.parametrize("weights", [1, 3])
def test_prelu(weights, backend, rng):
    torch = pytest.importorskip("torch")
    x, weight = rng.standard_normal((4, 3, 2)), rng.standard_normal(weights)
    same_as_torch(torch, F.prelu, torch.nn.functional.prelu, x, weight, tolerance=8)
    with pytest.raises(ShapeError, match="prelu: weight"):
        F.prelu(gg.ones(2, 3), gg.ones(2))
    with pytest.raises(ShapeError, match="glu: no two halves"):
        F.glu(gg.ones(2, 3))
