"""Convolution (cross-correlation, as everywhere in deep learning), its transpose, and padding.

forward    y[n, k, i, j] = bias[k] + sum over c, r, q of  x[n, c, i s + r d - p, j s + q d - p] w[k, c, r, q]
           s stride, p padding (zeros), d dilation; with g groups, output channel k sees only the c of its own group.
backward   y is linear in x and in w, so each derivative is the same sum with the roles exchanged:
           dx = conv2d_backward_input(dy, w)    every output sends its gradient back to the pixels it saw
           dw = conv2d_backward_weight(dy, x)   every tap adds up what it saw, weighted by the gradient
           The three are each other's derivatives: they close the circle, and every order of derivative exists.
transposed conv_transpose2d is conv2d_backward_input, used forward.
native     csrc/cpu/conv/
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap

# ------------------------------------------------------------------------------------------------------ the reference


def output_size(size, kernel, stride, padding, dilation):
    """How many windows fit along one axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def padded(x, padding, value=0):
    """x: (..., h, w) with ``padding[0]`` rows and ``padding[1]`` columns of ``value`` on both sides."""
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding], constant_values=value)


def cropped(x, padding):
    """The inverse of ``padded``."""
    (ph, pw), (h, w) = padding, x.shape[-2:]
    return x[..., ph : h - ph, pw : w - pw]


def taps(kernel, outputs, stride, dilation) -> Iterator[tuple[int, int, slice, slice]]:
    """For each element (r, q) of the kernel: the rows and columns of the padded input it meets, one for each output."""
    (oh, ow), (sh, sw), (dh, dw) = outputs, stride, dilation
    for r, q in np.ndindex(*kernel):
        rows = slice(r * dh, r * dh + (oh - 1) * sh + 1, sh)
        cols = slice(q * dw, q * dw + (ow - 1) * sw + 1, sw)
        yield r, q, rows, cols


def in_float32(reference):
    """float16 computed in float32 and rounded at the end: summed tap by tap in float16, 2048 + 1 stays 2048."""

    @functools.wraps(reference)
    def widened(*arrays, **static):
        if arrays[0].dtype != np.float16:
            return reference(*arrays, **static)
        wide = [a.astype(np.float32) if a is not None and a.dtype == np.float16 else a for a in arrays]
        return reference(*wide, **static).astype(np.float16)

    return widened


