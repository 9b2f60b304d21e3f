"""Pooling: against PyTorch in every argument, ties, NaN and infinities, and messages."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, DTypeError, ShapeError
from glassgrad.ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from oracle import same_as_torch


def check(function, shape, rng, **keywords):
    """Values and gradients here and in torch.nn.functional; for maxima the places too."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, function.__name__)
    x = rng.standard_normal(shape)
    same_as_torch(torch, lambda t: function(t, **keywords), lambda t: theirs(t, **keywords), x)
    if "max" in function.__name__:
        _, indices = function(gg.tensor(x), return_indices=True, **keywords)
        _, expected = theirs(torch.tensor(x), return_indices=True, **keywords)
        np.testing.assert_array_equal(indices.data, expected.numpy())


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("shape", "keywords"),
    [
        ((2, 3, 8, 9), {"kernel_size": 2}),
        ((2, 3, 8, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
        ((3, 8, 9), {"kernel_size": 3, "stride": 4, "padding": 1}),
        ((0, 3, 8, 9), {"kernel_size": 2}),
        ((2, 3, 5, 6), {"kernel_size": (5, 6)}),
        ((2, 3, 1, 1), {"kernel_size": 3, "padding": 1}),
        ((2, 3, 4, 4), {"kernel_size": 2, "stride": 3}),
    ],
)
class TestWindows:
    def test_max_pool2d(self, shape, keywords, ceil_mode, backend, rng):
        check(max_pool2d, shape, rng, ceil_mode=ceil_mode, **keywords)

    @pytest.mark.parametrize("count_include_pad", [False, True])
    def test_avg_pool2d(self, shape, keywords, ceil_mode, count_include_pad, backend, rng):
        check(avg_pool2d, shape, rng, ceil_mode=ceil_mode, count_include_pad=count_include_pad, **keywords)

    def test_divisor_override(self, shape, keywords, ceil_mode, rng):
        check(avg_pool2d, shape, rng, ceil_mode=ceil_mode, divisor_override=3, **keywords)


@pytest.mark.parametrize("dilation", [2, (1, 3)])
def test_dilation(dilation, backend, rng):
    check(max_pool2d, (2, 3, 8, 9), rng, kernel_size=(3, 2), stride=2, padding=1, dilation=dilation)


@pytest.mark.parametrize("shape", [(2, 3, 9), (3, 9)])
def test_one_axis(shape, backend, rng):
    check(max_pool1d, shape, rng, kernel_size=3, stride=2, padding=1, ceil_mode=True)
    check(max_pool1d, shape, rng, kernel_size=(2,), dilation=2)
    check(avg_pool1d, shape, rng, kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)


@pytest.mark.parametrize("output_size", [1, 2, (3, 5), (4, None), (None, 1), (12, 10), (6, 10)])
@pytest.mark.parametrize("shape", [(2, 3, 6, 10), (3, 7, 5)])
def test_adaptive(shape, output_size, backend, rng):
    check(adaptive_avg_pool2d, shape, rng, output_size=output_size)
    check(adaptive_max_pool2d, shape, rng, output_size=output_size)


@pytest.mark.parametrize("output_size", [1, 2, 3, 7, 10])
def test_adaptive_along_one_axis(output_size, backend, rng):
    check(adaptive_avg_pool1d, (2, 3, 10), rng, output_size=output_size)
    check(adaptive_max_pool1d, (3, 10), rng, output_size=output_size)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: max_pool2d(x, 2, stride=1),
        lambda x: max_pool2d(x, 2, dilation=2, return_indices=True)[0],
        lambda x: avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
        lambda x: avg_pool2d(x, 2, divisor_override=3),
        lambda x: adaptive_avg_pool2d(x, (3, 2)),
        lambda x: adaptive_max_pool2d(x, (3, 2)),
    ],
)
def test_second_derivative(function, backend, rng):
    x = gg.tensor(rng.permutation(40).reshape(2, 4, 5) / 10.0, requires_grad=True)
    assert gg.gradgradcheck(lambda x: function(x * x), x)


def test_the_first_of_equal_maxima_gets_the_gradient(backend):
    x = gg.ones(1, 2, 4, requires_grad=True)
    y, indices = max_pool2d(x, 2, return_indices=True)
    y.sum().backward()
    assert indices.tolist() == [[[0, 2]]]
    assert x.grad.tolist() == [[[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]


def test_overlapping_windows_add_up(backend):
    x = gg.tensor([[1.0, 5.0, 2.0]], requires_grad=True)
    max_pool1d(x, 2, stride=1).sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0, 0.0]]


