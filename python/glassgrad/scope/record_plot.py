"""The plots that every training should show, of a ``Record``, with matplotlib."""

from __future__ import annotations

import numpy as np

from .plotting import COLD, GOOD, GREY, HOT, INK, styled
from .record import BINS, DECADES, SPAN, Record, finite
from .thermometer import powers_of_ten

RIDGES = 12


def plot(record: Record):
    """Six panels: gradients, activations and gradients over time, update ratios, weight spectra, BatchNorm or saturation."""
    with styled("record") as pyplot:
        figure, axes = pyplot.subplots(2, 3, figsize=(14, 7.6), layout="constrained")
        panels = (_thermometer, _activations, _gradients, _updates, _spectra, _norms if record.norms else _saturation)
        for ax, draw in zip(axes.flat, panels, strict=True):
            draw(ax, record)
        steps = record.steps
        figure.suptitle(
            f"{len(steps)} samples of steps {steps[0]} to {steps[-1]}", x=0.01, ha="left", size=11, color=GREY
        )
    return figure


def _shades(count: int):
    """From early, light, to late, dark."""
    from matplotlib import colormaps

    return colormaps["Blues"](np.linspace(0.35, 1.0, max(count, 1)))


def _chosen(count: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _thermometer(ax, record: Record) -> None:
    names = [name for name, c in record.layers.items() if any(v for v in c.get("gradient_rms", ()))]
    table = np.array(
        [
            finite(
                record.layers[n]["gradient_rms"] + [None] * (len(record.steps) - len(record.layers[n]["gradient_rms"]))
            )
            for n in names
        ]
    )
    ax.set_title("Gradient at each layer's output")
    if not names:
        return _empty(ax, "no gradient came back")
    samples = _chosen(len(record.steps), 6)
    for shade, i in zip(_shades(len(samples)), samples, strict=True):
        ax.plot(range(len(names)), table[:, i], "o-", ms=3.5, lw=1.2, color=shade, label=f"step {record.steps[i]}")
    ax.set(yscale="log", ylabel="root mean square", xlabel="layer, the first on the left")
    ax.set_xticks(range(len(names)), names, rotation=60 if len(names) > 8 else 0, size=8)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend
    powers_of_ten(ax)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")


def _middle(record: Record, key: str) -> str | None:
    """The layer to show: the middle one of the activations, or of all."""
    have = [name for name, c in record.layers.items() if any(v is not None for v in c.get(key, ()))]
    active = [
        name for name in have if record.kinds[name] in ("ReLU", "Tanh", "Sigmoid", "GELU", "SiLU", "LeakyReLU")
    ] or have
    return active[len(active) // 2] if active else None


def _ridges(ax, record: Record, key: str, x: np.ndarray, colour: str, title: str) -> None:
    name = _middle(record, key)
    ax.set_title(title)
    if name is None:
        return _empty(ax, "nothing to show")
    column = record.layers[name][key]
    samples = [i for i in _chosen(len(column), RIDGES) if column[i]]
    for row, i in enumerate(samples):
        counts = np.array(column[i], dtype=float)
        inner = counts[1:-1].max() if counts[1:-1].any() else counts.max()
        height = np.minimum(counts / max(inner, 1.0), 1.25) * 1.5
        base = len(samples) - row
        ax.fill_between(x, base, base + height, color=colour, alpha=0.28, zorder=row)
        ax.plot(x, base + height, color=colour, lw=1, zorder=row)
    ax.set_yticks([len(samples) - r for r in range(len(samples))], [str(record.steps[i]) for i in samples], size=8)
    ax.set_ylabel("step, the first on top")
    ax.text(
        0.99,
        1.01,
        f"{name} ({record.kinds[name]})",
        transform=ax.transAxes,
        ha="right",
        va="bottom",
        size=8.5,
        color=GREY,
    )
    ax.grid(visible=False)


def _activations(ax, record: Record) -> None:
    x = (np.arange(BINS) + 0.5) * (2 * SPAN / BINS) - SPAN
    _ridges(ax, record, "histogram", x, COLD, "Outputs over time")
    ax.set_xlabel(f"output (beyond ±{SPAN:g} in the outermost bins)")


def _gradients(ax, record: Record) -> None:
    low, high = DECADES
    x = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    _ridges(ax, record, "gradient_histogram", x, HOT, "Gradients over time")
    ax.set_xlabel(f"log10 of |gradient| (zeros at {low:g})")


def _updates(ax, record: Record) -> None:
    ax.set_title("How far a step moves the weights")
    names = [n for n, shape in record.shapes.items() if len(shape) > 1]
    names = [n for n in names if np.isfinite(finite(record.parameters[n].get("update_ratio", ()))).any()]
    if not names:
        return _empty(ax, "no step moved a weight")
    ends = []
    for name, shade in zip(names, _shades(len(names)), strict=True):
        ratios = finite(record.parameters[name]["update_ratio"])
        ax.plot(record.steps[: len(ratios)], ratios, lw=1.3, color=shade)
        ends.append((float(ratios[np.isfinite(ratios)][-1]), name))
    ax.axhline(-3, color=GOOD, ls="--", lw=1.4)
    ax.text(record.steps[0], -3.03, "−3: about right", color=GOOD, size=8.5, va="top")
    ax.set(xlabel="step", ylabel="log10 of (size of change / spread of weights)")
    ax.margins(x=0.2, y=0.12)
    low, high = ax.get_ylim()
    below = -np.inf
    for y, name in sorted(ends)[:10]:  # labels keep their distance
        below = max(y, below + (high - low) * 0.045)
        ax.annotate(name, (record.steps[-1], y), (record.steps[-1] * 1.02, below), size=7.5, va="center", color=GREY)


def _spectra(ax, record: Record) -> None:
    ax.set_title("Singular values of the weights")
    drawn = 0
    for name, c in record.parameters.items():
        spectra = [s for s in c.get("spectrum", ()) if s]
        if not spectra or drawn == 6:
            continue
        colour = (COLD, HOT, GOOD, INK, "#8a6d00", "#7a4fb0")[drawn]
        for values, style, alpha in ((spectra[0], "--", 0.6), (spectra[-1], "-", 1.0)):
            ax.plot(
                np.linspace(0, 1, len(values)),
                values,
                style,
                color=colour,
                lw=1.3,
                alpha=alpha,
                label=name if style == "-" else None,
            )
        drawn += 1
    if not drawn:
        return _empty(ax, "no matrix")
    ax.set(xlabel="from the largest to the smallest", ylabel="singular value (dashed: first sample)")
    ax.legend(frameon=False, fontsize=8)


def _norms(ax, record: Record) -> None:
    """The three terms of BatchNorm's backward over time, of the first one."""
    name, c = next(iter(record.norms.items()))
    ax.set_title("Batch norm's backward, term by term")
    labels = {
        "term_dy": ("dy / σ", COLD, "-"),
        "term_mean": ("− mean of dy", GOOD, "--"),
        "term_xhat": ("− x̂ · mean of dy x̂", HOT, ":"),
    }
    for key, (label, colour, style) in labels.items():
        values = finite(c.get(key, ()))
        if values.size:
            ax.plot(record.steps[: len(values)], values, style, color=colour, label=label, lw=1.6)
    ax.set(yscale="log", xlabel=f"step, of {name} ({record.kinds[name]})", ylabel="root mean square")
    powers_of_ten(ax)
    ax.legend(frameon=False, fontsize=8.5)


def _saturation(ax, record: Record) -> None:
    ax.set_title("Entries that hardly pass a gradient")
    drawn = 0
    for name, c in record.layers.items():
        values = finite(c.get("saturated", ()))
        if values.size:
            ax.plot(
                record.steps[: len(values)],
                100 * values,
                lw=1.3,
                color=_shades(10)[min(drawn, 9)],
                label=f"{name} ({record.kinds[name]})",
            )
            drawn += 1
    if not drawn:
        return _empty(ax, "no ReLU, tanh or sigmoid")
    ax.set(ylim=(0, 100), xlabel="step", ylabel="% of entries (ReLU: that are off)")
    ax.legend(frameon=False, fontsize=8, ncols=1 + drawn // 7)


def _empty(ax, why: str) -> None:
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, color=GREY)
    ax.set(xticks=[], yticks=[])
