"""Draw: one small expression as a graph, with every value, every gradient and the local derivative on every edge.

The chain rule can be checked by eye: a box's gradient is the sum, over the edges that leave it, of the edge's number
times the gradient of the box it leads to.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import autograd
from ..autograd import Node
from ..errors import ArgumentError, GraphError
from ..op import OpNode, run
from ..tensor import Tensor, wrap

SYMBOLS = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "square": "( )²", "matmul": "@", "sum": "Σ", "sqrt": "√",
}  # fmt: skip
LIMIT = 64  # boxes: more cannot be read


@dataclass(eq=False)
class Step:
    """One box of the drawing: a leaf, or the result of an op.

    Attributes:
        name: what the caller calls it; empty if unnamed.
        op: the op that made it; empty for a leaf.
        value: the number.
        gradient: d(end)/d(this).
        inputs: ``(step, local derivative)`` for each input that is drawn.
        constants: inputs that want no gradient, written into the box.
    """

    name: str
    op: str
    value: float
    gradient: float
    inputs: list[tuple[Step, float]] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    column: int = 0
    row: float = 0.0

    @property
    def title(self) -> str:
        return self.name or self.symbol

    @property
    def symbol(self) -> str:
        """The op as a sign, with its constants."""
        sign = SYMBOLS.get(self.op, self.op)
        return " ".join([sign, *(number(c) for c in self.constants)])


def trace(end: Tensor, names: Mapping[str, Tensor] | None = None) -> list[Step]:
    """The graph behind the number ``end``, inputs before results, with gradients; no ``.grad`` is touched.

    Args:
        end: one number, of numbers only.
        names: what to call tensors of the graph. The value of an unnamed result is computed again from its inputs.

    >>> import glassgrad as gg
    >>> from glassgrad.scope import trace
    >>> w, x = gg.tensor(3.0, requires_grad=True), gg.tensor(2.0, requires_grad=True)
    >>> [(step.title, step.value, step.gradient) for step in trace(w * x, {"w": w, "x": x})]
    [('w', 3.0, 2.0), ('x', 2.0, 3.0), ('×', 6.0, 1.0)]
    """
    if not isinstance(end, Tensor) or not end.requires_grad or end.numel() != 1:
        got = f"a tensor of shape {end.shape}" if isinstance(end, Tensor) else type(end).__name__
        raise GraphError(f"trace: got {got}; expected a tensor of one number that requires grad.")
    named = {_key(t.edge()): (name, t) for name, t in (names or {}).items()}
    edges = _edges(end)
    gradients = autograd.run_backward([end.edge()], [wrap(np.ones_like(end.data))], retain_graph=True, inputs=edges)
    steps: dict = {}
    with autograd.no_grad():
        for edge, gradient in zip(edges, gradients, strict=True):
            target, _ = edge
            name, tensor = named.get(_key(edge), ("", None if isinstance(target, Node) else target))
            steps[_key(edge)] = step = Step(name, "", 0.0, _one(gradient))
            if isinstance(target, Node):
                _fill(step, target, steps)
            value = tensor if tensor is not None else _again(target, step)
            step.value = _one(value)
    found = list(steps.values())
    _place(found)
    return found


def _key(edge):
    return id(edge[0]), edge[1]


def _edges(end: Tensor) -> list:
    """Every edge of the graph: leaves in the order of their first use, and nodes by their number."""
    seen, order, stack = set(), [], [(end.edge(), False)]
    while stack:
        edge, done = stack.pop()
        if done:
            order.append(edge)
        elif _key(edge) not in seen:
            seen.add(_key(edge))
            stack.append((edge, True))
            below = edge[0].edges if isinstance(edge[0], Node) else ()
            stack.extend((e, False) for e in reversed(below) if e is not None)
    if len(order) > LIMIT:
        raise ArgumentError(
            f"trace: got an expression of {len(order)} values; expected at most {LIMIT}, to be readable."
        )
    return order


def _fill(step: Step, node: Any, steps: dict) -> None:
    if not isinstance(node, OpNode) or node.op.multi:
        raise ArgumentError(f"trace: got {node.name} in the expression; expected ops with one result.")
    step.op = node.name
    locals_ = node.backward([wrap(np.ones((), np.float64))])
    saved = dict(zip(node.plan.names, node.saved_values(), strict=True))
    for i, edge in enumerate(node.edges):
        if edge is not None:
            step.inputs.append((steps[_key(edge)], _one(locals_[i])))
        elif node.op.inputs[i] in saved:
            step.constants.append(_one(saved[node.op.inputs[i]]))
        else:
            raise GraphError(
                f"trace: got {node.name} with a constant, which it does not keep; expected inputs that require grad. "
                "Make the constant a tensor with requires_grad=True."
            )


def _again(node: Any, step: Step) -> Tensor:
    drawn, constants = iter(step.inputs), iter(step.constants)
    values = [next(constants) if edge is None else next(drawn)[0].value for edge in node.edges]
    return wrap(run(node.op, *[np.asarray(v) for v in values], **node.static))


def _one(x) -> float:
    if x is None:
        return 0.0
    if x.numel() != 1:
        raise ArgumentError(
            f"trace: got a tensor of shape {x.shape} in the expression; expected single numbers throughout."
        )
    return float(x.data.reshape(()))


def _place(steps: list[Step]) -> None:
    """Columns by distance from the end, so that a leaf stands beside its first use; rows in the order of leaves."""
    depth = {steps[-1]: 0}
    for step in reversed(steps):
        for source, _ in step.inputs:
            depth[source] = max(depth.get(source, 0), depth[step] + 1)
    last = max(depth.values())
    rows = 0
    taken: set = set()
    for step in steps:
        step.column = last - depth[step]
        own = [source for source, _ in step.inputs if source not in taken] or [source for source, _ in step.inputs]
        taken.update(own)
        if own:
            step.row = sum(source.row for source in own) / len(own)
        else:
            step.row, rows = float(rows), rows + 1


def number(x: float) -> str:
    """Three significant digits, and a minus that is as wide as a plus."""
    text = f"{x:.3g}" if x == 0 or 1e-3 <= abs(x) < 1e5 else f"{x:.2e}"
    return text.replace("-", "−")


# ----------------------------------------------------------------------------------------------------------- geometry

WIDTH, HEIGHT = 86.0, 52.0  # of a box
GAP_ALONG, GAP_ACROSS = 42.0, 16.0  # between columns there is an arrow with a number on it


def _box(step: Step, down: bool) -> tuple[float, float]:
    """Centre of a step's box; y grows downwards."""
    if down:
        return step.row * (WIDTH + GAP_ACROSS), step.column * (HEIGHT + 34)
    return step.column * (WIDTH + GAP_ALONG), step.row * (HEIGHT + GAP_ACROSS)


