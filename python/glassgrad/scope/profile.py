"""Profile: where the time of a piece of training goes, kernel by kernel, against what this machine can do.

The hook is the one place where graph meets backend: while a profile runs, the backend is wrapped in one that reads the clock
round every kernel. Without a profile nothing is in the way.
"""

from __future__ import annotations

import json
import math
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import autograd, backends, nn
from ..autograd import Node
from ..backends.protocol import Kernels
from ..errors import ArgumentError
from ..function import FunctionContext
from ..op import OpNode
from ..tensor import Tensor

UPDATES = ("sgd", "adam", "adamw", "adagrad", "rmsprop")


@dataclass(frozen=True)
class Event:
    """One kernel call. ``start`` and ``seconds`` are since the profile began; ``phase`` is forward (a graph is recorded), backward (it is not)
    or update. ``flops`` and ``bytes`` are what the formula needs: operations, and bytes of all arrays in and out."""

    op: str
    phase: str
    start: float
    seconds: float
    flops: float
    bytes: float
    shapes: tuple
    module: str = ""


@dataclass(frozen=True)
class Row:
    """All calls of one op in one phase."""

    op: str
    phase: str
    calls: int
    seconds: float
    flops: float
    bytes: float

    @property
    def gflops(self) -> float:
        return self.flops / self.seconds / 1e9

    @property
    def gbytes(self) -> float:
        return self.bytes / self.seconds / 1e9


