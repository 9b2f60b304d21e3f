"""The demo's pictures: dots are measured, dashed lines are theory, and a curve's name stands beside it.

Each panel is a function of an ``Axes`` and a part of ``results.json``. ``pngs`` sets the panels of one training side by
side; ``svgs`` gives each its own drawing, so that a page can put them below one another on a phone.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glassgrad.scope import Step, thermometer
from glassgrad.scope.draw import Drawing, numbers
from glassgrad.scope.layout import apart
from glassgrad.scope.thermometer import COLD, GOOD, HOT, power, powers_of_ten, relative, temperature

INK, MUTED, LINE, GRID, SURFACE = "#1b1f24", "#5d6673", "#c9ced6", "#e6e9ee", "#ffffff"
# In an SVG these become the page's variables, so that a picture follows its light or dark theme.
VARIABLES = {
    COLD: "--cold", GOOD: "--good", HOT: "--hot", INK: "--ink", MUTED: "--muted", LINE: "--line", GRID: "--grid", SURFACE: "--surface",
}  # fmt: skip
PANEL = (3.75, 2.95)  # inches
BACK = "layers back from the loss"


def rough(x: float) -> str:
    """One significant digit: 0.2, or 7·10⁻⁶."""
    if x == 0 or 1e-3 <= abs(x) < 1e4:
        return f"{x:.1g}".replace("-", "−")
    digit, exponent = f"{x:.0e}".split("e")
    return f"{digit}·{power(10.0 ** int(exponent))}"


def factor_text(factor: float) -> str:
    return f"×{factor:.3f}" if factor < 1.9995 else f"×{factor:.2f}"


def in_theory(factor: float) -> str:
    return f"theory: {factor_text(factor)}\nper layer"


# ------------------------------------------------------------------------------------------------------------- helpers


def _halo():
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=3, foreground=SURFACE)]


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places in 0..1 as near as can be to the wanted ones (ascending), each ``gap`` or more above the one before."""
    return [max(y, gap * (i + 0.4)) for i, y in enumerate(apart(wanted, gap))]  # none below the axis


def _end_labels(ax, entries: list[tuple[float, str, str]], gap: float = 0.075) -> None:
    """Name curves at the right edge: ``(y of the end, text, colour)``. ``gap`` is a line's height, in axes heights."""
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    place = (lambda y: math.log(y / low) / math.log(high / low)) if log else (lambda y: (y - low) / (high - low))
    entries = sorted(entries, key=lambda entry: entry[0])
    lines = max(text.count("\n") + 1 for _, text, _ in entries)
    for (_, text, colour), y in zip(entries, _apart([place(e[0]) for e in entries], gap * lines), strict=True):
        ax.text(1.02, y, text, transform=ax.transAxes, va="center", color=colour, size=8.5, linespacing=1.25)


def _median(values: Sequence[float], window: int) -> np.ndarray:
    """Running median, over a window that shrinks at the ends."""
    x, half = np.asarray(values, dtype=float), window // 2
    return np.array([np.median(x[max(i - half, 0) : i + half + 1]) for i in range(len(x))])


# -------------------------------------------------------------------------------------------------------------- panels


def thermometer_panel(ax, rows: list[dict], depth: int) -> None:
    """Gradient against the layers it has passed, for all networks: one straight line each on a logarithmic axis."""
    for row in rows:
        thermometer(row["gradients"], row["theory"], ax, size=4.2)
    ends = [relative(row["gradients"])[-1] for row in rows]
    ax.set_yscale("log")
    ax.set(xlim=(-0.6, depth - 0.4), ylim=(min(ends) / 30, max(ends) * 30), xlabel=BACK)
    ax.set_ylabel("gradient, as a multiple of the last layer's")
    ax.set_xticks(range(0, depth, 5))
    powers_of_ten(ax)
    low, high = ax.get_ylim()
    for bottom, top, colour in ((low, 0.1, COLD), (10, high, HOT)):
        ax.axhspan(bottom, top, color=colour, alpha=0.06, lw=0)
    for y, va, word, colour in ((high / 4, "top", "explodes", HOT), (low * 4, "bottom", "vanishes", COLD)):
        ax.text(0.2, y, word, va=va, color=colour, size=12, weight="bold", alpha=0.85)