def _curve(a: Step, b: Step, down: bool) -> list[tuple[float, float]]:
    """Four control points of the arrow from a's box to b's."""
    (ax, ay), (bx, by) = _box(a, down), _box(b, down)
    if down:
        start, end = (ax, ay + HEIGHT / 2), (bx, by - HEIGHT / 2 - 3)
        bend = min((end[1] - start[1]) / 2, 40)
        return [start, (ax, start[1] + bend), (bx, end[1] - bend), end]
    start, end = (ax + WIDTH / 2, ay), (bx - WIDTH / 2 - 3, by)
    bend = min((end[0] - start[0]) / 2, 60)
    return [start, (start[0] + bend, ay), (end[0] - bend, by), end]


def _at(curve, t: float) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return sum(w * x for w, (x, _) in zip(weights, curve, strict=True)), sum(
        w * y for w, (_, y) in zip(weights, curve, strict=True)
    )


def _extent(steps, down) -> tuple[float, float, float, float]:
    centres = [_box(step, down) for step in steps]
    xs, ys = [x for x, _ in centres], [y for _, y in centres]
    pad = 6
    return min(xs) - WIDTH / 2 - pad, min(ys) - HEIGHT / 2 - pad, max(xs) + WIDTH / 2 + pad, max(ys) + HEIGHT / 2 + pad


# ------------------------------------------------------------------------------------------------------------ as SVG


