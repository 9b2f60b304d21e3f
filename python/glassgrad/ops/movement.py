"""Movement ops: the same numbers in another arrangement. Each derivative is the opposite movement.

    view    reshape, permute, slice, diagonal, split, unbind      other strides over the same memory, no copy
            expand                                                stride 0 repeats an axis; derivative: sum over it
    copy    clone, cat, stack, repeat, flip, roll, tril, triu

squeeze, flatten and the like are a reshape; transpose, T and movedim a permute; narrow, select and basic indexing a slice.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate
from math import prod

import numpy as np

from ..dtypes import of_number, promote
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, check_dim, check_dims, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap
from .elementwise import as_tensor, cast_op


def tensor_of(op: str, x) -> Tensor:
    """``x`` as a Tensor: itself, or a constant made of a number or an array."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        return wrap(x)
    if isinstance(x, (bool, int, float, np.generic)):
        return as_tensor(x, of_number(x))
    raise DTypeError(message(op, "input", type(x).__name__, "a tensor", "gg.tensor(...) makes one."))


def blank(shape, dtype) -> Tensor:
    """Zeros that take no memory, for an op that copies what it changes."""
    return wrap(np.broadcast_to(dtype.type(0), shape))


def _sizes(op, sizes) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    try:
        return tuple([n if type(n) is int else operator.index(n) for n in sizes])
    except TypeError:
        raise DTypeError(message(op, "sizes", sizes, "integers")) from None


# -------------------------------------------------------------------------------------------------- expand and its undoing


def array_sum(x, axis, keepdims=False):
    """NumPy's sum in x's dtype; float16 is added in float32, since 2048 + 1 is 2048 in float16."""
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.add.reduce(x, axis=axis, dtype=wide, keepdims=keepdims).astype(x.dtype, copy=False)


def _sum_to_size_reference(x, *, size):
    extra = x.ndim - len(size)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(size) if n == 1 and x.shape[i + extra] != 1)
    return array_sum(x, axes).reshape(size)


def _sum_to_size_samples(rng):
    yield Sample((rng.standard_normal((4, 3, 5)),), {"size": (3, 1)})
    yield Sample((rng.standard_normal((33, 17)),), {"size": (17,)})
    yield Sample((rng.standard_normal((17, 33)),), {"size": ()})
    yield Sample((rng.standard_normal((0, 3)),), {"size": (3,)}, name="empty")


_sum_to_size = Op(
    "sum_to_size",
    _sum_to_size_reference,
    vjps=(lambda dy, shapes: apply(_expand, dy, size=shapes[0]),),
    samples=_sum_to_size_samples,
    doc="sum_to_size: sum over the axes that broadcasting would repeat; derivative: repeat.",
)


def _expand_reference(x, *, size):
    return np.broadcast_to(x, size)


def _expand_samples(rng):
    yield Sample((rng.standard_normal((3, 1)),), {"size": (2, 3, 4)})
    yield Sample((rng.standard_normal(()),), {"size": (3, 5)}, name="0-d")
    yield Sample((rng.standard_normal((2, 3, 1)).T,), {"size": (4, 3, 2)}, name="transposed")
    yield Sample((rng.standard_normal((1, 3)),), {"size": (0, 3)}, name="empty")


_expand: Op = Op(
    "expand",
    _expand_reference,
    vjps=(lambda dy, shapes: apply(_sum_to_size, dy, size=shapes[0]),),
    samples=_expand_samples,
    is_view=True,
    native=True,  # the gradient of every loss starts here, and NumPy's broadcast_to takes 2 us to move nothing
    doc="expand: repeat axes of size 1 without copying; derivative: sum over them.",
)


def _broadcasts(shape, size):
    extra = len(size) - len(shape)
    if extra < 0:
        return False
    for n, m in zip(shape, size[extra:], strict=True):
        if n != m and n != 1:
            return False
    return True


def sum_to_size(input, *size) -> Tensor:
    """Sum ``input`` to ``size``, a shape that broadcasts to the input's."""
    size = _sizes("sum_to_size", size)
    shape = input.data.shape
    if not _broadcasts(size, shape):
        raise ShapeError(message("sum_to_size", "shape", size, f"one that broadcasts to {input.shape}"))
    return apply(_sum_to_size, input, size=size)


def expand(input, *size) -> Tensor:
    """Repeat axes of size 1, without copying; new axes come first, -1 keeps an axis.

    The result is read-only, as its elements share memory.
    """
    size = _sizes("expand", size)
    shape = input.data.shape
    if -1 in size:
        extra = len(size) - len(shape)
        size = tuple([shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(size)])
    if not _broadcasts(shape, size) or (size and min(size) < 0):
        hint = "Only an axis of size 1 repeats; unsqueeze(dim) makes one."
        raise ShapeError(message("expand", "size", size, f"a shape that {shape} broadcasts to", hint))
    return apply(_expand, input, size=size)


def expand_as(input, other) -> Tensor:
    """``expand`` to the shape of ``other``."""
    return expand(input, *other.shape)


