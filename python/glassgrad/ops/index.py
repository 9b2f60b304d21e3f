"""Indexing: read and write the elements that an index names.

    x[i], gather, index_select, embedding    read:   y_k = x[i_k]              dx = zeros, then dx[i_k] += dy_k
    scatter_add, index_add                   add:    y = x, y[i_k] += v_k      dx = dy, dv_k = dy[i_k]
    x[i] = v, scatter                        write:  y = x, y[i_k] = v_k       dx = dy, 0 where written, dv_k = dy[i_k]

Reading is the derivative of adding and adding that of reading, so every derivative exists. Ints, slices, None and ...
alone make a view (``slice`` in movement.py); with lists, arrays or masks in the index the result is a copy.
"""

from __future__ import annotations

import operator
from math import prod

import numpy as np

from .. import dtypes
from ..autograd import mode
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, check_dim, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap
from . import elementwise as e
from .movement import _reshape, _reshaped, _slice, blank, clone, expand, flatten, tensor_of
from .reduce import ValuesIndices

# ------------------------------------------------------------------------------------------------------- adding in place


def _positions(shape, source_shape, index, dim):
    """Where each element of a source goes in the flat memory of ``shape``: its own place, but ``index`` along ``dim``."""
    positions, stride = np.zeros((), np.int64), 1
    for d in range(len(shape) - 1, -1, -1):
        along = index if d == dim else np.arange(source_shape[d]).reshape(-1, *[1] * (len(shape) - 1 - d))
        positions = positions + along * stride
        stride *= shape[d]
    return np.broadcast_to(positions, source_shape)


def _added(y, positions, values):
    """y with values added at flat positions, equal ones in order; y is contiguous and overwritten.

    NumPy's ``add.at`` has a fast path for one flat index alone: 6 ns an element instead of 25.
    """
    if y.dtype == np.float16:
        return _added(y.astype(np.float32), positions, values).astype(np.float16)
    np.add.at(y.reshape(-1), positions.reshape(-1), values.reshape(-1))
    return y


# --------------------------------------------------------------------------------------------- gather, scatter, scatter_add


def _grid(index, dim):
    """NumPy's index for "its own place, but ``index`` along ``dim``"."""
    ndim = index.ndim
    places = [np.arange(n).reshape(-1, *[1] * (ndim - 1 - d)) for d, n in enumerate(index.shape)]
    return (*places[:dim], index, *places[dim + 1 :])


def _scatter_reference(x, index, src, *, dim):
    y = x.copy()
    y[_grid(index, dim)] = src
    return y


def _scatter_add_reference(x, index, src, *, dim):
    return _added(x.copy(), _positions(x.shape, index.shape, index, dim), src)


def _gather_samples(rng):
    yield Sample((rng.standard_normal((3, 4)), rng.integers(0, 4, (3, 5))), {"dim": 1})
    yield Sample((rng.standard_normal((4, 3)).T, rng.integers(0, 3, (7, 2))), {"dim": 0}, name="fewer columns")
    yield Sample((rng.standard_normal((2, 3, 2)), rng.integers(0, 3, (2, 1, 2))), {"dim": 1})
    yield Sample((rng.standard_normal((2, 3)), np.zeros((2, 0), np.int64)), {"dim": 1}, name="empty")


def _scatter_samples(rng):
    for index, dim, name in (
        (rng.permutation(4)[:3][None].repeat(3, 0), 1, ""), (rng.permutation(3)[:2][:, None].repeat(3, 1), 0, "fewer columns"),
        (np.zeros((3, 0), np.int64), 1, "empty"),
    ):  # fmt: skip
        yield Sample((rng.standard_normal((3, 4)), index, rng.standard_normal(index.shape)), {"dim": dim}, name=name)


def _scatter_add_samples(rng):
    for sample in _gather_samples(rng):
        x, index = sample.inputs
        yield Sample((x, index, rng.standard_normal(index.shape)), sample.static, name=sample.name)


_gather = Op(
    "gather",
    lambda x, index, *, dim: x[_grid(index, dim)],
    vjps=(lambda dy, index, shapes, *, dim: apply(_scatter_add, blank(shapes[0], dy.dtype), index, dy, dim=dim), None),
    samples=_gather_samples,
    doc="gather: y[i, j] = x[i, index[i, j]] (for dim 1); derivative: scatter_add.",
)
_scatter: Op = Op(
    "scatter",
    _scatter_reference,
    vjps=(
        lambda dy, index, *, dim: apply(_scatter, dy, index, blank(index.shape, dy.dtype), dim=dim),
        None,
        lambda dy, index, *, dim: apply(_gather, dy, index, dim=dim),
    ),
    samples=_scatter_samples,
    native=False,
    doc="scatter: a copy of x with y[i, index[i, j]] = src[i, j] (for dim 1); derivatives: 0 where written, gather.",
)
_scatter_add: Op = Op(
    "scatter_add",
    _scatter_add_reference,
    vjps=(lambda dy: dy, None, lambda dy, index, *, dim: apply(_gather, dy, index, dim=dim)),
    samples=_scatter_add_samples,
    doc="scatter_add: a copy of x with y[i, index[i, j]] += src[i, j] (for dim 1); derivatives: 1, gather.",
)


