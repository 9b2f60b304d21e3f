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
WARM_SECONDS = 0.003  # of calls before any is timed: plans, caches, clocks
WAKE_SECONDS = 0.03  # on several threads, after a rest: a system may wake two on one core, and part them 20 ms later
REST_SECONDS = 0.04  # on several threads, before each turn: so long the threads of who came before may spin for work


Runs = dict[str, Callable[[], Any]]  # library -> what to time


@dataclass(frozen=True)
class Case:
    """One computation; ``runs[library]`` is a function to time.

    Work is counted once, as the formula needs it, whoever does more: ``flops`` are additions and multiplications (of a
    product 2 m n k; one for any function of an element), ``bytes`` what has to cross the memory if every operand is
    read once and every result written once.
    """

    group: str
    name: str
    runs: Runs
    flops: float = 0.0
    bytes: float = 0.0

    @property
    def limit(self) -> str:
        """What it is held against: "copy", the memory's rate, below one operation a byte; else "multiply-adds"."""
        if self.bytes and self.flops < self.bytes:
            return "copy"
        return "multiply-adds" if self.flops else ""


@dataclass
class Result:
    """Seconds (median, and the middle half of the rounds) of each library, and medians over rounds of all ratios.

    ``ratios`` are peer / glassgrad: above 1, glassgrad is faster. ``share`` is glassgrad's part of the limit, which is
    in FLOP/s or bytes a second; both are 0 where there is none.
    """

    group: str
    name: str
    threads: int
    rounds: int
    seconds: dict[str, float]
    spread: dict[str, tuple[float, float]]
    ratios: dict[str, float]
    flops: float
    bytes: float
    limit: str = ""
    limit_rate: float = 0.0
    share: float = 0.0
    goals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Operations or bytes a second, as the limit counts."""
        return (self.bytes if self.limit == "copy" else self.flops) / self.seconds["glassgrad"]

    @property
    def best_ratio(self) -> float | None:
        """The ratio to the quickest peer."""
        return min(self.ratios.values(), default=None)


def tensor_libraries(libraries):
    """(name, array -> tensor, functional) of the libraries that have tensors."""
    yield "glassgrad", lambda array: from_numpy(array.copy()), nn.functional
    if torch := libraries.get("torch"):
        yield "torch", lambda array: torch.from_numpy(array.copy()), torch.nn.functional


def forward_backward(function: Callable, *leaves: Any) -> None:
    for leaf in leaves:
        leaf.grad = None
    function(*leaves).sum().backward()


class Timer:
    """Times one function: blocks of so many calls that the clock does not matter."""

    def __init__(self, run: Callable[[], Any]):
        self._run = run
        self._count = 0

    def prepare(self) -> None:
        self._run()  # the first call plans, allocates and fills caches
        self._count = max(1, round(BLOCK_SECONDS / self._warm(WARM_SECONDS)))

    def time(self, rested: bool) -> float:
        """Seconds of one call; ``rested`` wakes the threads first."""
        if rested:
            self._warm(WAKE_SECONDS)
        start = time.perf_counter()
        for _ in range(self._count):
            self._run()
        return (time.perf_counter() - start) / self._count

    def _warm(self, seconds: float) -> float:
        """Call it until plans, caches, clocks and threads are as in a long run; seconds of the last call."""
        end = time.perf_counter() + seconds
        while True:
            start = time.perf_counter()
            self._run()
            now = time.perf_counter()
            if now >= end:
                return max(now - start, 1e-9)


def measure(
    case: Case,
    threads: int,
    rounds: int,
    limits: dict[str, Callable[[float], float]] | None = None,
    peers: dict[str, Any] | None = None,
) -> Result:
    """Time every library of ``case`` in turn, ``rounds`` times; the machine's own limit has its turn too.

    Args:
        peers: library -> what times it, with ``Timer``'s methods; by default the runs of the case, in this process.
    """
    own, *others = case.runs
    timers: dict[str, Any] = {own: Timer(case.runs[own])}
    timers |= {library: Timer(case.runs[library]) for library in others} if peers is None else peers
    for timer in timers.values():
        timer.prepare()
    limit = (limits or {}).get(case.limit)
    rates: list[float] = []
    times: dict[str, list[float]] = {library: [] for library in timers}
    for _ in range(rounds):
        if limit:
            rates.append(limit(case.bytes))
        for library, timer in timers.items():
            if threads > 1:
                time.sleep(REST_SECONDS)
            times[library].append(timer.time(rested=threads > 1))
    ours = times["glassgrad"]
    result = Result(
        case.group,
        case.name,
        threads,
        rounds,
        seconds={library: statistics.median(t) for library, t in times.items()},
        spread={library: _quartiles(t) for library, t in times.items()},
        ratios={
            library: statistics.median(peer / own for peer, own in zip(t, ours, strict=True))
            for library, t in times.items()
            if library != "glassgrad"
        },
        flops=case.flops,
        bytes=case.bytes,
        limit=case.limit,
    )
    if rates:
        work = case.bytes if case.limit == "copy" else case.flops
        result.limit_rate = statistics.median(rates)
        result.share = statistics.median(work / own / rate for own, rate in zip(ours, rates, strict=True))
    return result


def _quartiles(times: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return low, high
