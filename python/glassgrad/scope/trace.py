"""Trace: the graph behind a result, read off its nodes: values, gradients, and what flows along every edge.

Backward keeps only what it needs, so not every value is there to be read. What is missing is computed again from the inputs,
or, for the constant of a sum, from the result. Where even that fails the value stays unknown; a graph that was built under
``gg.autograd.detect_anomaly()`` keeps all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from .. import autograd
from ..autograd import Node
from ..errors import GraphError
from ..nn import Module
from ..op import OpNode, run
from ..tensor import Tensor, wrap

SYMBOLS = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "square": "( )²", "pow": "xʸ", "matmul": "@", "sum": "Σ",
    "sqrt": "√",
}  # fmt: skip

INFIX = ("add", "sub", "mul", "div", "matmul")
_HERE = __file__.rpartition("trace.py")[0]


@dataclass(eq=False)
class Operand:
    """One input of an op.

    Attributes:
        source: the step it comes from; None for a constant without a name.
        value: of the constant; None if it was not kept.
        local: d(result)/d(this input), for single numbers.
        sent: the gradient that backward sends along this edge; None for a constant.
    """

    source: Step | None
    value: Any = None
    local: float | None = None
    sent: Any = None


@dataclass(eq=False)
class Step:
    """A leaf, or the result of an op. Single numbers are floats, others arrays.

    Attributes:
        name: what the caller calls it; empty if unnamed.
        op: the op that made it; empty for a leaf.
        value: None if backward did not keep it and it can't be computed again.
        gradient: d(end)/d(this); None for a constant.
        operands: the op's inputs, in order.
        node: the graph's node, or the leaf tensor.
        dtype: of the value; empty if unknown.
    """

    name: str
    op: str
    node: Any
    value: Any = None
    gradient: Any = None
    operands: list[Operand] = field(default_factory=list)
    dtype: str = ""

    @property
    def title(self) -> str:
        return self.name or self.symbol or "input"

    @property
    def symbol(self) -> str:
        """The op as a sign, with its constants where they stand: ``× 0.1``, ``1 −``."""
        words = [number(o.value) if isinstance(o.value, float) else "" for o in self.operands]
        words.insert(1 if len(words) > 1 else 0, SYMBOLS.get(self.op, self.op))
        return " ".join(word for word in words if word)

    @property
    def expression(self) -> str:
        """The name, or what it is computed from if that is short: ``w × x``, ``tanh(z)``, else the op."""
        if self.name or not self.op:
            return self.title
        words = []
        for o in self.operands:
            if o.source is None:
                words.append(number(o.value) if isinstance(o.value, float) else "?")
            elif (word := o.source.expression) == o.source.op:
                return self.op
            else:
                infix = not o.source.name and o.source.op in INFIX
                words.append(f"({word})" if infix and self.op in INFIX else word)
        text = f" {SYMBOLS[self.op]} ".join(words) if self.op in INFIX else f"{self.op}({', '.join(words)})"
        return text if len(text) <= 28 else self.op

    @property
    def inputs(self) -> list[tuple[Step, float | None]]:
        """``(step, local derivative)`` for each input that is a step."""
        return [(o.source, o.local) for o in self.operands if o.source is not None]

    @property
    def line(self) -> str:
        """The user's line that made it, ``file.py:12: y = w * x``; empty unless built under ``detect_anomaly``."""
        stack = getattr(self.node, "forward_trace", None) or ()
        frame = next((f for f in reversed(stack) if not f.filename.startswith(autograd._PACKAGE)), None)
        return "" if frame is None else f"{frame.filename.rpartition('/')[2]}:{frame.lineno}: {frame.line}"


def trace(end: Tensor, names: Mapping[str, Tensor] | None = None) -> list[Step]:
    """The graph behind ``end``, inputs before results, with gradients. No ``.grad`` is touched and no tensor's hook runs.

    Args:
        end: one number that requires grad; its graph not yet freed by ``backward()``.
        names: what to call tensors of the graph; default the caller's variables, and the parameters of its modules.

    Raises:
        GraphError: no graph, or a freed one.

    >>> import glassgrad as gg
    >>> from glassgrad.scope import trace
    >>> w, x = gg.tensor(3.0, requires_grad=True), gg.tensor(2.0, requires_grad=True)
    >>> [(step.title, step.value, step.gradient) for step in trace(w * x)]
    [('w', 3.0, 2.0), ('x', 2.0, 3.0), ('×', 6.0, 1.0)]
    """
    check_end("trace", end)
    names = names_in(inspect.currentframe()) if names is None else names
    steps = skeleton(end, names)
    read(steps, end, names)
    _compute(steps)
    _gradients(steps, end)
    for step in steps.values():
        known = step.gradient if step.value is None else step.value
        step.dtype = "" if known is None else str(known.dtype)
        step.value, step.gradient = plain(step.value), plain(step.gradient)
        for operand in step.operands:
            operand.value, operand.sent = plain(operand.value), plain(operand.sent)
    return list(steps.values())


