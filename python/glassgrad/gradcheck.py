"""Analytic against numeric derivatives. PyTorch's names and defaults; a NaN is a failure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import GlassgradError
from .tensor import Tensor, grad, wrap


class GradcheckError(GlassgradError, RuntimeError):
    """Analytic and numeric derivatives differ."""


def gradcheck(
    f: Callable,
    inputs,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Whether (f(x + eps v) - f(x - eps v)) / 2 eps equals the analytic derivative along v.

    v is every unit vector in turn; with ``fast_mode`` one dense direction per input. All differentiable outputs of f are
    checked at once, weighted by numbers without symmetries, so that errors of two elements cannot cancel.

    Args:
        f: a function of Tensors that returns a Tensor or a tuple of them.
        inputs: a Tensor or a tuple; those that require grad must be float64, since float32 has too few digits for a
            difference of 1e-6. They are changed during the check and restored.

    Raises:
        GradcheckError: a derivative differs by more than atol + rtol |numeric|, unless ``raise_exception`` is False.

    Example:
        >>> import glassgrad as gg
        >>> x = gg.tensor([0.5, 2.0], dtype=gg.float64, requires_grad=True)
        >>> gg.gradcheck(gg.tanh, x)
        True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise GradcheckError("gradcheck: got no input that requires grad; expected at least one.")
    for x in wanted:
        if x.dtype != np.float64:
            raise GradcheckError(f"gradcheck: got an input of dtype {x.dtype}; expected float64.")
        if 0 in x.data.strides and x.numel() > 1:
            raise GradcheckError(
                "gradcheck: got an input whose elements share memory (expand); expected its own. Use clone()."
            )

    outputs = _floating(f(*inputs))
    weights = [_pattern(np.cos, y.shape) for y in outputs]

    def weighted() -> float:
        return sum(float((y.data * w).sum()) for y, w in zip(_floating(f(*inputs)), weights, strict=True))

    differentiable = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    dxs: tuple = (None,) * len(wanted)
    if differentiable:
        ys, dys = zip(*differentiable, strict=True)
        dxs = grad(ys, wanted, [wrap(w) for w in dys], allow_unused=True)

    for number, (x, dx) in enumerate(zip(wanted, dxs, strict=True)):
        analytic = np.zeros(x.shape) if dx is None else dx.data
        checks: list[tuple]
        if fast_mode:
            checks = [(_pattern(np.sin, x.shape), "a dense direction")]
        else:
            checks = [(index, index) for index in np.ndindex(x.shape)]
        for direction, where in checks:
            kept = x.data.copy()
            step = eps * direction if fast_mode else eps
            at = ... if fast_mode else direction
            try:
                x.data[at] = kept[at] + step
                above = weighted()
                x.data[at] = kept[at] - step
                below = weighted()
            finally:
                x.data[...] = kept
            numeric = (above - below) / (2 * eps)
            exact = float((analytic * direction).sum()) if fast_mode else float(analytic[direction])
            if not np.abs(exact - numeric) <= atol + rtol * np.abs(numeric):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"gradcheck: input {number} at {where}: got analytic {exact:.6g}; expected {numeric:.6g}."
                )
    return True


def gradgradcheck(f: Callable, inputs, **keywords) -> bool:
    """``gradcheck`` of the gradient of f: the second derivative. Same arguments."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def first(*xs):
        ys = [y for y in _floating(f(*xs)) if y.requires_grad]
        dys = [wrap(_pattern(np.sin, y.shape)) for y in ys]
        dxs = grad(ys, [xs[i] for i in wanted], dys, create_graph=True, allow_unused=True)
        return tuple(dx for dx in dxs if dx is not None)

    return gradcheck(first, inputs, **keywords)


def _floating(result) -> list[Tensor]:
    outputs = result if isinstance(result, (tuple, list)) else (result,)
    return [y for y in outputs if isinstance(y, Tensor) and y.is_floating_point()]


def _pattern(wave, shape) -> np.ndarray:
    """Numbers of size 1 without symmetries."""
    n = int(np.prod(shape))
    return wave(1.0 + np.arange(n, dtype=np.float64)).reshape(shape)
