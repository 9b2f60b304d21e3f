"""Analytic against numeric derivatives. PyTorch's names and defaults; a NaN is a failure."""

from __future__ import annotations

import numpy as np

from .errors import GlassgradError
from .tensor import Tensor, grad, wrap


class GradcheckError(GlassgradError, RuntimeError):
    """Analytic and numeric derivatives differ."""


def gradcheck(f, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True) -> bool:
    """Whether (f(x + eps v) - f(x - eps v)) / 2 eps equals the analytic derivative, for every element of every input.

    Inputs that require grad must be float64: float32 has too few digits for a difference of 1e-6.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    for x in wanted:
        if x.dtype != np.float64:
            raise GradcheckError(f"gradcheck: got an input of dtype {x.dtype}; expected float64.")
    y = f(*inputs)
    # A fixed pattern of weights without symmetries: errors of two elements cannot cancel.
    dy = wrap(np.cos(1.0 + np.arange(y.numel(), dtype=np.float64)).reshape(y.shape))
    dxs = grad(y, wanted, dy, allow_unused=True) if y.requires_grad else [None] * len(wanted)
    for number, (x, dx) in enumerate(zip(wanted, dxs, strict=True)):
        analytic = np.zeros(x.shape) if dx is None else dx.data
        for index in np.ndindex(x.shape):
            kept = x.data[index]
            x.data[index] = kept + eps
            above = float((f(*inputs).data * dy.data).sum())
            x.data[index] = kept - eps
            below = float((f(*inputs).data * dy.data).sum())
            x.data[index] = kept
            numeric = (above - below) / (2 * eps)
            if not np.abs(analytic[index] - numeric) <= atol + rtol * np.abs(numeric):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"gradcheck: input {number} at {index}: got analytic {analytic[index]:.6g}; expected {numeric:.6g}."
                )
    return True


def gradgradcheck(f, inputs, **keywords) -> bool:
    """``gradcheck`` of the gradient of f: the second derivative."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def first(*xs):
        y = f(*xs)
        dy = wrap(np.sin(1.0 + np.arange(y.numel(), dtype=np.float64)).reshape(y.shape))
        dxs = grad(y, [xs[i] for i in wanted], dy, create_graph=True, allow_unused=True)
        total = None
        for k, dx in enumerate(dx for dx in dxs if dx is not None):
            term = (dx * (k + 1)).sum_to_size(())
            total = term if total is None else total + term
        return total

    return gradcheck(first, inputs, **keywords)
