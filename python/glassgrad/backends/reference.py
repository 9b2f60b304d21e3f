"""The NumPy reference: each op's own ``reference`` function, run as it stands."""

from __future__ import annotations

import numpy as np

from ..errors import MissingKernel
from .protocol import Kernels, as_array


class ReferenceBackend:
    name = "reference"

    def __init__(self):
        self.kernels = Kernels(_kernel)

    def fall_back(self, op, arrays, static):
        raise MissingKernel(f"{op.name}: the reference itself returned NotImplemented; expected an array.")

    def fused(self, name):
        return None  # gradients are composed from the op's rules: that is what the native ones are compared with

    def info(self):
        return {"numpy": np.__version__}


def _kernel(op):
    f = op.reference
    if not op.native:  # it moves data: nothing in it could warn, and entering errstate costs as much as a small copy
        return lambda *arrays, **static: as_array(f(*arrays, **static))

    def kernel(*arrays, **static):
        with np.errstate(all="ignore"):  # PyTorch computes 1/0 and log(-1) in silence; NumPy would warn
            return as_array(f(*arrays, **static))

    return kernel


BACKEND = ReferenceBackend()
