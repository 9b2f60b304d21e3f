"""Reductions: many numbers to one, over all axes or those of ``dim``.

    sum         y = sum_i x_i                            dx_i = dy               (a view: dy with stride 0)
    mean        y = sum_i x_i / n                        dx_i = dy / n
    var         y = sum_i (x_i - m)^2 / (n - c)          dx_i = dy 2 (x_i - m) / (n - c),  m the mean, c the correction
    prod        y = prod_i x_i                           dx_i = dy prod_{j != i} x_j
    amax, amin  y = max_i x_i                            dx_i = dy / k at the k maxima, else 0
    max, min    the same along one dim, with the index   dx_i = dy at the index, else 0
    logsumexp   y = ln sum_i e^x_i                       dx_i = dy e^(x_i - y), normalised to a sum of dy
    cumsum      y_i = sum_{j <= i} x_j                   dx_i = sum_{j >= i} dy_j

A NaN among the numbers makes the result NaN. A 0-d tensor counts as having one axis, of size 1.
"""

from __future__ import annotations

import builtins
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, check_dim, check_dims, message
from ..op import REGISTRY, Op, Sample, apply
from ..tensor import Tensor, wrap
from . import elementwise as e
from .movement import _clone, _expand, _reshape, _reshaped, array_sum, blank, cat, permute, stack, tensor_of, unbind


class ValuesIndices(NamedTuple):
    """What max, min, sort and topk return: the values, and where along ``dim`` they were found (int64)."""

    values: Tensor
    indices: Tensor


_EVERY = tuple(tuple(range(ndim)) for ndim in range(65))  # all dims, by number of them; NumPy allows 64


def _dims(op, x, dim) -> tuple[int, ...]:
    """``dim`` as a sorted tuple counted from the front; None and () mean all, as in PyTorch."""
    ndim = x.data.ndim
    if dim is None:
        return _EVERY[ndim]
    if type(dim) is int and 0 <= dim < ndim:
        return (dim,)
    return check_dims(op, dim, ndim) or _EVERY[ndim]


@lru_cache(maxsize=1024)
def _kept(shape, dim):
    """``shape`` with the dims reduced to size 1."""
    return tuple([1 if d in dim else n for d, n in enumerate(shape)])


def _restore(dy, shape, dim, keepdim):
    """The reduced dims back, with size 1, so that dy broadcasts to ``shape``."""
    if keepdim or dim == _EVERY[len(dim)]:  # leading dims: broadcasting puts them back
        return dy
    return apply(_reshape, dy, shape=_kept(shape, dim))  # axes of size 1 fit any strides


def _spread(dy, shape, dim, keepdim):
    """dy repeated over the reduced dims: the derivative of a sum. A view."""
    return apply(_expand, _restore(dy, shape, dim, keepdim), size=shape)


def _count(shape, dim):
    return math.prod([shape[d] for d in dim])


def _floating(op, x):
    if x.data.dtype.kind != "f":
        hint = "Use .float() first, or pass dtype=gg.float32." if op == "mean" else "Use .float() first."
        raise DTypeError(message(op, "dtype", x.data.dtype, "a floating dtype", hint))
    return x


def _wide_integers(x):
    """Sums and products of bools and small integers are int64, as in PyTorch."""
    return x if x.data.dtype.kind == "f" else e.cast_op(x, dtypes.int64)


def _samples(*, low=-3.0, high=3.0, edges=True, empty=True, **static):
    """Every way to choose dims, sizes 0, 1 and odd, a transposed view, NaN and infinities."""

    def samples(rng):
        def draw(*shape):
            return rng.uniform(low, high, shape)

        for shape, dim, keepdim in (
            ((3, 5), (0, 1), False), ((3, 5), (1,), False), ((3, 5), (0,), True), ((2, 3, 4), (0, 2), False),
            ((2, 3, 4), (1,), True), ((33,), (0,), False), ((), (), False), ((3, 1), (1,), False),
        ):  # fmt: skip
            yield Sample((draw(*shape),), {"dim": dim, "keepdim": keepdim, **static})
        yield Sample((draw(4, 3).T,), {"dim": (0,), "keepdim": False, **static}, name="transposed")
        if empty:
            yield Sample((draw(3, 0),), {"dim": (1,), "keepdim": False, **static}, differentiable=False, name="empty")
        yield Sample((draw(0, 3),), {"dim": (1,), "keepdim": False, **static}, name="no rows")
        if edges:
            inf, nan = math.inf, math.nan
            rows = np.array(
                [[1, 2, inf], [1, 2, -inf], [-inf, -inf, -inf], [inf, 1, -inf], [nan, 1, inf], [0.0, -0.0, 0]]
            )
            yield Sample((rows,), {"dim": (1,), "keepdim": False, **static}, differentiable=False, name="edges")

    return samples