def _edges(data: dict) -> np.ndarray:
    left, right = data["limits"]
    return np.linspace(left, right, len(data["shares"]) + 1)


def spark(ax, data: dict, colour: str) -> None:
    """A histogram the size of a word."""
    shares = np.asarray(data["shares"])
    ax.stairs(shares / shares.max(), _edges(data), fill=True, color=colour, alpha=0.85, lw=0)
    ax.set(ylim=(0, 1.05), xlim=data["limits"], yticks=[], xticks=[])
    ax.grid(False)
    ax.spines["left"].set_visible(False)


def _cells(figure, row: dict, y: float, columns: dict[str, float], spark_width: float) -> None:
    """One network's numbers and histogram, at height ``y`` of a figure; theory below the name if it has no column."""
    inch = 1 / figure.get_figheight()
    colour = temperature(row["theory"])
    in_column = "theory" in columns
    figure.text(
        columns["name"], y, row["label"], color=colour, weight="bold", va="center", size=9 if in_column else 8.5
    )
    if in_column:
        figure.text(columns["theory"], y, factor_text(row["theory"]), ha="right", va="center")
    x, align = (columns["theory"], "right") if in_column else (columns["name"], "left")
    formula = row["formula"] if in_column else f"theory {factor_text(row['theory'])} = {row['formula']}"
    figure.text(x, y - 0.17 * inch, formula, ha=align, va="center", color=MUTED, size=7.5)
    figure.text(columns["measured"], y, factor_text(row["measured"]), ha="right", va="center", weight="bold")
    histogram = row["histogram"]
    spark(figure.add_axes((columns["spark"], y - 0.16 * inch, spark_width, 0.36 * inch)), histogram, colour)
    for x, align, value in zip((0, spark_width), ("left", "right"), histogram["limits"], strict=True):
        figure.text(columns["spark"] + x, y - 0.25 * inch, rough(value), ha=align, va="center", color=MUTED, size=6.5)
    share = f"{histogram['saturated']:.0%} {histogram['word']}"
    figure.text(columns["share"], y, share, ha="right", va="center", color=MUTED, size=8)


def thermometer_figure(data: dict, title: bool):
    """The thermometer with a table beside it: theory, measurement and the activations of the middle layer, row by row."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    figure = pyplot.figure(figsize=(10.6, 5.85 if title else 5.2))
    inch = 1 / figure.get_figheight()
    top, bottom = 4.6 * inch, 0.55 * inch
    ax = figure.add_axes((0.066, bottom, 0.36, top - bottom))
    rows = sorted(data["networks"], key=lambda row: row["measured"])
    thermometer_panel(ax, rows, data["depth"])
    columns = {"name": 0.478, "theory": 0.70, "measured": 0.805, "spark": 0.827, "share": 0.995}
    heads = (
        ("name", "left", "network"), ("theory", "right", "theory"), ("measured", "right", "measured"),
        ("spark", "left", f"activations, layer {rows[0]['histogram']['layer']}"),
    )  # fmt: skip
    head = top + 0.12 * inch
    for key, align, text in heads:
        figure.text(columns[key], head, text, ha=align, color=MUTED, size=8.5)
    figure.text(columns["measured"], head + 0.23 * inch, "gradient, per layer", ha="right", color=MUTED, size=8.5)
    rule = [columns["theory"] - 0.045, columns["measured"]]
    figure.add_artist(Line2D(rule, [head + 0.17 * inch] * 2, color=LINE, lw=0.8))
    pitch = (top - bottom) / (len(rows) - 0.35)
    for i, row in enumerate(rows):
        y = bottom + pitch * (i + 0.33)
        end = relative(row["gradients"])[-1]
        _, start = figure.transFigure.inverted().transform(ax.transData.transform((0, end)))
        path, heights = [0.4285, 0.437, 0.463, 0.471], [start, start, y, y]
        figure.add_artist(Line2D(path, heights, color=temperature(row["theory"]), lw=0.9, alpha=0.55))
        _cells(figure, row, y, columns, 0.075)
    if title:
        figure.text(0.012, 1 - 0.34 * inch, "How far does a gradient reach?", size=16, weight="bold")
        note = (
            f"{data['depth']} layers, eight ways to start, before the first step of training. "
            "Dots: measured by glassgrad on real digits. Dashes: theory."
        )
        figure.text(0.012, 1 - 0.64 * inch, note, size=9.5, color=MUTED)
    return figure


def thermometer_phone(data: dict):
    """The same for a narrow screen: names at the ends, the table below."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(3.8, 9.6))
    inch = 1 / figure.get_figheight()
    ax = figure.add_axes((0.14, 4.75 * inch, 0.5, 4.75 * inch))
    rows = sorted(data["networks"], key=lambda row: row["measured"])
    thermometer_panel(ax, rows, data["depth"])
    ends = []
    for row in rows:
        name = row["label"].replace(", ", ",\n").replace(" + ", "\n+ ")
        ends.append((relative(row["gradients"])[-1], name, temperature(row["theory"])))
    _end_labels(ax, ends, 0.034)
    columns = {"name": 0.0, "measured": 0.595, "spark": 0.635, "share": 1.0}
    figure.text(columns["measured"], 4.0 * inch, "per layer", ha="right", color=MUTED, size=8.5)
    figure.text(
        columns["spark"], 4.0 * inch, f"activations, layer {rows[0]['histogram']['layer']}", color=MUTED, size=8.5
    )
    for i, row in enumerate(rows):
        _cells(figure, row, (0.33 + 0.48 * i) * inch, columns, 0.13)
    return figure


