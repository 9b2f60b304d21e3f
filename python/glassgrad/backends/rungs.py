"""Every op of a ladder on one of its rungs: a whole training run on the three naive loops, or on any step above them.

A ladder is a row of ``LADDERS``. Its rungs are the numbered files of ``csrc/cpu/<folder>/``; the native module lists
their names and runs each of them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingKernel
from . import cpp
from .protocol import Backend, Kernels


def _rows_along(kernel: Callable) -> Callable:
    """The kernel of (rows, cols) for any number of dims: ``dim`` becomes the last, the others become rows."""

    def along(x, *, dim):
        last = np.moveaxis(x, dim, -1)
        y = kernel(np.ascontiguousarray(last).reshape(math.prod(last.shape[:-1]), last.shape[-1]))
        return y if y is NotImplemented else np.moveaxis(y.reshape(last.shape), -1, dim)

    return along


@dataclass(frozen=True)
class Ladder:
    """The rungs of one op, and of what is computed with it.

    ``kernels[op]`` is the binding that computes ``op`` on the rung that its first argument names; ``adapt`` turns such a
    function into a kernel of the op where their arguments differ. ``fused`` are kernels for all gradients of an op at
    once: they would pass the rungs by, so they are not used.
    """

    folder: str
    rungs: str  # the binding that lists the names, lowest first
    kernels: dict[str, str]
    adapt: Callable[[Callable], Callable] = lambda kernel: kernel
    fused: tuple[str, ...] = ()

    def names(self) -> list[str]:
        return list(getattr(_module(), self.rungs)())

    def kernel(self, op: str, rung: str) -> Callable:
        return self.adapt(partial(getattr(_module(), self.kernels[op]), rung))


_CONV = ("conv2d", "conv2d_backward_input", "conv2d_backward_weight")
LADDERS: dict[str, Ladder] = {
    "matmul": Ladder(
        "matmul",
        "matmul_rungs",
        {op: f"{op}_rung" for op in ("matmul", "linear", "linear_relu")},
        fused=("linear_backward", "linear_relu_backward"),
    ),
    "conv2d": Ladder("conv", "conv_rungs", {op: op.replace("conv2d", "conv_rung") for op in _CONV}),
    "softmax": Ladder("softmax", "softmax_rungs", {"softmax": "softmax_rung"}, adapt=_rows_along),
}


class OnRung:
    """A backend, but for the ops of one ladder."""

    def __init__(self, base: Backend, ladder: Ladder, rung: str):
        self._base, self._ladder, self._rung = base, ladder, rung
        self.kernels = Kernels(self._kernel)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def _kernel(self, op):
        base = self._base.kernels[op]
        if op.name not in self._ladder.kernels:
            return base
        on_rung = self._ladder.kernel(op.name, self._rung)

        def kernel(*arrays, **static):
            result = on_rung(*arrays, **static)
            return base(*arrays, **static) if result is NotImplemented else result  # a dtype or a shape not for it

        return kernel

    def fused(self, name):
        return None if name in self._ladder.fused else self._base.fused(name)


def _module():
    if cpp.BACKEND is None:
        raise MissingKernel(f"kernel: {cpp.WHY_MISSING}; expected compiled kernels: rungs are C++.")
    return cpp.BACKEND.module


def on_rung(base: Backend, op: str, rung: str) -> OnRung:
    """``base`` with the ladder of ``op`` on ``rung``."""
    if op not in LADDERS:
        raise ArgumentError(f"kernel: op: got {op!r}; expected one that has a ladder: {', '.join(LADDERS)}.")
    names = LADDERS[op].names()
    if rung not in names:
        raise ArgumentError(f"kernel: rung: got {rung!r}; expected one of the ladder of {op}: {', '.join(names)}.")
    return OnRung(base, LADDERS[op], rung)