# ---------------------------------------------------------------------------------------------------------- sum and mean


_sum = Op(
    "sum",
    lambda x, *, dim, keepdim: array_sum(x, dim, keepdim),
    vjps=(lambda dy, shapes, *, dim, keepdim: _spread(dy, shapes[0], dim, keepdim),),
    fused_vjp=("sum_backward", "shapes", "dim", "keepdim"),
    samples=_samples(),
    doc="sum: the sum over dim; derivative 1.",
)


def _wide(x):
    """float16 as float32: its sums would be infinite beyond 65504."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _mean_reference(x, *, dim, keepdim):
    wide, n = _wide(x), _count(x.shape, dim)
    return (array_sum(wide, dim, keepdim) / wide.dtype.type(n)).astype(x.dtype, copy=False)


def _mean_vjp(dy, shapes, *, dim, keepdim):
    shape = shapes[0]
    return _spread(dy / (_count(shape, dim) or math.nan), shape, dim, keepdim)


_mean = Op(
    "mean",
    _mean_reference,
    vjps=(_mean_vjp,),
    samples=_samples(),
    doc="mean: the sum over dim divided by the number n of terms, NaN for none; derivative 1/n.",
)


def sum(input, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """Sum over ``dim`` (an int, several, or None for all); 0 where there is nothing to add.

    Bools and integers are added in int64; ``dtype`` converts before adding.

    >>> import glassgrad as gg
    >>> gg.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(0)
    tensor([4., 6.])
    """
    x = input if isinstance(input, Tensor) else tensor_of("sum", input)
    if dtype is not None:
        x = e.cast_op(x, dtype)
    elif x.data.dtype.kind != "f":
        x = _wide_integers(x)
    return apply(_sum, x, dim=_dims("sum", x, dim), keepdim=keepdim)


def mean(input, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """Mean over ``dim`` (an int, several, or None for all); NaN where there is nothing to average.

    Raises:
        DTypeError: integers or bools, unless ``dtype`` converts them.
    """
    x = input if isinstance(input, Tensor) else tensor_of("mean", input)
    if dtype is not None:
        x = e.cast_op(x, dtype)
    return apply(_mean, _floating("mean", x), dim=_dims("mean", x, dim), keepdim=keepdim)


# ---------------------------------------------------------------------------------------------------------- var and std


def _var_reference(x, *, dim, correction, keepdim):
    wide, n = _wide(x), _count(x.shape, dim)
    d = wide - array_sum(wide, dim, True) / wide.dtype.type(n)
    freedom = wide.dtype.type(builtins.max(n - correction, 0))
    return (array_sum(d * d, dim, keepdim) / freedom).astype(x.dtype, copy=False)


def _var_vjp(dy, x, *, dim, correction, keepdim):
    shape = x.shape
    freedom = builtins.max(_count(shape, dim) - correction, 0)
    slope = _restore(dy, shape, dim, keepdim) * (2 / freedom if freedom else math.inf)
    return (x - apply(_mean, x, dim=dim, keepdim=True)) * slope


def _var_samples(rng):
    for sample in _samples(correction=1)(rng):
        # One number has no variance: 0 / 0.
        few = _count(sample.inputs[0].shape, sample.static["dim"]) < 2
        yield Sample(sample.inputs, sample.static, sample.differentiable and not few, sample.name)
    yield Sample((rng.standard_normal((4, 3)),), {"dim": (0,), "correction": 0, "keepdim": False})
    yield Sample(
        (30 + rng.standard_normal((2, 17)),), {"dim": (1,), "correction": 1, "keepdim": False}, name="far from 0"
    )


_var = Op(
    "var",
    _var_reference,
    vjps=(_var_vjp,),
    samples=_var_samples,
    doc="var: sum (x - mean)^2 / (n - correction) over dim; derivative 2 (x - mean) / (n - correction).",
)


def _variance(op, input, dim, unbiased, keepdim, correction):
    x = _floating(op, tensor_of(op, input))
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        got = f"unbiased={unbiased} and correction={correction}"
        raise ArgumentError(message(op, "two corrections", got, "one of them", "unbiased=True is correction=1."))
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return apply(_var, x, dim=_dims(op, x, dim), correction=correction, keepdim=keepdim)


def var(
    input, dim=None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """Variance over ``dim``: sum (x - mean)^2 / (n - correction), the correction being 1 unless said otherwise.

    ``unbiased`` is PyTorch's older word: True for correction 1, False for 0. NaN for n = correction.

    >>> import glassgrad as gg
    >>> gg.var(gg.tensor([1.0, 3.0]), correction=0)
    tensor(1.)
    """
    return _variance("var", input, dim, unbiased, keepdim, correction)


def std(
    input, dim=None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """Standard deviation: the square root of ``var``. Its derivative at 0 is taken as 0, as in PyTorch."""
    return _root(_variance("std", input, dim, unbiased, keepdim, correction))


def var_mean(
    input, dim=None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """``var`` and ``mean`` over the same ``dim``."""
    v = _variance("var_mean", input, dim, unbiased, keepdim, correction)
    return v, mean(input, None if isinstance(dim, bool) else dim, keepdim)


def _root(y, p=2):
    """y^(1/p) for y >= 0. At 0, where its slope is infinite, the derivative passes through: there it meets a zero."""
    root = e.sqrt if p == 2 else lambda v: e.pow(v, 1 / p)
    zero = y.data == 0
    if not (y.requires_grad and zero.any()):
        return root(y)
    at = wrap(np.asarray(zero))
    return e.where(at, y, root(e.where(at, wrap(np.ones((), y.data.dtype)), y)))


def norm(input, p="fro", dim=None, keepdim: bool = False, dtype=None) -> Tensor:
    """(sum |x|^p)^(1/p) over ``dim`` (an int, several, or None for all).

    p may be "fro" or 2 (the Euclidean length), inf (the largest |x|), -inf (the smallest), 0 (how many are not 0) or any
    positive number. The derivative at length 0 is taken as 0.

    >>> import glassgrad as gg
    >>> gg.tensor([3.0, 4.0]).norm()
    tensor(5.)
    """
    x = tensor_of("norm", input)
    if dtype is not None:
        x = e.cast_op(x, dtype)
    _floating("norm", x)
    if p == "fro":
        p = 2
    if isinstance(p, str) or (p < 0 and p != -math.inf) or p != p:
        raise ArgumentError(message("norm", "p", repr(p), "'fro', inf, -inf or a number >= 0"))
    if x.data.dtype == np.float16:  # 256^2 is already infinite in float16
        return e.cast_op(norm(e.cast_op(x, dtypes.float32), p, dim, keepdim), dtypes.float16)
    if p == 2:
        return _root(sum(e.square(x), dim, keepdim))
    if p == math.inf:
        return amax(e.abs(x), dim, keepdim)
    if p == -math.inf:
        return amin(e.abs(x), dim, keepdim)
    if p == 0:
        return sum(e.cast_op(e.ne(x, 0), x.dtype), dim, keepdim)
    return sum(e.abs(x), dim, keepdim) if p == 1 else _root(sum(e.pow(e.abs(x), p), dim, keepdim), p)


# ----------------------------------------------------------------------------------------------------------------- prod


def _prod_vjp(dy, x, y, *, dim, keepdim):
    dy = _restore(dy, x.shape, dim, keepdim)
    safe = np.abs(y.data)
    if (np.finfo(safe.dtype).tiny <= safe).all() and np.isfinite(safe).all():
        return dy * (_restore(y, x.shape, dim, keepdim) / x)
    return dy * _others(x, dim)


def _others(x, dim):
    """For each element the product of the others over ``dim``, without a division: a tree of products.

    Up: pairs, pairs of pairs, ... Down: what is missing at a child is what is missing at its parent, times its sibling.
    Zeros, overflow and underflow do no harm, and every derivative exists.
    """
    rest = tuple([d for d in range(x.ndim) if d not in dim])
    rows = permute(x, rest + dim)
    shape = rows.shape
    n = _count(x.shape, dim)
    level = _reshaped(rows, (*shape[: len(rest)], n))
    levels = []
    while level.shape[-1] > 1:
        if level.shape[-1] % 2:
            level = cat([level, wrap(np.ones((*level.shape[:-1], 1), level.dtype))], -1)
        left, right = unbind(_reshaped(level, (*level.shape[:-1], level.shape[-1] // 2, 2)), -1)
        levels.append((left, right))
        level = left * right
    missing = wrap(np.ones(level.shape, level.dtype))
    for left, right in reversed(levels):
        missing = missing.narrow(-1, 0, left.shape[-1])
        missing = _reshaped(stack([missing * right, missing * left], -1), (*left.shape[:-1], 2 * left.shape[-1]))
    back = sorted(range(x.ndim), key=(rest + dim).__getitem__)
    return permute(_reshaped(missing.narrow(-1, 0, n), shape), back)


def _prod_samples(rng):
    yield from _samples()(rng)
    x = rng.uniform(0.5, 2, (4, 5)) * rng.choice([-1, 1], (4, 5))
    x[1, 2] = x[2, 0] = x[2, 4] = 0  # one zero, two zeros
    yield Sample((x,), {"dim": (1,), "keepdim": False}, name="zeros")


_prod = Op(
    "prod",
    lambda x, *, dim, keepdim: np.multiply.reduce(x, axis=dim, keepdims=keepdim),
    vjps=(_prod_vjp,),
    samples=_prod_samples,
    doc="prod: the product over dim; derivative: the product of the others.",
)


def prod(input, dim=None, keepdim: bool = False, *, dtype=None) -> Tensor:
    """Product over ``dim`` (an int, several, or None for all); 1 where there is nothing to multiply.

    Bools and integers are multiplied in int64. The derivative is right with zeros among the factors, too.
    """
    x = tensor_of("prod", input)
    x = _wide_integers(x) if dtype is None else e.cast_op(x, dtype)
    return apply(_prod, x, dim=_dims("prod", x, dim), keepdim=keepdim)


# ------------------------------------------------------------------------------------------------------ largest, smallest


def _not_empty(op, x, dim, given):
    """A maximum of nothing is an error."""
    if x.data.size:
        return
    shape = x.data.shape
    if given is None:
        raise ShapeError(
            message(op, "nothing to reduce", f"shape {shape}", "at least one element, or a dim whose size is not 0")
        )
    for d in dim:
        if shape and shape[d] == 0:
            raise AxisError(
                message(op, f"nothing along dim {d}", f"shape {shape}", f"at least one element along dim {d}")
            )


def _extremum_vjp(dy, x, y, *, dim, keepdim):
    shape = x.shape
    hit = e.cast_op(e.eq(x, _restore(y, shape, dim, keepdim)), x.dtype)
    return hit * (_restore(dy, shape, dim, keepdim) / apply(_sum, hit, dim=dim, keepdim=True))


def _no_ties(rng, shape):
    """Numbers at least 0.1 apart, which the step of a numeric derivative cannot exchange."""
    n = math.prod(shape)
    return rng.permutation(n).reshape(shape) * 0.1 - n * 0.05


def _extremum_samples(rng):
    for sample in _samples(empty=False)(rng):
        x = sample.inputs[0]
        yield Sample((_no_ties(rng, x.shape),), sample.static, name=sample.name) if sample.differentiable else sample


def _extremum(name, reference, word):
    op = Op(
        name,
        lambda x, *, dim, keepdim: reference(x, axis=dim, keepdims=keepdim),
        vjps=(_extremum_vjp,),
        samples=_extremum_samples,
        doc=f"{name}: the {word} over dim; derivative: dy shared evenly by the elements equal to it.",
    )

    def function(input, dim=None, keepdim: bool = False) -> Tensor:
        x = input if isinstance(input, Tensor) else tensor_of(name, input)
        dims = _dims(name, x, dim)
        _not_empty(name, x, dims, dim)
        return apply(op, x, dim=dims, keepdim=keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The {word} over ``dim`` (an int, several, or None for all). NaN if one is among them.

    Equal elements share the gradient evenly.

    Raises:
        AxisError: a dim of size 0. ShapeError: no elements and no dim."""
    return function


