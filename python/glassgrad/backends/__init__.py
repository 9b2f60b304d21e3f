"""Where kernels come from. ``current()`` is the backend that CPU tensors use."""

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


class _Current(threading.local):
    backend: Backend = BACKENDS.get("cpp", reference.BACKEND)


_current = _Current()
_told = False


def current() -> Backend:
    return _current.backend


def get(name: str) -> Backend:
    if name not in BACKENDS:
        why = f" ({cpp.WHY_MISSING})" if name == "cpp" else ""
        raise ArgumentError(f"backend: got {name!r}; expected one of {', '.join(BACKENDS)}.{why}")
    return BACKENDS[name]


@contextlib.contextmanager
def use_backend(name: str):
    """Within: CPU tensors compute with the backend ``name``: "reference" (NumPy) or "cpp".

    >>> import glassgrad as gg
    >>> with gg.use_backend("reference"):
    ...     gg.ones(2) + 1
    tensor([2., 2.])
    """
    before, _current.backend = _current.backend, get(name)
    try:
        yield
    finally:
        _current.backend = before


def tell_if_pure_python() -> None:
    """Say once that the compiled kernels are missing, and what that means."""
    global _told
    if cpp.BACKEND is None and not _told:
        _told = True
        warnings.warn(
            f"glassgrad runs on its NumPy reference: {cpp.WHY_MISSING}. Results are the same, speed is not.",
            RuntimeWarning,
            stacklevel=3,
        )


__all__ = ["BACKENDS", "Backend", "MissingKernel", "current", "get", "tell_if_pure_python", "use_backend"]
