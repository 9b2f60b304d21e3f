"""Pooling: one number for each window of an image.

max_pool2d   y[i] = max over the window of x. The gradient goes to the element that won; where it stands in its plane
             (row w + column) is kept as ``indices``, and looking there is the derivative of that derivative. The first
             maximum wins; a NaN beats everything, the last of them all others. A window that holds nothing but padding
             gives -inf and the index -1.
avg_pool2d   y[i] = sum over the window of x / divisor[i]; linear, so backward spreads dy / divisor over the window. The
             divisor counts the elements of the window, zeros of the padding included unless count_include_pad=False,
             but nothing beyond the padding.
adaptive     output i of m covers the elements floor(i n / m) to ceil((i + 1) n / m) - 1 of n. When m divides n that is
             ordinary pooling. The mean of a rectangle is the mean of its rows' means, so it is taken one axis at a time.
native       csrc/cpu/pool.cpp
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..op import Op, Sample, apply
from ..tensor import Tensor
from .conv import in_float32, output_size, pad, padded, remembered, taps, whole

# ------------------------------------------------------------------------------------------------------ the references


def _outputs(size, kernel_size, stride, padding, dilation, ceil_mode):
    """Windows along each axis. With ceil_mode the last may hang over the end, but starts in the input or before it."""
    counts = []
    for n, k, s, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True):
        count = output_size(n + (s - 1 if ceil_mode else 0), k, s, p, d)
        counts.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)
    return counts


def _windowed(x, value, kernel_size, stride, padding, dilation, outputs):
    """x: (..., h, w), with ``value`` in the padding and as far beyond it as the last windows reach."""
    ends = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(outputs, stride, dilation, kernel_size, strict=True)]
    amounts = [(p, max(end - n - p, p)) for end, n, p in zip(ends, x.shape[-2:], padding, strict=True)]
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + amounts, constant_values=value)


def _max_pool2d_reference(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    h, w = x.shape[-2:]
    outputs = _outputs((h, w), kernel_size, stride, padding, dilation, ceil_mode)
    windows = kernel_size, stride, padding, dilation, outputs
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    image = _windowed(x, lowest, *windows)
    places = _windowed(np.arange(h * w).reshape(h, w), -1, *windows)
    y = np.full((*x.shape[:-2], *outputs), lowest, x.dtype)
    indices = np.full(y.shape, -1)
    for _, _, rows, cols in taps(kernel_size, outputs, stride, dilation):
        seen, place = image[..., rows, cols], places[rows, cols]
        wins = (place >= 0) & ((indices < 0) | (seen > y) | (seen != seen))
        y, indices = np.where(wins, seen, y), np.where(wins, place, indices)
    return y, indices


def _planes(x):
    """(..., h, w) as (planes, h * w)."""
    return x.reshape(math.prod(x.shape[:-2]), math.prod(x.shape[-2:]))


@in_float32
def _max_pool2d_backward_reference(dy, indices, *, x_shape):
    planes, size = math.prod(x_shape[:-2]), math.prod(x_shape[-2:])
    dx = np.zeros((planes, size + 1), dy.dtype)  # the last is where -1 points to
    np.add.at(dx, (np.arange(planes)[:, None], _planes(indices)), _planes(dy))
    return dx[:, :size].reshape(x_shape)


def _max_pool2d_gather_reference(x, indices):
    taken = np.take_along_axis(_planes(x), np.maximum(_planes(indices), 0), 1).reshape(indices.shape)
    return np.where(indices < 0, x.dtype.type(0), taken)


def _divisor(size, kernel_size, stride, padding, outputs, count_include_pad):
    counted = padded(np.ones(size, np.int64), padding, value=int(count_include_pad))
    counted = _windowed(counted, 0, kernel_size, stride, (0, 0), (1, 1), outputs)
    return np.maximum(sum(counted[rows, cols] for *_, rows, cols in taps(kernel_size, outputs, stride, (1, 1))), 1)


@in_float32
def _avg_pool2d_reference(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad):
    outputs = _outputs(x.shape[-2:], kernel_size, stride, padding, (1, 1), ceil_mode)
    image = _windowed(x, 0, kernel_size, stride, padding, (1, 1), outputs)
    y = np.zeros((*x.shape[:-2], *outputs), x.dtype)
    for _, _, rows, cols in taps(kernel_size, outputs, stride, (1, 1)):
        y += image[..., rows, cols]
    return y / _divisor(x.shape[-2:], kernel_size, stride, padding, outputs, count_include_pad).astype(x.dtype)


@in_float32
def _avg_pool2d_backward_reference(dy, *, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    (h, w), outputs = x_shape[-2:], dy.shape[-2:]
    share = dy / _divisor((h, w), kernel_size, stride, padding, outputs, count_include_pad).astype(dy.dtype)
    dx = _windowed(np.zeros(x_shape, dy.dtype), 0, kernel_size, stride, padding, (1, 1), outputs)
    for _, _, rows, cols in taps(kernel_size, outputs, stride, (1, 1)):
        dx[..., rows, cols] += share
    return np.ascontiguousarray(dx[..., padding[0] : padding[0] + h, padding[1] : padding[1] + w])


def _bins(n, m):
    """(i, first, last + 1) for each of m outputs over n elements."""
    return [(i, i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


@in_float32
def _adaptive_avg_pool_reference(x, *, dim, size):
    x = np.moveaxis(x, dim, -1)
    y = np.empty((*x.shape[:-1], size), x.dtype)
    for i, begin, end in _bins(x.shape[-1], size):
        y[..., i] = x[..., begin:end].sum(-1) / (end - begin)
    return np.ascontiguousarray(np.moveaxis(y, -1, dim))


@in_float32
def _adaptive_avg_pool_backward_reference(dy, *, dim, size):
    dy = np.moveaxis(dy, dim, -1)
    dx = np.zeros((*dy.shape[:-1], size), dy.dtype)
    for i, begin, end in _bins(size, dy.shape[-1]):
        dx[..., begin:end] += dy[..., i : i + 1] / (end - begin)
    return np.ascontiguousarray(np.moveaxis(dx, -1, dim))


def _adaptive_max_pool2d_reference(x, *, output_size):
    *lead, h, w = x.shape
    y = np.empty((*lead, *output_size), x.dtype)
    indices = np.empty(y.shape, np.int64)
    places = np.arange(h * w).reshape(h, w)
    for i, top, bottom in _bins(h, output_size[0]):
        for j, left, right in _bins(w, output_size[1]):
            seen = x[..., top:bottom, left:right].reshape(*lead, (bottom - top) * (right - left))
            best = np.argmax(seen, -1)  # the first; a NaN beats everything
            y[..., i, j] = np.take_along_axis(seen, best[..., None], -1)[..., 0]
            indices[..., i, j] = places[top:bottom, left:right].ravel()[best]
    return y, indices


# ----------------------------------------------------------------------------------------------------------------- ops


def _windows(kernel_size, stride=None, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    windows = {"kernel_size": kernel_size, "stride": stride or kernel_size, "padding": padding, "dilation": dilation}
    return {**windows, "ceil_mode": ceil_mode}


def _geometries():
    yield (2, 3, 6, 8), _windows((2, 2))
    yield (1, 2, 7, 5), _windows((3, 2), (2, 1), (1, 1))
    yield (2, 5, 6), _windows((3, 3), (2, 2), (1, 1), ceil_mode=True)
    yield (7, 9), _windows((2, 3), (3, 4), ceil_mode=True)
    yield (0, 3, 4, 4), _windows((2, 2))
    yield (1, 1, 1, 1), _windows((1, 1))


def _distinct(rng, shape):
    """Numbers far enough apart that a step of gradcheck changes no winner."""
    return rng.permutation(math.prod(shape)).reshape(shape) * 0.1 - 1.0


def _max_pool2d_samples(rng):
    for shape, windows in _geometries():
        yield Sample((_distinct(rng, shape),), windows)
    yield Sample((_distinct(rng, (2, 9, 8)),), _windows((3, 2), (1, 2), (1, 1), (2, 3)), name="dilated")
    x = np.array([[np.nan, 1, np.nan, 2, -np.inf, -np.inf], [3, 3, 5, 5, -np.inf, -np.inf]])
    yield Sample((x,), _windows((2, 2)), differentiable=False, name="edges")
    nothing_seen = _windows((2, 2), None, (1, 1), (2, 2))
    yield Sample((np.ones((1, 1)),), nothing_seen, differentiable=False, name="nothing but padding")


def _routed_samples(rng):
    """(dy, indices, x's shape); -1 is a window without an element."""
    yield rng.standard_normal((2, 2, 3)), rng.integers(-1, 20, (2, 2, 3)), (2, 4, 5)
    yield rng.standard_normal((1, 1)), np.zeros((1, 1), np.int64), (1, 1)
    yield rng.standard_normal((0, 2, 2)), np.zeros((0, 2, 2), np.int64), (0, 3, 3)


def _max_pool2d_backward_samples(rng):
    for dy, indices, x_shape in _routed_samples(rng):
        yield Sample((dy, indices), {"x_shape": x_shape})


def _max_pool2d_gather_samples(rng):
    for _, indices, x_shape in _routed_samples(rng):
        yield Sample((rng.standard_normal(x_shape), indices))


def _avg_samples(rng, of_output):
    for shape, windows in _geometries():
        windows = {name: value for name, value in windows.items() if name != "dilation"}
        for count_include_pad in (True, False) if max(windows["padding"]) else (True,):
            static = {**windows, "count_include_pad": count_include_pad}
            if of_output:
                static["x_shape"] = shape
                shape_of_y = (*shape[:-2], *_outputs(shape[-2:], dilation=(1, 1), **windows))
                yield Sample((rng.standard_normal(shape_of_y),), static)
            else:
                yield Sample((rng.standard_normal(shape),), static)


def _adaptive_avg_pool_samples(rng):
    yield Sample((rng.standard_normal((2, 3, 7)),), {"dim": 2, "size": 4})
    yield Sample((rng.standard_normal((5, 3)),), {"dim": 0, "size": 7})
    yield Sample((rng.standard_normal((0, 3)),), {"dim": 1, "size": 2})


def _adaptive_max_pool2d_samples(rng):
    yield Sample((_distinct(rng, (2, 5, 7)),), {"output_size": (3, 4)})
    yield Sample((_distinct(rng, (3, 2)),), {"output_size": (1, 3)})
    x = np.array([[1, np.nan, np.nan], [2, 2, -np.inf]])
    yield Sample((x,), {"output_size": (2, 2)}, differentiable=False, name="edges")


def _max_pool2d_vjp(dys, indices, shapes):
    return apply(_max_pool2d_backward, dys[0], indices, x_shape=shapes[0])


_max_pool2d: Op = Op(
    "max_pool2d",
    _max_pool2d_reference,
    vjp=_max_pool2d_vjp,
    samples=_max_pool2d_samples,
    multi=True,
    outputs=("values", "indices"),
    pointwise=True,
    doc="max_pool2d: the maximum of each window and where it stands; the gradient goes there.",
)
_max_pool2d_backward: Op = Op(
    "max_pool2d_backward",
    _max_pool2d_backward_reference,
    vjps=(lambda ddx, indices: apply(_max_pool2d_gather, ddx, indices), None),
    samples=_max_pool2d_backward_samples,
    doc="max_pool2d_backward: dx[indices[i]] += dy[i] in every plane, -1 left out; derivative dy[i] = dx[indices[i]].",
)
_max_pool2d_gather: Op = Op(
    "max_pool2d_gather",
    _max_pool2d_gather_reference,
    vjps=(lambda dy, indices, shapes: apply(_max_pool2d_backward, dy, indices, x_shape=shapes[0]), None),
    samples=_max_pool2d_gather_samples,
    pointwise=True,
    native=False,
    doc="max_pool2d_gather: y[i] = x[indices[i]] in every plane, 0 for -1; derivative dx[indices[i]] += dy[i].",
)
_avg_pool2d: Op = Op(
    "avg_pool2d",
    _avg_pool2d_reference,
    vjps=(lambda dy, shapes, **windows: apply(_avg_pool2d_backward, dy, x_shape=shapes[0], **windows),),
    samples=lambda rng: _avg_samples(rng, of_output=False),
    doc="avg_pool2d: the mean of each window; derivative dy / divisor, added to every element of the window.",
)
_avg_pool2d_backward: Op = Op(
    "avg_pool2d_backward",
    _avg_pool2d_backward_reference,
    vjps=(lambda ddx, *, x_shape, **windows: apply(_avg_pool2d, ddx, **windows),),
    samples=lambda rng: _avg_samples(rng, of_output=True),
    doc="avg_pool2d_backward: dx[window of i] += dy[i] / divisor[i]; derivative: the mean of each window.",
)
_adaptive_avg_pool: Op = Op(
    "adaptive_avg_pool",
    _adaptive_avg_pool_reference,
    vjps=(lambda dy, shapes, *, dim, size: apply(_adaptive_avg_pool_backward, dy, dim=dim, size=shapes[0][dim]),),
    samples=_adaptive_avg_pool_samples,
    native=False,
    doc="adaptive_avg_pool: means of ``size`` stretches along dim; derivative dy / length, added to every element of the stretch.",
)
_adaptive_avg_pool_backward: Op = Op(
    "adaptive_avg_pool_backward",
    _adaptive_avg_pool_backward_reference,
    vjps=(lambda ddx, shapes, *, dim, size: apply(_adaptive_avg_pool, ddx, dim=dim, size=shapes[0][dim]),),
    samples=_adaptive_avg_pool_samples,
    native=False,
    doc="adaptive_avg_pool_backward: dy / length, added to every element of its stretch; derivative: means of the stretches.",
)
_adaptive_max_pool2d: Op = Op(
    "adaptive_max_pool2d",
    _adaptive_max_pool2d_reference,
    vjp=_max_pool2d_vjp,
    samples=_adaptive_max_pool2d_samples,
    multi=True,
    outputs=("values", "indices"),
    pointwise=True,
    native=False,
    doc="adaptive_max_pool2d: the maximum of each stretch and where it stands; the gradient goes there.",
)

# -------------------------------------------------------------------------------------------------------------- checks


def _check(op, input, dims, kinds="iuf"):
    if not isinstance(input, Tensor):
        raise DTypeError(f"{op}: input: got {type(input).__name__}; expected a tensor.")
    if input.ndim < dims:
        raise ShapeError(message(op, "shape of input", input.shape, "(..., h, w)" if dims == 2 else "(..., w)"))
    if input.dtype.kind not in kinds:
        expected = "a floating one" if kinds == "f" else "numbers"
        raise DTypeError(message(op, "dtype of input", input.dtype, expected, "Use .to(gg.float32)."))


@remembered
def _checked_windows(op, dims, shape, kernel_size, stride, padding, dilation, ceil_mode):
    """The windows as keywords of the ops, for (h, w)."""
    kernel = whole(op, "kernel_size", kernel_size, dims, 1)
    stride = kernel if stride is None else whole(op, "stride", stride, dims, 1)
    padding, dilation = whole(op, "padding", padding, dims, 0), whole(op, "dilation", dilation, dims, 1)
    size = shape[-dims:]
    if 0 in size:
        raise ShapeError(message(op, "shape of input", shape, "at least one element to pool"))
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        hint = "A window must not lie in the padding alone."
        raise ArgumentError(message(op, "padding", padding, f"at most half of kernel_size={kernel}", hint))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    room = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    hang = [s - 1 if ceil_mode else 0 for s in stride]  # with ceil_mode even the first window may hang over the end
    if any(k > n + more for k, n, more in zip(reach, room, hang, strict=True)):
        dilated = " (with dilation)" if max(dilation) > 1 else ""
        expected = f"at most {room}, from input {shape}"
        raise ShapeError(message(op, "kernel larger than the padded input", f"{reach}{dilated}", expected))
    if dims == 1:
        kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    return _windows(kernel, stride, padding, dilation, bool(ceil_mode))


def _as_rows(input):
    """(..., w) as (..., 1, w)."""
    return input.reshape((*input.shape[:-1], 1, input.shape[-1]))


def _from_rows(y):
    return y.reshape((*y.shape[:-2], y.shape[-1]))


# ------------------------------------------------------------------------------------------------------------- maximum


def max_pool2d(
    input,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
):
    """The maximum of each window: (..., h, w) -> (..., oh, ow).

    Args:
        kernel_size, stride, padding, dilation: an int, or one for h and one for w; stride defaults to kernel_size, and
            padding (by -inf) is at most half of kernel_size.
        ceil_mode: count a last window that hangs over the edge.
        return_indices: also return where each maximum stands, as row * w + column of its plane.

    Returns:
        oh = floor((h + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1, or ceil in place of floor.

    >>> import glassgrad as gg
    >>> gg.max_pool2d(gg.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[5.0, 7.0], [13.0, 15.0]]]
    """
    _check("max_pool2d", input, 2)
    windows = _checked_windows("max_pool2d", 2, input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, indices = apply(_max_pool2d, input, **windows)
    return (y, indices) if return_indices else y


def max_pool1d(
    input,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
):
    """``max_pool2d`` along the last axis: (..., w) -> (..., ow)."""
    _check("max_pool1d", input, 1)
    windows = _checked_windows("max_pool1d", 1, input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y, indices = apply(_max_pool2d, _as_rows(input), **windows)
    return (_from_rows(y), _from_rows(indices)) if return_indices else _from_rows(y)


def adaptive_max_pool2d(input, output_size: int | Sequence[int | None], return_indices: bool = False):
    """The maxima of oh times ow stretches that cover the image: (..., h, w) -> (..., oh, ow), for any h and w.

    ``output_size`` is an int or a pair, with None for the size that input has.
    """
    _check("adaptive_max_pool2d", input, 2, "f")
    size = _adaptive_size("adaptive_max_pool2d", input, 2, output_size)
    return _adaptive_max(input, size, return_indices)


def adaptive_max_pool1d(input, output_size: int | Sequence[int | None], return_indices: bool = False):
    """``adaptive_max_pool2d`` along the last axis: (..., w) -> (..., ow)."""
    _check("adaptive_max_pool1d", input, 1, "f")
    size = _adaptive_size("adaptive_max_pool1d", input, 1, output_size)
    y, indices = _adaptive_max(_as_rows(input), (1, *size), True)
    return (_from_rows(y), _from_rows(indices)) if return_indices else _from_rows(y)


def _adaptive_max(input, size, return_indices):
    kernel = _dividing(input.shape[-2:], size)
    if kernel:
        y, indices = apply(_max_pool2d, input, **_windows(kernel))
    else:
        y, indices = apply(_adaptive_max_pool2d, input, output_size=size)
    return (y, indices) if return_indices else y


# ---------------------------------------------------------------------------------------------------------------- mean


def avg_pool2d(
    input,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (..., h, w) -> (..., oh, ow).

    Args:
        kernel_size, stride, padding: an int, or one for h and one for w; stride defaults to kernel_size, and padding
            (by 0) is at most half of kernel_size.
        ceil_mode: count a last window that hangs over the edge.
        count_include_pad: whether the zeros of the padding count as elements.
        divisor_override: divide the sum by this instead of the number of elements.

    >>> import glassgrad as gg
    >>> gg.avg_pool2d(gg.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    _check("avg_pool2d", input, 2, "f")
    windows = _checked_windows("avg_pool2d", 2, input.shape, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is None:
        return _avg(input, windows, count_include_pad)
    (divisor,) = whole("avg_pool2d", "divisor_override", divisor_override, 1, 1)
    kernel, steps = windows["kernel_size"], windows["stride"]
    # With zeros up to the end of the last window every divisor is the whole kernel, and can be taken back.
    size = input.shape[-2:]
    amounts: list[int] = []
    for n, o, k, s, p in zip(size, _outputs(size, **windows), kernel, steps, windows["padding"], strict=True):
        amounts = [p, max((o - 1) * s + k - n - p, 0), *amounts]
    return _avg(pad(input, amounts), _windows(kernel, steps), True) * (math.prod(kernel) / divisor)


def _avg(input, windows, count_include_pad):
    windows = {name: value for name, value in windows.items() if name != "dilation"}
    return apply(_avg_pool2d, input, count_include_pad=bool(count_include_pad), **windows)


def avg_pool1d(
    input,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """``avg_pool2d`` along the last axis: (..., w) -> (..., ow)."""
    _check("avg_pool1d", input, 1, "f")
    windows = _checked_windows("avg_pool1d", 1, input.shape, kernel_size, stride, padding, 1, ceil_mode)
    return _from_rows(_avg(_as_rows(input), windows, count_include_pad))


def adaptive_avg_pool2d(input, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of oh times ow stretches that cover the image: (..., h, w) -> (..., oh, ow), for any h and w.

    ``output_size`` is an int or a pair, with None for the size that input has; 1 takes the mean of each plane.

    >>> import glassgrad as gg
    >>> gg.adaptive_avg_pool2d(gg.arange(6.0).reshape(1, 2, 3), (1, 2)).tolist()
    [[[2.0, 3.0]]]
    """
    _check("adaptive_avg_pool2d", input, 2, "f")
    size = _adaptive_size("adaptive_avg_pool2d", input, 2, output_size)
    if size == (1, 1):
        return input.mean((-2, -1), keepdim=True)
    kernel = _dividing(input.shape[-2:], size)
    return _avg(input, _windows(kernel), True) if kernel else _stretch_means(input, size)


def adaptive_avg_pool1d(input, output_size: int | Sequence[int | None]) -> Tensor:
    """``adaptive_avg_pool2d`` along the last axis: (..., w) -> (..., ow)."""
    _check("adaptive_avg_pool1d", input, 1, "f")
    size = _adaptive_size("adaptive_avg_pool1d", input, 1, output_size)
    if size == (1,):
        return input.mean(-1, keepdim=True)
    kernel = _dividing(input.shape[-1:], size)
    return _from_rows(_avg(_as_rows(input), _windows((1, *kernel)), True)) if kernel else _stretch_means(input, size)


def _stretch_means(x, size):
    for dim, m in enumerate(size, start=x.ndim - len(size)):
        if x.shape[dim] != m:
            x = apply(_adaptive_avg_pool, x, dim=dim, size=m)
    return x


def _adaptive_size(op, input, dims, output_size):
    size = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    here = input.shape[-dims:]
    size = tuple(n if m is None else m for n, m in zip(here, size, strict=True)) if len(size) == dims else size
    size = whole(op, "output_size", size, dims, 0)
    if 0 in here:
        raise ShapeError(message(op, "shape of input", input.shape, "at least one element to pool"))
    return size


def _dividing(size, outputs):
    """The kernel that makes ordinary pooling of it, when the sizes divide."""
    if all(m and n % m == 0 for n, m in zip(size, outputs, strict=True)):
        return tuple(n // m for n, m in zip(size, outputs, strict=True))
    return None


METHODS: list = []
__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "avg_pool1d", "avg_pool2d",
    "max_pool1d", "max_pool2d",
]  # fmt: skip