def check_end(command: str, end: Any) -> None:
    if not isinstance(end, Tensor) or not end.requires_grad or end.numel() != 1:
        got = f"a tensor of shape {end.shape}" if isinstance(end, Tensor) else type(end).__name__
        if isinstance(end, Tensor) and end.numel() == 1:
            got += " without a graph"
        raise GraphError(f"{command}: got {got}; expected a tensor of one number that requires grad.")


# --------------------------------------------------------------------------------------------------------------- names


class Names(dict[str, Tensor]):
    """Tensors by name, and the modules that were found on the way."""

    modules: Sequence[Module] = ()


def names_in(frame: FrameType | None) -> Names:
    """Tensors by the names that the nearest caller outside this package's ``scope`` has for them.

    Variables come first, then entries of lists and dicts, then parameters of modules: ``w``, ``p[0]``, ``model.0.weight``.
    """
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return Names()
    scopes = [frame.f_locals, frame.f_globals]
    variables = {
        name: value
        for name, value in [*scopes[0].items(), *[item for item in scopes[1].items() if item[0] not in scopes[0]]]
        if not name.startswith("_") and name not in ("In", "Out")  # a notebook's history
    }
    found = Names()
    found.modules = [value for value in variables.values() if isinstance(value, Module)]
    for name, value in variables.items():
        if isinstance(value, Tensor):
            found[name] = value
    for name, value in variables.items():
        if isinstance(value, (list, tuple, dict)) and len(value) <= 1000:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            found |= {f"{name}[{key!r}]": item for key, item in items if isinstance(item, Tensor)}
    for name, value in variables.items():
        if isinstance(value, Module):
            prefix = "" if name == "self" else f"{name}."
            found |= {prefix + path: parameter for path, parameter in value.named_parameters()}
    return found


# --------------------------------------------------------------------------------------------------------------- graph


def key_of(edge) -> tuple[int, int]:
    return id(edge[0]), edge[1]


def skeleton(end: Tensor, names: Mapping[str, Tensor]) -> dict[tuple[int, int], Step]:
    """The steps without numbers: leaves before their first use, and nodes by their number.

    Constants that have a name are leaves too.
    """
    nodes, outputs, stack = {}, set(), [end.edge()]
    while stack:
        edge = stack.pop()
        if key_of(edge) in outputs:
            continue
        outputs.add(key_of(edge))
        target, _ = edge
        if isinstance(target, Node) and id(target) not in nodes:
            nodes[id(target)] = target
            stack += [e for e in target.edges if e is not None]
    named: dict[tuple[int, int], str] = {}
    for name, tensor in names.items():
        named.setdefault(key_of(tensor.edge()), name)  # the first name counts

    steps: dict[tuple[int, int], Step] = {}

    def leaf(tensor: Tensor) -> Step:
        place = (id(tensor), 0)
        if place not in steps:
            steps[place] = Step(named.get(place, ""), "", tensor)
        return steps[place]

    if not nodes:
        leaf(end)
    for node in sorted(nodes.values(), key=lambda node: node.number):
        operands = []
        for edge, kept in zip(node.edges, _kept(node), strict=True):
            if edge is not None:
                source = steps[key_of(edge)] if isinstance(edge[0], Node) else leaf(edge[0])
                operands.append(Operand(source))
            elif kept is not None and (id(kept), 0) in named:
                operands.append(Operand(leaf(kept)))
            elif kept is not None:
                operands.append(Operand(None, kept.data))
            elif isinstance(node, OpNode) and node.op.broadcasts:  # elsewhere it may be an input that was left out
                operands.append(Operand(None))
        for index in range(node.n_outputs):
            if (place := (id(node), index)) in outputs:
                steps[place] = Step(named.get(place, ""), node.name, node, operands=[*operands])
    return steps


def _kept(node: Any) -> list[Tensor | None]:
    """Per input, the tensor itself where the node has it."""
    if not isinstance(node, OpNode):
        return [None] * len(node.edges)
    if node.given is not None:
        return list(node.given)
    if node.saved is None:
        return [None] * len(node.edges)
    saved = dict(zip(node.plan.names, node.saved, strict=True))
    return [saved.get(name) for name in node.op.inputs] if node.op.inputs else [None] * len(node.edges)


# ------------------------------------------------------------------------------------------------------------- numbers