def _integers(op, index) -> Tensor:
    """An index as a tensor of int64."""
    if not isinstance(index, Tensor):
        index = wrap(_list_index(op, index))
    if index.data.dtype == dtypes.int64:
        return index
    if index.data.dtype == dtypes.int32:
        return wrap(index.data.astype(np.int64))
    raise DTypeError(message(op, "index dtype", index.data.dtype, "int64 or int32", "Use .long()."))


def _in_range(op, index, n, dim, low=0):
    """Check low <= index < n, for an int64 array of indices along ``dim``."""
    # As unsigned numbers negative ones are the largest: one pass finds both kinds.
    if index.size and ((index - low if low else index).view(np.uint64).max() >= n - low):
        where = tuple(int(i) for i in np.argwhere((index < low) | (index >= n))[0])
        at = f" at {where}" if where else ""
        raise AxisError(
            message(op, "index out of range", f"index {index[where]}{at}", f"{low} <= index < {n} along dim {dim}")
        )


def _aligned(op, input, dim, index):
    """(x, dim, index) for an index that has x's axes; 0-d counts as one axis."""
    x, index = tensor_of(op, input), _integers(op, index)
    if not x.ndim:
        x = apply(_reshape, x, shape=(1,))
    if not index.ndim:
        index = apply(_reshape, index, shape=(1,))
    dim = check_dim(op, dim, x.ndim)
    if index.ndim != x.ndim:
        raise ShapeError(
            message(op, "index", f"{index.ndim} dims, {index.shape}", f"{x.ndim} dims, as input {x.shape} has")
        )
    for d, (m, n) in enumerate(zip(index.shape, x.shape, strict=True)):
        if d != dim and m > n and index.numel():
            raise ShapeError(
                message(op, "index", index.shape, f"sizes within {x.shape} apart from dim {dim}; dim {d} is too large")
            )
    _in_range(op, index.data, x.shape[dim], dim)
    return x, dim, index


def _source(op, src, index, x):
    """The part of ``src`` that ``index`` takes, in x's dtype; a number counts for all."""
    if not isinstance(src, Tensor):
        return wrap(np.broadcast_to(np.asarray(src, x.dtype), index.shape))
    src = src if src.ndim else apply(_reshape, src, shape=(1,))
    if src.ndim != index.ndim or any(m > n for m, n in zip(index.shape, src.shape, strict=True)):
        raise ShapeError(message(op, "src", src.shape, f"at least the sizes of index, {index.shape}"))
    if src.dtype != x.dtype:
        raise DTypeError(message(op, "dtype of src", src.dtype, f"{x.dtype}, as input has", "Use src.to(input.dtype)."))
    return src if src.shape == index.shape else apply(_slice, src, index=(*[slice(n) for n in index.shape], ...))


def _like(y, input) -> Tensor:
    """y, 0-d where ``input`` was."""
    return y if input.ndim or y.numel() != 1 else apply(_reshape, y, shape=())


