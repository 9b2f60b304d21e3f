"""Convolution, its transpose, padding and unfold: against PyTorch in every argument, as adjoints, and in their messages."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, DTypeError, ShapeError
from glassgrad.ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d, fold, pad, unfold
from oracle import same_as_torch


def check(function, *arrays, after=(), **keywords):
    """``function(*arrays, *after, **keywords)`` here and in torch.nn.functional."""
    torch = pytest.importorskip("torch")
    ours, theirs = (
        lambda *xs, f=f: f(*xs, *after, **keywords) for f in (function, getattr(torch.nn.functional, function.__name__))
    )
    same_as_torch(torch, ours, theirs, *arrays, tolerance=10)


CONV2D = [
    ((2, 3, 7, 8), (4, 3, 3, 2), {}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": 2, "padding": 1}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (3, 1), "padding": (0, 2), "dilation": (1, 3)}),
    ((2, 4, 9, 9), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    ((2, 3, 6, 5), (6, 1, 3, 3), {"groups": 3, "stride": 2}),
    ((3, 7, 8), (4, 3, 3, 2), {"padding": 1}),
    ((0, 3, 7, 8), (4, 3, 3, 2), {}),
    ((2, 3, 7, 8), (4, 3, 1, 1), {"stride": (2,)}),
    ((2, 3, 7, 8), (4, 3, 7, 8), {}),
    ((2, 3, 2, 2), (4, 3, 4, 4), {"padding": 1}),
    ((2, 3, 7, 8), (4, 3, 3, 3), {"padding": "valid"}),
    ((2, 3, 7, 8), (4, 3, 3, 5), {"padding": "same"}),
    ((2, 3, 7, 8), (4, 3, 2, 4), {"padding": "same"}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"padding": "same", "dilation": (1, 3)}),
    ((3, 7, 8), (4, 3, 3, 2), {"padding": "same"}),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("x", "weight", "keywords"), CONV2D)
def test_conv2d(x, weight, keywords, bias, backend, rng):
    b = rng.standard_normal(weight[0]) if bias else None
    check(conv2d, rng.standard_normal(x), rng.standard_normal(weight), b, **keywords)


@pytest.mark.parametrize(
    ("x", "weight", "keywords"),
    [
        ((2, 3, 9), (4, 3, 3), {}),
        ((3, 9), (4, 3, 3), {"stride": 2, "padding": (2,), "dilation": 2}),
        ((2, 4, 9), (6, 2, 2), {"groups": 2, "padding": "same"}),
        ((0, 3, 9), (4, 3, 3), {}),
    ],
)
def test_conv1d(x, weight, keywords, backend, rng):
    check(conv1d, rng.standard_normal(x), rng.standard_normal(weight), rng.standard_normal(weight[0]), **keywords)


@pytest.mark.parametrize(
    ("function", "x", "weight", "keywords"),
    [
        (conv_transpose2d, (2, 3, 4, 5), (3, 4, 3, 2), {}),
        (conv_transpose2d, (2, 3, 4, 5), (3, 4, 3, 2), {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
        (conv_transpose2d, (2, 4, 4, 5), (4, 3, 3, 2), {"stride": 2, "groups": 2, "dilation": (1, 2)}),
        (conv_transpose2d, (3, 4, 5), (3, 4, 3, 2), {"padding": (2, 1)}),
        (conv_transpose2d, (2, 3, 4, 5), (3, 4, 2, 2), {"dilation": 3, "output_padding": 2, "padding": 1}),
        (conv_transpose2d, (2, 3, 4, 5), (3, 4, 2, 2), {"dilation": (3, 1), "stride": (1, 2), "output_padding": 1}),
        (conv_transpose2d, (0, 3, 4, 5), (3, 4, 3, 2), {}),
        (conv_transpose1d, (2, 3, 5), (3, 4, 3), {"stride": 2, "output_padding": 1}),
        (conv_transpose1d, (3, 5), (3, 2, 2), {"dilation": 3, "output_padding": 1, "padding": 2}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose(function, x, weight, keywords, bias, backend, rng):
    b = rng.standard_normal(weight[1] * keywords.get("groups", 1)) if bias else None
    check(function, rng.standard_normal(x), rng.standard_normal(weight), b, **keywords)


def test_the_transpose_is_the_adjoint(backend, rng):
    """<conv(x), y> = <x, conv_transpose(y)>, with the same weight and arguments."""
    x, w = (gg.tensor(rng.standard_normal(s)) for s in ((2, 3, 7, 9), (4, 3, 3, 2)))
    y = conv2d(x, w, stride=2, padding=1)
    z = gg.tensor(rng.standard_normal(y.shape))
    back = conv_transpose2d(z, w, stride=2, padding=1, output_padding=(0, 1))
    assert back.shape == x.shape
    np.testing.assert_allclose((y * z).sum().item(), (x * back).sum().item(), rtol=1e-12)


def test_third_derivative(rng):
    """The three ops are each other's derivatives, so any order exists: here d/dx of |d/dw of |d/dx y^2|^2|^2."""
    x, w = (gg.tensor(rng.standard_normal(s), requires_grad=True) for s in ((1, 2, 4, 4), (2, 2, 2, 2)))

    def second(x, w):
        y = conv2d(x, w, padding=1)
        (dx,) = gg.autograd.grad((y * y).sum(), x, create_graph=True)
        (dw,) = gg.autograd.grad((dx * dx).sum(), w, create_graph=True)
        return dw

    assert gg.gradcheck(second, (x, w), atol=1e-4)