def read(steps: dict, end: Tensor, names: Mapping[str, Tensor]) -> None:
    """Fill in ``value``, as arrays, where it is kept anywhere: in a variable, for an op's backward, or by a node that it feeds."""
    steps[key_of(end.edge())].value = end.data
    for tensor in names.values():
        if (step := steps.get(key_of(tensor.edge()))) is not None:
            step.value = tensor.data
    for step in steps.values():
        node = step.node
        if isinstance(node, Tensor):
            step.value = node.data
        elif isinstance(node, OpNode):
            if node.saved is not None and "y" in node.plan.names and not node.op.multi:
                step.value = node.saved[node.plan.names.index("y")].data
            for edge, kept in zip(node.edges, _kept(node), strict=True):
                if edge is not None and kept is not None:
                    steps[key_of(edge)].value = kept.data


def _compute(steps: dict) -> None:
    """Fill in the values that are missing, where they follow from those that are known."""
    for (_, index), step in steps.items():
        node = step.node
        if not isinstance(node, OpNode):
            continue
        node.saved_values()  # an error if the graph was freed, or a tensor changed since
        inputs = [o.value if o.source is None else o.source.value for o in step.operands]
        unknown = [i for i, value in enumerate(inputs) if value is None]
        if step.value is None and not unknown and len(inputs) == len(node.edges):
            result = run(node.op, *inputs, **node.static)
            result = result[0] if node.op.extras else result
            step.value = result[index] if node.op.multi else result
        elif step.value is not None and len(unknown) == 1 and node.name in ("add", "sub"):
            step.operands[unknown[0]].value = _constant(node, inputs, unknown[0], step.value)


def _constant(node: Any, inputs: list, unknown: int, result: np.ndarray) -> np.ndarray | None:
    """The number that was added or subtracted: the shortest one that gives exactly this result."""
    known = inputs[1 - unknown]
    if known is None or np.size(result) != 1 or np.size(known) != 1:
        return None
    y, a = float(result.reshape(())), float(known.reshape(()))
    exact = y - a if node.name == "add" else a - y if unknown == 1 else y + a
    for digits in range(1, 18):
        guess = np.array(float(f"{exact:.{digits}g}"), result.dtype)
        operands = [guess, known] if unknown == 0 else [known, guess]
        if run(node.op, *operands) == result:
            return guess
    return np.array(exact, result.dtype)


def _gradients(steps: dict, end: Tensor) -> None:
    """The walk of ``autograd.run_backward``, step by step, keeping what flows along every edge."""
    totals = {key_of(end.edge()): wrap(np.ones_like(end.data))}
    with autograd.no_grad():
        for place, step in reversed(list(steps.items())):
            dy = totals.get(place)
            wants = isinstance(step.node, Node) or step.node.requires_grad
            if dy is None:
                if wants and step.value is not None:
                    step.gradient = np.zeros_like(step.value)
                continue
            step.gradient = dy.data
            if not isinstance(step.node, Node):
                continue
            for operand, edge, sent in _sent(step, place[1], dy):
                operand.sent = None if sent is None else sent.data
                if sent is not None:
                    at = key_of(edge)
                    totals[at] = sent if at not in totals else totals[at]._plus(sent)
            if dy.data.size == 1:
                for operand, _, local in _sent(step, place[1], wrap(np.ones_like(dy.data))):
                    if local is None:
                        operand.local = 0.0
                    elif local.data.size == 1:
                        operand.local = float(local.data.reshape(()))


def _sent(step: Step, output: int, dy: Tensor) -> Iterator[tuple[Operand, tuple, Tensor | None]]:
    """(operand, edge, gradient) for each edge of the step's node, when dy comes back to this output alone."""
    dys: list[Tensor | None] = [None] * step.node.n_outputs
    dys[output] = dy
    edges = step.node.edges
    dxs = list(step.node.backward(dys))
    dxs += [None] * (len(edges) - len(dxs))
    drawn = iter([o for o in step.operands if o.source is not None and _wants(o.source)])
    for edge, dx in zip(edges, dxs, strict=True):
        if edge is not None:
            yield next(drawn), edge, dx


def _wants(step: Step) -> bool:
    return isinstance(step.node, Node) or step.node.requires_grad


def plain(x: Any) -> Any:
    """A float for one number, else the array."""
    return float(x.reshape(())) if isinstance(x, np.ndarray) and x.size == 1 else x


def number(x: float) -> str:
    """Three significant digits, and a minus that is as wide as a plus.

    >>> number(-0.12345), number(5.0), number(1e-7)
    ('−0.123', '5', '1.00e−07')
    """
    text = f"{x + 0.0:.3g}" if x == 0 or 1e-3 <= abs(x) < 1e5 else f"{x:.2e}"  # + 0.0: no minus before 0
    return text.replace("-", "−")