def gather(input, dim: int, index) -> Tensor:
    """y[i, j, ...] = input[i, index[i, j, ...], ...] for dim 1, and so on; the result has the shape of ``index``.

    Raises:
        AxisError: an index outside the axis; negative ones are not wrapped, as in PyTorch.

    >>> import glassgrad as gg
    >>> gg.tensor([[1, 2], [3, 4]]).gather(1, gg.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    x, dim, index = _aligned("gather", input, dim, index)
    return _like(apply(_gather, x, index, dim=dim), tensor_of("gather", input))


def scatter(input, dim: int, index, src=None, *, value=None) -> Tensor:
    """A copy of ``input`` with y[i, index[i, j], ...] = src[i, j, ...] for dim 1; ``src`` is a tensor or a number.

    Where an index occurs twice, which of its values stays is not defined.
    """
    x, dim, index = _aligned("scatter", input, dim, index)
    if (src is None) == (value is None):
        raise ArgumentError(message("scatter", "src and value", "both or neither", "one of them"))
    src = _source("scatter", value if src is None else src, index, x)
    return _like(apply(_scatter, x, index, src, dim=dim), input)


def scatter_add(input, dim: int, index, src) -> Tensor:
    """A copy of ``input`` with y[i, index[i, j], ...] += src[i, j, ...] for dim 1; equal indices add up.

    >>> import glassgrad as gg
    >>> gg.zeros(3).scatter_add(0, gg.tensor([0, 2, 2]), gg.ones(3))
    tensor([1., 0., 2.])
    """
    x, dim, index = _aligned("scatter_add", input, dim, index)
    return _like(apply(_scatter_add, x, index, _source("scatter_add", src, index, x), dim=dim), input)


def take_along_dim(input, indices, dim: int | None = None) -> Tensor:
    """``gather`` whose other axes broadcast; without ``dim`` on the flattened input. Undoes argsort, argmax and argmin."""
    x, indices = tensor_of("take_along_dim", input), _integers("take_along_dim", indices)
    if dim is None:
        return gather(flatten(x), 0, flatten(indices))
    dim = check_dim("take_along_dim", dim, x.ndim)
    if indices.ndim != x.ndim:
        raise ShapeError(message("take_along_dim", "indices", indices.shape, f"{x.ndim} dims, as input {x.shape} has"))
    try:
        beside = [np.broadcast_shapes((m,), (n,))[0] for m, n in zip(x.shape, indices.shape, strict=True)]
        beside_x, beside_i = list(beside), list(beside)
        beside_x[dim : dim + 1], beside_i[dim : dim + 1] = x.shape[dim : dim + 1], indices.shape[dim : dim + 1]
    except ValueError:
        raise ShapeError(
            message("take_along_dim", "indices", indices.shape, f"sizes that broadcast with {x.shape} beside dim {dim}")
        ) from None
    return gather(expand(x, beside_x), dim, expand(indices, beside_i))


# --------------------------------------------------------------------------------------------------- index_select, index_add


def _beside(index, ndim, dim):
    """A 1-d index with axes of size 1, to stand along ``dim``."""
    return index.reshape([-1 if d == dim else 1 for d in range(ndim)])


def _index_add_reference(x, index, source, *, dim):
    return _added(x.copy(), _positions(x.shape, source.shape, _beside(index, x.ndim, dim), dim), source)


def _index_select_samples(rng):
    yield Sample((rng.standard_normal((4, 3)), np.array([3, 0, 3])), {"dim": 0})
    yield Sample((rng.standard_normal((2, 3, 5)), np.array([2])), {"dim": 1})
    yield Sample((rng.standard_normal((4, 3)).T, np.array([0, 1, 1, 3, 3, 3])), {"dim": 1}, name="transposed")
    yield Sample((rng.standard_normal((3, 2)), np.zeros(0, np.int64)), {"dim": 0}, name="empty")


def _index_add_samples(rng):
    for sample in _index_select_samples(rng):
        (x, index), dim = sample.inputs, sample.static["dim"]
        yield Sample((x, index, rng.standard_normal(np.take(x, index, dim).shape)), sample.static, name=sample.name)


_index_select = Op(
    "index_select",
    lambda x, index, *, dim: x.take(index, axis=dim),
    vjps=(lambda dy, index, shapes, *, dim: apply(_index_add, blank(shapes[0], dy.dtype), index, dy, dim=dim), None),
    samples=_index_select_samples,
    doc="index_select: the slices of x that index names along dim; derivative: index_add.",
)
_index_add: Op = Op(
    "index_add",
    _index_add_reference,
    vjps=(lambda dy: dy, None, lambda dy, index, *, dim: apply(_index_select, dy, index, dim=dim)),
    samples=_index_add_samples,
    doc="index_add: a copy of x with slice k of source added to slice index[k] along dim; derivatives: 1, index_select.",
)


def _list_of_slices(op, input, dim, index):
    x, index = tensor_of(op, input), _integers(op, index)
    if not x.ndim:
        x = apply(_reshape, x, shape=(1,))
    dim = check_dim(op, dim, x.ndim)
    if index.ndim > 1:
        raise ShapeError(message(op, "index", index.shape, "at most 1 dim", "gather takes one index per element."))
    if not index.ndim:
        index = apply(_reshape, index, shape=(1,))
    _in_range(op, index.data, x.shape[dim], dim)
    return x, dim, index


def index_select(input, dim: int, index) -> Tensor:
    """The slices along ``dim`` that the 1-d ``index`` names, as a copy."""
    x, dim, index = _list_of_slices("index_select", input, dim, index)
    return _like(apply(_index_select, x, index, dim=dim), tensor_of("index_select", input))


def index_add(input, dim: int, index, source, *, alpha=1) -> Tensor:
    """A copy of ``input`` with ``alpha`` times slice k of ``source`` added to slice ``index[k]`` along ``dim``."""
    x, dim, index = _list_of_slices("index_add", input, dim, index)
    source = tensor_of("index_add", source)
    source = source if source.ndim else apply(_reshape, source, shape=(1,))
    expected = (*x.shape[:dim], index.numel(), *x.shape[dim + 1 :])
    if source.shape != expected:
        raise ShapeError(
            message("index_add", "source", source.shape, f"{expected}: input's shape with one slice per index")
        )
    if source.dtype != x.dtype:
        raise DTypeError(message("index_add", "dtype of source", source.dtype, f"{x.dtype}, as input has"))
    return _like(apply(_index_add, x, index, source if alpha == 1 else e.mul(source, alpha), dim=dim), input)


# -------------------------------------------------------------------------------------------------------------- embedding


def _embedding_vjp(dy, index, shapes, *, padding_idx):
    rows, width = shapes[1]
    if padding_idx is not None:
        dy = e.masked_fill(dy, e.eq(index, padding_idx).unsqueeze(-1), 0.0)
    return apply(
        _index_add, blank((rows, width), dy.dtype), flatten(index), _reshaped(dy, (index.data.size, width)), dim=0
    )


def _embedding_samples(rng):
    yield Sample((np.array([[1, 0, 1], [3, 3, 1]]), rng.standard_normal((4, 5))), {"padding_idx": None})
    yield Sample(
        (np.array([2, 0, 2]), rng.standard_normal((3, 2))), {"padding_idx": 0}, differentiable=False, name="padding"
    )
    yield Sample((np.array(1), rng.standard_normal((3, 2))), {"padding_idx": None}, name="0-d")
    yield Sample((np.zeros((2, 0), np.int64), rng.standard_normal((3, 2))), {"padding_idx": None}, name="empty")


_embedding = Op(
    "embedding",
    lambda index, weight, *, padding_idx: weight.take(index, axis=0),
    vjps=(None, _embedding_vjp),
    samples=_embedding_samples,
    doc="embedding: the rows of weight that index names; derivative: dy added to them, row padding_idx left out.",
)


def embedding(input, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight`` (n, width) that ``input`` (any shape, int64 or int32) names: (*input.shape, width).

    Row ``padding_idx`` gets no gradient, so it stays what it is.

    Raises:
        AxisError: an index outside [0, n).
    """
    index = _integers("embedding", input)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ShapeError(
            message("embedding", "weight", getattr(weight, "shape", type(weight).__name__), "a matrix (n, width)")
        )
    n = weight.shape[0]
    _in_range("embedding", index.data, n, 0)
    if padding_idx is not None:
        if not -n <= padding_idx < n:
            raise AxisError(message("embedding", "padding_idx", padding_idx, f"{-n} <= padding_idx < {n}"))
        padding_idx = padding_idx % n
    return apply(_embedding, index, weight, padding_idx=padding_idx)


