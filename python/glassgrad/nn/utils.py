"""Helpers for training loops: clipping gradients, parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import ops
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor, wrap
from ._arguments import number


def _grads(parameters) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]


def _norm(x: np.ndarray, p: float) -> float:
    if p == math.inf:
        return float(np.abs(x).max(initial=0))
    if p == 2:
        flat = x.ravel()
        squares = float(np.dot(flat, flat))
        # In float32 squares of an exploding gradient overflow from 1.8e19 on, and of a vanishing one underflow.
        if 1e-30 < squares < math.inf or x.dtype == np.float64:
            return math.sqrt(squares)
    return float(np.linalg.norm(x.ravel().astype(np.float64), p))


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all tensors as if they were one vector.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.utils.get_total_norm([gg.tensor([3.0]), gg.tensor([4.0])]).item()
    5.0
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    order = number("get_total_norm", "norm_type", norm_type, 5e-324)
    with np.errstate(over="ignore", invalid="ignore"):
        total = _norm(np.array([_norm(t.data, order) for t in tensors]), order)
    if error_if_nonfinite and not math.isfinite(total):
        raise ArgumentError(message("get_total_norm", "norm of the gradients", total, "a finite number"))
    return wrap(np.asarray(total, dtype=tensors[0].dtype if tensors else np.float32))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by one factor so that their joint norm is at most ``max_norm``; returns the norm before.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch (Pascanu et al. 2013).
    """
    number("clip_grad_norm_", "max_norm", max_norm, 0)
    grads = _grads(parameters)
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    factor = max_norm / (total.item() + 1e-6)
    if not factor >= 1:  # a NaN norm makes all gradients NaN
        for grad in grads:
            grad.data *= factor
            grad.bump_version()
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of each gradient to [-clip_value, clip_value]."""
    limit = number("clip_grad_value_", "clip_value", clip_value, 0)
    for grad in _grads(parameters):
        np.clip(grad.data, -limit, limit, out=grad.data)
        grad.bump_version()


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened, one after the other: (sum of sizes,); gradients pass through."""
    flat = [p.reshape(-1) for p in parameters]
    if not flat:
        raise ArgumentError(message("parameters_to_vector", "parameters", "none", "at least one"))
    return ops.movement.cat(flat)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy consecutive slices of ``vec`` (sum of sizes,) into the parameters' memory."""
    if not isinstance(vec, Tensor):
        raise DTypeError(message("vector_to_parameters", "vec", type(vec).__name__, "a Tensor"))
    parameters = list(parameters)
    total = sum(p.numel() for p in parameters)
    if vec.shape != (total,):
        raise ShapeError(
            message("vector_to_parameters", "vec", f"shape {vec.shape}", f"({total},), the sum of all sizes")
        )
    start = 0
    for p in parameters:
        p.data[...] = vec.data[start : start + p.numel()].reshape(p.shape)
        p.bump_version()
        start += p.numel()


__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "vector_to_parameters"]