def draw_svg(steps: list[Step], down: bool = False, label: str = "computation graph") -> str:
    """An inline ``<svg>``: it takes colours from the page's ``--ink --muted --surface --line --value --gradient``.

    Args:
        steps: from ``trace``.
        down: from top to bottom, for narrow screens, instead of left to right.
        label: what a screen reader says.
    """
    left, top, right, bottom = _extent(steps, down)
    parts = [
        f'<svg role="img" aria-label="{html.escape(label)}" viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}" '
        f'style="max-width:{right - left:g}px" font-family="system-ui, sans-serif" font-size="11">'
    ]
    texts = []
    for step in steps:
        for source, local in step.inputs:
            curve = _curve(source, step, down)
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = curve
            tip = f"M{x3 - 4:g} {y3 - 5:g}l4 5l4 -5" if down else f"M{x3 - 5:g} {y3 - 4:g}l5 4l-5 4"
            parts.append(
                f'<path d="M{x0:g} {y0:g}C{x1:g} {y1:g} {x2:g} {y2:g} {x3:g} {y3:g}{tip}" fill="none" '
                'stroke="var(--muted, #6b7280)" stroke-width="1.2"/>'
            )
            x, y = _at(curve, 0.5)
            texts.append(
                f'<text x="{x:g}" y="{y + 3.5:g}" text-anchor="middle" font-size="10" fill="var(--muted, #6b7280)" '
                f'stroke="var(--surface, #fff)" stroke-width="6" paint-order="stroke">×{number(local)}</text>'
            )
    for step in steps:
        x, y = _box(step, down)
        x, y = x - WIDTH / 2, y - HEIGHT / 2
        leaf = not step.op
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH:g}" height="{HEIGHT:g}" rx="7" fill="var(--box, #f6f7f9)" '
            f'stroke="var({"--ink, #1b1f24" if leaf else "--line, #c9ced6"})" stroke-width="{1.4 if leaf else 1}"/>'
        )
        texts += [
            f'<text x="{x + 8:g}" y="{y + 15:g}" font-weight="600" fill="var(--ink, #1b1f24)">{html.escape(step.title)}</text>',
            _row(x, y + 30, "value", step.value, "--value, #0072b2"),
            _row(x, y + 44, "grad", step.gradient, "--gradient, #b34700"),
        ]
        if step.name and step.op:
            texts.append(
                f'<text x="{x + WIDTH - 8:g}" y="{y + 15:g}" text-anchor="end" fill="var(--muted, #6b7280)">'
                f"{html.escape(step.symbol)}</text>"
            )
    return "".join([*parts, *texts, "</svg>"])


def _row(x, y, word, value, colour) -> str:
    return (
        f'<text x="{x + 8:g}" y="{y:g}" fill="var(--muted, #6b7280)">{word}</text><text x="{x + WIDTH - 8:g}" y="{y:g}" '
        f'text-anchor="end" font-weight="600" fill="var({colour})">{number(value)}</text>'
    )


# ------------------------------------------------------------------------------------------------------ as matplotlib


def draw(steps: list[Step], ax=None, down: bool = False, colours: Mapping[str, str] | None = None):
    """The same picture on a matplotlib ``Axes``, which is returned; a new figure of fitting size if none is given.

    Args:
        colours: of ``ink muted surface line box value gradient``; what is left out has a default.
    """
    try:
        from matplotlib import patches, pyplot
        from matplotlib.path import Path
    except ImportError as error:
        raise ArgumentError(f'draw: got no matplotlib ({error}); expected it. pip install "glassgrad[viz]"') from None
    paint = {
        "ink": "#1b1f24", "muted": "#6b7280", "surface": "#ffffff", "line": "#c9ced6", "box": "#f6f7f9",
        "value": "#0072b2", "gradient": "#b34700",
    } | dict(colours or {})  # fmt: skip
    left, top, right, bottom = _extent(steps, down)
    if ax is None:
        ax = pyplot.figure(figsize=((right - left) / 72, (bottom - top) / 72)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    scale = ax.get_position().width * ax.figure.get_figwidth() * 72 / (right - left)  # points per unit
    for step in steps:
        for source, local in step.inputs:
            curve = _curve(source, step, down)
            codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
            ax.add_patch(
                patches.FancyArrowPatch(
                    path=Path(curve, codes),
                    arrowstyle="->",
                    mutation_scale=9 * scale,
                    color=paint["muted"],
                    lw=1.2 * scale,
                )
            )
            x, y = _at(curve, 0.5)
            ax.text(
                x, y, f"×{number(local)}", ha="center", va="center", size=9 * scale, color=paint["muted"],
                bbox={"facecolor": paint["surface"], "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    for step in steps:
        x, y = _box(step, down)
        x, y = x - WIDTH / 2, y - HEIGHT / 2
        ax.add_patch(
            patches.FancyBboxPatch(
                (x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=7", facecolor=paint["box"],
                edgecolor=paint["line"] if step.op else paint["ink"], lw=(1 if step.op else 1.4) * scale,
            )
        )  # fmt: skip
        ax.text(x + 8, y + 15, step.title, weight="bold", color=paint["ink"], size=10 * scale)
        if step.name and step.op:
            ax.text(x + WIDTH - 8, y + 15, step.symbol, ha="right", color=paint["muted"], size=10 * scale)
        for dy, word, value, colour in ((30, "value", step.value, "value"), (44, "grad", step.gradient, "gradient")):
            ax.text(x + 8, y + dy, word, color=paint["muted"], size=9 * scale)
            ax.text(
                x + WIDTH - 8, y + dy, number(value), ha="right", weight="bold", color=paint[colour], size=9 * scale
            )
    return ax
