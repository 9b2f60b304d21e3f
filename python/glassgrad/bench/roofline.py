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

from ..errors import ArgumentError
from .case import Result
from .goals import NAMES
from .report import by_group, by_threads

COLOURS = {"glassgrad": "#1f6feb", "numpy": "#8a6d00", "torch": "#c2410c"}
MARKERS = {"glassgrad": "o", "numpy": "s", "torch": "D"}
LIMITS = {"multiply-adds": "multiply-adds in registers", "copy": "the same bytes copied"}
DPI = 130
INK, GREY, LIGHT = "#1b1f24", "#5d6673", "#c9ced6"


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel per group and number of threads, written to ``path``."""
    import matplotlib

    with matplotlib.rc_context(fname=str(Path(__file__).parent.parent / "demo" / "glassgrad.mplstyle")):
        _figure(record).savefig(path, dpi=DPI)


def _figure(record: dict[str, Any]):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[str, int], list[Result]] = {
        (group, threads): [r for r in of_group if r.flops or r.bytes]
        for threads, results in by_threads(record).items()
        for group, of_group in by_group(results).items()
    }
    groups = list(dict.fromkeys(group for (group, _), results in panels.items() if results))
    counts = list(dict.fromkeys(threads for _, threads in panels))
    if not groups:
        raise ArgumentError("bench: roofline: got no case that counts its work; expected one at least.")
    heights = [max(_height(results) for (g, _), results in panels.items() if g == group) for group in groups]
    size = 2.0 + 7.0 * len(counts), 0.5 + sum(heights)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    machine = record["machine"]
    title = f"Roofline of {machine['cpu']}, {machine['isa']}, {machine.get('dtype', 'float32')}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    axes = figure.subplots(len(groups), len(counts), squeeze=False, height_ratios=heights)
    to_label = []
    for (group, threads), results in panels.items():
        axis = axes[groups.index(group)][counts.index(threads)]
        limits = next(x for x in record["limits"] if x["group"] == group and x["threads"] == threads)
        axis.set_title(f"{group}, {threads} thread{'s' * (threads > 1)}")
        if _has_roof(results):
            to_label.append((axis, results, _panel(axis, results, limits)))
        else:
            _shares(axis, results, limits)
            if threads != counts[0] and [r.name for r in results] == [r.name for r in panels[group, counts[0]]]:
                axis.tick_params(labelleft=False)  # they stand on the left already
        _legend(axis, results)
    figure.draw_without_rendering()  # positions are known from here on
    figure.set_layout_engine("none")
    for axis, results, ink in to_label:
        _place_labels(axis, results, ink, canvas.get_renderer())
    return figure


def _has_roof(results: list[Result]) -> bool:
    """Whether operations and bytes are both counted, so that a case has its place across."""
    return all(r.flops and r.bytes for r in results)


def _height(results: list[Result]) -> float:
    return 5.0 if _has_roof(results) else 1.0 + 0.2 * len(results)


def _speed(result: Result) -> float:
    return result.flops / result.seconds["glassgrad"] / 1e9


def _marker(library: str) -> dict[str, Any]:
    own = library == "glassgrad"
    return {
        "linestyle": "",
        "marker": MARKERS[library],
        "markersize": 7 if own else 6,
        "markeredgecolor": COLOURS[library],
        "markeredgewidth": 1.3,
        "markerfacecolor": COLOURS[library] if own else "white",
        "zorder": 4 if own else 3,
    }


def _shares(axis, results: list[Result], limits: dict[str, Any]) -> None:
    """Cases without a place across: a line each, and how much of its limit is reached."""
    limit_of = [r.limit or ("multiply-adds" if r.flops else "copy") for r in results]
    for row, (result, limit) in enumerate(zip(results, limit_of, strict=True)):
        work = result.bytes if limit == "copy" else result.flops
        rate = result.limit_rate or limits[limit]  # as measured beside the case, where it was
        shares = {library: work / s / rate for library, s in result.seconds.items()}
        axis.plot([min(shares.values()), max(shares.values())], [row, row], color=LIGHT, linewidth=1.2, zorder=1)
        for library, share in shares.items():
            axis.plot(share, row, **_marker(library))
    axis.axvline(1, color=INK, linewidth=1.6, zorder=2)
    axis.set_xscale("log")
    _ticks(axis.xaxis, lambda x, _: f"{100 * x:g}%")
    axis.set_xlabel(f"part of the limit: {' or '.join(LIMITS[name] for name in dict.fromkeys(limit_of))}")
    axis.set_yticks(range(len(results)), [r.name for r in results])
    axis.set_ylim(len(results) - 0.5, -0.5)


def _panel(axis, results: list[Result], limits: dict[str, Any]) -> list[tuple[float, float]]:
    """The roofs and the points; returns where ink is."""
    peak, copy = limits["multiply-adds"] / 1e9, limits["copy"] / 1e9
    ridge = peak / copy
    intensities = [r.flops / r.bytes for r in results]
    low, high = min(*intensities, ridge) / 4, max(*intensities, ridge) * 4
    speeds = [r.flops / s / 1e9 for r in results for s in r.seconds.values()]
    x = np.geomspace(low, high, 200)
    axis.loglog(x, np.minimum(peak, x * copy), color=INK, linewidth=1.6, zorder=2)
    axis.set(xlim=(low, high), ylim=(min(speeds) / 3, max(peak * 2.5, max(speeds) * 1.6)))
    _ticks(axis.xaxis, "{x:g}")
    _ticks(axis.yaxis, "{x:g}")
    axis.set_xlabel("arithmetic intensity: floating-point operations per byte")
    axis.set_ylabel("GFLOP/s")
    text = {"textcoords": "offset points", "ha": "right", "fontsize": 8.5, "color": INK}
    axis.annotate(f"multiply-adds {peak:.0f} GFLOP/s", (high, peak), (-4, 4), va="bottom", **text)
    axis.annotate(f"copy {copy:.1f} GB/s", (0.7 * ridge, 0.7 * peak), (-8, 2), va="center", **text)
    ink = [(float(v), float(min(peak, v * copy))) for v in x[::2]]
    for across, result in zip(intensities, results, strict=True):
        up = {library: result.flops / s / 1e9 for library, s in result.seconds.items()}
        ends = min(up.values()), max(up.values())
        axis.plot([across] * 2, ends, color=LIGHT, linewidth=1.2, zorder=1)
        for library, y in up.items():
            axis.plot(across, y, **_marker(library))
        ink += [(across, float(y)) for y in (*np.geomspace(*ends, 9), *up.values())]
    return ink


def _ticks(direction, form) -> None:
    """At 1, 2 and 5 times powers of ten, or at those alone if they are many; none between."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = direction.get_view_interval()
    direction.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=20))
    direction.set_major_formatter(form)
    direction.set_minor_formatter(NullFormatter())


