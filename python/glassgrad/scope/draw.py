"""Draw: a graph as boxes and arrows, from one neuron with every number to a network of thousands of ops, folded by module.

On a graph of single numbers the chain rule can be checked by eye: a box's gradient is the sum, over the edges that leave it, of
the edge's number times the gradient of the box it leads to.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn import Module
from ..tensor import Tensor
from .fold import Group, fold
from .layout import layout
from .plotting import pyplot_for
from .trace import Step, check_end, names_in, number, plain, read, skeleton, trace

READABLE = 64  # boxes: more need folding, or become small
LIMIT = 6000  # boxes: more, and a browser no longer scrolls


@dataclass
class Box:
    """What stands in a box, and what leads to it.

    Attributes:
        title, note: at the top, left and right.
        rows: (word, text, CSS variable of the text's colour).
        leaf: an input: drawn with a strong border.
        sources: indices of the boxes that lead here.
        labels: what stands on those edges.
    """

    title: str
    note: str = ""
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    leaf: bool = False
    sources: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def draw(loss: Tensor, names: Mapping[str, Tensor] | None = None, *, model: Module | None = None) -> Drawing:
    """The graph behind ``loss`` as a picture. A notebook shows it; ``.save("graph.svg")`` writes it.

    Up to 64 single numbers: each box has its value and gradient, each edge its local derivative. Other graphs: shapes. A graph of
    more than 64 boxes is folded: one box per module, and blocks that are alike once, with "×12"; so are the rounds of a loop if
    that is not enough. Other ops stay boxes of their own.

    Args:
        loss: one number that requires grad.
        names: what to call tensors; default the caller's variables, and the parameters of its modules.
        model: whose modules to fold by; default the caller's module that has the most parameters in the graph. If it is given,
            a small graph is folded too.

    Raises:
        GraphError: no graph. ArgumentError: more than 6,000 boxes.

    >>> import glassgrad as gg
    >>> from glassgrad.scope import draw
    >>> w, x = gg.tensor(3.0, requires_grad=True), gg.tensor(2.0, requires_grad=True)
    >>> draw((w * x).tanh())
    <Drawing of 4 boxes; .save(path) writes it>
    """
    check_end("draw", loss)
    frame = inspect.currentframe()
    names = names_in(frame) if names is None else names
    if model is not None and not isinstance(model, Module):
        raise ArgumentError(f"draw: model: got {type(model).__name__}; expected an nn.Module.")
    found = skeleton(loss, names)
    steps = list(found.values())
    read(found, loss, names)
    for step in steps:
        for operand in step.operands:
            operand.value = plain(operand.value)
    if len(steps) > READABLE or model is not None:
        groups = fold(steps, _model(steps, names) if model is None else model, READABLE)
        if len(groups) > LIMIT:
            raise ArgumentError(
                f"draw: got {len(groups)} boxes; expected at most {LIMIT}. model= folds by module what one computed."
            )
        return Drawing(_folded(groups))
    small = len(steps) <= READABLE and all(np.size(step.value) == 1 for step in steps)
    if small and all(getattr(step.node, "saved", ()) is not None for step in steps):
        return Drawing(numbers(trace(loss, names)))
    return Drawing(_sizes(steps))


def _model(steps: Sequence[Step], names: Mapping[str, Tensor]) -> Module | None:
    used = {id(step.node) for step in steps}
    modules = getattr(names, "modules", [])
    sizes = [sum(id(p) in used for p in module.parameters()) for module in modules]
    return modules[int(np.argmax(sizes))] if any(sizes) else None


# --------------------------------------------------------------------------------------------------- what is in the boxes


def numbers(steps: Sequence[Step]) -> list[Box]:
    """Boxes with value and gradient, and edges with the local derivative; of an array its size, and its gradient's norm."""
    at = {step: i for i, step in enumerate(steps)}
    boxes = []
    for step in steps:
        rows = [("value", _short(step.value), "--value")]
        if step.gradient is not None:
            rows.append(("grad", _short(step.gradient, norm=True), "--gradient"))
        labels = ["" if local is None else f"×{number(local)}" for _, local in step.inputs]
        sources = [at[source] for source, _ in step.inputs]
        boxes.append(Box(step.title, step.symbol if step.name else "", rows, not step.op, sources, labels))
    return boxes


def _short(x: Any, norm: bool = False) -> str:
    if x is None or isinstance(x, float):
        return "?" if x is None else number(x)
    return f"‖{number(float(np.linalg.norm(np.asarray(x, np.float64))))}‖" if norm else size_of(x)


def size_of(x: Any) -> str:
    """``64×10`` for an array of that shape."""
    return "×".join(map(str, np.shape(x))) or "1"


def _sizes(steps: Sequence[Step]) -> list[Box]:
    at = {step: i for i, step in enumerate(steps)}
    return [
        Box(
            step.title,
            step.symbol if step.name else "",
            [] if step.value is None else [("size", size_of(step.value), "--value")],
            not step.op,
            [at[source] for source, _ in step.inputs],
        )
        for step in steps
    ]


def _folded(groups: Sequence[Group]) -> list[Box]:
    boxes = []
    small = len(groups) > READABLE  # titles only
    for group in groups:
        last = group.steps[-1]
        rows = []
        if last.op and group.title != last.title and not small:
            ops = list(dict.fromkeys(step.op for step in group.steps))
            words = ops[0] if len(ops) == 1 else f"{ops[0]} +{len(group.steps) - 1}"
            rows.append(("op" if len(group.steps) == 1 else "ops", words, "--ink"))
        if last.value is not None and not small:
            rows.append(("size", size_of(last.value), "--value"))
        note = f"×{group.times}" if group.times > 1 else ""
        boxes.append(Box(group.title, note, rows, not last.op, group.sources))
    return boxes


# ----------------------------------------------------------------------------------------------------------- geometry

GAP_ALONG, GAP_ACROSS = 42.0, 16.0  # between layers there is an arrow with a number on it
PAD = 6.0
CHARACTER = 6.6  # mean width of one at this size of type
MOST = 26  # characters of a title; the end of a longer one says more


class Drawing:
    """Boxes in layers, ``least`` wide or more. ``svg`` and ``plot`` give the same picture for a page and for matplotlib."""

    def __init__(self, boxes: list[Box], least: float = 86.0):
        self.boxes = [box if len(box.title) <= MOST else _cut(box) for box in boxes]
        self.layout = layout([box.sources for box in boxes])
        lines = [(box.title, box.note) for box in self.boxes]
        lines += [(word, text) for box in self.boxes for word, text, _ in box.rows]
        widest = max(len(left) + (len(right) + 1 if right else 0) for left, right in lines)
        self.width = max(least if any(box.rows for box in boxes) else 40.0, 16 + CHARACTER * widest)
        self.height = 24.0 + 14.0 * max(len(box.rows) for box in boxes)

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.boxes)} boxes; .save(path) writes it>"

    def _point(self, place: tuple[float, float], down: bool) -> tuple[float, float]:
        """The centre of a box or bend; y grows downwards."""
        layer, across = place
        if down:
            return across * (self.width + GAP_ACROSS), layer * (self.height + 34)
        return layer * (self.width + GAP_ALONG), across * (self.height + GAP_ACROSS)

    def _curves(self, i: int, k: int, down: bool) -> list[list[tuple[float, float]]]:
        """The arrow into box i from its k-th source: pieces of four control points, which meet smoothly in the bends."""
        sources = self.boxes[i].sources
        source = sources[k]
        shift = 14 * (sources[:k].count(source) - (sources.count(source) - 1) / 2)  # apart where w * w has two
        (ax, ay), (bx, by) = (self._point(self.layout.places[n], down) for n in (source, i))
        start, end = (ax + self.width / 2, ay + shift), (bx - self.width / 2 - 3, by + shift)
        if down:
            start, end = (ax + shift, ay + self.height / 2), (bx + shift, by - self.height / 2 - 3)
        stops = [start]
        for place in self.layout.bends.get((i, k), ()):  # straight past the boxes of each layer between
            x, y = self._point(place, down)
            reach = (self.height if down else self.width) / 2
            stops += [(x, y - reach), (x, y + reach)] if down else [(x - reach, y), (x + reach, y)]
        stops.append(end)
        curves = []
        for (x0, y0), (x1, y1) in zip(stops, stops[1:], strict=False):
            bend = min(((y1 - y0) if down else (x1 - x0)) / 2, 40 if down else 60)
            middle = [(x0, y0 + bend), (x1, y1 - bend)] if down else [(x0 + bend, y0), (x1 - bend, y1)]
            curves.append([(x0, y0), *middle, (x1, y1)])
        return curves

    def _extent(self, down: bool) -> tuple[float, float, float, float]:
        boxes = [self._point(place, down) for place in self.layout.places]
        bends = [self._point(place, down) for chain in self.layout.bends.values() for place in chain]
        right, below = self.width / 2, self.height / 2
        xs = [x for x, _ in bends] + [x + side for x, _ in boxes for side in (-right, right)]
        ys = [y for _, y in bends] + [y + side for _, y in boxes for side in (-below, below)]
        return min(xs) - PAD, min(ys) - PAD, max(xs) + PAD, max(ys) + PAD

    def extent(self, down: bool = False) -> tuple[float, float]:
        """Width and height."""
        left, top, right, bottom = self._extent(down)
        return right - left, bottom - top

    # ------------------------------------------------------------------------------------------------------------ SVG

    def svg(self, down: bool = False, label: str = "computation graph") -> str:
        """An inline ``<svg>``: it takes colours from the page's ``--ink --muted --surface --line --value --gradient``.

        Box i is a group of class ``box`` with ``data-box="i"``, the arrow from its k-th source one of class ``arrow`` with
        ``data-arrow="i.k"``: handles for a page's style and script.

        Args:
            down: from top to bottom, for narrow screens, instead of left to right.
            label: what a screen reader says.
        """
        left, top, right, bottom = self._extent(down)
        parts = [
            f'<svg role="img" aria-label="{html.escape(label)}" viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}" '
            f'style="max-width:{right - left:g}px" font-family="system-ui, sans-serif" font-size="11">'
        ]
        for i, box in enumerate(self.boxes):
            parts += [self._arrow(i, k, down) for k in range(len(box.sources))]
        parts += [self._box(i, down) for i in range(len(self.boxes))]
        return "".join([*parts, "</svg>"])

    def _arrow(self, i: int, k: int, down: bool) -> str:
        curves = self._curves(i, k, down)
        x, y = curves[0][0]
        path = f"M{x:g} {y:g}"
        for _, (x1, y1), (x2, y2), (x, y) in curves:
            path += f"C{x1:g} {y1:g} {x2:g} {y2:g} {x:g} {y:g}"
        path += f"M{x - 4:g} {y - 5:g}l4 5l4 -5" if down else f"M{x - 5:g} {y - 4:g}l5 4l-5 4"
        labels = self.boxes[i].labels
        text = ""
        if labels and labels[k]:
            x, y = _middle(curves[-1])
            text = (
                f'<text x="{x:g}" y="{y + 3.5:g}" text-anchor="middle" font-size="10" fill="var(--muted, #5d6673)" '
                f'stroke="var(--surface, #fff)" stroke-width="6" paint-order="stroke">{html.escape(labels[k])}</text>'
            )
        return (
            f'<g class="arrow" data-arrow="{i}.{k}"><path d="{path}" fill="none" stroke="var(--muted, #5d6673)" '
            f'stroke-width="1.2"/>{text}</g>'
        )

    def _box(self, i: int, down: bool) -> str:
        box = self.boxes[i]
        x, y = self._point(self.layout.places[i], down)
        x, y = x - self.width / 2, y - self.height / 2
        parts = [
            f'<g class="box" data-box="{i}"><rect x="{x:g}" y="{y:g}" width="{self.width:g}" height="{self.height:g}" rx="7" '
            f'fill="var(--box, #f6f7f9)" stroke="var({"--ink, #1b1f24" if box.leaf else "--line, #c9ced6"})" '
            f'stroke-width="{1.4 if box.leaf else 1}"/>',
            f'<text x="{x + 8:g}" y="{y + 16:g}" font-weight="600" fill="var(--ink, #1b1f24)">{html.escape(box.title)}</text>',
        ]
        end = f'x="{x + self.width - 8:g}" text-anchor="end"'
        if box.note:
            parts.append(f'<text {end} y="{y + 16:g}" fill="var(--muted, #5d6673)">{html.escape(box.note)}</text>')
        for row, (word, text, colour) in enumerate(box.rows):
            line = f'y="{y + 31 + 14 * row:g}"'
            parts.append(
                f'<text x="{x + 8:g}" {line} fill="var(--muted, #5d6673)">{word}</text>'
                f'<text {end} {line} class="{word}" font-weight="600" fill="var({colour}, {PAINT[colour[2:]]})">'
                f"{html.escape(text)}</text>"
            )
        return "".join([*parts, "</g>"])

    def _repr_svg_(self) -> str:
        return self.svg().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)

    def save(self, path: str | Path) -> Path:
        """Write it as SVG, or by matplotlib as what the name ends in (``.png``, ``.pdf``), and return where."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".svg":
            path.write_text(self._repr_svg_(), encoding="utf-8")
        else:
            figure = self.plot().figure
            figure.savefig(path)
            pyplot_for("draw").close(figure)
        return path

    # ----------------------------------------------------------------------------------------------------- matplotlib

    def plot(self, ax=None, down: bool = False, colours: Mapping[str, str] | None = None):
        """The same picture on a matplotlib ``Axes``, which is returned; a new figure of fitting size if none is given.

        Args:
            colours: of ``ink muted surface line box value gradient``; what is left out has a default.
        """
        pyplot = pyplot_for("draw")
        from matplotlib import patches
        from matplotlib.path import Path as Outline

        paint = PAINT | dict(colours or {})
        left, top, right, bottom = self._extent(down)
        if ax is None:
            ax = pyplot.figure(figsize=((right - left) / 72, (bottom - top) / 72)).add_axes((0, 0, 1, 1))
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        ax.axis("off")
        scale = ax.get_position().width * ax.figure.get_figwidth() * 72 / (right - left)  # points per unit
        for i, box in enumerate(self.boxes):
            for k in range(len(box.sources)):
                curves = self._curves(i, k, down)
                points = [curves[0][0], *[point for curve in curves for point in curve[1:]]]
                codes = [Outline.MOVETO, *[Outline.CURVE4] * (len(points) - 1)]
                style = {"arrowstyle": "->", "mutation_scale": 9 * scale, "color": paint["muted"], "lw": 1.2 * scale}
                ax.add_patch(patches.FancyArrowPatch(path=Outline(points, codes), **style))
                if box.labels and box.labels[k]:
                    x, y = _middle(curves[-1])
                    ax.text(
                        x, y, box.labels[k], ha="center", va="center", size=9 * scale, color=paint["muted"],
                        bbox={"facecolor": paint["surface"], "edgecolor": "none", "pad": 1},
                    )  # fmt: skip
        for i, box in enumerate(self.boxes):
            x, y = self._point(self.layout.places[i], down)
            x, y = x - self.width / 2, y - self.height / 2
            ax.add_patch(
                patches.FancyBboxPatch(
                    (x, y), self.width, self.height, boxstyle="round,pad=0,rounding_size=7", facecolor=paint["box"],
                    edgecolor=paint["ink"] if box.leaf else paint["line"], lw=(1.4 if box.leaf else 1) * scale,
                )
            )  # fmt: skip
            ax.text(x + 8, y + 16, box.title, weight="bold", color=paint["ink"], size=10 * scale)
            ax.text(x + self.width - 8, y + 16, box.note, ha="right", color=paint["muted"], size=10 * scale)
            for row, (word, text, colour) in enumerate(box.rows):
                line, size = y + 31 + 14 * row, 9 * scale
                ax.text(x + 8, line, word, color=paint["muted"], size=size)
                ax.text(x + self.width - 8, line, text, ha="right", weight="bold", color=paint[colour[2:]], size=size)
        return ax


PAINT = {
    "ink": "#1b1f24", "muted": "#5d6673", "surface": "#ffffff", "line": "#c9ced6", "box": "#f6f7f9",
    "value": "#0072b2", "gradient": "#b84a00",
}  # fmt: skip


def _cut(box: Box) -> Box:
    return Box("…" + box.title[1 - MOST :], box.note, box.rows, box.leaf, box.sources, box.labels)


def _middle(curve: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The point halfway along a cubic curve."""
    x, y = (sum(w * point[axis] for w, point in zip((1, 3, 3, 1), curve, strict=True)) / 8 for axis in (0, 1))
    return x, y