def one_hot(input, num_classes: int = -1) -> Tensor:
    """int64 zeros with a 1 at each class: (*input.shape, num_classes). -1 takes the largest class + 1.

    >>> import glassgrad as gg
    >>> gg.one_hot(gg.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    index = _integers("one_hot", input).data
    if num_classes == -1:
        if not index.size:
            raise ArgumentError(
                message("one_hot", "no class to count", f"shape {index.shape}", "num_classes for an empty input")
            )
        num_classes = int(index.max()) + 1
    _in_range("one_hot", index, num_classes, "classes")
    return wrap((index[..., None] == np.arange(num_classes)).astype(np.int64))


# --------------------------------------------------------------------------------------------------------- x[i] and x[i] = v


def _accumulated(dy, shape, index):
    """Zeros with dy added where ``index`` (arrays and full slices) reads."""
    if len(index) == 1 and index[0].dtype == np.int64:
        n, width = shape[0], prod(shape[1:])
        dx = np.zeros(shape, dy.dtype)
        if dy.size:
            dx = _added(dx, _positions((n, width), (index[0].size, width), (index[0] % n).reshape(-1, 1), 0), dy)
        return dx
    arrays, axes, axis = [], [], 0
    for item in index:
        if isinstance(item, slice):
            axis += 1
            continue
        parts = item.nonzero() if item.dtype == np.bool_ else (item,)
        arrays += parts
        axes += range(axis, axis + len(parts))
        axis += len(parts)
    rest = [d for d in range(len(shape)) if d not in axes]
    taken = np.broadcast_shapes(*[a.shape for a in arrays])
    # NumPy puts the index's axes where they stood when they stood together, else in front.
    place = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
    if place:
        dy = np.moveaxis(dy, range(place, place + len(taken)), range(len(taken)))
    rows, width = [shape[d] for d in axes], [shape[d] for d in rest]
    dx = np.zeros((prod(rows), prod(width)), dy.dtype)
    if dy.size:
        flat = np.ravel_multi_index(np.broadcast_arrays(*arrays), rows, mode="wrap").reshape(-1, 1)
        dx = _added(dx, _positions(dx.shape, (flat.size, dx.shape[1]), flat, 0), dy)
    back = sorted(range(len(shape)), key=(axes + rest).__getitem__)
    return np.ascontiguousarray(dx.reshape(rows + width).transpose(back))


def _index_backward_reference(dy, *, shape, index):
    arrays = [item for item in index if not isinstance(item, slice)]
    if len(arrays) > 1 or arrays[0].dtype != np.bool_:
        return _accumulated(dy, shape, index)
    dx = np.zeros(shape, dy.dtype)
    dx[index] = dy  # a mask reads no element twice
    return dx


_every = slice(None)


def _index_samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)

    yield Sample((draw(4, 3),), {"index": (np.array([0, 2, 2, -1]),)})
    yield Sample((draw(3, 4),), {"index": (np.array([[0], [2]]), np.array([1, 1, 3]))})
    yield Sample((draw(2, 3, 4),), {"index": (_every, np.array([2, 0, 2]))})
    yield Sample((draw(2, 3, 4),), {"index": (np.array([0, 1]), _every, np.array([3, 3]))}, name="apart")
    yield Sample((draw(3, 4),), {"index": (rng.random((3, 4)) > 0.5,)}, name="mask")
    yield Sample((draw(2, 3, 4),), {"index": (np.array([0, 1, 0]), np.array([True, True, True]))}, name="mask and ints")
    yield Sample((draw(4, 3).T,), {"index": (np.array([[1, 1]]),)}, name="transposed")
    yield Sample((draw(3, 2),), {"index": (np.zeros((0, 2), np.int64),)}, name="empty")
    yield Sample((draw(0, 2),), {"index": (np.zeros(0, np.bool_),)}, name="mask of nothing")


def _index_backward_samples(rng):
    for sample in _index_samples(rng):
        (x,), index = sample.inputs, sample.static["index"]
        static = {"shape": x.shape, "index": index}
        yield Sample((rng.standard_normal(x[index].shape),), static, name=sample.name)


_index = Op(
    "index",
    lambda x, *, index: x[index] if len(index) > 1 or index[0].dtype == np.bool_ else x.take(index[0], axis=0),
    vjps=(lambda dy, shapes, *, index: apply(_index_backward, dy, shape=shapes[0], index=index),),
    samples=_index_samples,
    native=False,
    doc="index: x[index] of arrays, masks and full slices; derivative: dy added where each element was read.",
)
_index_backward: Op = Op(
    "index_backward",
    _index_backward_reference,
    vjps=(lambda ddx, *, index: apply(_index, ddx, index=index),),
    samples=_index_backward_samples,
    native=False,
    doc="index_backward: zeros with dy added at index, once per time it was read; derivative: index.",
)


def _list_index(op, index) -> np.ndarray:
    """A list, number or array as an array of int64 or bool."""
    if isinstance(index, (list, tuple)):
        index = [_list_index(op, i) for i in index]
        if not index:
            return np.zeros(0, np.int64)
    try:
        array = np.asarray(index.data if isinstance(index, Tensor) else index)
    except ValueError:
        raise ShapeError(
            message(op, "index", "lists of different lengths", "a rectangular list of integers or bools")
        ) from None
    if array.dtype == np.int32:
        return array.astype(np.int64)
    if array.dtype not in (np.int64, np.bool_):
        hint = "Compare it for a mask, or use .long()." if array.dtype.kind in "uif" else ""
        raise DTypeError(
            message(op, "index", f"{array.dtype}", "ints, slices, None, ... and int64, int32 or bool tensors", hint)
        )
    return array


_BASIC = (int, slice, type(None), type(...))


def _parse(op, x, index):
    """(basic, arrays): first a view by ints, slices, None and one ...; then arrays and full slices. Either may be None.

    That order is PyTorch's, and differs from NumPy's in one case: an int and an array with a slice between them, as in
    x[0, :, [1, 2]], do not move the array's axes to the front.
    """
    items = index if type(index) is tuple else (index,)
    for item in items:
        if type(item) not in _BASIC:
            return _parse_arrays(op, x.data.shape, _items(op, index))
    return (items if ... in items else (*items, ...)), None


def _items(op, index) -> list:
    """The parts of an index, each an int, a slice, None, ..., or an array of int64 or bool."""
    items: list = []
    for item in index if type(index) is tuple else (index,):
        if type(item) not in _BASIC:
            item = _list_index(op, item)
            item = int(item) if item.dtype == np.int64 and not item.ndim else item
        items.append(item)
    return items


def _parse_arrays(op, shape, items):
    used = sum(_axes_used(item) for item in items)
    if used > len(shape) or sum(item is ... for item in items) > 1:
        raise _lesson(op, shape, items)
    view: list = []
    arrays: dict = {}  # axis of the view -> array
    d = 0  # axis of x
    for item in items if any(item is ... for item in items) else (*items, ...):
        n = len(shape) - used if item is ... else _axes_used(item)
        if isinstance(item, np.ndarray):
            sizes = shape[d : d + n]
            if item.dtype == np.bool_ and item.shape != sizes:
                raise AxisError(message(op, f"mask at dim {d}", item.shape, f"{sizes}, the sizes it stands for"))
            if not item.ndim:  # a 0-d mask is an axis of size 1 of which all or nothing is taken
                item = np.zeros(int(item), np.int64)
            arrays[len(view) - sum(isinstance(v, int) for v in view)] = item
            view += [slice(None)] * n if n else [None]
        else:
            view += [slice(None)] * n if item is ... else [item]
        d += n
    basic_index = None if all(v == slice(None) for v in view) else (*view, ...)
    if not arrays:
        return basic_index or (...,), None
    index: list = []
    while arrays:
        axis = sum(_axes_used(i) for i in index)
        index.append(arrays.pop(axis, slice(None)))
    return basic_index, tuple(index)


def _axes_used(item) -> int:
    if isinstance(item, np.ndarray) and item.dtype == np.bool_:
        return item.ndim
    return 0 if item is None or item is ... else 1


def _lesson(op, shape, items):
    """What is wrong with an index that NumPy refused; None where that is not known."""
    dots = [i for i, item in enumerate(items) if item is ...]
    used = sum(_axes_used(item) for item in items)
    if len(dots) > 1:
        return AxisError(message(op, "index", f"{len(dots)} times ...", "one at most"))
    if used > len(shape):
        return AxisError(message(op, "too many indices", f"{used} for shape {shape}", f"at most {len(shape)}"))
    d = 0
    for item in items:
        if type(item) is int and not -shape[d] <= item < shape[d]:
            expected = f"{-shape[d]} <= index < {shape[d]} along dim {d} of {shape}"
            return AxisError(message(op, "index out of range", f"index {item}", expected))
        if isinstance(item, slice):
            bounds = [b for b in (item.start, item.stop, item.step) if b is not None]
            if not all(hasattr(b, "__index__") for b in bounds):
                return DTypeError(message(op, "slice", item, "integers or None as its bounds"))
            if item.step is not None and operator.index(item.step) == 0:
                return ArgumentError(message(op, "slice step", 0, "a step that is not 0"))
        if isinstance(item, np.ndarray) and item.dtype == np.int64:
            _in_range(op, item, shape[d], d, low=-shape[d])
        d += len(shape) - used if item is ... else _axes_used(item)
    shapes = [item.shape for item in items if isinstance(item, np.ndarray)]
    return shapes and ShapeError(
        message(op, "arrays of the index", shapes, "shapes that broadcast; a mask counts as (number of True,)")
    )


def getitem(input, index) -> Tensor:
    """``x[index]``. With ints, slices (of any step), None and ... a view; with lists, arrays or masks among them a copy.

    Arrays broadcast and index together; a mask stands for as many axes as it has and picks where it is True. An element
    that is read several times gets the gradient of each reading.

    Raises:
        AxisError: an index outside its axis, more indices than axes, or a mask of another shape.
        DTypeError: an index that is neither an integer nor a bool.
    """
    if isinstance(index, Tensor) and index.data.dtype == np.int64 and index.data.ndim and input.data.ndim:
        basic_index, arrays = None, (index.data,)
    else:
        basic_index, arrays = _parse("getitem", input, index)
    try:
        if arrays is None:
            return apply(_slice, input, index=basic_index)
        x = input if basic_index is None else apply(_slice, input, index=basic_index)
        return apply(_index, x, index=_own(arrays, x))
    except (IndexError, ValueError, TypeError) as error:
        raise _lesson("getitem", input.data.shape, _items("getitem", index)) or error from None


def _own(arrays, *inputs):
    """Copies where a graph will keep them: a later change of the caller's array must not reach backward."""
    if mode.grad and any(t.requires_grad for t in inputs):
        return tuple([a if isinstance(a, slice) else a.copy() for a in arrays])
    return arrays


