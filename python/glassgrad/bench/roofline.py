"""The roofline (Williams, Waterman, Patterson 2009): what a case reaches, under what the machine could give it.

A case that does ``i`` operations per byte can reach ``min(multiply-adds, i * copy)``: below the ridge the memory is the
limit, right of it the arithmetic. A point above the slope had its data in a cache.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from .case import Result
from .goals import NAMES
from .report import by_group, by_threads

COLOURS = {"glassgrad": "#1f6feb", "numpy": "#8a6d00", "torch": "#c2410c"}
MARKERS = {"glassgrad": "o", "numpy": "s", "torch": "D"}
DPI = 130
INK, GREY, LIGHT = "#1b1f24", "#5d6673", "#c9ced6"


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel per group and number of threads, written to ``path``."""
    import matplotlib

    with matplotlib.rc_context(fname=str(Path(__file__).parent.parent / "demo" / "glassgrad.mplstyle")):
        figure = _figure(record)
        figure.savefig(path, dpi=DPI)


def _figure(record: dict[str, Any]):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        (threads, group, [r for r in of_group if r.flops and r.bytes])
        for threads, results in by_threads(record).items()
        for group, of_group in by_group(results).items()
    ]
    groups = list(dict.fromkeys(group for _, group, results in panels if results))
    counts = list(dict.fromkeys(threads for threads, _, _ in panels))
    rows, columns = max(len(groups), 1), max(len(counts), 1)
    figure = Figure(figsize=(7.6 * columns, 0.5 + 5.0 * rows), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    machine = record["machine"]
    title = f"Roofline of {machine['cpu']}, {machine['isa']}, float32"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    labels = []
    for threads, group, results in panels:
        if results:
            axis = axes[groups.index(group)][counts.index(threads)]
            axis.set_visible(True)
            limits = next(x for x in record["limits"] if x["group"] == group and x["threads"] == threads)
            labels.append((axis, results, _panel(axis, results, limits, group, threads)))
    _legend(axes, labels)
    figure.draw_without_rendering()  # positions are known from here on
    figure.set_layout_engine("none")
    for axis, results, ink in labels:
        _place_labels(axis, results, ink, canvas.get_renderer())
    return figure


def _panel(axis, results: list[Result], limits: dict[str, Any], group: str, threads: int) -> list[tuple[float, float]]:
    """The roofs and the points; returns where ink is."""
    peak, copy = limits["multiply-adds"] / 1e9, limits["copy"] / 1e9
    intensities = np.array([r.flops / r.bytes for r in results])
    speeds = [r.flops / s / 1e9 for r in results for s in r.seconds.values()]
    low, high = min(intensities.min(), peak / copy) / 4, max(intensities.max(), peak / copy) * 4
    bottom = min(speeds) / 3
    x = np.geomspace(low, high, 200)
    axis.loglog(x, np.minimum(peak, x * copy), color=INK, linewidth=1.6, zorder=2)
    axis.set(xlim=(low, high), ylim=(bottom, peak * 2.5))
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter("{x:g}")
    axis.set_title(f"{group}, {threads} thread{'s' * (threads > 1)}")
    axis.set_xlabel("arithmetic intensity: floating-point operations per byte")
    axis.set_ylabel("GFLOP/s")
    axis.annotate(f"multiply-adds {peak:.0f} GFLOP/s", (high, peak), (-4, 4), textcoords="offset points",
                  ha="right", va="bottom", fontsize=8.5, color=INK)  # fmt: skip
    ridge = peak / copy
    axis.annotate(f"copy {copy:.1f} GB/s", (0.7 * ridge, 0.7 * peak), (-8, 2), textcoords="offset points",
                  ha="right", va="center", fontsize=8.5, color=INK)  # fmt: skip
    ink = [(float(v), float(min(peak, v * copy))) for v in x[::2]]
    for intensity, result in zip(intensities, results, strict=True):
        height = {library: result.flops / s / 1e9 for library, s in result.seconds.items()}
        lowest, highest = min(height.values()), max(height.values())
        axis.plot([intensity] * 2, [lowest, highest], color=LIGHT, linewidth=1.2, zorder=1)
        for library, y in height.items():
            own = library == "glassgrad"
            axis.plot(intensity, y, MARKERS[library], markersize=7 if own else 6, zorder=4 if own else 3,
                      markeredgecolor=COLOURS[library], markeredgewidth=1.3,
                      markerfacecolor=COLOURS[library] if own else "white")  # fmt: skip
        ink += [(float(intensity), float(y)) for y in np.geomspace(lowest, highest, 9)]
        ink += [(float(intensity), y) for y in height.values()]
    return ink


def _legend(axes, labels) -> None:
    from matplotlib.lines import Line2D

    libraries = [
        library for library in COLOURS if any(library in r.seconds for _, results, _ in labels for r in results)
    ]
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[library], markeredgecolor=COLOURS[library], markersize=7,
               markerfacecolor=COLOURS[library] if library == "glassgrad" else "white",
               label=NAMES.get(library, library))
        for library in libraries
    ]  # fmt: skip
    for axis, _, _ in labels:
        axis.legend(handles=handles, loc="lower right", frameon=False, fontsize=8.5)


