"""One op, or one model, on two backends: how far apart are they, in ulps?

An ulp is the gap between neighbouring numbers of a dtype, so an error of 1 ulp is the last binary digit. The truth is the
NumPy reference in float64, on inputs rounded to the dtype under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import backends
from .backends.protocol import Kernels
from .op import REGISTRY, Op, Sample, apply, find
from .tensor import Tensor, grad, wrap


def ulps(got: np.ndarray, expected: np.ndarray, dtype, *, pointwise: bool = True, least: float = 0.0) -> float:
    """Largest |got - expected| in units of the last place; 0 for equal NaN or infinities, inf where only one has them.

    The unit is that of the expected number, or of the largest one unless ``pointwise``, or of ``least`` if that is more.

    >>> ulps(np.float32([1.0]), np.float64([1.0 + 2.0**-23]), np.float32)
    1.0
    """
    if got.shape != expected.shape:
        return math.inf
    if not got.size:
        return 0.0
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, expected) else math.inf
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(expected, np.float64)
        rounded = expected.astype(dtype)  # what float64 holds and dtype cannot counts as infinite
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        finite = np.isfinite(got) & np.isfinite(rounded)
        if not (same | finite).all():
            return math.inf
        if same.all():
            return 0.0
        size = np.abs(expected[finite])
        if not pointwise:
            size = np.full_like(size, size.max())
        size = np.maximum(size, least)
        gap = np.maximum(np.spacing(size.astype(dtype)).astype(np.float64), float(info.smallest_normal) * info.eps)
        return float((np.abs(got[finite].astype(np.float64) - expected[finite]) / gap).max())


@dataclass
class Comparison:
    """The worst errors of one op over its samples, in ulps: ``forward["float32"]`` and so on; None where not tried."""

    op: Op
    forward: dict
    backward: dict
    native: bool

    @property
    def ok(self) -> bool:
        worst = [e for e in (*self.forward.values(), *self.backward.values()) if e is not None]
        # Backward rules chain up to three kernels.
        return all(e <= self.op.ulps for e in self.forward.values()) and all(e <= 3 * self.op.ulps for e in worst)


def compare_op(op: Op, backend: str = "cpp", seed: int = 0) -> Comparison:
    """Every sample of ``op`` on ``backend`` against the reference, forward and backward, float32 and float64."""
    forward = {"float32": 0.0, "float64": 0.0}
    backward: dict = {"float32": None, "float64": None}
    for dtype in (np.dtype("float32"), np.dtype("float64")):
        for sample in op.samples(np.random.default_rng(seed)):
            differentiable = op.differentiable and sample.differentiable
            got_ys, got_dxs = _run(op, sample, dtype, backend, differentiable)
            true_ys, true_dxs = _run(op, sample, dtype, "reference", differentiable, wide=True)
            name = str(dtype)
            for got, true in zip(got_ys, true_ys, strict=True):
                forward[name] = max(forward[name], ulps(got, true, dtype, pointwise=op.pointwise))
            for got, true in zip(got_dxs, true_dxs, strict=True):
                # dy is at most 1: of 1 - y^2 near y = 1 only the digits beside that 1 can be right.
                error = ulps(got, true, dtype, pointwise=False, least=1.0)
                backward[name] = max(backward[name] or 0.0, error)
    return Comparison(op, forward, backward, _has_kernel(op, backend))


def _has_kernel(op: Op, backend: str) -> bool:
    return op.native and hasattr(getattr(backends.get(backend), "module", None), op.name)


def _run(op: Op, sample: Sample, dtype, backend: str, differentiable: bool, wide: bool = False):
    inputs: list[Tensor | None] = []
    for x in sample.inputs:
        if x is None:
            inputs.append(None)
            continue
        array = np.asarray(x)
        floating = array.dtype.kind == "f"
        if floating:
            with np.errstate(all="ignore"):
                array = array.astype(dtype).astype(np.float64 if wide else dtype)
        t = wrap(array)
        inputs.append(t.requires_grad_() if floating and differentiable else t)
    with backends.use_backend(backend):
        result = apply(op, *inputs, **sample.static)
        ys = result if isinstance(result, tuple) else (result,)
        dxs: list = []
        ways = [y for y in ys if y.requires_grad]
        if ways:
            dys = [
                wrap(np.cos(1.0 + np.arange(y.numel())).reshape(y.shape).astype(dtype).astype(y.dtype)) for y in ways
            ]
            wanted = [t for t in inputs if t is not None and t.requires_grad]
            dxs = [np.zeros(()) if d is None else d.data for d in grad(ways, wanted, dys, allow_unused=True)]
    return [y.data for y in ys], dxs


def table(names: list[str] | None = None, backend: str = "cpp") -> Iterator[Comparison]:
    """``compare_op`` for the ops named, or for all."""
    for name in names or sorted(REGISTRY):
        yield compare_op(find("compare", name), backend)


@dataclass
class Step:
    """One kernel call of a model, run on two backends with the same inputs."""

    number: int
    op: Op
    shapes: tuple
    error: float  # ulps

    @property
    def ok(self) -> bool:
        return self.error <= self.op.ulps


def _largest(array) -> float:
    """The largest finite magnitude in ``array``."""
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(array), where=np.isfinite(array), initial=0.0))


class _Lockstep:
    """A backend that runs every op on two others and keeps the difference; the model goes on with the first's results."""

    def __init__(self, first, second):
        self.name = f"{first.name} against {second.name}"
        self._first, self._second = first, second
        self.steps: list[Step] = []
        self.kernels = Kernels(self._kernel)

    def _kernel(self, op):
        first, second = self._first.kernels[op], self._second.kernels[op]

        def both(*arrays, **static):
            result = first(*arrays, **static)
            if result is NotImplemented:
                result = self._first.fall_back(op, arrays, static)
            other = second(*arrays, **static)
            # Gradients before a normalisation sum to 0: what such a sum leaves is measured by what went into it.
            size = 0.0 if op.pointwise else max((_largest(a) for a in arrays if a is not None), default=0.0)
            error = 0.0
            for a, b in zip(*[r if isinstance(r, tuple) else (r,) for r in (result, other)], strict=True):
                error = max(error, ulps(a, b, a.dtype, pointwise=op.pointwise, least=size))
            shapes = tuple(a.shape for a in arrays if a is not None)
            self.steps.append(Step(len(self.steps) + 1, op, shapes, error))
            return result

        return both

    def fall_back(self, op, arrays, static):
        return NotImplemented  # never asked: both() has no gaps

    def fused(self, name):
        # Gradients are composed from ops, so that each is compared; random bits are the same everywhere.
        return self._first.fused(name) if name == "philox4x32" else None

    def info(self):
        return {}


def compare_model(model: Callable, *inputs, backend: str = "cpp", backward: bool = True) -> list[Step]:
    """Run ``model(*inputs)`` and its backward with every op computed twice, on ``backend`` and on the reference.

    Returns every step in order; the first with ``not step.ok`` is where the backends part.
    """
    lockstep = _Lockstep(backends.get(backend), backends.get("reference"))
    with backends.use_backend(lockstep):
        y = model(*inputs)
        if backward and isinstance(y, Tensor) and y.requires_grad:
            y.sum().backward()
    return lockstep.steps