def _write(y, value, basic_index, arrays):
    target = y if basic_index is None else y[basic_index]
    target[... if arrays is None else arrays] = value


def _setitem_reference(x, value, *, basic, arrays):
    y = x.copy()
    _write(y, value, basic, arrays)
    return y


def _setitem_dvalue(dy, shapes, *, basic, arrays):
    part = dy if basic is None else apply(_slice, dy, index=basic)
    part = part if arrays is None else apply(_index, part, index=arrays)
    shape = shapes[1]
    extra = len(shape) - part.data.ndim  # x[0] = v takes a v of shape (1, 3) for (3,)
    return _reshaped(part.sum_to_size(shape[extra:]), shape) if extra > 0 else part.sum_to_size(shape)


def _setitem_samples(rng):
    x = rng.standard_normal((3, 4))
    yield Sample((x, rng.standard_normal(4)), {"basic": (1, ...), "arrays": None})
    yield Sample(
        (x, rng.standard_normal((1, 1, 2))), {"basic": (..., slice(0, 4, 2)), "arrays": None}, name="broadcast"
    )
    yield Sample((x, rng.standard_normal((2, 1))), {"basic": None, "arrays": (np.array([2, 0]),)})
    yield Sample((x.T, rng.standard_normal(())), {"basic": None, "arrays": (rng.random((4, 3)) > 0.5,)}, name="mask")
    yield Sample((x, np.zeros((0, 4))), {"basic": (slice(2, 2), ...), "arrays": None}, name="empty")


