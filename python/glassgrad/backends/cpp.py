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


class CppBackend:
    name = "cpp"

    def __init__(self, module):
        self.module = module
        self.strict = os.environ.get("GLASSGRAD_STRICT", "0") not in ("", "0")
        self.fallbacks: Counter = Counter()
        self._kernels: dict = {}

    def kernel(self, op):
        found = self._kernels.get(op.name)
        return found or self._kernels.setdefault(op.name, self._build(op))

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

    def _build(self, op):
        plain = reference.BACKEND.kernel(op)
        if op.is_view:
            return plain  # a view moves no data: there is nothing to compile
        native = getattr(self.module, op.name, None)

        def fall_back(*arrays, **static):
            kinds = {a.dtype.kind for a in arrays if a is not None}
            if self.strict and "f" in kinds:
                dtypes = ", ".join(str(a.dtype) for a in arrays if a is not None)
                raise MissingKernel(f"{op.name}: no native kernel for ({dtypes}), and GLASSGRAD_STRICT=1 forbids the reference.")
            self.fallbacks[op.name] += 1
            return plain(*arrays, **static)

        if native is None:
            return fall_back

        def kernel(*arrays, **static):
            result = native(*arrays, **static)
            return fall_back(*arrays, **static) if result is NotImplemented else result

        return kernel


WHY_MISSING = ""
BACKEND: CppBackend | None = None


def _load() -> None:
    global WHY_MISSING, BACKEND
    try:
        supported = importlib.import_module("glassgrad._isa").supported()
    except ImportError:
        WHY_MISSING = "the native module was not built (GLASSGRAD_NATIVE=OFF)"
        return
    asked = os.environ.get("GLASSGRAD_ISA")
    if asked and asked not in supported:
        raise ArgumentError(f"GLASSGRAD_ISA: got {asked!r}; expected one this CPU runs: {', '.join(supported)}.")
    for isa in [asked] if asked else supported:
        try:
            BACKEND = CppBackend(importlib.import_module(f"glassgrad._cpp_{isa}"))
            return
        except ModuleNotFoundError as missing:
            WHY_MISSING = str(missing)
    if asked:
        raise ArgumentError(f"GLASSGRAD_ISA: {asked!r} was not built; reinstall without GLASSGRAD_ISAS.")


_load()
