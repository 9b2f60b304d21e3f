"""Where kernels come from. ``selected.backend`` is the one that CPU tensors use, per thread."""

from __future__ import annotations

import contextlib
import threading
import warnings

from ..errors import ArgumentError, MissingKernel
from . import cpp, reference
from .protocol import Backend

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
    "selected",
    "tell_if_pure_python",
    "use",
    "use_backend",
]