_setitem: Op = Op(
    "setitem",
    _setitem_reference,
    vjps=(
        lambda dy, *, basic, arrays: apply(_setitem, dy, wrap(np.zeros((), dy.dtype)), basic=basic, arrays=arrays),
        _setitem_dvalue,
    ),
    samples=_setitem_samples,
    native=False,
    doc="setitem: a copy of x with x[index] = value; derivatives: 0 where written, and what was written.",
)


def setitem(input, index, value) -> None:
    """``x[index] = value`` in x's memory. The value broadcasts, and is converted to x's dtype.

    In a graph, x's history goes on from here: old elements that were overwritten get no gradient, the value does. Where
    an index occurs twice, which of its values stays is not defined.

    Raises:
        ShapeError: a value that does not broadcast to ``x[index]``.
        GraphError: x, or what it is a view of, is a leaf that requires grad.
    """
    _assign("setitem", input, index, value)


def _assign(op, x, index, value):
    if not isinstance(value, Tensor):
        try:
            value = wrap(np.asarray(value, x.data.dtype))
        except (ValueError, TypeError, OverflowError) as error:
            raise DTypeError(message(op, "value", repr(value), f"what {x.data.dtype} can hold ({error})")) from None
    elif value.data.dtype != x.data.dtype:
        value = e.cast_op(value, x.data.dtype)
    if x._base is not None:
        x.edge()  # a view learns what became of its base
    in_graph = mode.grad and (x.requires_grad or value.requires_grad)
    basic_index, arrays = _parse(op, x, index)
    if not in_graph and not x.data.flags.writeable:
        raise ArgumentError(message(op, "memory", "a read-only array", "a writable one", "Use clone() first."))
    try:
        if arrays is None and _is_part(value, x, basic_index):
            return  # x[i] += v has changed the view in place, and assigns it to itself
        if in_graph:
            arrays = arrays and _own(arrays, x, value)
            y = apply(_setitem, x, value, basic=basic_index, arrays=arrays)
        else:
            _write(x.data, value.data, basic_index, arrays)
    except (IndexError, ValueError, TypeError) as error:
        try:
            target = x.data[(...,) if basic_index is None else basic_index]
            target = target if arrays is None else target[arrays]
        except (IndexError, ValueError, TypeError):
            raise _lesson(op, x.data.shape, _items(op, index)) or error from None
        expected = f"a shape that broadcasts to {target.shape}"
        raise ShapeError(message(op, "value does not fit", value.shape, expected)) from None
    if in_graph:
        x._become(op, y)
    else:
        x.bump_version()


