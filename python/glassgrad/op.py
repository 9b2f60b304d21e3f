"""The op record, the registry, and ``apply``: the only place where graph meets backend.

An op is its maths: a NumPy ``reference``, derivative rules, and samples. What backward needs is read off the rules: a
rule ``lambda dy, b: dy * b`` names the input ``b``, so ``b`` is saved, and only when that rule will run. Names a rule may
ask for: an input (as ``reference`` names it), ``y`` (the output), one of ``extras`` (further results of the kernel that
only backward sees), ``shapes``, ``dtypes_in`` and ``needs`` (a tuple each, one entry per input), and, keyword-only, any
static argument.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .autograd import Node, mode, numbers
from .backends import selected
from .errors import ArgumentError, changed_in_place, graph_freed
from .tensor import Tensor, wrap

REGISTRY: dict[str, Op] = {}


def find(command: str, name: str) -> Op:
    """The op called ``name``, or an error that knows what else it could have meant."""
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ArgumentError(f"{command}: got op {name!r}; expected one of the {len(REGISTRY)} registered ones.{hint}")
    return REGISTRY[name]


@dataclass(frozen=True)
class Sample:
    """One call of an op: ``Sample((x,), dict(dim=-1))``. Arrays are NumPy's; ints, bools and None stay as they are.

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
        self.saves = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.static = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.all_static = any(p.kind is p.VAR_KEYWORD for p in parameters)
        unknown = [name for name in self.saves if name not in known]
        if unknown and not variadic:
            raise TypeError(f"rule asks for {unknown}; known are {sorted(known)}")

    def bind(self, names):
        """The rule as ``f(dy, saved, static)``, with ``saved`` in the order of ``names``."""
        f, slots, wanted = self.f, tuple(names.index(n) for n in self.saves), self.static
        if self.all_static:
            return lambda dy, saved, static: f(dy, *[saved[i] for i in slots], **static)
        if wanted:
            return lambda dy, saved, static: f(
                dy, *[saved[i] for i in slots], **{name: static[name] for name in wanted}
            )
        if not slots:
            return lambda dy, saved, static: f(dy)
        if len(slots) == 1:
            (only,) = slots
            return lambda dy, saved, static: f(dy, saved[only])
        return lambda dy, saved, static: f(dy, *[saved[i] for i in slots])


class _Plan:
    """What to keep, and which rules run, when certain inputs want a gradient: worked out once per op and pattern."""

    def __init__(self, op: Op, needs: tuple[bool, ...]):
        rules: list[_Rule | None]
        if op.joint:
            rules = [op.joint]
        else:
            rules = [rule if need else None for rule, need in zip(op.rules, needs, strict=True)]
        names = [name for rule in rules if rule for name in rule.saves]
        # A kernel for all gradients is a waste where a rule of its own gives the one that is wanted; and what it asks
        # for would be kept, and held to be unchanged, for nothing.
        wanted = [need for need, rule in zip(needs, op.rules, strict=False) if rule]
        fused = op.fused_vjp or ()
        if not (op.joint or all(wanted) or ("needs" in fused and sum(wanted) > 1)):
            fused = ()
        kept = {*op.inputs, *op.extras, "y", *_TUPLES}
        names += [n for n in fused[1:] if n in kept]
        if op.broadcasts:
            names.append("shapes")
        # Inputs first: they are kept as they are, the rest needs a look.
        self.names = sorted(dict.fromkeys(names), key=lambda name: name not in op.inputs)
        self.inputs = tuple(op.inputs.index(n) for n in self.names if n in op.inputs)
        self.others = tuple(self._source(op, n) for n in self.names if n not in op.inputs)
        self.tensors = tuple(i for i, n in enumerate(self.names) if n not in _TUPLES)
        self.output = self.names.index("y") if "y" in self.names else None
        self.shapes = self.names.index("shapes") if op.broadcasts else None
        self.needs = needs
        self.rules = tuple(rule and rule.bind(self.names) for rule in rules)
        self.fused = fused[0] if fused else None
        self.fused_arguments = [(self.names.index(n), None) if n in self.names else (None, n) for n in fused[1:]]

    bound: tuple = (None, None)  # a backend, and its kernel for all gradients: one look-up per backend, not per call

    def bind(self, backend):
        fused = backend.fused(self.fused)
        self.bound = (backend, fused)  # set, and read, as one: another thread may bind another backend meanwhile
        return fused

    @staticmethod
    def _source(op, name):
        """(kind, index): where a saved value that is no input comes from."""
        if name in op.extras:
            return "extra", op.extras.index(name)
        if name == "y" or name in op.outputs:
            return "output", 0 if name == "y" else op.outputs.index(name)
        return name, 0