class _Timed:
    """A backend that reads the clock round every kernel of another."""

    def __init__(self, base, profile: Profile):
        self._base, self._profile = base, profile
        self.kernels = Kernels(self._kernel)
        self._fused: dict[str, Callable | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def _kernel(self, op):
        return self._timed(op.name, self._base.kernels[op], "")

    def fall_back(self, op, arrays, static):
        return self._timed(op.name, lambda *a, **s: self._base.fall_back(op, a, s), "")(*arrays, **static)

    def fused(self, name):
        if name not in self._fused:
            kernel = self._base.fused(name)
            phase = "update" if name.startswith(UPDATES) else "backward"
            self._fused[name] = None if kernel is None else self._timed(name, kernel, phase)
        return self._fused[name]

    def _timed(self, name: str, kernel: Callable, phase: str) -> Callable:
        note, clock = self._profile._note, time.perf_counter

        def timed(*arrays, **static):
            start = clock()
            result = kernel(*arrays, **static)
            end = clock()
            if result is not NotImplemented:
                note(
                    name, phase or ("forward" if autograd.is_grad_enabled() else "backward"), start, end, arrays, result
                )
            return result

        return timed


@dataclass(frozen=True)
class _Shape:
    """What is left of an array once it may be gone."""

    shape: tuple[int, ...]
    nbytes: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Profile:
    """``with scope.profile() as prof:`` times every kernel; see ``profile``."""

    def __init__(self, model: nn.Module | None = None):
        if model is not None and not isinstance(model, nn.Module):
            raise ArgumentError(f"profile: model: got {type(model).__name__}; expected a Module, or none.")
        self._raw: list[tuple] = []
        self._events: list[Event] = []
        self._refs: dict[int, tuple] = {}
        self.memory: list[tuple[float, int]] = []  # (seconds, bytes of results that are alive)
        self.seconds = 0.0
        self._model = model
        self._module: list[str] = []
        self._alive = 0
        self._stack: ExitStack | None = None

    def __enter__(self) -> Profile:
        if self._stack is not None:
            raise ArgumentError("profile: got one that runs already; expected a new one: scope.profile().")
        self._stack = ExitStack()
        if self._model is not None:
            for name, module in self._model.named_modules():
                self._stack.callback(module.register_forward_pre_hook(self._enter_module(name)).remove)
                self._stack.callback(module.register_forward_hook(self._leave_module).remove)
        self._stack.enter_context(backends.use_backend(_Timed(backends.current(), self)))
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc) -> None:
        self.seconds = time.perf_counter() - self._start
        assert self._stack is not None
        self._stack.close()

    def _enter_module(self, name):
        def enter(module, args):
            if module is self._model:
                self._module.clear()  # a forward that raised has left its names
            self._module.append(name)

        return enter

    def _leave_module(self, module, args, output) -> None:
        if self._module:
            self._module.pop()

    def _note(self, op, phase, start, end, arrays, result) -> None:
        """As little as can be: what it means is worked out when someone asks."""
        inputs = [(a.shape, a.nbytes) for a in _arrays(arrays)]
        outputs = []
        for a in _arrays((result,)):
            size = a.nbytes
            outputs.append((a.shape, size))
            if size and not isinstance(a.base, np.ndarray):  # not a view
                self._alive += size
                self._refs[id(a)] = size, weakref.ref(a, partial(self._freed, id(a)))
        self._raw.append((op, phase, start, end, self._module[-1] if self._module else "", inputs, outputs))
        self.memory.append((end - self._start, self._alive))

    def _freed(self, key: int, _: Any) -> None:
        self._alive -= self._refs.pop(key)[0]
        if self.seconds == 0.0:
            self.memory.append((time.perf_counter() - self._start, self._alive))

    @property
    def events(self) -> list[Event]:
        """Every kernel call, in order."""
        for op, phase, start, end, module, inputs, outputs in self._raw[len(self._events) :]:
            ins, outs = [_Shape(*a) for a in inputs], [_Shape(*a) for a in outputs]
            moved = float(sum(a.nbytes for a in ins + outs))
            shapes = tuple(a.shape for a in ins[:4])
            self._events.append(
                Event(op, phase, start - self._start, end - start, _flops(op, ins, outs), moved, shapes, module)
            )
        return self._events

    # --------------------------------------------------------------------------------------------------------- numbers

    @property
    def kernel_seconds(self) -> float:
        return sum(e.seconds for e in self.events)

    @property
    def python_seconds(self) -> float:
        """What is left: Python between the kernels, and the profile's own work."""
        return max(0.0, self.seconds - self.kernel_seconds)

    @property
    def peak(self) -> int:
        """The most bytes of results that were alive at once."""
        return max((size for _, size in self.memory), default=0)

    def rows(self) -> list[Row]:
        """Per op and phase, the dearest first."""
        groups: dict[tuple[str, str], list[Event]] = {}
        for event in self.events:
            groups.setdefault((event.op, event.phase), []).append(event)
        made = [
            Row(op, phase, len(es), sum(e.seconds for e in es), sum(e.flops for e in es), sum(e.bytes for e in es))
            for (op, phase), es in groups.items()
        ]
        return sorted(made, key=lambda row: -row.seconds)

    def modules(self) -> dict[str, float]:
        """Seconds of forward kernels per module, where a model was given."""
        found: dict[str, float] = {}
        for e in self.events:
            if e.module:
                found[e.module] = found.get(e.module, 0.0) + e.seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    # ----------------------------------------------------------------------------------------------------------- views

    def table(self, most: int = 20) -> str:
        """The dearest kernels, with what part of the machine's limits they reach."""
        self._need_events("table")
        peak, copy = limits()
        lines = [
            f"{'kernel':34}{'phase':10}{'calls':>7}{'ms':>10}{'share':>8}{'GFLOP/s':>10}{'of peak':>9}{'GB/s':>8}{'of copy':>9}"
        ]
        for row in self.rows()[:most]:
            lines.append(
                f"{row.op[:33]:34}{row.phase:10}{row.calls:7}{1e3 * row.seconds:10.3f}{row.seconds / self.seconds:8.1%}"
                f"{row.gflops:10.1f}{row.gflops / peak:9.0%}{row.gbytes:8.1f}{row.gbytes / copy:9.0%}"
            )
        lines.append(
            f"{'between the kernels: Python':58}{1e3 * self.python_seconds:13.3f}{self.python_seconds / self.seconds:8.1%}"
        )
        lines.append(
            f"peak {peak:.0f} GFLOP/s, copy {copy:.1f} GB/s; results alive: {self.peak / 2**20:.1f} MiB at most"
        )
        return "\n".join(line.rstrip() for line in lines)

    def trace(self, path: str | Path) -> Path:
        """Write a trace-event file that Chrome (chrome://tracing) and Perfetto open: kernels as bars, memory as a curve."""
        self._need_events("trace")
        events: list[dict[str, Any]] = [
            {
                "name": e.op, "cat": e.phase, "ph": "X", "ts": round(1e6 * e.start, 3), "dur": round(1e6 * e.seconds, 3), "pid": 1, "tid": 1,
                "args": {"module": e.module, "shapes": [list(s) for s in e.shapes], "flops": e.flops, "bytes": e.bytes},
            }
            for e in self.events
        ]  # fmt: skip
        events += [
            {"name": "results alive", "ph": "C", "ts": round(1e6 * t, 3), "pid": 1, "tid": 1, "args": {"bytes": size}}
            for t, size in self.memory
        ]
        events.append({"name": "process_name", "ph": "M", "ts": 0, "pid": 1, "tid": 1, "args": {"name": "glassgrad"}})
        path = Path(path)
        path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")
        return path

    def plot(self):
        """A matplotlib figure: share of time, kernels under the roofline, bytes alive over time."""
        self._need_events("plot")
        from .profile_plot import plot

        return plot(self)

    def _need_events(self, what: str) -> None:
        if not self.events:
            raise ArgumentError(
                f"profile: {what}: got no kernel call; expected one at least. Compute inside `with scope.profile() as prof:`."
            )

    def __repr__(self) -> str:
        if not self.events:
            return "<Profile, nothing yet>"
        first = self.rows()[0]
        return f"<Profile of {1e3 * self.seconds:.2f} ms: {len(self.events)} kernel calls take {self.kernel_seconds / self.seconds:.0%}, the dearest {first.op} ({first.phase})>"


