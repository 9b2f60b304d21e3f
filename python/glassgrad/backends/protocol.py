"""What a backend is: a table of kernels and three methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Kernels(dict):
    """``kernels[op]`` is the function that computes ``op``: arrays and static keywords in, an array (or a tuple) out.

    Built on first use. It may return NotImplemented for dtypes it does not know; the backend's ``fall_back`` then runs.
    """

    def __init__(self, build: Callable[[Any], Callable]):
        super().__init__()
        self._build = build

    def __missing__(self, op):
        kernel = self[op] = self._build(op)
        return kernel


class Backend(Protocol):
    name: str
    kernels: Kernels

    def fall_back(self, op: Any, arrays: Any, static: dict) -> Any:
        """Compute ``op`` where this backend has no kernel for it, or say why not."""

    def fused(self, name: str) -> Callable | None:
        """The function that computes all gradients of an op at once, or None where there is none."""

    def info(self) -> dict[str, Any]:
        """What ``glassgrad info`` prints."""


def as_array(result):
    """NumPy ufuncs turn 0-d arrays into scalars; kernels give arrays."""
    if isinstance(result, np.ndarray):
        return result
    if isinstance(result, tuple):
        return tuple(as_array(r) for r in result)
    return np.asarray(result)