def _legend(axis, results: list[Result]) -> None:
    from matplotlib.lines import Line2D

    libraries = [library for library in COLOURS if any(library in r.seconds for r in results)]
    handles = [Line2D([], [], label=NAMES.get(name, name), **_marker(name)) for name in libraries]
    place = (
        {"loc": "lower right"} if _has_roof(results) else {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 3}
    )
    axis.legend(handles=handles, frameon=False, fontsize=8.5, **place)


def _place_labels(axis, results: list[Result], ink: list[tuple[float, float]], renderer) -> None:
    """A label near each filled point where there is room for one, with a line to the point if it is far; fast cases first."""
    inside = axis.get_window_extent(renderer)
    to_pixels = axis.transData
    ink_at = list(to_pixels.transform(np.array(ink)))
    boxes = [artist.get_window_extent(renderer) for artist in (*axis.texts, axis.get_legend())]
    for result in sorted((r for r in results if "glassgrad" in r.seconds), key=_speed, reverse=True):
        at = (result.flops / result.bytes, _speed(result))
        name = textwrap.fill(_short(result.name), 26)
        text = axis.text(*at, name, fontsize=7.5, color=INK, ha="center", va="center", linespacing=1.0, zorder=6)
        point, size = to_pixels.transform(at), text.get_window_extent(renderer)
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
            if not hidden and not covered:
                break
        else:  # no room: the table has its name, and a label on a label helps no one
            text.remove()
            continue
        text.set_position(to_pixels.inverted().transform(middle))
        boxes.append(box)
        if distance > 22:
            axis.plot(*to_pixels.inverted().transform(line).T, color=GREY, linewidth=0.5, zorder=2.5)
            ink_at += list(line[1:])


def _around():
    """Distances in pixels and angles, nearest first, the right side before the left."""
    for distance in (14, 20, 28, 38, 50, 64, 80, 98, 118):
        for degrees in (0, 180, -30, 30, -150, 150, -60, 60, -90, 90, -120, 120):
            yield distance, np.radians(degrees)


def _short(name: str) -> str:
    """The name up to what tells it from others: MLP 784-128-10, without optimizer and batch."""
    return re.sub(r",.*| forward \+ backward$", "", name)