@pytest.mark.parametrize("function", [max_pool2d, avg_pool2d])
def test_nan_and_infinity_stay_in_their_windows(function, backend, rng):
    torch = pytest.importorskip("torch")
    x = rng.integers(0, 3, (3, 12, 12)).astype(float)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < 0.1] = value
    x[0, :4, :4] = -np.inf
    theirs = getattr(torch.nn.functional, function.__name__)
    y, expected = (f(x, 3, stride=2, padding=1) for f, x in ((function, gg.tensor(x)), (theirs, torch.tensor(x))))
    np.testing.assert_array_equal(y.data, expected.numpy())


def test_indices_of_nan_and_infinity_are_pytorchs(backend, rng):
    torch = pytest.importorskip("torch")
    x = rng.choice([0.0, 1.0, np.nan, -np.inf], (3, 12, 12), p=[0.3, 0.3, 0.2, 0.2])
    x[0, :4, :4] = -np.inf
    _, indices = max_pool2d(gg.tensor(x), 2, return_indices=True)
    _, expected = torch.nn.functional.max_pool2d(torch.tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(indices.data, expected.numpy())


def test_a_window_without_an_element(backend):
    """Dilation can step over the whole input: its taps lie in the padding on both sides."""
    x = gg.ones(1, 1, requires_grad=True)
    y, indices = max_pool2d(x, 2, padding=1, dilation=2, return_indices=True)
    y.sum().backward()
    assert (y.tolist(), indices.tolist(), x.grad.tolist()) == ([[-np.inf]], [[-1]], [[0.0]])


def test_infinity_stays_in_its_stretch():
    x = gg.tensor([[[float("inf"), 1.0, 2.0, 3.0, 4.0]]])
    assert adaptive_avg_pool2d(x, (1, 2)).tolist() == [[[float("inf"), 3.0]]]


def test_no_stretches():
    x = gg.ones(1, 4, 4, requires_grad=True)
    y = adaptive_avg_pool2d(x, (0, 2))
    y.backward(gg.ones(1, 0, 2))
    assert y.shape == (1, 0, 2)
    assert not x.grad.data.any()


def test_maxima_of_integers(backend):
    y = max_pool2d(gg.arange(-16, 0).reshape(1, 4, 4), 3, stride=2, padding=1)
    assert (y.dtype, y.tolist()) == (gg.int64, [[[-11, -9], [-3, -1]]])


CASES = {
    "padding": (lambda: max_pool2d(gg.ones(1, 4, 4), 2, padding=2), ArgumentError, r"padding: got \(2, 2\); expected at most half of kernel_size=\(2, 2\)"),
    "kernel": (lambda: avg_pool2d(gg.ones(1, 4, 4), 5), ShapeError, r"kernel larger than the padded input: got \(5, 5\); expected at most \(4, 4\), from input \(1, 4, 4\)"),
    "dilated kernel": (lambda: max_pool2d(gg.ones(1, 4, 4), 3, dilation=2), ShapeError, r"got \(5, 5\) \(with dilation\)"),
    "stride": (lambda: max_pool2d(gg.ones(1, 4, 4), 2, stride=0), ArgumentError, "stride: got 0; expected an int >= 1"),
    "kernel of 0": (lambda: avg_pool1d(gg.ones(1, 4), 0), ArgumentError, r"kernel_size: got 0; expected an int >= 1\."),
    "three sizes": (lambda: max_pool2d(gg.ones(1, 4, 4), (2, 2, 2)), ArgumentError, r"kernel_size: got \(2, 2, 2\)"),
    "dims": (lambda: max_pool2d(gg.ones(4), 2), ShapeError, r"expected \(\.\.\., h, w\)"),
    "no elements": (lambda: max_pool2d(gg.ones(1, 0, 4), 2, padding=1), ShapeError, "at least one element"),
    "mean of integers": (lambda: avg_pool2d(gg.arange(16).reshape(1, 4, 4), 2), DTypeError, r"got int64; expected a floating one. Use \.to"),
    "bools": (lambda: max_pool2d(gg.ones(1, 4, 4, dtype=gg.bool), 2), DTypeError, "got bool; expected numbers"),
    "array": (lambda: max_pool2d(np.ones((1, 4, 4)), 2), DTypeError, "got ndarray; expected a tensor"),
    "divisor": (lambda: avg_pool2d(gg.ones(1, 4, 4), 2, divisor_override=0), ArgumentError, "divisor_override: got 0"),
    "adaptive": (lambda: adaptive_avg_pool2d(gg.ones(1, 4, 4), (1, 2, 3)), ArgumentError, "output_size"),
    "adaptive of nothing": (lambda: adaptive_avg_pool2d(gg.ones(1, 0, 4), 1), ShapeError, "at least one element"),
    "adaptive maxima of integers": (lambda: adaptive_max_pool1d(gg.arange(4), 2), DTypeError, "int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, exception, words = CASES[name]
    with pytest.raises(exception, match=words):
        call()