amax = _extremum("amax", np.maximum.reduce, "largest element")
amin = _extremum("amin", np.minimum.reduce, "smallest element")


def _index_samples(rng):
    for shape, dim, keepdim in (
        ((3, 5), 1, False),
        ((3, 5), 0, True),
        ((2, 3, 4), 1, False),
        ((33,), 0, False),
        ((3, 1), 1, True),
    ):
        yield Sample((_no_ties(rng, shape),), {"dim": dim, "keepdim": keepdim})
    yield Sample((_no_ties(rng, (4, 3)).T,), {"dim": 0, "keepdim": False}, name="transposed")
    yield Sample((np.zeros((0, 3)),), {"dim": 1, "keepdim": False}, name="no rows")
    inf, nan = math.inf, math.nan
    rows = np.array([[1, inf, inf], [-inf, -inf, -inf], [0, nan, nan], [nan, inf, -inf], [2, 1, 2], [0.0, -0.0, 0]])
    yield Sample((rows,), {"dim": 1, "keepdim": False}, differentiable=False, name="edges")


def _one_dim(op, x, dim):
    """(x with at least one axis, dim, whether x was 0-d)."""
    flat = not x.data.ndim
    dim = check_dim(op, dim, x.data.ndim)
    if flat:
        x = apply(_reshape, x, shape=(1,))
    _not_empty(op, x, (dim,), dim)
    return x, dim, flat