_TUPLES = ("shapes", "needs", "dtypes_in")


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
            no second derivative is asked for. It computes only what is wanted where it names ``needs``, and gets a dy
            per output where there are several, None for those that no gradient came back to.
        is_view: the result shares memory with the first input.
        broadcasts: inputs broadcast; a gradient is summed back to its input's shape.
        multi: the reference returns several outputs.
        outputs: their names, where a rule asks for one (an integer one: a floating output is asked for as ``y``).
        pointwise: each result's error is measured in its own ulps; otherwise in ulps of the largest result, since a
            sum of large terms may come out small.
        ulps: how far the native kernel may be from the reference in float64. A sum of n terms in blocks stays below 8;
            a formula that cancels says what it needs.
        native: False where NumPy's own copy, sort or look-up is the kernel, so no C++ twin is expected: the default of
            views, which move no data.
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
        outputs: tuple[str, ...] = (),
        pointwise: bool = False,
        ulps: float = 8.0,
        native: bool | None = None,
        doc: str = "",
    ):
        self.name, self.reference, self.samples = name, reference, samples
        self.extras, self.is_view, self.broadcasts, self.multi = extras, is_view, broadcasts, multi
        self.outputs = outputs
        self.pointwise, self.ulps = pointwise, ulps
        self.native = (not is_view) if native is None else native
        self.doc = doc or (inspect.getdoc(reference) or "")
        parameters = inspect.signature(reference).parameters.values()
        self.inputs = inputs or tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        known = {*self.inputs, *extras, *outputs, "y", *_TUPLES}
        self.rules = tuple(r and _Rule(r, known, self.variadic) for r in vjps or ())
        self.joint = None if vjp is None else _Rule(vjp, known, self.variadic)
        self.fused_vjp = fused_vjp
        self.differentiable = vjps is not None or vjp is not None
        self._plans: dict = {}
        REGISTRY[name] = self

    def plan(self, needs: tuple[bool, ...]) -> _Plan:
        """The plan for this pattern of inputs that want a gradient."""
        key = sum(1 << i for i, need in enumerate(needs) if need)
        return self._plans.get(key) or self._plans.setdefault(key, _Plan(self, needs))

    def __repr__(self):
        return f"<op {self.name}>"


