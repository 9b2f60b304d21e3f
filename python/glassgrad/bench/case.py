"""A case to time, in every library that is there, and how it is timed: in turn, so that noise hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import nn
from ..creation import from_numpy

BLOCK_SECONDS = 0.01  # of one measurement: 10^5 times what reading the clock costs


Runs = dict[str, Callable[[], Any]]  # library -> what to time


@dataclass(frozen=True)
class Case:
    """One computation; ``runs[library]`` is a function to time. Work is counted once, as the formula needs it."""

    group: str
    name: str
    runs: Runs
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Result:
    """Seconds (median, and the middle half of the rounds) of each library, and medians of peer / glassgrad."""

    group: str
    name: str
    threads: int
    seconds: dict[str, float]
    spread: dict[str, tuple[float, float]]
    ratios: dict[str, float]
    flops: float
    bytes: float
    rounds: int = field(default=0)


def tensor_libraries(libraries):
    """(name, array -> tensor, functional) of the libraries that have tensors."""
    yield "glassgrad", lambda array: from_numpy(array.copy()), nn.functional
    if torch := libraries.get("torch"):
        yield "torch", lambda array: torch.from_numpy(array.copy()), torch.nn.functional


def forward_backward(function: Callable, *leaves: Any) -> None:
    for leaf in leaves:
        leaf.grad = None
    function(*leaves).sum().backward()


def measure(case: Case, threads: int, rounds: int) -> Result:
    """Time every library of ``case`` in turn, ``rounds`` times."""
    counts = {}
    for library, run in case.runs.items():
        run()  # the first call plans, allocates and fills caches
        start = time.perf_counter()
        run()
        counts[library] = max(1, round(BLOCK_SECONDS / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {library: [] for library in case.runs}
    for _ in range(rounds):
        for library, run in case.runs.items():
            count = counts[library]
            start = time.perf_counter()
            for _ in range(count):
                run()
            times[library].append((time.perf_counter() - start) / count)
    ours = times["glassgrad"]
    return Result(
        case.group,
        case.name,
        threads,
        seconds={library: statistics.median(t) for library, t in times.items()},
        spread={library: _quartiles(t) for library, t in times.items()},
        ratios={
            library: statistics.median(peer / own for peer, own in zip(t, ours, strict=True))
            for library, t in times.items()
            if library != "glassgrad"
        },
        flops=case.flops,
        bytes=case.bytes,
        rounds=rounds,
    )


def _quartiles(times: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return low, high