def sides_thermometer(ax, data: dict) -> None:
    """The two networks of one training: gradient over layers, before the first step."""
    ends = []
    for side in data["sides"]:
        thermometer(side["gradients"], side["theory"], ax, size=5)
        back = relative(side["gradients"])
        ends.append((back[-1], f"{side['label']}\n{in_theory(side['theory'])}", temperature(side["theory"])))
    ax.set_yscale("log")
    low, high = min(e[0] for e in ends), max(e[0] for e in ends)
    ax.set(xlim=(-0.5, data["depth"] - 0.5), ylim=(min(low, 1) / 4, max(high, 1) * 4), xlabel=BACK)
    ax.set_title("Gradient at the start")
    powers_of_ten(ax)
    _end_labels(ax, ends)


def losses(ax, data: dict) -> None:
    """Loss per step, thin, and its running median, thick, beside the loss of guessing."""
    ends = []
    for side in data["sides"]:
        colour = temperature(side["theory"])
        values = side["run"]["losses"]
        steps = np.arange(1, len(values) + 1)
        smooth = _median(values, max(len(values) // 40, 1))
        ax.plot(steps, np.minimum(values, 3), color=colour, lw=0.6, alpha=0.35)
        ax.plot(steps, smooth, color=colour)
        ends.append((side["run"]["final"], f"{side['label']}\n{side['run']['final']:.3f}", colour))
    ax.axhline(math.log(10), color=INK, lw=1.1, ls="--", dashes=(4, 2.5))
    ax.text(
        0.03,
        math.log(10) + 0.06,
        "guessing: ln 10 = 2.303",
        transform=ax.get_yaxis_transform(),
        size=8.5,
        va="bottom",
        path_effects=_halo(),
    )
    ax.set(ylim=(0, 3), xlim=(1, data["steps"]), xlabel="training step")
    ax.set_title("Loss (cross-entropy)")
    _end_labels(ax, ends)


def ridges(ax, data: dict) -> None:
    """Histograms of activations at a few layers, the first on top, one network over the other."""
    sides = data["sides"]
    shown = [h["layer"] for h in sides[0]["histograms"]]
    limits = sides[0]["histograms"][0]["limits"]
    relu = sides[0]["histograms"][0]["word"] == "off"
    for i in range(len(shown)):
        base = len(shown) - 1 - i
        ax.axhline(base, color=LINE, lw=0.8)
        for line, side in enumerate(sides):
            h, colour = side["histograms"][i], temperature(side["theory"])
            shares = np.asarray(h["shares"])
            heights = base + 0.78 * shares / max(shares.max(), 1e-9)
            edges = _edges(h)
            ax.stairs(heights, edges, baseline=base, fill=True, color=colour, alpha=0.4, lw=0)
            ax.stairs(heights, edges, baseline=base, color=colour, lw=1.1)
            text = f"{h['saturated']:.0%} {h['word']}"
            if not relu:
                text = f"±{rough(h['spread'])}\n{text}"
            y = base + 0.42 + (0.13 if relu else 0.2) * (1 - 2 * line)
            ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), size=8, va="center", color=colour)
    what = "activation of the units that are on" if relu else "activation, less the unit's mean over images"
    ax.set(xlim=limits, ylim=(0, len(shown) - 0.05), xlabel=what)
    ax.set_yticks([len(shown) - 1 - i + 0.25 for i in range(len(shown))], [f"layer {layer}" for layer in shown])
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    ax.set_title("Activations at the start" if relu else "Differences between images")