def profile(model: nn.Module | None = None) -> Profile:
    """A context that times every kernel inside, forward, backward and update.

    Args:
        model: whose modules' names forward kernels shall carry.

    ``prof.table()`` prints time, GFLOP/s and GB/s against what this machine can do (measured on first use); ``prof.rows()`` are the
    numbers, ``prof.events`` every call, ``prof.memory`` the bytes of results that are alive, ``prof.trace(path)`` a file for Chrome or Perfetto,
    ``prof.plot()`` a picture. A call is about 8 us dearer while a profile runs.

    >>> import glassgrad as gg
    >>> from glassgrad import nn, scope
    >>> layer = nn.Linear(64, 32)
    >>> with scope.profile(layer) as prof:
    ...     layer(gg.ones(16, 64)).sum().backward()
    >>> [e.flops for e in prof.events if e.op == "linear"]
    [65536.0]
    """
    return Profile(model)


def _arrays(items) -> list[np.ndarray]:
    found = []
    for item in items:
        kind = type(item)
        if kind is np.ndarray:
            found.append(item)
        elif kind is tuple or kind is list:
            found += _arrays(item)
    return found


# ------------------------------------------------------------------------------------------------------- work of a call
# Multiplications and additions that the formula has, whoever does fewer. What is not here counts one operation per number
# of its largest array.


def _product(inputs, outputs) -> float:
    """(..., m, k) @ (..., k, n)"""
    return 2.0 * outputs[0].size * inputs[0].shape[-1]


def _linear_backward(inputs, outputs) -> float:
    """dx = dy w and dw = dy^T x: each as much as the forward."""
    dy, weight = inputs[0], [a for a in inputs if a.ndim == 2][-1]
    return 2.0 * dy.size * weight.shape[-1] * sum(o.ndim > 1 for o in outputs)


def _convolution(inputs, outputs) -> float:
    """Each output is a sum over channels and taps of its filter."""
    return 2.0 * outputs[0].size * math.prod(inputs[1].shape[1:])


def _convolution_backward_input(inputs, outputs) -> float:
    """dy and one filter for each of its numbers: as much as the forward."""
    return 2.0 * inputs[0].size * math.prod(inputs[1].shape[1:])


def _convolution_backward_weight(inputs, outputs) -> float:
    return 2.0 * inputs[0].size * math.prod(outputs[0].shape[1:])


def _attention(inputs, outputs) -> float:
    """Scores and their sum over values: 2 q k d each."""
    query, key = inputs[0], inputs[1]
    return 4.0 * query.size * key.shape[-2]