@in_float32
def _conv2d_reference(x, weight, bias, *, stride, padding, dilation, groups):
    n, c, *size = x.shape
    k, cg, *kernel = weight.shape
    outputs = [output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation, strict=True)]
    image = padded(x, padding)
    image = image.reshape(n, groups, cg, *image.shape[2:])
    weight = weight.reshape(groups, k // groups, cg, *kernel)
    y = np.zeros((n, groups, k // groups, math.prod(outputs)), x.dtype)
    for r, q, rows, cols in taps(kernel, outputs, stride, dilation):
        y += weight[..., r, q] @ image[..., rows, cols].reshape(n, groups, cg, math.prod(outputs))
    y = y.reshape(n, k, *outputs)
    return y if bias is None else y + bias[:, None, None]


@in_float32
def _backward_input_reference(dy, weight, *, x_shape, stride, padding, dilation, groups):
    n, c, *size = x_shape
    k, cg, *kernel = weight.shape
    outputs = dy.shape[2:]
    weight = weight.reshape(groups, k // groups, cg, *kernel)
    dy = dy.reshape(n, groups, k // groups, math.prod(outputs))
    dx = np.zeros((n, groups, cg, *[m + 2 * p for m, p in zip(size, padding, strict=True)]), dy.dtype)
    for r, q, rows, cols in taps(kernel, outputs, stride, dilation):
        dx[..., rows, cols] += (weight[..., r, q].swapaxes(1, 2) @ dy).reshape(n, groups, cg, *outputs)
    return cropped(dx, padding).reshape(x_shape)


@in_float32
def _backward_weight_reference(dy, x, *, w_shape, stride, padding, dilation, groups):
    n = x.shape[0]
    k, cg, *kernel = w_shape
    outputs = dy.shape[2:]
    image = padded(x, padding)
    image = image.reshape(n, groups, cg, *image.shape[2:])
    dy = dy.reshape(n, groups, k // groups, math.prod(outputs))
    dw = np.zeros((groups, k // groups, cg, *kernel), x.dtype)
    for r, q, rows, cols in taps(kernel, outputs, stride, dilation):
        seen = image[..., rows, cols].reshape(n, groups, cg, math.prod(outputs))
        dw[..., r, q] = (dy @ seen.swapaxes(2, 3)).sum(0)
    return dw.reshape(w_shape)


# ----------------------------------------------------------------------------------------------------------------- ops


def _geometries():
    """(n, c, h, w), (k, c / groups, kh, kw), stride, padding, dilation, groups"""
    yield (2, 3, 5, 6), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1
    yield (1, 2, 7, 5), (3, 2, 3, 3), (2, 1), (1, 2), (1, 1), 1
    yield (1, 4, 6, 7), (6, 2, 2, 3), (1, 2), (0, 1), (2, 2), 2
    yield (2, 3, 6, 5), (6, 1, 3, 3), (2, 2), (1, 1), (1, 1), 3
    yield (1, 1, 1, 9), (2, 1, 1, 3), (1, 3), (0, 1), (1, 1), 1
    yield (1, 5, 3, 3), (17, 5, 1, 1), (1, 1), (0, 0), (1, 1), 1
    yield (0, 2, 4, 4), (3, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1
    yield (1, 0, 3, 3), (2, 0, 2, 2), (1, 1), (0, 0), (1, 1), 1


def _static(stride, padding, dilation, groups, **more):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, **more}


def _y_shape(x, w, stride, padding, dilation):
    return (x[0], w[0], *[output_size(*axis) for axis in zip(x[2:], w[2:], stride, padding, dilation, strict=True)])


def _conv2d_samples(rng):
    for i, (x, w, *geometry) in enumerate(_geometries()):
        bias = rng.standard_normal(w[0]) if i % 2 == 0 else None
        yield Sample((rng.standard_normal(x), rng.standard_normal(w), bias), _static(*geometry))


def _backward_input_samples(rng):
    for x, w, *geometry in _geometries():
        dy = rng.standard_normal(_y_shape(x, w, *geometry[:3]))
        yield Sample((dy, rng.standard_normal(w)), _static(*geometry, x_shape=x))


def _backward_weight_samples(rng):
    for x, w, *geometry in _geometries():
        dy = rng.standard_normal(_y_shape(x, w, *geometry[:3]))
        yield Sample((dy, rng.standard_normal(x)), _static(*geometry, w_shape=w))


_conv2d: Op = Op(
    "conv2d",
    _conv2d_reference,
    vjps=(
        lambda dy, weight, shapes, **geometry: apply(_backward_input, dy, weight, x_shape=shapes[0], **geometry),
        lambda dy, x, shapes, **geometry: apply(_backward_weight, dy, x, w_shape=shapes[1], **geometry),
        lambda dy: dy.sum((0, 2, 3)),
    ),
    samples=_conv2d_samples,
    doc="conv2d: y[k, i] = bias[k] + sum_cr x[c, i stride + r dilation - padding] w[k, c, r]; derivatives: see the module.",
)
_backward_input: Op = Op(
    "conv2d_backward_input",
    _backward_input_reference,
    vjps=(
        lambda ddx, weight, *, x_shape, **geometry: apply(_conv2d, ddx, weight, None, **geometry),
        lambda ddx, dy, shapes, *, x_shape, **geometry: apply(_backward_weight, dy, ddx, w_shape=shapes[1], **geometry),
    ),
    samples=_backward_input_samples,
    doc="conv2d_backward_input: dx[c, i stride + r dilation - padding] += sum_k dy[k, i] w[k, c, r]; the adjoint of conv2d in x.",
)
_backward_weight: Op = Op(
    "conv2d_backward_weight",
    _backward_weight_reference,
    vjps=(
        lambda ddw, x, *, w_shape, **geometry: apply(_conv2d, x, ddw, None, **geometry),
        lambda ddw, dy, shapes, *, w_shape, **geometry: apply(_backward_input, dy, ddw, x_shape=shapes[1], **geometry),
    ),
    samples=_backward_weight_samples,
    doc="conv2d_backward_weight: dw[k, c, r] = sum_i dy[k, i] x[c, i stride + r dilation - padding]; the adjoint of conv2d in w.",
)

# -------------------------------------------------------------------------------------------------------------- checks


def remembered(check):
    """A check of shapes and arguments, done once for each: a layer asks the same in every step, and 4 us would be more
    than a small kernel takes. Arguments that have no hash (lists) are checked anew."""
    known = functools.lru_cache(maxsize=1024, typed=True)(check)

    @functools.wraps(check)
    def checked(*arguments):
        try:
            return known(*arguments)
        except TypeError:
            pass
        return check(*arguments)

    return checked


def whole(op, name, value, count, low) -> tuple[int, ...]:
    """``value``, an int or ``count`` of them, as a tuple of ``count`` ints, each at least ``low``."""
    try:
        numbers = tuple(operator.index(v) for v in (value if isinstance(value, (tuple, list)) else (value,)))
    except TypeError:
        numbers = ()
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or min(numbers) < low:
        several = f" or {count} of them" if count > 1 else ""
        raise ArgumentError(message(op, name, repr(value), f"an int >= {low}{several}"))
    return numbers


def _check_dtypes(op, input, weight, bias) -> None:
    named = (("weight", weight), ("input", input), ("bias", bias))
    for name, t in named if bias is not None else named[:2]:
        if not isinstance(t, Tensor):
            raise DTypeError(f"{op}: {name}: got {type(t).__name__}; expected a tensor.")
        dtype = weight.data.dtype
        if t.data.dtype != dtype:
            raise DTypeError(
                f"{op}: dtypes differ: {name} is {t.dtype}, weight is {dtype}; expected one dtype. Use {name}.to(gg.{dtype})."
            )
    if dtype.kind == "b":
        raise DTypeError(f"{op}: got dtype bool; expected numbers. Use .to(gg.float32).")


def _check_ranks(op, dims, x, w, axes) -> None:
    """x, w: the shapes of input and weight; ``axes`` names the first two of weight."""
    space = ("h", "w")[2 - dims :]
    image, kernel = ", ".join(space), ", ".join(f"k{s}" for s in space)
    if len(w) != dims + 2 or 0 in w[2:]:
        raise ShapeError(message(op, "shape of weight", w, f"({axes}, {kernel}), the kernel at least 1"))
    if len(x) not in (dims + 1, dims + 2):
        raise ShapeError(message(op, "shape of input", x, f"(n, channels, {image}) or (channels, {image})"))


def _check_bias(op, bias, out):
    if bias is not None and bias.shape != (out,):
        raise ShapeError(message(op, "shape of bias", bias.shape, f"({out},), one for each output channel"))


def _image(x, dims):
    """x as (n, c, h, w): without n it becomes 1, without h it becomes 1."""
    if x.ndim == 4:
        return x
    shape = x.shape if x.ndim == dims + 2 else (1, *x.shape)
    return x.reshape(shape if dims == 2 else (*shape[:2], 1, shape[2]))


def _like(y, x, dims):
    """The image y with as many axes as x has."""
    if x.ndim == 4:
        return y
    size = y.shape[2:] if dims == 2 else y.shape[3:]
    return y.reshape((*y.shape[:2], *size) if x.ndim == dims + 2 else (y.shape[1], *size))


def _planar(stride, padding, dilation, groups):
    """The ops' keywords, for (h, w); along one axis h is a single row."""

    def two(numbers, of_height):
        return numbers if len(numbers) == 2 else (of_height, *numbers)

    return _static(two(stride, 1), two(padding, 0), two(dilation, 1), groups)


# --------------------------------------------------------------------------------------------------------- convolution


def conv2d(
    input,
    weight,
    bias=None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | Literal["same", "valid"] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Slide ``weight`` over images and take the sum of products at each place.

    Args:
        input: (n, c, h, w) or (c, h, w)
        weight: (k, c / groups, kh, kw)
        bias: (k,), or None for none.
        stride: places to move by, an int or one for each axis.
        padding: zeros round the image; "valid" is 0, "same" as much as keeps h and w (stride 1; an odd sum puts the
            larger half behind).
        dilation: distance of the kernel's elements.
        groups: c and k are cut into so many groups that do not see each other.

    Returns:
        (n, k, oh, ow) with oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1

    The C++ kernels do 3 x 3 kernels of stride and dilation 1 with 16 channels and more by Winograd's method: float32 is
    then within 1e-5 of the largest result instead of 1e-6, and an infinity, or what comes within a factor of 10^5 of
    overflowing, may become NaN in the 4 x 4 outputs round it.

    >>> import glassgrad as gg
    >>> gg.conv2d(gg.ones(1, 1, 3, 3), gg.ones(1, 1, 2, 2)).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv1d(
    input,
    weight,
    bias=None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | Literal["same", "valid"] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """``conv2d`` along one axis: input (n, c, w) or (c, w), weight (k, c / groups, kw).

    >>> import glassgrad as gg
    >>> gg.conv1d(gg.tensor([[1.0, 2.0, 4.0]]), gg.tensor([[[-1.0, 1.0]]]))
    tensor([[1., 2.]])
    """
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def _convolve(op, dims, input, weight, bias, stride, padding, dilation, groups):
    _check_dtypes(op, input, weight, bias)
    behind, geometry = _geometry(op, dims, input.shape, weight.shape, stride, padding, dilation, groups)
    _check_bias(op, bias, weight.shape[0])
    x = pad(input, behind) if behind else input
    return _like(apply(_conv2d, _image(x, dims), _image(weight, dims), bias, **geometry), input, dims)


@remembered
def _geometry(op, dims, x, w, stride, padding, dilation, groups):
    """What to pad the input by first, if anything, and the keywords of the op. x, w: shapes."""
    _check_ranks(op, dims, x, w, "k, c / groups")
    stride, dilation = whole(op, "stride", stride, dims, 1), whole(op, "dilation", dilation, dims, 1)
    (groups,) = whole(op, "groups", groups, 1, 1)
    c, size, (k, cg, *kernel) = x[-dims - 1], x[-dims:], w
    if k % groups or c % groups:
        raise ArgumentError(message(op, "groups", groups, f"a divisor of {c} input and {k} output channels"))
    if c != cg * groups:
        last = "permute(0, 3, 1, 2)" if len(x) == 4 else f"movedim(-1, {-dims - 1})"
        hint = f" Channels come before the image: input.{last} would fit." if x[-1] == cg * groups else ""
        times = f" * groups={groups}" if groups > 1 else ""
        raise ShapeError(
            f"{op}: channels differ: input is {x}, weight is {w}; input.shape[{-dims - 1}]={c} must equal "
            f"weight.shape[1]={cg}{times}.{hint}"
        )
    behind = None
    if isinstance(padding, str):
        padding, odd = _named_padding(op, padding, kernel, stride, dilation)
        size = tuple(n + more for n, more in zip(size, odd, strict=True))
        if any(odd):
            behind = tuple(n for more in reversed(odd) for n in (0, more))
    else:
        padding = whole(op, "padding", padding, dims, 0)
    reach = tuple(d * (m - 1) + 1 for m, d in zip(kernel, dilation, strict=True))
    room = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    if any(m > n for m, n in zip(reach, room, strict=True)):
        dilated = " (with dilation)" if max(dilation) > 1 else ""
        expected = f"at most {room}, from input {x}"
        raise ShapeError(message(op, "kernel larger than the padded input", f"{reach}{dilated}", expected))
    return behind, _planar(stride, padding, dilation, groups)


def _named_padding(op, padding, kernel, stride, dilation):
    """The zeros on both sides that "valid" or "same" stands for, and how many more are needed behind."""
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding != "same":
        raise ArgumentError(message(op, "padding", repr(padding), "'same', 'valid' or ints"))
    if max(stride) > 1:
        raise ArgumentError(message(op, "padding 'same'", f"stride={stride}", "stride 1", "Give the padding as ints."))
    total = [d * (m - 1) for m, d in zip(kernel, dilation, strict=True)]
    return tuple(t // 2 for t in total), tuple(t % 2 for t in total)


def conv_transpose2d(
    input,
    weight,
    bias=None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The transpose of ``conv2d``: every input pixel adds its multiple of ``weight`` to the output.

    A conv2d with the same arguments leads back from the output's shape to the input's.

    Args:
        input: (n, c, h, w) or (c, h, w)
        weight: (c, k / groups, kh, kw)
        bias: (k,), or None for none.
        stride, dilation, groups: as in conv2d.
        padding: rows and columns to leave out on both sides.
        output_padding: rows and columns to add behind; less than stride or dilation. With a stride several input
            sizes lead to one output size, and this says which is meant.

    Returns:
        (n, k, oh, ow) with oh = (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1

    >>> import glassgrad as gg
    >>> gg.conv_transpose2d(gg.ones(1, 1, 1, 2), gg.ones(1, 1, 1, 2), stride=2).tolist()
    [[[[1.0, 1.0, 1.0, 1.0]]]]
    """
    return _transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose1d(
    input,
    weight,
    bias=None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """``conv_transpose2d`` along one axis: input (n, c, w) or (c, w), weight (c, k / groups, kw)."""
    return _transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _transpose(op, dims, input, weight, bias, stride, padding, output_padding, groups, dilation):
    _check_dtypes(op, input, weight, bias)
    shapes = input.shape, weight.shape
    size, cut, geometry = _transposed(op, dims, *shapes, stride, padding, output_padding, groups, dilation)
    k = weight.shape[1] * geometry["groups"]
    _check_bias(op, bias, k)
    x = _image(input, dims)
    y = apply(_backward_input, x, _image(weight, dims), x_shape=(x.shape[0], k, *size), **geometry)
    if cut:
        y = pad(y, cut)
    return _like(y if bias is None else y + bias.reshape(k, 1, 1), input, dims)


@remembered
def _transposed(op, dims, x, w, stride, padding, output_padding, groups, dilation):
    """The size the op is to give, what to pad that by, if anything, and the keywords of the op. x, w: shapes."""
    _check_ranks(op, dims, x, w, "c, k / groups")
    stride, dilation = whole(op, "stride", stride, dims, 1), whole(op, "dilation", dilation, dims, 1)
    padding, more = whole(op, "padding", padding, dims, 0), whole(op, "output_padding", output_padding, dims, 0)
    (groups,) = whole(op, "groups", groups, 1, 1)
    c, size, kernel = x[-dims - 1], x[-dims:], w[2:]
    if c != w[0]:
        raise ShapeError(
            f"{op}: channels differ: input is {x}, weight is {w}; input.shape[{-dims - 1}]={c} must equal weight.shape[0]={w[0]}."
        )
    if c % groups:
        raise ArgumentError(message(op, "groups", groups, f"a divisor of {c} input channels"))
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ArgumentError(message(op, "output_padding", more, f"less than stride {stride} or dilation {dilation}"))
    full = [(n - 1) * s + d * (m - 1) + 1 for n, m, s, d in zip(size, kernel, stride, dilation, strict=True)]
    outputs = tuple(n - 2 * p + m for n, p, m in zip(full, padding, more, strict=True))
    if min(size) < 1 or min(outputs) < 1:
        raise ShapeError(message(op, "size of the output", outputs, f"at least 1, from input {x}"))
    cut = None
    if any(m >= s for m, s in zip(more, stride, strict=True)):
        # So much output_padding would make room for one more window: take all there is and cut out what was asked for.
        cut = tuple(n for p, m in zip(padding[::-1], more[::-1], strict=True) for n in (-p, m - p))
        outputs, padding = tuple(full), (0,) * dims
    return outputs if dims == 2 else (1, *outputs), cut, _planar(stride, padding, dilation, groups)


# ------------------------------------------------------------------------------------------------------------- padding


def _pad_reference(x, *, amounts, value):
    y = np.full([n + before + after for n, (before, after) in zip(x.shape, amounts, strict=True)], value, x.dtype)
    here = tuple(slice(max(b, 0), m - max(a, 0)) for m, (b, a) in zip(y.shape, amounts, strict=True))
    there = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, amounts, strict=True))
    y[here] = x[there]
    return y


def _pad_samples(rng):
    yield Sample((rng.standard_normal((2, 3)),), {"amounts": ((0, 1), (2, 3)), "value": 0.5})
    yield Sample((rng.standard_normal((4, 5)),), {"amounts": ((-1, 2), (-2, -3)), "value": 1.0})
    yield Sample((rng.standard_normal((0, 2)),), {"amounts": ((1, 1), (0, 0)), "value": 0.0})


_pad: Op = Op(
    "pad",
    _pad_reference,
    vjps=(lambda dy, *, amounts: apply(_pad, dy, amounts=tuple((-b, -a) for b, a in amounts), value=0),),
    samples=_pad_samples,
    native=False,
    doc="pad: x with value round it (a negative amount cuts off); the derivative pads by the negated amounts.",
)


def pad(input, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put something round a tensor.

    Args:
        input: any shape.
        pad: how much before and after the last dim, before and after the last but one, ...; a negative number cuts off.
        mode: "constant" puts ``value`` (default 0), "replicate" the outermost element, "reflect" the mirror image
            without its edge, "circular" the other end.

    >>> import glassgrad as gg
    >>> gg.pad(gg.tensor([1.0, 2.0, 3.0]), (2, 1), mode="reflect")
    tensor([3., 2., 1., 2., 3., 2.])
    """
    try:
        flat = [operator.index(n) for n in pad]
    except TypeError:
        raise ArgumentError(message("pad", "pad", repr(pad), "ints, two for each dim from the last")) from None
    if len(flat) % 2 or len(flat) > 2 * input.ndim:
        expected = f"two for each dim to pad, {input.ndim} dims at most"
        raise ArgumentError(message("pad", "pad", f"{len(flat)} numbers", expected))
    amounts = [(0, 0)] * (input.ndim - len(flat) // 2) + list(zip(flat[-2::-2], flat[::-2], strict=True))
    for n, (before, after) in zip(input.shape, amounts, strict=True):
        if n + min(before, 0) + min(after, 0) < 0 or n + before + after < 0:
            got = f"{(before, after)} for size {n}"
            raise ShapeError(message("pad", "cuts off more than there is", got, f"at most {n}"))
    if mode == "constant":
        return apply(_pad, input, amounts=tuple(amounts), value=0 if value is None else value)
    if mode not in _NUMPY_MODE:
        raise ArgumentError(message("pad", "mode", repr(mode), "'constant', 'reflect', 'replicate' or 'circular'"))
    if value is not None:
        raise ArgumentError(message("pad", f"value in mode {mode!r}", value, "None: the values come from input"))
    for dim, (n, (before, after)) in enumerate(zip(input.shape, amounts, strict=True)):
        if before or after:
            left = n + min(before, 0) + min(after, 0)
            most = {"reflect": n - 1, "circular": left, "replicate": math.inf if n else 0}[mode]
            if max(before, after) > most:
                got = f"{(before, after)} for size {n}"
                raise ShapeError(message("pad", f"more than {mode} can give", got, f"at most {most}"))
            input = input.index_select(dim, wrap(_sources(mode, n, before, after)))
    return input


def _sources(mode, n, before, after):
    """Where each element along a dim of size n comes from."""

    def cut(index):
        return index[max(-before, 0) : len(index) - max(-after, 0)]

    def extended(index):
        return np.pad(index, (max(before, 0), max(after, 0)), _NUMPY_MODE[mode])

    here = np.arange(n)
    return extended(cut(here)) if mode == "circular" else cut(extended(here))  # PyTorch's circular cuts first


_NUMPY_MODE: dict = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}

# ------------------------------------------------------------------------------------------------------ unfold and fold


def _im2col_reference(x, *, kernel_size, stride, padding, dilation):
    image = padded(x, padding)
    n, c, *size = x.shape
    outputs = [output_size(*axis) for axis in zip(size, kernel_size, stride, padding, dilation, strict=True)]
    y = np.empty((n, c, *kernel_size, *outputs), x.dtype)
    for r, q, rows, cols in taps(kernel_size, outputs, stride, dilation):
        y[:, :, r, q] = image[..., rows, cols]
    return y.reshape(n, c * math.prod(kernel_size), math.prod(outputs))


@in_float32
def _col2im_reference(x, *, size, kernel_size, stride, padding, dilation):
    outputs = [output_size(*axis) for axis in zip(size, kernel_size, stride, padding, dilation, strict=True)]
    n, c = x.shape[0], x.shape[1] // math.prod(kernel_size)
    cols_of = x.reshape(n, c, *kernel_size, *outputs)
    y = np.zeros((n, c, *[m + 2 * p for m, p in zip(size, padding, strict=True)]), x.dtype)
    for r, q, rows, cols in taps(kernel_size, outputs, stride, dilation):
        y[..., rows, cols] += cols_of[:, :, r, q]
    return np.ascontiguousarray(cropped(y, padding))


def _im2col_samples(rng):
    windows = {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}
    yield Sample((rng.standard_normal((2, 3, 5, 6)),), windows)
    yield Sample((rng.standard_normal((0, 1, 3, 3)),), windows)


def _col2im_samples(rng):
    windows = {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}
    yield Sample((rng.standard_normal((2, 18, 10)),), {"size": (5, 6), **windows})
    yield Sample((rng.standard_normal((0, 6, 3)),), {"size": (3, 3), **windows})


_im2col: Op = Op(
    "im2col",
    _im2col_reference,
    vjps=(lambda dy, shapes, **windows: apply(_col2im, dy, size=shapes[0][2:], **windows),),
    samples=_im2col_samples,
    native=False,
    doc="im2col: every window as a column; the derivative adds the columns back to where they came from.",
)
_col2im: Op = Op(
    "col2im",
    _col2im_reference,
    vjps=(lambda dy, *, size, **windows: apply(_im2col, dy, **windows),),
    samples=_col2im_samples,
    native=False,
    doc="col2im: columns added back to the windows they stand for; the derivative takes the windows out again.",
)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """Every window of an image as a column: (n, c, h, w) -> (n, c kh kw, windows). A matmul with it is a convolution.

    >>> import glassgrad as gg
    >>> gg.unfold(gg.arange(4.0).reshape(1, 1, 2, 2), (1, 2)).tolist()
    [[[0.0, 2.0], [1.0, 3.0]]]
    """
    if input.ndim not in (3, 4):
        raise ShapeError(message("unfold", "shape of input", input.shape, "(n, c, h, w) or (c, h, w)"))
    windows = _windows("unfold", input.shape[-2:], kernel_size, dilation, padding, stride)
    y = apply(_im2col, _image(input, 2), **windows)
    return y if input.ndim == 4 else y.reshape(y.shape[1:])


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1) -> Tensor:
    """The transpose of ``unfold``: columns are added back into an image of ``output_size``; where windows overlap, summed."""
    size = whole("fold", "output_size", output_size, 2, 1)
    windows = _windows("fold", size, kernel_size, dilation, padding, stride)
    if input.ndim not in (2, 3):
        raise ShapeError(message("fold", "shape of input", input.shape, "(n, c kh kw, windows) or (c kh kw, windows)"))
    rows, count = math.prod(windows["kernel_size"]), math.prod(_outputs(size, windows))
    if input.shape[-2] % rows or input.shape[-1] != count:
        expected = f"(n, a multiple of {rows}, {count}) for an image of {size}"
        raise ShapeError(message("fold", "shape of input", input.shape, expected))
    x = input if input.ndim == 3 else input.reshape((1, *input.shape))
    y = apply(_col2im, x, size=size, **windows)
    return y if input.ndim == 3 else y.reshape(y.shape[1:])


def _outputs(size, windows):
    axes = (windows[name] for name in ("kernel_size", "stride", "padding", "dilation"))
    return [output_size(*axis) for axis in zip(size, *axes, strict=True)]


def _windows(op, size, kernel_size, dilation, padding, stride):
    windows = {
        "kernel_size": whole(op, "kernel_size", kernel_size, 2, 1),
        "stride": whole(op, "stride", stride, 2, 1),
        "padding": whole(op, "padding", padding, 2, 0),
        "dilation": whole(op, "dilation", dilation, 2, 1),
    }
    if min(_outputs(size, windows)) < 1:
        got = f"kernel_size={windows['kernel_size']} for {tuple(size)}"
        raise ShapeError(message(op, "no window fits", got, "a smaller kernel"))
    return windows


METHODS: list = []
__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "fold", "pad", "unfold"]