class OpNode(Node):
    """The application of an op that wants a gradient."""

    makes_new = True
    versions: list | None = None  # of the saved tensors; None: none was ever changed in place
    given: tuple | None = None  # all inputs, under detect_anomaly: what backward saves is not enough to look inside

    def __init__(self, op, plan, edges, saved, static):
        self.edges, self.number = edges, next(numbers)  # as Node does, without the call
        self.op, self.plan, self.saved, self.static = op, plan, saved, static

    @property
    def name(self):
        return self.op.name

    def saved_values(self) -> list:
        """What backward needs, checked to be what forward saw."""
        if self.saved is None:
            raise graph_freed(self.name)
        plan, values = self.plan, self.saved
        for k, i in enumerate(plan.tensors):
            kept = values[i]
            if kept is None or kept._version is None:
                continue
            version = 0 if self.versions is None else self.versions[k]
            if kept._version[0] != version:
                raise changed_in_place(self.name, f"{plan.names[i]!r} {kept.shape}", kept.version, version)
        if plan.output is not None and mode.grad:
            values = list(values)
            values[plan.output] = _alias(values[plan.output], self)
        return values

    def backward(self, dys):
        op, plan, static = self.op, self.plan, self.static
        saved = self.saved_values()
        dy = dys if op.multi else dys[0]
        if plan.fused and not mode.grad:
            backend, fused = plan.bound
            if backend is not selected.backend:
                fused = plan.bind(selected.backend)
            if fused is not None:
                rest = [static[name] if i is None else saved[i] for i, name in plan.fused_arguments]
                arrays = [None if d is None else d.data for d in dys]
                dxs = fused(*arrays, *[r.data if isinstance(r, Tensor) else r for r in rest])
                if dxs is not NotImplemented:
                    if not isinstance(dxs, tuple):
                        return [wrap(dxs)] + [None] * (len(self.edges) - 1)
                    return [None if d is None else wrap(d) for d in dxs] + [None] * (len(self.edges) - len(dxs))
        if op.joint:
            dxs = plan.rules[0](dy, saved, static)
            return dxs if isinstance(dxs, (tuple, list)) else (dxs,)
        dxs = [rule and rule(dy, saved, static) for rule in plan.rules]
        if plan.shapes is not None:
            for i, shape in enumerate(saved[plan.shapes]):
                dx = dxs[i]
                if dx is not None and dx.data.shape != shape:
                    dxs[i] = dx.sum_to_size(shape)
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
    arrays = [None if t is None else t.data for t in inputs]
    result = selected.kernels[op](*arrays, **static)
    if result is NotImplemented:
        result = selected.backend.fall_back(op, arrays, static)
    extras: list | tuple = ()
    if op.extras:
        result, *extras = result
    if op.multi:
        outputs = tuple([wrap(r) for r in result])
    else:
        y = _new(Tensor)
        y.data = result
        outputs = (y,)
    if op.is_view:
        for index, y in enumerate(outputs):
            y._view_of(inputs[0], op, static, index)
    if mode.grad:
        if op.differentiable:
            for t in inputs:
                if t is not None and (t.requires_grad or (t._base is not None and t._wants_grad())):
                    _record(op, inputs, outputs, extras, static)
                    break
    elif mode.inference:
        for y in outputs:
            y._inference = True
    return outputs if op.multi else y


_new = Tensor.__new__


def _record(op, inputs, outputs, extras, static):
    edges: list = []
    key, bit = 0, 1  # which inputs want a gradient, as the bits of a number: quicker to look up than a tuple
    for t in inputs:
        if t is None or not (t.requires_grad or (t._base is not None and t._wants_grad())):
            edges.append(None)
        else:
            key |= bit
            edges.append(t.edge() if t.grad_fn is None or t._base is not None else (t.grad_fn, t.output_nr))
        bit <<= 1
    plan = op._plans.get(key) or op.plan(tuple([edge is not None for edge in edges]))
    saved: list = [inputs[i] for i in plan.inputs]
    for kind, index in plan.others:
        if kind == "shapes":
            saved.append([t if t is None else t.data.shape for t in inputs])
        elif kind == "output":
            y = outputs[index]
            kept = wrap(y.data)  # not the output itself: output -> node -> output would be a cycle
            kept._version = y._version = y._version or [0, 0]
            saved.append(kept)
        elif kind == "extra":
            saved.append(wrap(extras[index]))
        elif kind == "needs":
            saved.append(plan.needs)
        else:
            saved.append([t if t is None else t.data.dtype for t in inputs])
    node = OpNode(op, plan, edges, saved, static)
    if mode.anomaly:
        node.remember_where()
        node.given = inputs
    for i in plan.tensors:
        if saved[i] is not None and saved[i]._version is not None:
            node.versions = [
                0 if (t := saved[i]) is None or t._version is None else t._version[0] for i in plan.tensors
            ]
            break
    if not op.multi:
        (y,) = outputs
        if y.data.dtype.kind == "f":
            y.requires_grad, y.grad_fn = True, node
        return
    node.n_outputs = len(outputs)
    for index, y in enumerate(outputs):
        if y.data.dtype.kind == "f":
            y.requires_grad, y.grad_fn, y.output_nr = True, node, index


def run(op: Op, *arrays, **static):
    """The kernel alone, on arrays: for work that no gradient passes through."""
    result = selected.kernels[op](*arrays, **static)
    return selected.backend.fall_back(op, arrays, static) if result is NotImplemented else result
