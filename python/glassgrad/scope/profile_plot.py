"""The picture of a ``Profile``: share of time, kernels under the roofline, bytes alive over time."""

from __future__ import annotations

import numpy as np

from .plotting import COLD, GOOD, HOT, styled
from .profile import Profile, limits

PHASES = {"forward": COLD, "backward": HOT, "update": GOOD, "": "#c9ced6"}
MARKERS = {"forward": "o", "backward": "^", "update": "s"}


def plot(profile: Profile):
    with styled("profile") as pyplot:
        figure, (bars, roof, memory) = pyplot.subplots(
            1, 3, figsize=(14, 4.4), layout="constrained", width_ratios=(1.25, 1, 1)
        )
        _bars(bars, profile)
        _roof(roof, profile)
        _memory(memory, profile)
    return figure


def _bars(ax, profile: Profile) -> None:
    rows = profile.rows()
    shown = [(f"{r.op}", r.phase, r.seconds) for r in rows[:9]]
    rest = sum(r.seconds for r in rows[9:])
    if rest:
        shown.append((f"{len(rows) - 9} more kernels", "", rest))
    shown.append(("Python between them", "", profile.python_seconds))
    at = np.arange(len(shown))
    share = [100 * seconds / profile.seconds for *_, seconds in shown]
    ax.barh(at, share, color=[PHASES[phase] for _, phase, _ in shown], height=0.66)
    for y, value in zip(at, share, strict=True):
        ax.annotate(f"{value:.1f} %", (value, y), (3, 0), textcoords="offset points", va="center", size=8.5)
    ax.set_yticks(at, [name for name, *_ in shown], size=9)
    ax.set(ylim=(len(shown) - 0.5, -0.5), xlim=(0, max(share) * 1.18), xlabel=f"% of {1e3 * profile.seconds:.1f} ms")
    ax.set_title("Where the time goes")
    ax.grid(axis="y", visible=False)
    phases = [p for p in MARKERS if any(r.phase == p for r in rows)]
    ax.legend([ax.barh(0, 0, color=PHASES[p]) for p in phases], phases, frameon=False, loc="center right", fontsize=8.5)


def _roof(ax, profile: Profile) -> None:
    peak, copy = limits()
    known = np.isfinite(peak)  # not without the compiled kernels
    rows = [r for r in profile.rows()[:14] if r.bytes and r.flops]
    x = np.geomspace(0.03, 300, 100)
    ax.set(xscale="log", yscale="log")
    if known:
        ax.plot(x, np.minimum(peak, x * copy), color="#1b1f24", lw=1.4)
        ax.text(280, peak * 1.1, f"{peak:.0f} GFLOP/s", ha="right", va="bottom", size=8.5)
    for r in rows:
        ax.plot(
            r.flops / r.bytes,
            r.gflops,
            MARKERS[r.phase],
            color=PHASES[r.phase],
            ms=3 + 30 * (r.seconds / profile.seconds) ** 0.5,
            alpha=0.8,
        )
    ax.set(
        xlabel="operations per byte",
        ylabel="GFLOP/s",
        ylim=(min([r.gflops for r in rows] + [1.0]) / 3, (peak if known else max(r.gflops for r in rows)) * 2),
    )
    ax.set_title("Under the roof (area: time)")


def _memory(ax, profile: Profile) -> None:
    times = [1e3 * t for t, _ in profile.memory]
    sizes = [size / 2**20 for _, size in profile.memory]
    ax.fill_between(times, sizes, step="post", color=COLD, alpha=0.3)
    ax.step(times, sizes, where="post", color=COLD, lw=1.2)
    ax.set(xlabel="ms", ylabel="MiB of results that are alive", ylim=(0, None), xlim=(0, 1e3 * profile.seconds))
    ax.set_title("Memory of results")