def _is_part(value, x, basic_index):
    """Whether ``value`` is the view ``x[basic_index]`` itself, history included."""
    if (
        value._base is None
        or value._base is not (x if x._base is None else x._base)
        or value.requires_grad != x.requires_grad
    ):
        return False
    part, data = x.data[basic_index], value.data
    return part.shape == data.shape and part.strides == data.strides and part.ctypes.data == data.ctypes.data


def fill_(input, value) -> Tensor:
    """``value``, a number or a 0-d tensor, everywhere, in place."""
    if np.ndim(value):
        raise ShapeError(message("fill_", "value", np.shape(value), "a number or a 0-d tensor", "copy_ takes tensors."))
    _assign("fill_", input, ..., value)
    return input


def zero_(input) -> Tensor:
    """0 everywhere, in place."""
    return fill_(input, 0)


def copy_(input, src) -> Tensor:
    """The values of ``src``, which broadcasts and is converted, in place."""
    _assign("copy_", input, ..., src)
    return input


# ------------------------------------------------------------------------------------------------------ masks and nonzero


def masked_select(input, mask) -> Tensor:
    """The elements where ``mask`` is True, in order, as a 1-d copy; the two broadcast."""
    x, mask = tensor_of("masked_select", input), tensor_of("masked_select", mask)
    if mask.dtype != dtypes.bool_:
        raise DTypeError(message("masked_select", "mask", mask.dtype, "bool", "Compare it, for instance with != 0."))
    try:
        shape = np.broadcast_shapes(x.shape, mask.shape)
    except ValueError:
        raise ShapeError(
            message("masked_select", "mask", mask.shape, f"a shape that broadcasts with {x.shape}")
        ) from None
    return getitem(expand(x, *shape), expand(mask, *shape))


def nonzero(input, *, as_tuple: bool = False):
    """Where ``input`` is not 0: (n, ndim) int64, one row per element; or one tensor per axis, for indexing.

    >>> import glassgrad as gg
    >>> gg.tensor([0, 5, 7]).nonzero()
    tensor([[1],
            [2]])
    """
    x = tensor_of("nonzero", input).data
    if as_tuple:
        return tuple([wrap(i) for i in np.atleast_1d(x).nonzero()])
    return wrap(np.argwhere(x).astype(np.int64, copy=False))


# --------------------------------------------------------------------------------------------------------- sort and topk


def _argsort_reference(x, *, dim, descending):
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    # Backwards twice, so that equal elements keep their order; NaN, last when ascending, comes first.
    backwards = (*[slice(None)] * dim, slice(None, None, -1))
    return x.shape[dim] - 1 - np.argsort(x[backwards], axis=dim, kind="stable")[backwards]


def _argsort_samples(rng):
    yield Sample((rng.standard_normal((3, 5)),), {"dim": 1, "descending": False})
    yield Sample((rng.standard_normal((4, 3)).T,), {"dim": 0, "descending": True}, name="transposed")
    yield Sample((np.zeros((0, 3)),), {"dim": 0, "descending": True}, name="empty")
    rows = np.array([[1, np.nan, -np.inf, 1, np.inf, np.nan, 0.0, -0.0]])
    for descending in (False, True):
        yield Sample((rows,), {"dim": 1, "descending": descending}, name=f"edges {descending}")


_argsort = Op(
    "argsort",
    _argsort_reference,
    samples=_argsort_samples,
    native=False,
    doc="argsort: the order that sorts along dim, equal elements as they stand, NaN as the largest; no derivative.",
)


def _argtopk_reference(x, *, k, dim, largest):
    n = x.shape[dim]
    first = (*[slice(None)] * dim, slice(k))
    if k == 0 or 8 * k > n:
        return _argsort_reference(x, dim=dim, descending=largest)[first]
    # Few of many: find the k, then sort those alone, n + k log k steps.
    part = np.argpartition(x, n - k if largest else k - 1, axis=dim)[
        (*first[:-1], slice(n - k, n)) if largest else first
    ]
    order = _argsort_reference(x[_grid(part, dim)], dim=dim, descending=largest)
    return part[_grid(order, dim)]