def _arg(name, reference, word):
    op = Op(
        name,
        lambda x, *, dim, keepdim: reference(x, axis=dim, keepdims=keepdim),
        samples=_index_samples,
        doc=f"{name}: where along dim the {word} is, the first of equals, the first NaN before all; no derivative.",
    )

    def function(input, dim: int | None = None, keepdim: bool = False) -> Tensor:
        x = tensor_of(name, input)
        ndim = x.data.ndim
        if dim is None:
            flat = _reshaped(x, (x.data.size,))
            _not_empty(name, flat, (0,), 0)
            y = apply(op, flat, dim=0, keepdim=False)
            return apply(_reshape, y, shape=(1,) * ndim) if keepdim else y
        x, dim, flat = _one_dim(name, x, dim)
        return apply(op, x, dim=dim, keepdim=keepdim and not flat)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Index of the {word} along ``dim``, or in the flattened input; int64.

    The first of equals; a NaN counts as the {word}."""
    return function


argmax = _arg("argmax", np.argmax, "largest element")
argmin = _arg("argmin", np.argmin, "smallest element")


def _with_index(name, where, word, pairwise):
    def reference(x, *, dim, keepdim):
        indices = where(x, axis=dim, keepdims=True)
        values = np.take_along_axis(x, indices, dim)
        return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))

    def vjp(dys, indices, shapes, *, dim, keepdim):
        dy, shape = dys[0], shapes[0]
        if not keepdim:
            dy, indices = dy.unsqueeze(dim), indices.unsqueeze(dim)
        return apply(
            REGISTRY["scatter"], blank(shape, dy.data.dtype), indices, dy, dim=dim
        )  # in index.py, above this file

    op = Op(
        name,
        reference,
        vjp=vjp,
        samples=_index_samples,
        multi=True,
        outputs=("values", "indices"),
        doc=f"{name}: the {word} along dim and its index, the first of equals; derivative: dy at the index.",
    )
    extremum = amax if name == "max" else amin

    def function(input, dim=None, keepdim: bool = False, *, other=None):
        if isinstance(dim, Tensor):
            other = dim
        if other is not None:
            return pairwise(input, other)
        x = tensor_of(name, input)
        if dim is None:
            _not_empty(name, x, (), None)
            return extremum(x)
        x, dim, flat = _one_dim(name, x, dim)
        values, indices = apply(op, x, dim=dim, keepdim=keepdim and not flat)
        return ValuesIndices(values, indices)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Three in one, as in PyTorch.

    ``{name}(x)``: the {word} of all; equal ones share the gradient.
    ``{name}(x, dim)``: (values, indices) along ``dim``; the gradient goes to the index, the first of equals.
    ``{name}(x, other)``: ``{pairwise.__name__}`` of two tensors.

    A NaN counts as the {word}. An empty input, or a dim of size 0, is an error."""
    return function