def _recurrent(inputs, outputs) -> float:
    """Each step multiplies input and state with every gate's matrix."""
    sequence = next(a for a in inputs if a.ndim == 3)
    matrices = [a for a in inputs if a.ndim == 2][-2:]  # states come before them
    return 2.0 * sequence.size / sequence.shape[-1] * sum(m.size for m in matrices)


WORK: dict[str, Callable] = {
    "matmul": _product, "linear": _product, "linear_relu": _product,
    "linear_backward": _linear_backward, "linear_relu_backward": _linear_backward,
    "conv2d": _convolution, "conv2d_backward_input": _convolution_backward_input, "conv2d_backward_weight": _convolution_backward_weight,
    "scaled_dot_product_attention": _attention,
    "scaled_dot_product_attention_backward": lambda i, o: 2.5 * _attention(i[1:], o),
    "rnn_layer": _recurrent, "lstm_layer": _recurrent, "gru_layer": _recurrent,
    **{f"{cell}_layer_backward": lambda i, o: 2 * _recurrent(i, o) for cell in ("rnn", "lstm", "gru")},
}  # fmt: skip


def _flops(op: str, inputs, outputs) -> float:
    if not inputs and not outputs:
        return 0.0
    rule = WORK.get(op)
    if rule is not None and inputs and outputs and all(a.size for a in inputs):
        return float(rule(inputs, outputs))
    return float(max(a.size for a in inputs + outputs))


_limits: list[tuple[float, float]] = []


def limits() -> tuple[float, float]:
    """(GFLOP/s, GB/s) of this machine on all threads that kernels use, float32; measured once."""
    if not _limits:
        from ..backends import cpp
        from ..bench.machine import highest, measured_limits

        if cpp.BACKEND is None:
            return math.inf, math.inf
        module = cpp.BACKEND.module
        with measured_limits(module.num_threads(), module) as found:
            rates = highest(found)
        _limits.append((rates["multiply-adds"] / 1e9, rates["copy"] / 1e9))
    return _limits[0]


# --------------------------------------------------------------------------------------------------- kept for backward


@dataclass
class Kept:
    """What one node of the graph keeps for its backward: ``bytes`` are its own, arrays that another has counted left out."""

    op: str
    bytes: int
    arrays: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def kept(loss: Tensor) -> list[Kept]:
    """The bytes that the graph under ``loss`` keeps for backward, node by node in the order of the forward; parameters are not counted.

    Raises:
        ArgumentError: no graph: call it before ``backward()``, which frees it.

    >>> import glassgrad as gg
    >>> from glassgrad.scope import kept
    >>> x = gg.ones(100, requires_grad=True)
    >>> [(k.op, k.bytes) for k in kept(x.exp().sum())]
    [('exp', 400), ('sum', 0)]
    """
    if not isinstance(loss, Tensor) or loss.grad_fn is None:
        raise ArgumentError("kept: got a tensor without a graph; expected a loss, before backward().")
    seen: set[int] = {id(loss.grad_fn)}
    stack, nodes = [loss.grad_fn], []
    leaves: set[int] = set()
    while stack:
        node = stack.pop()
        nodes.append(node)
        for edge in node.edges:
            if edge is None or id(edge[0]) in seen:
                continue
            seen.add(id(edge[0]))
            if isinstance(edge[0], Node):
                stack.append(edge[0])
            elif isinstance(edge[0], Tensor):
                leaves.add(_memory(edge[0].data))
    counted = leaves
    found = []
    for node in sorted(nodes, key=lambda n: n.number):
        here = Kept(node.name, 0)
        for name, value in _saved(node):
            array = value.data if isinstance(value, Tensor) else value
            if not isinstance(array, np.ndarray):
                continue
            here.arrays.append((name, array.shape))
            if _memory(array) not in counted:
                counted.add(_memory(array))
                here.bytes += array.nbytes
        found.append(here)
    return found


def _saved(node):
    """(name, tensor or array) of what the node keeps: an op's by name, a user's Function's in its order."""
    if isinstance(node, OpNode) and node.saved is not None:
        yield from zip(node.plan.names, node.saved_values(), strict=True)
    elif isinstance(node, FunctionContext):
        yield from (("saved", t) for t in node.saved_tensors)


def _memory(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