def broadcast_to(input, shape) -> Tensor:
    """``expand`` under NumPy's name."""
    return expand(tensor_of("broadcast_to", input), *_sizes("broadcast_to", (shape,)))


# ----------------------------------------------------------------------------------------------------------------- clone


def _clone_samples(rng):
    yield Sample((rng.standard_normal((3, 4)),))
    yield Sample((rng.standard_normal((3, 4)).T,), name="transposed")
    yield Sample((rng.standard_normal((0, 2)),), name="empty")


_clone = Op(
    "clone",
    lambda x: x.copy(),
    vjps=(lambda dy: dy,),
    samples=_clone_samples,
    native=False,
    doc="clone: a copy in memory of its own; derivative 1.",
)


def clone(input) -> Tensor:
    """A contiguous copy with its own memory; the gradient passes through."""
    return apply(_clone, tensor_of("clone", input))


def contiguous(input) -> Tensor:
    """``input`` itself when its memory is in row-major order, else a copy that is."""
    return input if input.data.flags.c_contiguous else apply(_clone, input)


# --------------------------------------------------------------------------------------------------------------- reshape


def _reshape_samples(rng):
    yield Sample((rng.standard_normal((3, 4)),), {"shape": (2, 6)})
    yield Sample((rng.standard_normal((3, 1, 4)).swapaxes(0, 2),), {"shape": (2, 1, 2, 3)}, name="strided")
    yield Sample((rng.standard_normal(()),), {"shape": (1, 1)}, name="0-d")
    yield Sample((rng.standard_normal((0, 3)),), {"shape": (3, 0, 2)}, name="empty")


_reshape = Op(
    "reshape",
    lambda x, *, shape: x.reshape(shape),
    vjps=(lambda dy, shapes: _reshaped(dy, shapes[0]),),
    samples=_reshape_samples,
    is_view=True,
    doc="reshape: the same elements in row-major order under another shape; derivative: reshape back.",
)


def _reshaped(x, shape):
    """Reshape to a shape that is known to fit, copying only where strides demand it."""
    data = x.data
    if not data.flags.c_contiguous and not viewable(data.shape, data.strides, shape):
        x = apply(_clone, x)
    return apply(_reshape, x, shape=shape)


def viewable(shape, strides, target) -> bool:
    """Whether ``target`` can be laid over the memory that ``shape`` and ``strides`` describe, one stride per axis.

    Neighbouring axes that step evenly into each other (outer stride = inner size x inner stride) are one run; each run
    must be cut up by target axes of its own.

    >>> viewable((2, 3, 4), (96, 32, 8), (6, 4)), viewable((3, 2), (8, 24), (6,))
    (True, False)
    """
    if 0 in shape:
        return True
    runs: list = []  # (elements, stride of the innermost axis)
    for n, stride in zip(shape, strides, strict=True):
        if n != 1:
            if runs and runs[-1][1] == n * stride:
                runs[-1] = runs[-1][0] * n, stride
            else:
                runs.append((n, stride))
    axes = iter([n for n in target if n != 1])
    for elements, _ in runs:
        covered = 1
        while covered < elements:
            covered *= next(axes)
        if covered != elements:
            return False
    return True