def _argtopk_samples(rng):
    yield Sample((rng.permutation(15).reshape(3, 5) * 1.0,), {"k": 2, "dim": 1, "largest": True})
    yield Sample((rng.permutation(99).reshape(3, 33) * 1.0,), {"k": 3, "dim": 1, "largest": True}, name="few of many")
    yield Sample((rng.permutation(40).reshape(2, 20) * 1.0,), {"k": 2, "dim": 1, "largest": False})
    yield Sample((rng.permutation(12).reshape(4, 3).T * 1.0,), {"k": 1, "dim": 0, "largest": False}, name="transposed")
    yield Sample((np.array([1, np.nan, 3.0]),), {"k": 3, "dim": 0, "largest": True}, name="edges")
    yield Sample((np.zeros((2, 3)),), {"k": 0, "dim": 1, "largest": True}, name="empty")


_argtopk = Op(
    "argtopk",
    _argtopk_reference,
    samples=_argtopk_samples,
    native=False,
    doc="argtopk: where the k largest or smallest along dim are, in order; no derivative.",
)


def argsort(input, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The order that sorts along ``dim``, int64. Always stable; a NaN counts as the largest."""
    x = tensor_of("argsort", input)
    dim = check_dim("argsort", dim, x.ndim)
    return apply(_argsort, x, dim=dim, descending=descending) if x.ndim else wrap(np.zeros((), np.int64))


def sort(input, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """(values, indices): sorted along ``dim``, and where each value came from; the gradient goes back there.

    Always stable; a NaN counts as the largest.
    """
    x = tensor_of("sort", input)
    order = argsort(x, dim, descending)
    if not x.ndim:
        return ValuesIndices(clone(x), order)
    return ValuesIndices(apply(_gather, x, order, dim=check_dim("sort", dim, x.ndim)), order)


def topk(input, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """(values, indices) of the ``k`` largest (or smallest) along ``dim``, always sorted; a NaN counts as the largest.

    Which of equal elements is taken is not defined.

    >>> import glassgrad as gg
    >>> gg.tensor([3, 1, 2]).topk(2).values
    tensor([3, 2])
    """
    x = tensor_of("topk", input)
    dim = check_dim("topk", dim, x.ndim)
    n = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= n:
        raise ArgumentError(message("topk", "k", k, f"0 <= k <= {n}, the size of dim {dim}"))
    if not x.ndim:
        return sort(x) if k else topk(_reshaped(x, (1,)), 0)
    where = apply(_argtopk, x, k=operator.index(k), dim=dim, largest=largest)
    return ValuesIndices(apply(_gather, x, where, dim=dim), where)


def unique(
    input, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
):
    """The different elements (or slices along ``dim``), always sorted; no gradient.

    With ``return_inverse`` also where each element of the input is among them, with ``return_counts`` how often it occurs.
    """
    x = tensor_of("unique", input)
    axis = None if dim is None else check_dim("unique", dim, x.ndim)
    values, inverse, counts = np.unique(x.data, return_inverse=True, return_counts=True, axis=axis)
    inverse = inverse.reshape(x.shape if axis is None else (x.shape[axis],))  # NumPy's shape differs between versions
    results = [wrap(values)]
    if return_inverse:
        results.append(wrap(inverse.astype(np.int64, copy=False)))
    if return_counts:
        results.append(wrap(counts.astype(np.int64, copy=False)))
    return results[0] if len(results) == 1 else tuple(results)


def bincount(input, weights=None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, ... occurs in a 1-d tensor of integers >= 0; or the sum of its weights. No gradient."""
    x = _integers("bincount", input).data
    if x.ndim != 1 or (x.size and x.min() < 0):
        got = f"shape {x.shape}" if x.ndim != 1 else f"{x.min()}"
        raise ArgumentError(message("bincount", "input", got, "1 dim of integers >= 0"))
    if weights is None:
        return wrap(np.bincount(x, minlength=minlength).astype(np.int64, copy=False))
    w = tensor_of("bincount", weights).data
    if w.shape != x.shape:
        raise ShapeError(message("bincount", "weights", w.shape, f"{x.shape}, one per element"))
    return wrap(np.bincount(x, w, minlength).astype(w.dtype if w.dtype.kind == "f" else np.float64, copy=False))


def searchsorted(sorted_sequence, input, *, right: bool = False) -> Tensor:
    """Where each element of ``input`` belongs in a 1-d sorted sequence: int64 i with s[i-1] < x <= s[i] (right: <= and <)."""
    s, x = tensor_of("searchsorted", sorted_sequence).data, tensor_of("searchsorted", input).data
    if s.ndim != 1:
        raise ShapeError(message("searchsorted", "sorted_sequence", s.shape, "1 dim"))
    return wrap(np.asarray(np.searchsorted(s, x, side="right" if right else "left"), np.int64))


METHODS = [
    argsort, bincount, copy_, fill_, gather, index_add, index_select, masked_select, nonzero, scatter, scatter_add, sort,
    take_along_dim, topk, unique, zero_,
]  # fmt: skip
INPLACE = [index_add, scatter, scatter_add]
DUNDERS = {"__getitem__": getitem, "__setitem__": setitem}
__all__ = [
    "argsort", "bincount", "embedding", "gather", "index_add", "index_select", "masked_select", "nonzero", "one_hot",
    "scatter", "scatter_add", "searchsorted", "sort", "take_along_dim", "topk", "unique",
]  # fmt: skip