max = _with_index("max", np.argmax, "largest element", e.maximum)
min = _with_index("min", np.argmin, "smallest element", e.minimum)


# -------------------------------------------------------------------------------------------------- logsumexp and cumsum


def _logsumexp_reference(x, *, dim, keepdim):
    m = np.max(x, axis=dim, keepdims=True, initial=-np.inf)
    m = np.where(np.isfinite(m), m, x.dtype.type(0))  # inf - inf would be NaN
    y = np.log(np.exp(x - m).sum(axis=dim, keepdims=True)) + m
    return y if keepdim else y.squeeze(dim)


def _logsumexp_vjp(dy, x, y, *, dim, keepdim):
    shape = x.shape
    y = _restore(y, shape, dim, keepdim)
    lost = np.asarray(y.data == -np.inf)
    if none := lost.any():  # every x is -inf, and none has a share: the shares are 0 / 1 instead of e^(-inf + inf)
        y = e.where(wrap(lost), wrap(np.zeros((), y.dtype)), y)
    share = e.exp(x - y)
    total = apply(_sum, share, dim=dim, keepdim=True)  # 1 but for the rounding of y, which may be 5e-4 at y = 1e4
    if none:
        total = e.where(wrap(lost), wrap(np.ones((), y.dtype)), total)
    return _restore(dy, shape, dim, keepdim) * (share / total)


