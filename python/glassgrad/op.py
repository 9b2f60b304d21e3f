"""The op record, the registry, and ``apply``: the only place where graph meets backend.

An op is its maths: a NumPy ``reference``, derivative rules, and samples. What backward needs is read off the rules: a
rule ``lambda dy, b: dy * b`` names the input ``b``, so ``b`` is saved, and only when that rule will run. Names a rule may
ask for: an input (as ``reference`` names it), ``y`` (the output), one of ``extras`` (further results of the kernel that
only backward sees), and, keyword-only, any static argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import backends
from .autograd import Node, mode
from .errors import GraphError
from .tensor import Tensor, wrap

REGISTRY: dict[str, Op] = {}


@dataclass(frozen=True)
class Sample:
    """One call of an op: ``Sample((x,), dim=-1)``. Arrays are NumPy's; ints, bools and None stay as they are.

    ``differentiable`` is False where the derivative does not exist (a kink, an integer input, an empty maximum).
    """

    inputs: tuple
    static: dict = field(default_factory=dict)
    differentiable: bool = True
    name: str = ""


class _Rule:
    """A derivative rule and what its signature asks for."""

    def __init__(self, f, known, variadic):
        self.f = f
        parameters = list(inspect.signature(f).parameters.values())[1:]  # the first is dy
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.saves = tuple(positional)
        self.static = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.all_static = any(p.kind is p.VAR_KEYWORD for p in parameters)
        unknown = [name for name in positional if name not in known]
        if unknown and not variadic:
            raise TypeError(f"rule asks for {unknown}; known are {sorted(known)}")

    def __call__(self, dy, saved, static):
        keywords = static if self.all_static else {name: static[name] for name in self.static}
        return self.f(dy, *[saved[name] for name in self.saves], **keywords)


class Op:
    """A differentiable operation. See the module's page for how rules say what they save.

    Args:
        name: also the name of the native kernel, and the ``csrc/cpu`` file's.
        reference: NumPy arrays in, NumPy array out (a tuple ``(y, *extras)`` when there are extras; a tuple of outputs
            when ``multi``). Static arguments are keyword-only.
        vjps: one rule per input, None where there is no derivative.
        vjp: instead of vjps: one rule that returns the gradients of all inputs (a single Tensor for one input).
        samples: ``samples(rng)`` yields Sample; they drive tests, docs and benchmarks.
        inputs: names of the inputs where the reference's signature does not tell (NumPy's ufuncs).
        fused_vjp: ``(kernel name, saved or static names...)``: a kernel that computes all gradients at once; used when
            no second derivative is asked for.
        is_view: the result shares memory with the first input.
        broadcasts: inputs broadcast; a gradient is summed back to its input's shape.
        multi: the reference returns several differentiable outputs.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        *,
        samples: Callable[[Any], Iterator[Sample]],
        vjps: tuple | None = None,
        vjp: Callable | None = None,
        fused_vjp: tuple[str, ...] | None = None,
        inputs: tuple[str, ...] | None = None,
        extras: tuple[str, ...] = (),
        is_view: bool = False,
        broadcasts: bool = False,
        multi: bool = False,
        doc: str = "",
    ):
        self.name, self.reference, self.samples = name, reference, samples
        self.extras, self.is_view, self.broadcasts, self.multi = extras, is_view, broadcasts, multi
        self.doc = doc or (inspect.getdoc(reference) or "")
        parameters = inspect.signature(reference).parameters.values()
        self.inputs = inputs or tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        known = {*self.inputs, *extras, "y", "shapes", "needs", "dtypes_in"}
        self.rules = None if vjps is None else tuple(r and _Rule(r, known, variadic) for r in vjps)
        self.joint = None if vjp is None else _Rule(vjp, known, variadic)
        self.fused_vjp = fused_vjp
        self.differentiable = vjps is not None or vjp is not None
        self._plans: dict = {}
        REGISTRY[name] = self

    def saved_names(self, needs: tuple[bool, ...]) -> tuple[str, ...]:
        """What to keep when the inputs marked in ``needs`` want a gradient."""
        plan = self._plans.get(needs)
        if plan is None:
            rules = [self.joint] if self.joint else [r for r, need in zip(self.rules, needs, strict=True) if need and r]
            names = [name for rule in rules for name in rule.saves]
            if self.fused_vjp:
                names += [n for n in self.fused_vjp[1:] if n in self.inputs or n in self.extras or n == "y"]
            plan = self._plans[needs] = tuple(dict.fromkeys(names))
        return plan

    def __repr__(self):
        return f"<op {self.name}>"