def _place_labels(axis, results: list[Result], ink: list[tuple[float, float]], renderer) -> None:
    """Each label near its point, where it covers neither ink nor another label, with a line to the point if it is far."""
    inside = axis.get_window_extent(renderer)
    to_pixels = axis.transData
    ink_at = list(to_pixels.transform(np.array(ink)))
    boxes = [artist.get_window_extent(renderer) for artist in (*axis.texts, axis.get_legend())]
    for result in sorted(results, key=lambda r: -r.flops / r.seconds["glassgrad"]):
        at = (result.flops / result.bytes, result.flops / result.seconds["glassgrad"] / 1e9)
        name = textwrap.fill(_short(result.name), 26)
        text = axis.text(*at, name, fontsize=7.5, color=INK, ha="center", va="center", linespacing=1.0, zorder=6)
        point, size = to_pixels.transform(at), text.get_window_extent(renderer)
        best: Any = None
        for distance, angle in _around():
            direction = np.array([np.cos(angle), np.sin(angle)])
            # So far away is the label's edge, not its middle.
            middle = point + direction * (distance + np.array([size.width, size.height]) / 2)
            box = size.translated(*(middle - (size.min + size.max) / 2))
            if not (np.all(inside.min < box.min - 3) and np.all(box.max + 3 < inside.max)):
                continue
            line = np.linspace(point, np.clip(point, box.min, box.max), 9)
            clear = box.padded(8)  # a marker reaches 7 pixels around its middle
            hidden = sum(clear.contains(*p) for p in ink_at)
            covered = sum(box.padded(3).overlaps(other) or any(other.contains(*p) for p in line[1:]) for other in boxes)
            score = 10 * covered + hidden + distance / 80
            if best is None or score < best[0]:
                best = (score, middle, box, line, distance)
            if not hidden and not covered:
                break
        if best is None:  # no room in the panel: it stays on its point
            boxes.append(size)
            continue
        _, middle, box, line, distance = best
        text.set_position(to_pixels.inverted().transform(middle))
        boxes.append(box)
        if distance > 22:
            axis.plot(*to_pixels.inverted().transform(line).T, color=GREY, linewidth=0.5, zorder=2.5)
            ink_at += list(line[1:])


def _around():
    """Distances in pixels and angles, nearest first, the right side before the left."""
    for distance in (14, 20, 28, 38, 50, 64, 80, 98, 118, 140, 165, 195):
        for degrees in (0, 180, -30, 30, -150, 150, -60, 60, -90, 90, -120, 120):
            yield distance, np.radians(degrees)


def _short(name: str) -> str:
    """The name up to what tells it from others: MLP 784-128-10, without optimizer and batch."""
    return re.sub(r",.*| forward \+ backward$", "", name)
