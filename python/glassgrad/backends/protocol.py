"""What a backend is: three methods and a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Backend(Protocol):
    name: str

    def kernel(self, op: Any) -> Callable:
        """The function that computes ``op``: arrays and static keywords in, an array (or a tuple of them) out."""

    def fused(self, name: str) -> Callable | None:
        """The function that computes all gradients of an op at once, or None where there is none."""

    def info(self) -> dict[str, object]:
        """What ``glassgrad info`` prints."""


def as_array(result):
    """NumPy ufuncs turn 0-d arrays into scalars; kernels give arrays."""
    if isinstance(result, np.ndarray):
        return result
    if isinstance(result, tuple):
        return tuple(as_array(r) for r in result)
    return np.asarray(result)
