"""The hand-written C++ kernels, for the best instruction set this CPU has.

``GLASSGRAD_ISA=baseline|avx2|avx512`` overrides the choice; ``GLASSGRAD_STRICT=1`` forbids falling back to the reference
where a kernel or a dtype is missing. A fall-back is counted in ``fallbacks`` and shown by ``glassgrad info``.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter

from ..errors import ArgumentError, MissingKernel
from . import reference
from .protocol import Kernels


class CppBackend:
    name = "cpp"

    def __init__(self, module):
        self.module = module
        self.strict = os.environ.get("GLASSGRAD_STRICT", "0") not in ("", "0")
        self.fallbacks: Counter = Counter()
        self.kernels = Kernels(self._kernel)

    def _kernel(self, op):
        if not op.native:
            return reference.BACKEND.kernels[op]
        return getattr(self.module, op.name, None) or (lambda *arrays, **static: NotImplemented)

    def fall_back(self, op, arrays, static):
        dtypes = [a.dtype for a in arrays if a is not None]
        if self.strict and any(d.kind == "f" for d in dtypes):
            raise MissingKernel(
                f"{op.name}: no native kernel: got ({', '.join(map(str, dtypes))}); expected all float32 or all float64. "
                "GLASSGRAD_STRICT=1 forbids the reference."
            )
        self.fallbacks[op.name] += 1
        return reference.BACKEND.kernels[op](*arrays, **static)

    def fused(self, name):
        return getattr(self.module, name, None)

    def info(self):
        return {
            "isa": self.module.isa,
            "compiler": self.module.compiler,
            "threads": self.module.num_threads(),
            "allocator": self.module.allocator_stats(),
            "fallbacks": dict(self.fallbacks),
        }


WHY_MISSING = ""
BACKEND: CppBackend | None = None


def supported() -> list[str]:
    """The instruction sets this CPU runs, best first; none where the native modules were not built."""
    try:
        return importlib.import_module("glassgrad._isa").supported()
    except ImportError:
        return []


def _load() -> None:
    global WHY_MISSING, BACKEND
    runs = supported()
    if not runs:
        WHY_MISSING = "the native module was not built (GLASSGRAD_NATIVE=OFF)"
        return
    asked = os.environ.get("GLASSGRAD_ISA")
    if asked and asked not in runs:
        raise ArgumentError(f"GLASSGRAD_ISA: got {asked!r}; expected one this CPU runs: {', '.join(runs)}.")
    for isa in [asked] if asked else runs:
        try:
            BACKEND = CppBackend(importlib.import_module(f"glassgrad._cpp_{isa}"))
            return
        except ModuleNotFoundError as missing:
            WHY_MISSING = str(missing)
    if asked:
        raise ArgumentError(f"GLASSGRAD_ISA: {asked!r} was not built; reinstall without GLASSGRAD_ISAS.")


_load()