def test_integers_convolve_exactly(backend):
    x = gg.arange(16).reshape(1, 1, 4, 4)
    y = conv2d(x, gg.ones(1, 1, 2, 2, dtype=gg.int64))
    assert y.dtype == gg.int64
    assert y.tolist() == [[[[10, 14, 18], [26, 30, 34], [42, 46, 50]]]]


def test_float16_adds_in_float32():
    x = gg.ones(1, 1, 64, 64, dtype=gg.float16)
    y = conv2d(x, x)
    assert (y.dtype, y.item()) == (gg.float16, 4096.0)


# ------------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(
    ("x", "amounts", "keywords"),
    [
        ((2, 3), (1, 2), {}),
        ((2, 3), (1, 2, 0, 3), {"value": 1.5}),
        ((2, 3, 4), (-1, 2, 3, -2), {}),
        ((6,), (-4, -2), {}),
        ((0, 3), (1, 1, 2, 0), {"value": -1.0}),
        ((2, 3), (), {}),
        ((1, 6), (2, 3), {"mode": "reflect"}),
        ((1, 6), (-1, 2), {"mode": "reflect"}),
        ((1, 6), (3, -3), {"mode": "reflect"}),
        ((2, 3, 4, 5), (2, 1, 3, 0), {"mode": "reflect"}),
        ((1, 6), (7, 2), {"mode": "replicate"}),
        ((2, 3, 4, 5), (1, -1, 0, 2), {"mode": "replicate"}),
        ((1, 6), (6, 6), {"mode": "circular"}),
        ((1, 6), (2, -2), {"mode": "circular"}),
        ((1, 6), (-1, 2), {"mode": "circular"}),
        ((2, 3, 4, 5), (2, 1, 1, 0), {"mode": "circular"}),
    ],
)
def test_pad(x, amounts, keywords, rng):
    check(pad, rng.standard_normal(x), after=(amounts,), **keywords)


def test_pad_keeps_integers_and_bools():
    assert pad(gg.tensor([1, 2]), (1, 0), value=3).tolist() == [3, 1, 2]
    assert pad(gg.tensor([True]), (0, 1)).tolist() == [True, False]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_second_derivative_of_pad(mode, rng):
    x = gg.tensor(rng.standard_normal((3, 4)), requires_grad=True)
    assert gg.gradgradcheck(lambda x: pad(x * x, (2, 1), mode=mode), x)


