"""Where kernels come from. ``selected.backend`` is the one that CPU tensors use, per thread."""

from __future__ import annotations

import contextlib
import threading
import warnings

from ..errors import ArgumentError, MissingKernel
from . import cpp, reference
from .protocol import Backend
from .rungs import on_rung

BACKENDS: dict[str, Backend] = {"reference": reference.BACKEND}
if cpp.BACKEND is not None:
    BACKENDS["cpp"] = cpp.BACKEND


_best: Backend = BACKENDS.get("cpp", reference.BACKEND)


class _Selected(threading.local):
    backend = _best
    kernels = _best.kernels  # apart from the backend, since every op looks here


selected = _Selected()
_told = False


def current() -> Backend:
    return selected.backend


def get(name: str) -> Backend:
    if name not in BACKENDS:
        why = f" ({cpp.WHY_MISSING})" if name == "cpp" else ""
        raise ArgumentError(f"backend: got {name!r}; expected one of {', '.join(BACKENDS)}.{why}")
    return BACKENDS[name]


def use(backend: Backend) -> None:
    """From now on, in this thread, CPU tensors compute with ``backend``."""
    selected.backend, selected.kernels = backend, backend.kernels


@contextlib.contextmanager
def use_backend(backend: str | Backend):
    """Within: CPU tensors compute with ``backend``: "reference" (NumPy) or "cpp".

    >>> import glassgrad as gg
    >>> with gg.use_backend("reference"):
    ...     gg.ones(2) + 1
    tensor([2., 2.])
    """
    before = selected.backend
    use(get(backend) if isinstance(backend, str) else backend)
    try:
        yield
    finally:
        use(before)


@contextlib.contextmanager
def kernel(op: str, rung: str):
    """Within: every use of ``op``, in backward passes too, runs on a rung of its ladder (``csrc/cpu/matmul/``).

    ``"matmul"`` stands for all products of matrices, ``linear`` and their gradients among them. The production kernels
    are back after the block; other threads never leave them.

    Raises:
        ArgumentError: no such ladder, or no such rung on it; the message lists those that there are.

    >>> import glassgrad as gg
    >>> with gg.kernel("matmul", "naive"):
    ...     gg.ones(2, 3) @ gg.ones(3, 1)
    tensor([[3.],
            [3.]])
    """
    with use_backend(on_rung(selected.backend, op, rung)):
        yield


def tell_if_pure_python() -> None:
    """Say once that the compiled kernels are missing, and what that means."""
    global _told
    if cpp.BACKEND is None and not _told:
        _told = True
        warnings.warn(
            f"glassgrad runs on its NumPy reference: {cpp.WHY_MISSING}. Results are the same, speed is not.",
            RuntimeWarning,
            stacklevel=4,
        )


__all__ = [
    "BACKENDS",
    "Backend",
    "MissingKernel",
    "current",
    "get",
    "kernel",
    "selected",
    "tell_if_pure_python",
    "use",
    "use_backend",
]