class OpNode(Node):
    """The application of an op that wants a gradient."""

    __slots__ = ("op", "saved", "static")

    def __init__(self, op, edges, n_outputs, saved, static):
        super().__init__(edges, n_outputs)
        self.op, self.saved, self.static = op, saved, static

    @property
    def name(self):
        return self.op.name

    def _unpack(self) -> dict:
        if self.saved is None:
            raise GraphError(
                f"{self.name}: backward through a graph that was freed: got a second backward; expected one. "
                "Pass retain_graph=True to the first to keep what it saved."
            )
        values = {}
        for name, (kept, version) in self.saved.items():
            if isinstance(kept, Tensor) and kept.version != version:
                raise GraphError(
                    f"{self.name}: its saved tensor {name!r} {kept.shape} was modified in place: got version "
                    f"{kept.version}; expected {version}. Use the out-of-place form, or clone() before the change."
                )
            if name == "y" and mode.grad and not kept.requires_grad:
                kept = _alias(kept, self)
            values[name] = kept
        return values

    def backward(self, dys):
        op = self.op
        dy = dys if op.multi else dys[0]
        saved = self._unpack()
        static = self.static
        if op.fused_vjp and not mode.grad:
            fused = backends.current().fused(op.fused_vjp[0])
            if fused is not None:
                rest = [saved[n] if n in saved else static[n] for n in op.fused_vjp[1:]]
                dxs = fused(dy.data, *[r.data if isinstance(r, Tensor) else r for r in rest])
                if dxs is not NotImplemented:
                    dxs = dxs if isinstance(dxs, tuple) else (dxs,)
                    dxs = [None if d is None else wrap(d) for d in dxs]
                    return dxs + [None] * (len(self.edges) - len(dxs))
        if op.joint:
            dxs = op.joint(dy, saved, static)
            return dxs if isinstance(dxs, (tuple, list)) else (dxs,)
        dxs = []
        for i, (edge, rule) in enumerate(zip(self.edges, op.rules, strict=True)):
            dx = None
            if edge is not None and rule is not None:
                dx = rule(dy, saved, static)
                if op.broadcasts and dx is not None and dx.data.shape != saved["shapes"][i]:
                    dx = dx.sum_to_size(saved["shapes"][i])
            dxs.append(dx)
        return dxs

    def release(self):
        if self.saved:
            self.saved = None


def _alias(t, node):
    """The saved output as the graph's output again, so that a second derivative goes through it."""
    again = wrap(t.data)
    again._version = t._version
    again.requires_grad, again.grad_fn = True, node
    return again


def apply(op: Op, *inputs, **static):
    """Compute ``op`` and, if an input wants a gradient, remember how. Inputs are Tensors or None."""
    result = backends.current().kernel(op)(*[None if t is None else t.data for t in inputs], **static)
    extras: tuple = ()
    if op.extras:
        result, *extras = result
    if op.multi:
        outputs = tuple(wrap(r) for r in result)
    else:
        y = wrap(result)
        outputs = (y,)
    if op.is_view:
        for y in outputs:
            y._view_of(inputs[0])
    if mode.grad and op.differentiable:
        for t in inputs:
            if t is not None and t.requires_grad:
                _record(op, inputs, outputs, extras, static)
                break
    return outputs if op.multi else outputs[0]


def _record(op, inputs, outputs, extras, static):
    needs = tuple(t is not None and t.requires_grad for t in inputs)
    edges = [t.edge() if need else None for t, need in zip(inputs, needs, strict=True)]
    saved = {}
    for name in op.saved_names(needs):
        if name == "y":
            kept = wrap(outputs[0].data)  # not the output itself: output -> node -> output would be a cycle
            kept._version = outputs[0]._version = outputs[0]._version or [0]
        elif name in op.inputs:
            kept = inputs[op.inputs.index(name)]
        elif name == "shapes":
            kept = tuple(t.data.shape for t in inputs)
        elif name == "needs":
            kept = needs
        elif name == "dtypes_in":
            kept = tuple(t.data.dtype for t in inputs)
        else:
            kept = wrap(extras[op.extras.index(name)])
        saved[name] = (kept, kept.version if isinstance(kept, Tensor) else 0)
    if op.broadcasts:
        saved["shapes"] = (tuple(t.data.shape for t in inputs), 0)
    node = OpNode(op, edges, len(outputs), saved, static)
    for index, y in enumerate(outputs):
        if y.data.dtype.kind == "f":
            y.requires_grad, y.grad_fn, y.output_nr = True, node, index


def run(op: Op, *arrays, **static):
    """The kernel alone, on arrays: for optimizer steps and other work that no gradient passes through."""
    return backends.current().kernel(op)(*arrays, **static)