def explosion_thermometer(ax, data: dict) -> None:
    side = data["sides"][0]
    thermometer(side["gradients"], side["theory"], ax, size=5)
    end = relative(side["gradients"])[-1]
    ax.set_yscale("log")
    ax.set(xlim=(-0.5, data["depth"] - 0.5), ylim=(0.3, max(end, side["theory"] ** data["depth"]) * 3), xlabel=BACK)
    ax.set_title("Gradient at the start")
    powers_of_ten(ax)
    _end_labels(ax, [(end, f"weights {data['gain']:g}× He\n{in_theory(side['theory'])}", HOT)])


def explosion_losses(ax, data: dict) -> None:
    free, held = (side["run"] for side in data["sides"])
    steps = np.arange(1, len(held["losses"]) + 1)
    ax.plot(steps, held["losses"], color=GOOD, lw=0.7, alpha=0.4)
    ax.plot(steps, _median(held["losses"], 15), color=GOOD)
    ax.plot(np.arange(1, len(free["losses"]) + 1), free["losses"], "-^", color=HOT, ms=5)
    top = max(free["losses"]) * 1e3
    stop = len(free["losses"]) + 1
    ax.plot([stop - 1, stop], [free["losses"][-1], top], ":", color=HOT, lw=1.4)
    ax.plot(stop, top, "X", color=HOT, ms=9, mec=SURFACE)
    ax.text(stop * 1.25, top, f"step {stop}: no number any more", color=HOT, va="center", size=8.5, weight="bold")
    ax.set(xscale="log", yscale="log", xlim=(0.9, len(steps) * 1.05), ylim=(min(held["losses"]) / 2, top * 6))
    ax.axhline(math.log(10), color=INK, lw=1.1, ls="--", dashes=(4, 2.5))
    ax.text(1, math.log(10) / 1.5, "guessing: ln 10", size=8.5, va="top", path_effects=_halo())
    _step_axis(ax, len(steps))
    ax.set_title("Loss (cross-entropy)")
    powers_of_ten(ax)
    _end_labels(ax, [(held["final"], f"{data['sides'][1]['label']}\n{held['final']:.3f}", GOOD)])


def explosion_norms(ax, data: dict) -> None:
    free, held = (side["run"] for side in data["sides"])
    steps = np.arange(1, len(held["norms"]) + 1)
    ax.plot(steps, held["norms"], ".", color=GOOD, ms=3.5, alpha=0.55, mew=0)
    ax.plot(np.arange(1, len(free["norms"]) + 1), free["norms"], "-^", color=HOT, ms=5)
    ax.plot(steps, held["clipped"], color=GOOD, lw=2.4)
    ax.set(
        xscale="log", yscale="log", xlim=(0.9, len(steps) * 1.05), ylim=(0.2, max(held["norms"] + free["norms"]) * 6)
    )
    _step_axis(ax, len(steps))
    ax.set_title("Length of the whole gradient")
    powers_of_ten(ax)
    _end_labels(
        ax,
        [
            (float(np.median(held["norms"][-20:])), "before\nclipping", GOOD),
            (data["max_norm"], f"after:\n{data['max_norm']:g} at most", GOOD),
        ],
    )


def _step_axis(ax, steps: int) -> None:
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1000) if t <= steps]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("training step (logarithmic)")