# ------------------------------------------------------------------------------------------------------ unfold and fold


@pytest.mark.parametrize(
    ("x", "arguments"),
    [((2, 3, 5, 6), (2,)), ((3, 5, 6), ((2, 3), 1, (1, 2), 2)), ((2, 3, 7, 7), (3, 2, 1, (1, 2)))],
)
def test_unfold(x, arguments, rng):
    check(unfold, rng.standard_normal(x), after=arguments)


@pytest.mark.parametrize(
    ("x", "arguments"),
    [((2, 12, 20), ((5, 6), 2)), ((6, 12), (5, (2, 3), 1, 1, (1, 3))), ((2, 4, 9), (5, 2, 2))],
)
def test_fold(x, arguments, rng):
    check(fold, rng.standard_normal(x), after=arguments)


def test_a_convolution_is_a_matmul_with_unfolded_windows(rng):
    x, w = gg.tensor(rng.standard_normal((2, 3, 6, 7))), gg.tensor(rng.standard_normal((4, 3, 3, 2)))
    columns = unfold(x, (3, 2), padding=1, stride=2)
    y = conv2d(x, w, padding=1, stride=2)
    np.testing.assert_allclose((w.reshape(4, -1) @ columns).reshape(y.shape).data, y.data, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ messages

X, W = (1, 3, 8, 8), (4, 3, 3, 3)


def conv(x=X, w=W, b=None, **keywords):
    return lambda: conv2d(gg.ones(*x), gg.ones(*w), None if b is None else gg.ones(*b), **keywords)


CASES = {
    "channels": (conv(w=(4, 2, 3, 3)), ShapeError, r"conv2d: channels differ: input is \(1, 3, 8, 8\), weight is \(4, 2, 3, 3\); input\.shape\[-3\]=3 must equal weight\.shape\[1\]=2\.$"),
    "channels last": (conv(x=(1, 8, 8, 3)), ShapeError, r"input\.permute\(0, 3, 1, 2\) would fit"),
    "channels with groups": (conv(w=(4, 2, 3, 3), x=(1, 6, 8, 8), groups=2), ShapeError, r"weight\.shape\[1\]=2 \* groups=2"),
    "groups": (conv(w=(4, 1, 3, 3), groups=2), ArgumentError, "groups: got 2; expected a divisor of 3 input and 4 output channels"),
    "no groups": (conv(groups=0), ArgumentError, "groups: got 0; expected an int >= 1"),
    "kernel": (conv(x=(1, 3, 2, 8)), ShapeError, r"kernel larger than the padded input: got \(3, 3\); expected at most \(2, 8\)"),
    "dilated kernel": (conv(dilation=4), ShapeError, r"got \(9, 9\) \(with dilation\)"),
    "negative padding": (conv(padding=-1), ArgumentError, r"padding: got -1; expected an int >= 0 or 2 of them"),
    "a word": (conv(padding="full"), ArgumentError, "'same', 'valid' or ints"),
    "same and stride": (conv(padding="same", stride=2), ArgumentError, "expected stride 1"),
    "stride 0": (conv(stride=0), ArgumentError, "stride: got 0; expected an int >= 1"),
    "stride 1.5": (conv(stride=1.5), ArgumentError, "stride: got 1.5"),
    "three strides": (conv(stride=(1, 2, 3)), ArgumentError, r"stride: got \(1, 2, 3\)"),
    "dims": (conv(x=(8, 8)), ShapeError, r"shape of input: got \(8, 8\); expected \(n, channels, h, w\) or \(channels, h, w\)"),
    "dims of weight": (conv(w=(4, 3, 3)), ShapeError, r"shape of weight.*expected \(k, c / groups, kh, kw\)"),
    "empty kernel": (conv(w=(4, 3, 0, 3)), ShapeError, "the kernel at least 1"),
    "bias": (conv(b=(3,)), ShapeError, r"shape of bias: got \(3,\); expected \(4,\)"),
    "image of bytes": (lambda: conv2d(gg.ones(*X, dtype=gg.uint8), gg.ones(*W)), DTypeError, r"input is uint8, weight is float32.*input\.to\(gg\.float32\)"),
    "bias of another dtype": (lambda: conv2d(gg.ones(*X), gg.ones(*W), gg.ones(4, dtype=gg.float64)), DTypeError, r"bias\.to\(gg\.float32\)"),
    "array": (lambda: conv2d(np.ones(X), gg.ones(*W)), DTypeError, "conv2d: input: got ndarray; expected a tensor"),
    "conv1d": (lambda: conv1d(gg.ones(1, 8, 3), gg.ones(4, 3, 3)), ShapeError, r"conv1d: channels.*input\.movedim\(-1, -2\) would fit"),
    "transposed channels": (lambda: conv_transpose2d(gg.ones(*X), gg.ones(*W)), ShapeError, r"input\.shape\[-3\]=3 must equal weight\.shape\[0\]=4"),
    "transposed groups": (lambda: conv_transpose2d(gg.ones(*X), gg.ones(3, 4, 3, 3), groups=2), ArgumentError, "divisor of 3"),
    "output padding": (lambda: conv_transpose2d(gg.ones(*X), gg.ones(3, 4, 3, 3), output_padding=1), ArgumentError, r"output_padding: got \(1, 1\); expected less than"),
    "negative output": (lambda: conv_transpose2d(gg.ones(1, 3, 1, 1), gg.ones(3, 4, 1, 1), padding=1), ShapeError, "size of the output"),
    "transposed bias": (lambda: conv_transpose1d(gg.ones(3, 8), gg.ones(3, 4, 3), gg.ones(3)), ShapeError, r"expected \(4,\)"),
    "odd pad": (lambda: pad(gg.ones(3), (1,)), ArgumentError, "1 numbers; expected two for each dim"),
    "long pad": (lambda: pad(gg.ones(3), (1, 1, 1, 1)), ArgumentError, "1 dims at most"),
    "pad of floats": (lambda: pad(gg.ones(3), (1.5, 1)), ArgumentError, "pad: got"),
    "pad mode": (lambda: pad(gg.ones(3), (1, 1), mode="mirror"), ArgumentError, "'reflect'"),
    "pad value": (lambda: pad(gg.ones(3), (1, 1), mode="reflect", value=1.0), ArgumentError, "value in mode 'reflect'"),
    "cut too much": (lambda: pad(gg.ones(3), (-2, -2)), ShapeError, "cuts off more than there is"),
    "cut and put": (lambda: pad(gg.ones(3), (-4, 3)), ShapeError, "cuts off more than there is"),
    "reflect too far": (lambda: pad(gg.ones(3), (3, 0), mode="reflect"), ShapeError, "at most 2"),
    "round too far": (lambda: pad(gg.ones(3), (4, 0), mode="circular"), ShapeError, "at most 3"),
    "round after a cut": (lambda: pad(gg.ones(3), (-3, 1), mode="circular"), ShapeError, "at most 0"),
    "replicate nothing": (lambda: pad(gg.ones(0), (1, 0), mode="replicate"), ShapeError, "at most 0"),
    "unfold": (lambda: unfold(gg.ones(1, 1, 2, 2), 3), ShapeError, "unfold: no window fits"),
    "unfold dims": (lambda: unfold(gg.ones(2, 2), 1), ShapeError, "unfold: shape of input"),
    "fold": (lambda: fold(gg.ones(1, 4, 5), (3, 3), 2), ShapeError, r"expected \(n, a multiple of 4, 4\) for an image of \(3, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, exception, words = CASES[name]
    with pytest.raises(exception, match=words):
        call()
