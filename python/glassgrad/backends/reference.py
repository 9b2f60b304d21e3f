"""The NumPy reference: each op's own ``reference`` function, run as it stands."""

from __future__ import annotations

import numpy as np

from .protocol import as_array


class ReferenceBackend:
    name = "reference"

    def __init__(self):
        self._kernels: dict = {}

    def kernel(self, op):
        found = self._kernels.get(op.name)
        return found or self._kernels.setdefault(op.name, _quiet(op.reference))

    def fused(self, name):
        return None  # gradients are composed from the op's rules: that is what the native ones are compared with

    def info(self):
        return {"numpy": np.__version__}


def _quiet(f):
    """PyTorch computes 1/0 and log(-1) in silence; NumPy would warn."""

    def kernel(*arrays, **static):
        with np.errstate(all="ignore"):
            return as_array(f(*arrays, **static))

    return kernel


BACKEND = ReferenceBackend()
