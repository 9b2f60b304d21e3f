"""The numbers to beat, and whether they are: ratios, since machines differ and are noisy."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .case import Result

NAMES = {"numpy": "NumPy", "torch": "PyTorch", "the best peer": "the best peer"}  # as people write them


@dataclass(frozen=True)
class Goal:
    """``of`` at least ``least``, for the cases of a group whose whole name matches the pattern.

    ``of`` is a library (its time / glassgrad's), "the best peer", or a limit of the machine (glassgrad's share of it).
    ``cases`` None: the geometric mean of the group. ``threads`` None: any number.
    """

    group: str
    cases: str | None
    of: str
    least: float
    threads: int | None = None

    def text(self) -> str:
        if self.of in NAMES:
            return f"{self.least:g} x {NAMES[self.of]}"
        return f"{self.least:.0%} of {self.of}"


BEYOND_CACHES = 1 << 23  # bytes: less is not held against memory, for it never leaves the core's own caches
_SQUARE = r"(256|512|1024|2048) x \1 x \1"
GOALS = (
    Goal("gemm", _SQUARE, "multiply-adds", 0.90, threads=1),
    Goal("gemm", r"(1024|2048) x \1 x \1", "multiply-adds", 0.85, threads=2),
    Goal("gemm", r"(\d+) x \1 x \1", "numpy", 1.0),
    Goal("conv", None, "torch", 1.3),
    Goal("attention", ".*", "torch", 1.3),
    Goal("rnn", ".*", "torch", 1.3),
    Goal("rows", ".*", "the best peer", 1.0),
    Goal("rows", ".*", "copy", 0.80),
    Goal("step", "3 ops.*", "torch", 2.0),
    Goal("step", "MLP 784-128.*", "torch", 2.0),
    Goal("step", "MLP 784-256-BN.*", "torch", 3.0),
    Goal("step", "50 x .*", "torch", 2.0),
    Goal("step", "CNN.*", "torch", 1.5),
    Goal("step", "ResNet-20.*", "torch", 1.5),
    Goal("step", "GPT.*", "torch", 1.5),
    Goal("step", "LSTM.*", "torch", 1.3),
)


def judge(result: Result) -> list[dict[str, Any]]:
    """Every goal set for this case: what it asks, what was got, and whether it is met. A peer that is missing sets none."""
    return [
        _judged(goal, got)
        for goal in GOALS
        if goal.cases is not None and goal.group == result.group and re.fullmatch(goal.cases, result.name)
        if goal.threads in (None, result.threads) and (got := _got(goal, result)) is not None
    ]


def judge_mean(group: str, results: Iterable[Result]) -> list[dict[str, Any]]:
    """The same for the goals of a group as a whole."""
    means = geometric_means(results)
    return [_judged(g, means[g.of]) for g in GOALS if g.group == group and g.cases is None and g.of in means]


def geometric_means(results: Iterable[Result]) -> dict[str, float]:
    """Of the ratios to each peer, over the cases that it has, and to the best peer of each case."""
    ratios: dict[str, list[float]] = {}
    for result in results:
        for peer, ratio in result.ratios.items():
            ratios.setdefault(peer, []).append(ratio)
        if result.best_ratio is not None:
            ratios.setdefault("the best peer", []).append(result.best_ratio)
    means = {peer: statistics.geometric_mean(of_peer) for peer, of_peer in ratios.items()}
    if "the best peer" in means:
        means["the best peer"] = means.pop("the best peer")  # named last
    return means


def _got(goal: Goal, result: Result) -> float | None:
    if goal.of == "the best peer":
        return result.best_ratio
    if goal.of in NAMES:
        return result.ratios.get(goal.of)
    if goal.of != result.limit or (goal.of == "copy" and result.bytes < BEYOND_CACHES):
        return None
    return result.share or None


def _judged(goal: Goal, got: float) -> dict[str, Any]:
    return {"goal": goal.text(), "least": goal.least, "got": got, "met": got >= goal.least}