def descent(ax, data: dict) -> None:
    """The small expression, 40 steps downhill."""
    values = data["losses"]
    ax.plot(range(len(values)), values, "o-", color=GOOD, ms=4, mec=SURFACE, mew=0.4)
    ax.set(
        xlabel=f"step of size {data['lr']:g} against the gradient",
        ylim=(0, max(values) * 1.1),
        xlim=(-0.8, len(values)),
    )
    ax.set_title("L, step by step")
    ax.text(
        len(values) * 0.97,
        values[-1] + max(values) * 0.05,
        f"{values[-1]:.3f}",
        color=GOOD,
        ha="right",
        va="bottom",
        weight="bold",
    )


Panel = Callable[[Any, dict], None]
PANELS: dict[str, list[Panel]] = {
    "relu_depth": [sides_thermometer, losses, ridges],
    "sigmoid_batchnorm": [sides_thermometer, losses, ridges],
    "exploding": [explosion_thermometer, explosion_losses, explosion_norms],
}


# ------------------------------------------------------------------------------------------------------------- output


def _style():
    import matplotlib
    from matplotlib import style

    matplotlib.use("Agg")  # files only: no window system is needed
    return style.context(Path(__file__).with_name("glassgrad.mplstyle"))


def pngs(results: dict, steps: list[Step], folder: Path) -> list[Path]:
    """Write the pictures as PNG files; returns their paths."""
    from matplotlib import pyplot

    made = {}
    with _style():
        made["thermometer"] = thermometer_figure(results["thermometer"], title=True)
        for name, panels in PANELS.items():
            figure, axes = pyplot.subplots(1, len(panels), figsize=(13.2, 3.6))
            figure.subplots_adjust(left=0.045, right=0.915, wspace=0.62, bottom=0.15, top=0.89)
            for panel, ax in zip(panels, axes, strict=True):
                panel(ax, results[name])
            made[name] = figure
        made["expression"] = Drawing(numbers(steps)).plot().figure
        paths = []
        for name, figure in made.items():
            paths.append(folder / f"{name}.png")
            _save(figure, paths[-1])
            pyplot.close(figure)
    return paths


def _save(figure, path: Path) -> None:
    from PIL import Image  # matplotlib needs it too

    out = io.BytesIO()
    figure.savefig(out, format="png")
    image = Image.open(out).convert("RGB")
    image.quantize(200).save(path, optimize=True)  # flat colours: a palette is a third of the bytes


def svgs(results: dict, steps: list[Step]) -> dict[str, str]:
    """Every panel as an ``<svg>`` for a page: themable, with no outside reference. Named ``act`` or ``act/number``."""
    from matplotlib import pyplot

    made = {}
    with _style():
        for key, figure in (
            ("wide", thermometer_figure(results["thermometer"], title=False)),
            ("narrow", thermometer_phone(results["thermometer"])),
        ):
            made[f"thermometer/{key}"] = _svg(figure, f"thermometer-{key}", "gradient over layers, eight networks")
            pyplot.close(figure)
        for name, panels in PANELS.items():
            for i, panel in enumerate(panels):
                made[f"{name}/{i}"] = _panel(panel, results[name], f"{name}-{i}")
        made["expression/descent"] = _panel(descent, results["expression"], "descent", right=0.96)
    graph, label = Drawing(numbers(steps)), "graph of one neuron with values and gradients"
    made["expression/wide"] = graph.svg(label=label)
    made["expression/narrow"] = graph.svg(down=True, label=label)
    return made


def _panel(panel: Panel, data: dict, key: str, right: float = 0.7) -> str:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=PANEL)
    figure.subplots_adjust(left=0.14, right=right, bottom=0.48 / PANEL[1], top=1 - 0.36 / PANEL[1])
    panel(ax, data)
    svg = _svg(figure, key, ax.get_title(loc="left"))
    pyplot.close(figure)
    return svg


def _svg(figure, key: str, label: str) -> str:
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    head, text = text[text.index("<svg") :].split(">", 1)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    box = head.split('viewBox="')[1].split('"')[0]
    width = float(box.split()[2]) * 4 / 3  # points to pixels
    text = f'<svg role="img" aria-label="{label}" viewBox="{box}" style="max-width:{width:.0f}px">{text}'
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)  # several drawings share one page
    text = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r"(font: (?:\w+ )?[\d.]+px)[^;\"]*", r"\1 system-ui, sans-serif", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(
        r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text
    )  # hundredths of a point will do
    return re.sub(r"\s*\n\s*", "\n", text)
