"""softmax: turn each row into probabilities. log_softmax: their logarithms, without ever forming a probability of 0.

softmax       forward   y_i  = exp(x_i - m) / sum_j exp(x_j - m),      m = max_j x_j  (avoids overflow; it cancels)
              backward  dx_i = y_i (dy_i - sum_j dy_j y_j)
log_softmax   forward   y_i  = x_i - m - ln sum_j exp(x_j - m)
              backward  dx_i = dy_i - exp(y_i) sum_j dy_j
saves         y alone: both derivatives can be written without x
native        csrc/cpu/softmax/3_production.cpp; csrc/cpu/softmax/README.md is the lesson
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError, check_dim, message
from ..op import Op, Sample, apply
from ..tensor import Tensor
from .elementwise import cast_op, exp, neg
from .movement import tensor_of


def _softmax_reference(x, *, dim):
    e = np.exp(x - x.max(axis=dim, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=dim, keepdims=True)


def _softmax_vjp(dy, y, *, dim):
    return y * (dy - (dy * y).sum(dim, keepdim=True))


def _log_softmax_reference(x, *, dim):
    shifted = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


def _log_softmax_vjp(dy, y, *, dim):
    return dy - exp(y) * dy.sum(dim, keepdim=True)


def _samples(rng):
    for shape, dim in (((3, 5), 1), ((4, 33), 1), ((3, 5), 0), ((2, 5, 3), 1), ((7,), 0), ((3, 1), 1)):
        yield Sample((rng.uniform(-3, 3, shape),), {"dim": dim})
    yield Sample((rng.uniform(-3, 3, (5, 4)).T,), {"dim": 1}, name="transposed")
    yield Sample((np.array([[1e4, 1e4 - 1, -1e4], [-1e4, 1 - 1e4, -2e4]]),), {"dim": 1}, name="far from 0")
    for shape, dim in (((0, 3), 1), ((3, 0), 1), ((3, 0), 0)):
        yield Sample((np.zeros(shape),), {"dim": dim}, name="empty")
    inf, nan = np.inf, np.nan
    rows = np.array([[0.0, -inf, 1], [-inf, -inf, -inf], [inf, 0, 1], [inf, inf, -inf], [nan, 0, 1]])
    yield Sample((rows,), {"dim": 1}, differentiable=False, name="edges")


_softmax = Op(
    "softmax",
    _softmax_reference,
    vjps=(_softmax_vjp,),
    fused_vjp=("softmax_backward", "y", "dim"),
    samples=_samples,
    doc="softmax: exp(x) / sum(exp(x)) along dim; derivative y (dy - sum(dy y)).",
)
_log_softmax = Op(
    "log_softmax",
    _log_softmax_reference,
    vjps=(_log_softmax_vjp,),
    fused_vjp=("log_softmax_backward", "y", "dim"),
    samples=_samples,
    doc="log_softmax: x - ln sum(exp(x)) along dim; derivative dy - exp(y) sum(dy).",
)


def floating(op: str, name: str, x, dtype=None) -> Tensor:
    """``x`` as a tensor of a floating dtype: cast to ``dtype`` where one is given, never silently."""
    x = tensor_of(op, x)
    x = x if dtype is None else cast_op(x, dtype)
    if x.data.dtype.kind != "f":
        raise DTypeError(
            message(op, f"{name} is not floating", x.dtype, "a floating dtype", f"Use {name}.to(gg.float32).")
        )
    return x


def number(op: str, name: str, x, low: float, high: float = math.inf):
    """``x``, checked to be a number of [low, high]; NaN is none."""
    if not isinstance(x, (int, float, np.number)) or not low <= x <= high:
        expected = f"a number, {low} <= {name}" + (f" <= {high}" if high < math.inf else "")
        raise ArgumentError(message(op, name, repr(x), expected))
    return x


def _along(op: Op, input, dim, dtype) -> Tensor:
    x = floating(op.name, "input", input, dtype)
    if dim is None:
        guess = 0 if x.ndim in (0, 1, 3) else 1
        raise ArgumentError(
            message(
                op.name,
                "no dim",
                "dim=None",
                "an int",
                f"The sum over which dim is to be 1? PyTorch would guess {guess} here.",
            )
        )
    dim = check_dim(op.name, dim, x.ndim)
    if not x.ndim:
        return apply(op, x.reshape(1), dim=0).reshape(())
    if x.dtype == np.float16:  # sums of exponentials want more than 11 bits
        return apply(op, x.to(np.float32), dim=dim).to(np.float16)
    return apply(op, x, dim=dim)


def softmax(input, dim: int | None = None, dtype=None) -> Tensor:
    """exp(x_i) / sum_j exp(x_j) along ``dim``: positive numbers that sum to 1 (Bridle 1990).

    Shape: any; the result has the input's. A row of -inf alone, or with inf or NaN in it, becomes NaN.

    Args:
        dim: the dim that sums to 1. Required: PyTorch's guess for None is deprecated there.
        dtype: cast the input first; needed for integers.

    Raises:
        ArgumentError: no dim. AxisError: no such dim. DTypeError: an integer or bool input.

    Example:
        >>> import glassgrad as gg
        >>> gg.softmax(gg.tensor([0.0, 0.0, 0.0, 0.0]), dim=0)
        tensor([0.25, 0.25, 0.25, 0.25])
    """
    return _along(_softmax, input, dim, dtype)


def log_softmax(input, dim: int | None = None, dtype=None) -> Tensor:
    """ln softmax(x) along ``dim``, finite where softmax underflows to 0. Arguments and errors as ``softmax``.

    Example:
        >>> import glassgrad as gg
        >>> gg.log_softmax(gg.tensor([1000.0, 0.0]), dim=0)
        tensor([    0., -1000.])
    """
    return _along(_log_softmax, input, dim, dtype)


def softmin(input, dim: int | None = None, dtype=None) -> Tensor:
    """softmax(-x) along ``dim``: the smallest input gets the largest share.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.softmin(gg.tensor([0.0, 0.0]), dim=0)
        tensor([0.5, 0.5])
    """
    return softmax(neg(floating("softmin", "input", input, dtype)), dim)


METHODS = (softmax, log_softmax)
__all__ = ["log_softmax", "softmax", "softmin"]