def _logsumexp_samples(rng):
    yield from _samples()(rng)
    yield Sample((np.array([[1e4, 1e4 - 1], [-1e4, 1 - 1e4]]),), {"dim": (1,), "keepdim": False}, name="far from 0")


_logsumexp = Op(
    "logsumexp",
    _logsumexp_reference,
    vjps=(_logsumexp_vjp,),
    samples=_logsumexp_samples,
    doc="logsumexp: ln sum e^x over dim, the largest x taken out of the sum so that nothing overflows; derivative e^(x - y).",
)


def logsumexp(input, dim=None, keepdim: bool = False) -> Tensor:
    """ln sum e^x over ``dim``, computed as m + ln sum e^(x - m) with m the largest x; -inf for no elements.

    >>> import glassgrad as gg
    >>> gg.logsumexp(gg.tensor([1000.0, 1000.0]), 0)
    tensor(1000.6932)
    """
    x = tensor_of("logsumexp", input)
    if x.data.dtype.kind != "f":
        x = e.cast_op(x, dtypes.get_default_dtype())
    return apply(_logsumexp, x, dim=_dims("logsumexp", x, dim), keepdim=keepdim)


def _cumsum_reference(x, *, dim):
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.cumsum(x, axis=dim, dtype=wide).astype(x.dtype, copy=False)


def _cumsum_samples(rng):
    for shape, dim in (((3, 5), 1), ((3, 5), 0), ((2, 3, 4), 1), ((33,), 0), ((3, 1), 1)):
        yield Sample((rng.standard_normal(shape),), {"dim": dim})
    yield Sample((rng.standard_normal((4, 3)).T,), {"dim": 0}, name="transposed")
    yield Sample((np.zeros((3, 0)),), {"dim": 1}, name="empty")
    inf, nan = math.inf, math.nan
    yield Sample((np.array([[1, inf, -inf, 1], [1, nan, 1, 1]]),), {"dim": 1}, differentiable=False, name="edges")


_cumsum: Op = Op(
    "cumsum",
    _cumsum_reference,
    vjps=(lambda dy, *, dim: apply(_cumsum, dy.flip(dim), dim=dim).flip(dim),),
    samples=_cumsum_samples,
    doc="cumsum: y_i = x_0 + ... + x_i along dim; derivative: the sums from the other end.",
)


def cumsum(input, dim: int, *, dtype=None) -> Tensor:
    """Sums of the first i elements along ``dim``; bools and integers are added in int64.

    >>> import glassgrad as gg
    >>> gg.cumsum(gg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    x = tensor_of("cumsum", input)
    x = _wide_integers(x) if dtype is None else e.cast_op(x, dtype)
    dim = check_dim("cumsum", dim, x.data.ndim)
    return apply(_cumsum, x, dim=dim) if x.data.ndim else apply(_clone, x)


# ---------------------------------------------------------------------------------------------------------- all and any


def _truth(name, reference, word):
    op = Op(
        name,
        lambda x, *, dim, keepdim: reference(x, axis=dim, keepdims=keepdim),
        samples=_samples(),
        native=False,
        doc=f"{name}: whether {word} over dim is not 0; no derivative.",
    )

    def function(input, dim=None, keepdim: bool = False) -> Tensor:
        x = tensor_of(name, input)
        return apply(op, x, dim=_dims(name, x, dim), keepdim=keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Whether {word} over ``dim`` (an int, several, or None for all) is not 0; a bool tensor. NaN is not 0."
    )
    return function


all = _truth("all", np.all, "every element")
any = _truth("any", np.any, "an element")

METHODS = [
    all, amax, amin, any, argmax, argmin, cumsum, logsumexp, max, mean, min, norm, prod, std, sum, var,
]  # fmt: skip
__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "cumsum", "logsumexp", "max", "mean", "min", "norm", "prod", "std",
    "sum", "var", "var_mean",
]  # fmt: skip