def _inferred(op, data, shape):
    """``shape`` with its -1 worked out, checked to hold data's elements."""
    known = -prod(shape) if (guess := -1 in shape) else prod(shape)
    if (shape and min(shape) < -1) or shape.count(-1) > 1:
        raise ShapeError(message(op, "shape", shape, "sizes >= 0 and at most one -1"))
    if guess and known and data.size % known == 0:
        return tuple([data.size // known if n == -1 else n for n in shape])
    if guess and not known:
        raise ShapeError(
            message(op, "shape", f"{shape}, in which -1 could be any size", "a shape without a 0 beside -1")
        )
    if guess or known != data.size:
        holds = f"{shape}, a multiple of {known} elements" if guess else f"{shape}, {known} elements"
        raise ShapeError(
            message(op, "shape does not hold the elements", holds, f"{data.size} elements, as {data.shape} has")
        )
    return shape


def reshape(input, *shape) -> Tensor:
    """The same elements, in row-major order, under another shape; one size may be -1. A view where strides allow it.

    Raises:
        ShapeError: the shape holds another number of elements.

    >>> import glassgrad as gg
    >>> gg.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    x = tensor_of("reshape", input)
    return _reshaped(x, _inferred("reshape", x.data, _sizes("reshape", shape)))


def view(input, *shape) -> Tensor:
    """``reshape`` that never copies.

    Raises:
        ShapeError: the strides do not allow it, as after a transpose.
    """
    data = input.data
    shape = _inferred("view", data, _sizes("view", shape))
    if not data.flags.c_contiguous and not viewable(data.shape, data.strides, shape):
        raise ShapeError(
            message("view", "strides do not allow it without a copy", f"{data.shape} with strides {input.stride()} as {shape}",
                    "memory that the new shape can step through evenly", "Use reshape, which copies where it must.")
        )  # fmt: skip
    return apply(_reshape, input, shape=shape)


def flatten(input, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` as one; a 0-d tensor becomes 1-d."""
    x = tensor_of("flatten", input)
    shape = x.data.shape or (1,)
    start, end = check_dim("flatten", start_dim, x.ndim), check_dim("flatten", end_dim, x.ndim)
    if start > end:
        raise ArgumentError(
            message("flatten", "dims", f"start_dim={start_dim}, end_dim={end_dim}", "start_dim not after end_dim")
        )
    if start == end and x.ndim:
        return x
    return _reshaped(x, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis as several; one of ``sizes`` may be -1.

    >>> import glassgrad as gg
    >>> gg.zeros(2, 12).unflatten(1, (3, -1)).shape
    (2, 3, 4)
    """
    x = tensor_of("unflatten", input)
    dim, shape = _not_0d("unflatten", x, dim), x.data.shape
    sizes = _sizes("unflatten", (sizes,))
    known = abs(prod(sizes))
    whole = shape[dim] // known if known else 0
    filled = tuple([whole if n == -1 else n for n in sizes])
    if not sizes or sizes.count(-1) > 1 or min(filled) < 0 or prod(filled) != shape[dim]:
        raise ShapeError(
            message("unflatten", "sizes", sizes, f"sizes whose product is {shape[dim]}, the size of dim {dim}")
        )
    return _reshaped(x, shape[:dim] + filled + shape[dim + 1 :])


def squeeze(input, dim=None) -> Tensor:
    """Without the axes of size 1: all of them, or those among ``dim`` (an int or several). Other axes stay. A view."""
    x = tensor_of("squeeze", input)
    shape = x.data.shape
    dims = range(len(shape)) if dim is None else check_dims("squeeze", dim, len(shape)) or ()
    return apply(_reshape, x, shape=tuple([n for i, n in enumerate(shape) if n != 1 or i not in dims]))


def unsqueeze(input, dim: int) -> Tensor:
    """With an axis of size 1 put in at ``dim``. A view."""
    x = tensor_of("unsqueeze", input)
    shape = x.data.shape
    dim = check_dim("unsqueeze", dim, len(shape) + 1)
    return apply(_reshape, x, shape=(*shape[:dim], 1, *shape[dim:]))


# --------------------------------------------------------------------------------------------------------------- permute


def _permute_samples(rng):
    yield Sample((rng.standard_normal((2, 3, 4)),), {"dims": (2, 0, 1)})
    yield Sample((rng.standard_normal(()),), {"dims": ()}, name="0-d")
    yield Sample((rng.standard_normal((0, 3)),), {"dims": (1, 0)}, name="empty")


_permute: Op = Op(
    "permute",
    lambda x, *, dims: x.transpose(dims),
    vjps=(lambda dy, *, dims: apply(_permute, dy, dims=tuple(sorted(range(len(dims)), key=dims.__getitem__))),),
    samples=_permute_samples,
    is_view=True,
    doc="permute: axis i of the result is axis dims[i] of x; derivative: the inverse permutation.",
)


def permute(input, *dims) -> Tensor:
    """Axes in another order: axis i of the result is axis ``dims[i]`` of the input. A view."""
    x = tensor_of("permute", input)
    dims = tuple([check_dim("permute", d, x.ndim) for d in _sizes("permute", dims)])
    if sorted(dims) != list(range(x.ndim)):
        raise ArgumentError(
            message("permute", "dims", dims, f"each of {tuple(range(x.ndim))} once, as input is {x.shape}")
        )
    return apply(_permute, x, dims=dims)


def transpose(input, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged. A view."""
    x = tensor_of("transpose", input)
    ndim = x.data.ndim
    a, b = check_dim("transpose", dim0, ndim), check_dim("transpose", dim1, ndim)
    dims = list(range(ndim))
    if ndim:
        dims[a], dims[b] = b, a
    return apply(_permute, x, dims=tuple(dims))


def swapaxes(input, axis0: int, axis1: int) -> Tensor:
    """``transpose`` under NumPy's name."""
    return transpose(input, axis0, axis1)


def t(input) -> Tensor:
    """A matrix transposed; 0-d and 1-d tensors as they are. A view."""
    x = tensor_of("t", input)
    if x.ndim > 2:
        raise ShapeError(message("t", "input", x.shape, "at most 2 dims", "mT transposes the last two, permute any."))
    return _reversed_axes(x)


def _reversed_axes(input) -> Tensor:
    """The axes in reverse order: a matrix transposed. A view."""
    return apply(_permute, input, dims=tuple(range(input.data.ndim - 1, -1, -1)))


def _matrix_transpose(input) -> Tensor:
    """The last two axes exchanged: each matrix of a batch transposed. A view."""
    if input.ndim < 2:
        raise ShapeError(message("mT", "input", input.shape, "a matrix or a batch of them, at least 2 dims"))
    return transpose(input, -2, -1)


def movedim(input, source, destination) -> Tensor:
    """The axes ``source`` (an int or several) moved to ``destination``; the others keep their order. A view.

    >>> import glassgrad as gg
    >>> gg.zeros(2, 3, 4).movedim(0, -1).shape
    (3, 4, 2)
    """
    x = tensor_of("movedim", input)
    source, destination = (d if isinstance(d, (tuple, list)) else (d,) for d in (source, destination))
    if len(source) != len(destination):
        raise ArgumentError(message("movedim", "dims", f"{source} to {destination}", "as many sources as destinations"))
    start = [check_dim("movedim", d, x.ndim) for d in source]
    end = [check_dim("movedim", d, x.ndim) for d in destination]
    if len(set(start)) != len(start) or len(set(end)) != len(end):
        raise ArgumentError(message("movedim", "the same dim twice", f"{source} to {destination}", "different dims"))
    dims = [d for d in range(x.ndim) if d not in start]
    for to, d in sorted(zip(end, start, strict=True)):
        dims.insert(to, d)
    return apply(_permute, x, dims=tuple(dims[: x.ndim]))


# ---------------------------------------------------------------------------------------------- slices, narrow and select


def _slice_samples(rng):
    s = slice
    yield Sample((rng.standard_normal((3, 4)),), {"index": (1, ...)})
    yield Sample((rng.standard_normal((3, 4, 5)),), {"index": (..., s(1, 4, 2), None, s(None, None, -1))})
    yield Sample((rng.standard_normal(4),), {"index": (2, ...)}, name="to 0-d")
    yield Sample((rng.standard_normal((3, 4)),), {"index": (s(2, 2), ...)}, name="empty")


_slice = Op(
    "slice",
    lambda x, *, index: x[index],  # the index holds an Ellipsis: without one NumPy copies single elements
    vjps=(lambda dy, shapes, *, index: apply(_slice_backward, dy, shape=shapes[0], index=index),),
    samples=_slice_samples,
    is_view=True,
    doc="slice: x[index] of ints, slices, None and ...; derivative: the gradient in place, zeros around it.",
)


def _slice_backward_reference(dy, *, shape, index):
    dx = np.zeros(shape, dy.dtype)
    dx[index] = dy
    return dx


_slice_backward: Op = Op(
    "slice_backward",
    _slice_backward_reference,
    vjps=(lambda ddx, *, index: apply(_slice, ddx, index=index),),
    samples=lambda rng: iter([
        Sample((rng.standard_normal((3, 2)),), {"shape": (3, 4), "index": (..., slice(1, 4, 2))}),
        Sample((rng.standard_normal((0, 4)),), {"shape": (3, 4), "index": (slice(2, 2), ...)}, name="empty"),
    ]),
    native=False,
    doc="slice_backward: zeros with dy at index; derivative: slice.",
)  # fmt: skip


def _along(dim, index):
    return (*[slice(None)] * dim, index, ...)


def _not_0d(op, x, dim):
    if not x.ndim:
        raise AxisError(message(op, "input", "a 0-d tensor", "at least one dim", "unsqueeze(0) adds one."))
    return check_dim(op, dim, x.ndim)


def narrow(input, dim: int, start: int, length: int) -> Tensor:
    """``length`` elements along ``dim`` from ``start`` on. A view."""
    x = tensor_of("narrow", input)
    dim = _not_0d("narrow", x, dim)
    n, first = x.shape[dim], operator.index(start)
    first = first + n if first < 0 else first
    if not 0 <= length <= n - first or not 0 <= first <= n:
        raise ShapeError(
            message("narrow", "range", f"start={start}, length={length}", f"a part of dim {dim}, whose size is {n}")
        )
    return apply(_slice, x, index=_along(dim, slice(first, first + length)))


def select(input, dim: int, index: int) -> Tensor:
    """Element ``index`` along ``dim``, which goes away. A view."""
    x = tensor_of("select", input)
    dim = _not_0d("select", x, dim)
    n, index = x.shape[dim], operator.index(index)
    if not -n <= index < n:
        raise AxisError(
            message(
                "select", "index out of range", f"index={index}", f"{-n} <= index < {n} along dim {dim} of {x.shape}"
            )
        )
    return apply(_slice, x, index=_along(dim, index))


# -------------------------------------------------------------------------------------------------- split, unbind, cat, stack


def _filled(dys, shapes):
    """Gradients of several outputs, zeros where none arrived."""
    dtype = next(dy.data.dtype for dy in dys if dy is not None)
    return [wrap(np.zeros(shape, dtype)) if dy is None else dy for dy, shape in zip(dys, shapes, strict=True)]


def _split_reference(x, *, sizes, dim):
    before = (slice(None),) * dim
    return tuple([x[(*before, slice(end - n, end), ...)] for n, end in zip(sizes, accumulate(sizes), strict=True)])


def _split_vjp(dys, shapes, *, sizes, dim):
    shape = shapes[0]
    return apply(_cat, *_filled(dys, [(*shape[:dim], n, *shape[dim + 1 :]) for n in sizes]), dim=dim)


def _split_samples(rng):
    yield Sample((rng.standard_normal((3, 5)),), {"sizes": (2, 0, 3), "dim": 1})
    yield Sample((rng.standard_normal((4, 2)).T,), {"sizes": (1, 1), "dim": 0}, name="transposed")
    yield Sample((rng.standard_normal((0, 2)),), {"sizes": (0,), "dim": 0}, name="empty")


_split = Op(
    "split",
    _split_reference,
    vjp=_split_vjp,
    samples=_split_samples,
    is_view=True,
    multi=True,
    doc="split: consecutive parts of the given sizes along dim, as views; derivative: cat.",
)


def _unbind_vjp(dys, shapes, *, dim):
    shape = shapes[0]
    return apply(_stack, *_filled(dys, [shape[:dim] + shape[dim + 1 :]] * shape[dim]), dim=dim)


_unbind = Op(
    "unbind",
    lambda x, *, dim: tuple(x[_along(dim, i)] for i in range(x.shape[dim])),
    vjp=_unbind_vjp,
    samples=lambda rng: iter([
        Sample((rng.standard_normal((3, 4)),), {"dim": 1}),
        Sample((rng.standard_normal(2),), {"dim": 0}, name="to 0-d"),
    ]),
    is_view=True,
    multi=True,
    doc="unbind: the slices along dim, which goes away, as views; derivative: stack.",
)  # fmt: skip


def _needed(parts, needs):
    return [part if need else None for part, need in zip(parts, needs, strict=True)]


def _cat_vjp(dy, shapes, needs, *, dim):
    return _needed(apply(_split, dy, sizes=tuple([shape[dim] for shape in shapes]), dim=dim), needs)


def _cat_samples(rng):
    yield Sample((rng.standard_normal((2, 3)), rng.standard_normal((1, 3)), rng.standard_normal((0, 3))), {"dim": 0})
    yield Sample((rng.standard_normal((3, 2)), rng.standard_normal((4, 3)).T), {"dim": 1}, name="transposed")
    yield Sample((np.array([np.nan, 1]), np.array([np.inf])), {"dim": 0}, differentiable=False, name="edges")


_cat = Op(
    "cat",
    lambda *xs, dim: np.concatenate(xs, axis=dim),
    vjp=_cat_vjp,
    samples=_cat_samples,
    native=False,
    doc="cat: one after the other along dim; derivative: split.",
)
_stack = Op(
    "stack",
    lambda *xs, dim: np.stack(xs, axis=dim),
    vjp=lambda dy, needs, *, dim: _needed(apply(_unbind, dy, dim=dim), needs),
    samples=lambda rng: iter([
        Sample((rng.standard_normal((2, 3)), rng.standard_normal((2, 3))), {"dim": 1}),
        Sample((rng.standard_normal(()),), {"dim": 0}, name="0-d"),
        Sample((rng.standard_normal((0, 2)), rng.standard_normal((0, 2))), {"dim": 2}, name="empty"),
    ]),
    native=False,
    doc="stack: side by side along a new dim; derivative: unbind.",
)  # fmt: skip


def split(input, split_size_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts along ``dim``, as views: of one size (the last may be smaller), or of the sizes listed.

    >>> import glassgrad as gg
    >>> [part.shape for part in gg.zeros(7, 2).split(3)]
    [(3, 2), (3, 2), (1, 2)]
    """
    x = tensor_of("split", input)
    dim = _not_0d("split", x, dim)
    n, wanted = x.data.shape[dim], split_size_or_sections
    if isinstance(wanted, (tuple, list)):
        sizes = _sizes("split", (wanted,))
        if sum(sizes) != n or min(sizes, default=0) < 0:
            raise ShapeError(message("split", "sizes", sizes, f"sizes >= 0 that add up to {n}, the size of dim {dim}"))
    else:
        size = operator.index(wanted)
        if size < 0 or (size == 0 and n):
            raise ArgumentError(message("split", "size", size, "a size > 0"))
        sizes = (*[size] * ((n - 1) // size), n - size * ((n - 1) // size)) if n else (0,)
    return apply(_split, x, sizes=sizes, dim=dim)


def chunk(input, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """``split`` into at most ``chunks`` parts of one size, rounded up; the last may be smaller."""
    x = tensor_of("chunk", input)
    dim = _not_0d("chunk", x, dim)
    if chunks < 1:
        raise ArgumentError(message("chunk", "chunks", chunks, "chunks >= 1"))
    n = x.data.shape[dim]
    return apply(_split, x, sizes=(0,) * chunks, dim=dim) if n == 0 else split(x, -(-n // chunks), dim)


def unbind(input, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``dim``, which goes away, as views."""
    x = tensor_of("unbind", input)
    dim = _not_0d("unbind", x, dim)
    return apply(_unbind, x, dim=dim) if x.data.shape[dim] else ()


def _several(op, tensors):
    """A non-empty sequence as Tensors of one dtype."""
    if not isinstance(tensors, (tuple, list)) or not tensors:
        got = "an empty sequence" if isinstance(tensors, (tuple, list)) else type(tensors).__name__
        raise ArgumentError(message(op, "tensors", got, "a list or tuple of at least one tensor"))
    xs = [tensor_of(op, x) for x in tensors]
    dtype = xs[0].data.dtype
    for x in xs:
        if x.data.dtype != dtype:
            dtype = promote(dtype, x.data.dtype)
    return [x if x.data.dtype == dtype else cast_op(x, dtype) for x in xs]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """One after the other along ``dim``; the other sizes must agree. Dtypes are promoted.

    A tensor of shape (0,) among others of more dims is skipped, as in PyTorch.
    """
    xs = _several("cat", tensors)
    shapes = [x.data.shape for x in xs]
    if () in shapes:
        raise ShapeError(message("cat", f"tensor {shapes.index(())}", "a 0-d tensor", "at least one dim", "Use stack."))
    first = next((s for s in shapes if s != (0,)), (0,))
    if (0,) in shapes and len(first) > 1:
        xs = [x for x in xs if x.data.shape != (0,)]
    dim = check_dim("cat", dim, len(first))
    for i, x in enumerate(xs):
        shape = x.data.shape
        if len(shape) != len(first) or shape[:dim] + shape[dim + 1 :] != first[:dim] + first[dim + 1 :]:
            want = ", ".join("any" if d == dim else str(n) for d, n in enumerate(first))
            hint = "stack joins along a new dim." if len(shape) != len(first) else ""
            raise ShapeError(message("cat", f"sizes of tensor {i} beside dim {dim}", shape, f"({want})", hint))
    return apply(_cat, *xs, dim=dim)


def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``cat``."""
    return cat(tensors, dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Side by side along a new axis at ``dim``; all shapes must be equal. Dtypes are promoted."""
    xs = _several("stack", tensors)
    shape = xs[0].data.shape
    for i, x in enumerate(xs):
        if x.data.shape != shape:
            raise ShapeError(message("stack", f"shape of tensor {i}", x.shape, f"{shape}, as tensor 0 has"))
    return apply(_stack, *xs, dim=check_dim("stack", dim, len(shape) + 1))


# ---------------------------------------------------------------------------------------------------- repeat, flip and roll


def _repeat_vjp(dy, shapes, *, repeats):
    shape = shapes[0]
    padded = (1,) * (len(repeats) - len(shape)) + shape
    pairs = [n for pair in zip(repeats, padded, strict=True) for n in pair]
    return dy.reshape(pairs).sum(tuple(range(0, len(pairs), 2))).reshape(shape) if pairs else dy


def _repeat_samples(rng):
    yield Sample((rng.standard_normal((2, 3)),), {"repeats": (2, 1, 3)})
    yield Sample((rng.standard_normal(()),), {"repeats": (3,)}, name="0-d")
    yield Sample((rng.standard_normal((2,)),), {"repeats": (0,)}, name="empty")


_repeat = Op(
    "repeat",
    lambda x, *, repeats: np.tile(x, repeats),
    vjps=(_repeat_vjp,),
    samples=_repeat_samples,
    native=False,
    doc="repeat: copies side by side, repeats[d] of them along axis d; derivative: sum over the copies.",
)


def _repeated(op, x, repeats):
    if repeats and min(repeats) < 0:
        raise ShapeError(message(op, "repeats", repeats, "repeats >= 0"))
    return apply(_repeat, x, repeats=repeats)


def repeat(input, *repeats) -> Tensor:
    """Copies side by side: ``repeats[d]`` of them along axis d; more repeats than axes add axes in front.

    >>> import glassgrad as gg
    >>> gg.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    repeats = _sizes("repeat", repeats)
    if len(repeats) < input.ndim:
        hint = "tile fills up with ones; repeat_interleave repeats element by element."
        raise ShapeError(
            message("repeat", "repeats", repeats, f"at least {input.ndim}, one per dim of {input.shape}", hint)
        )
    return _repeated("repeat", input, repeats)


def tile(input, *dims) -> Tensor:
    """``repeat``, with ones in front where there are fewer repeats than axes."""
    x = tensor_of("tile", input)
    dims = _sizes("tile", dims)
    return _repeated("tile", x, (1,) * (x.ndim - len(dims)) + dims)


def repeat_interleave(input, repeats, dim: int | None = None) -> Tensor:
    """Each element along ``dim`` repeated in its place: all ``repeats`` times, or element i ``repeats[i]`` times.

    Without ``dim`` the input is flattened first.

    >>> import glassgrad as gg
    >>> gg.tensor([1, 2]).repeat_interleave(2)
    tensor([1, 1, 2, 2])
    """
    x = tensor_of("repeat_interleave", input)
    if dim is None or not x.ndim:
        x, dim = flatten(x), check_dim("repeat_interleave", dim or 0, 1)
    dim, shape = check_dim("repeat_interleave", dim, x.ndim), x.data.shape
    counts = np.asarray(repeats.data if isinstance(repeats, Tensor) else repeats)
    if counts.dtype.kind not in "iu":
        raise DTypeError(message("repeat_interleave", "repeats", counts.dtype, "integers"))
    if counts.ndim > 1 or counts.size not in (1, shape[dim]):
        raise ShapeError(
            message(
                "repeat_interleave", "repeats", counts.shape, f"one number, or one for each of {shape[dim]} elements"
            )
        )
    if counts.size and counts.min() < 0:
        raise ArgumentError(message("repeat_interleave", "repeats", int(counts.min()), "numbers >= 0"))
    if counts.size == 1:
        times = counts.item()
        spread = expand(unsqueeze(x, dim + 1), *shape[: dim + 1], times, *shape[dim + 1 :])
        return _reshaped(spread, (*shape[:dim], shape[dim] * times, *shape[dim + 1 :]))
    return x.index_select(dim, wrap(np.repeat(np.arange(shape[dim]), counts)))


def _flip_samples(rng):
    yield Sample((rng.standard_normal((2, 3)),), {"dims": (0, 1)})
    yield Sample((rng.standard_normal((3, 1)).T,), {"dims": (1,)}, name="transposed")
    yield Sample((rng.standard_normal((0, 3)),), {"dims": (0,)}, name="empty")


_flip: Op = Op(
    "flip",
    lambda x, *, dims: np.flip(x, dims).copy(),
    vjps=(lambda dy, *, dims: apply(_flip, dy, dims=dims),),
    samples=_flip_samples,
    native=False,
    doc="flip: the order along dims reversed, as a copy; derivative: flip.",
)


def flip(input, *dims) -> Tensor:
    """The order along ``dims`` reversed, as a copy."""
    x = tensor_of("flip", input)
    dims = _sizes("flip", dims)
    return apply(_flip, x, dims=check_dims("flip", dims, x.ndim)) if dims else clone(x)


def _roll_samples(rng):
    yield Sample((rng.standard_normal((3, 5)),), {"shifts": (1, -2), "dims": (0, 1)})
    yield Sample((rng.standard_normal((2, 3)),), {"shifts": (2,), "dims": None}, name="flattened")
    yield Sample((rng.standard_normal((0, 3)),), {"shifts": (1,), "dims": (0,)}, name="empty")


_roll: Op = Op(
    "roll",
    lambda x, *, shifts, dims: np.roll(x, shifts, axis=dims),
    vjps=(lambda dy, *, shifts, dims: apply(_roll, dy, shifts=tuple([-s for s in shifts]), dims=dims),),
    samples=_roll_samples,
    native=False,
    doc="roll: shifted along dims, what leaves at the end comes back at the start; derivative: roll back.",
)


def roll(input, shifts, dims=None) -> Tensor:
    """Shifted by ``shifts`` along ``dims`` (an int or several); what leaves at one end comes back at the other.

    Without ``dims`` the input is rolled as if flattened.
    """
    x = tensor_of("roll", input)
    shifts = _sizes("roll", shifts if isinstance(shifts, (tuple, list)) else (shifts,))
    if dims is not None:
        dims = _sizes("roll", dims if isinstance(dims, (tuple, list)) else (dims,))
        dims = tuple([check_dim("roll", d, x.ndim) for d in dims])
    if len(shifts) != (1 if dims is None else len(dims)):
        raise ArgumentError(message("roll", "shifts", shifts, "one shift per dim, or a single one without dims"))
    return apply(_roll, x, shifts=shifts, dims=dims if x.ndim else None)


# ------------------------------------------------------------------------------------------------- triangles and diagonals


def _triangle(name, reference, doc):
    def samples(rng):
        yield Sample((rng.standard_normal((3, 4)),), {"diagonal": 0})
        yield Sample((rng.standard_normal((2, 4, 3)),), {"diagonal": -1})
        yield Sample((rng.standard_normal((0, 2)),), {"diagonal": 1}, name="empty")
        yield Sample((np.full((2, 2), np.nan),), {"diagonal": 0}, differentiable=False, name="edges")

    op = Op(
        name,
        lambda x, *, diagonal: reference(x, diagonal),
        vjps=(lambda dy, *, diagonal: apply(op, dy, diagonal=diagonal),),
        samples=samples,
        native=False,
        doc=f"{name}: {doc}; derivative: the same.",
    )

    def function(input, diagonal: int = 0) -> Tensor:
        x = tensor_of(name, input)
        if x.ndim < 2:
            raise ShapeError(message(name, "input", x.shape, "at least 2 dims"))
        return apply(op, x, diagonal=operator.index(diagonal))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Each matrix of ``input`` with {doc}; ``diagonal`` moves the border up (> 0) or down (< 0)."
    return function


tril = _triangle("tril", np.tril, "zeros above the diagonal")
triu = _triangle("triu", np.triu, "zeros below the diagonal")


def _diagonal_reference(x, *, offset, dim1, dim2):
    y = x.diagonal(offset, dim1, dim2)
    y.flags.writeable = x.flags.writeable  # NumPy's is read-only
    return y


def _diagonal_backward_reference(dy, *, shape, offset, dim1, dim2):
    dx = np.zeros(shape, dy.dtype)
    _diagonal_reference(dx, offset=offset, dim1=dim1, dim2=dim2)[...] = dy
    return dx


def _diagonal_samples(rng):
    yield Sample((rng.standard_normal((3, 4)),), {"offset": 1, "dim1": 0, "dim2": 1})
    yield Sample((rng.standard_normal((3, 2, 4)),), {"offset": -1, "dim1": 2, "dim2": 0})
    yield Sample((rng.standard_normal((2, 3)),), {"offset": 3, "dim1": 0, "dim2": 1}, name="empty")


_diagonal = Op(
    "diagonal",
    _diagonal_reference,
    vjps=(lambda dy, shapes, *, offset, dim1, dim2: apply(
        _diagonal_backward, dy, shape=shapes[0], offset=offset, dim1=dim1, dim2=dim2),),
    samples=_diagonal_samples,
    is_view=True,
    doc="diagonal: the elements x[i, i + offset] of two axes, as the last axis; derivative: zeros beside the diagonal.",
)  # fmt: skip
_diagonal_backward: Op = Op(
    "diagonal_backward",
    _diagonal_backward_reference,
    vjps=(lambda ddx, *, offset, dim1, dim2: apply(_diagonal, ddx, offset=offset, dim1=dim1, dim2=dim2),),
    samples=lambda rng: iter([
        Sample((rng.standard_normal(3),), {"shape": (4, 4), "offset": -1, "dim1": 0, "dim2": 1}),
        Sample((rng.standard_normal(0),), {"shape": (2, 3), "offset": 3, "dim1": 0, "dim2": 1}, name="empty"),
    ]),
    native=False,
    doc="diagonal_backward: zeros with dy on a diagonal; derivative: diagonal.",
)  # fmt: skip


def diagonal(input, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements [i, i + offset] of the axes ``dim1`` and ``dim2``, as the last axis. A view."""
    x = tensor_of("diagonal", input)
    if x.ndim < 2:
        raise AxisError(message("diagonal", "input", x.shape, "at least 2 dims"))
    a, b = check_dim("diagonal", dim1, x.ndim), check_dim("diagonal", dim2, x.ndim)
    if a == b:
        raise ArgumentError(message("diagonal", "the same dim twice", f"dim1={dim1}, dim2={dim2}", "different dims"))
    return apply(_diagonal, x, offset=operator.index(offset), dim1=a, dim2=b)


def diag(input, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix of zeros; of a matrix, a copy of its diagonal.

    >>> import glassgrad as gg
    >>> gg.diag(gg.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    x = tensor_of("diag", input)
    if x.ndim == 2:
        return clone(apply(_diagonal, x, offset=diagonal, dim1=0, dim2=1))
    if x.ndim != 1:
        raise ShapeError(message("diag", "input", x.shape, "1 or 2 dims", "diagonal takes batches of matrices."))
    n = x.shape[0] + abs(diagonal)
    return apply(_diagonal_backward, x, shape=(n, n), offset=diagonal, dim1=0, dim2=1)


def meshgrid(*tensors, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid: input i varies along axis i, the others repeat (views). "xy" swaps the first two axes.

    >>> import glassgrad as gg
    >>> [g.tolist() for g in gg.meshgrid(gg.arange(2), gg.arange(3))]
    [[[0, 0, 0], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]]]
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise ArgumentError(message("meshgrid", "indexing", repr(indexing), "'ij' or 'xy'"))
    xs = [tensor_of("meshgrid", x) for x in tensors]
    for i, x in enumerate(xs):
        if x.ndim > 1:
            raise ShapeError(message("meshgrid", f"tensor {i}", x.shape, "0 or 1 dims"))
    shape = tuple([x.numel() for x in xs])
    grids = [expand(reshape(x, [-1 if d == i else 1 for d in range(len(xs))]), *shape) for i, x in enumerate(xs)]
    return tuple([transpose(g, 0, 1) for g in grids] if indexing == "xy" and len(xs) > 1 else grids)


METHODS = [
    broadcast_to, chunk, clone, contiguous, diag, diagonal, expand, expand_as, flatten, flip, movedim, narrow, permute,
    repeat, repeat_interleave, reshape, roll, select, split, squeeze, sum_to_size, swapaxes, t, tile, transpose, tril,
    triu, unbind, unflatten, unsqueeze, view,
]  # fmt: skip
INPLACE = [tril, triu]
PROPERTIES = {"T": _reversed_axes, "mT": _matrix_transpose}
__all__ = [
    "broadcast_to", "cat", "chunk", "clone", "concat", "diag", "diagonal", "flatten", "flip", "meshgrid", "movedim",
    "narrow", "permute", "repeat_interleave", "reshape", "roll", "select", "split", "squeeze", "stack", "swapaxes", "t",
    "tile", "transpose", "tril", "triu", "unbind", "unflatten", "unsqueeze",
]  # fmt: skip
