"""Kernels and training steps against NumPy and PyTorch, timed in turn in one run.

Machines are noisy, so no time stands alone: every round times each library once, one after the other, and what is quoted is
the median over the rounds of their ratio. A ratio above 1 says that glassgrad is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import backends
from ..backends import cpp
from ..errors import ArgumentError, MissingKernel
from . import conv, gemm, recurrent, rows, step
from .case import Case, Result, measure

CASES: dict[str, Callable[[dict[str, Any]], Iterator[Case]]] = {
    "gemm": gemm.cases,
    "conv": conv.cases,
    "rows": rows.cases,
    "rnn": recurrent.cases,
    "step": step.cases,
}
PEERS = ("numpy", "torch")


@contextlib.contextmanager
def _threads(n: int, libraries: dict[str, Any]):
    """All libraries limited to n threads; NumPy's only where threadpoolctl is installed."""
    module, torch = libraries["glassgrad"], libraries.get("torch")
    before = module.num_threads(), torch and torch.get_num_threads()
    module.set_num_threads(n)
    if torch:
        torch.set_num_threads(n)
    limits: Any = contextlib.nullcontext()
    if "numpy" in libraries and importlib.util.find_spec("threadpoolctl"):
        limits = importlib.import_module("threadpoolctl").threadpool_limits(n)
    try:
        with limits:
            yield
    finally:
        module.set_num_threads(before[0])
        if torch:
            torch.set_num_threads(before[1])


def _stream() -> float:
    """Bytes a second of a copy of 128 MiB, read and written: what memory can do."""
    source = np.ones(1 << 25, np.float32)
    target = np.empty_like(source)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="glassgrad bench", description=__doc__.partition("\n")[0])
    parser.add_argument("group", nargs="?", default="all", choices=[*CASES, "all"], help="which cases (default: all)")
    parser.add_argument(
        "--against", default="numpy,torch", metavar="PEERS", help="libraries to time beside (default: numpy,torch)"
    )
    parser.add_argument("--threads", default="1", metavar="N[,N]", help="numbers of threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=11, help="times that each library has its turn (default: 11)")
    parser.add_argument("--json", metavar="FILE", help="write the results and the machine to FILE")
    args = parser.parse_args(argv)
    if cpp.BACKEND is None:
        raise MissingKernel(f"bench: {cpp.WHY_MISSING}; expected compiled kernels to time.")
    if args.rounds < 1:
        raise ArgumentError(f"bench: rounds: got {args.rounds}; expected at least 1.")
    try:
        counts = [int(n) for n in args.threads.split(",")]
    except ValueError:
        raise ArgumentError(f"bench: threads: got {args.threads!r}; expected numbers with commas between.") from None
    libraries = _libraries(args.against)
    groups = tuple(CASES) if args.group == "all" else (args.group,)
    results = []
    machine = _machine(libraries)
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    for threads in counts:
        with _threads(threads, libraries), backends.use_backend("cpp"):
            peak, stream = cpp.BACKEND.module.fma_ceiling(0.1, "float32") * threads, _stream()
            print(
                f"\n{threads} thread{'s' * (threads > 1)}: multiply-adds {peak:.0f} GFLOP/s, copy {stream / 1e9:.1f} GB/s"
            )
            for group in groups:
                of_group = [
                    _shown(measure(case, threads, args.rounds), peak, stream) for case in CASES[group](libraries)
                ]
                results += of_group
                _print_means(group, of_group)
    if args.json:
        record = {"machine": machine, "results": [asdict(r) for r in results]}
        Path(args.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"\n{args.json}  every number")
    return 0


def _libraries(against: str) -> dict[str, Any]:
    libraries: dict[str, Any] = {"glassgrad": cpp.BACKEND and cpp.BACKEND.module}
    for name in filter(None, against.split(",")):
        if name not in PEERS:
            raise ArgumentError(f"bench: against: got {name!r}; expected any of {', '.join(PEERS)}.")
        try:
            libraries[name] = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed: its columns are missing", file=sys.stderr)
    return libraries


def _machine(libraries: dict[str, Any]) -> dict[str, str]:
    module = libraries["glassgrad"]
    facts = {
        "cpu": _cpu(),
        "isa": module.isa,
        "compiler": f"g++ {module.compiler}",
        "python": platform.python_version(),
    }
    return facts | {name: library.__version__ for name, library in libraries.items() if name in PEERS}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _shown(result: Result, peak: float, stream: float) -> Result:
    own = result.seconds["glassgrad"]
    low, high = result.spread["glassgrad"]
    text = f"  {result.group:5}{result.name:44}{_time(own)} ±{(high - low) / 2 / own:4.0%}"
    if result.flops:
        text += f"{result.flops / own / 1e9:8.1f} GFLOP/s {result.flops / own / 1e9 / peak:4.0%}"
    elif result.bytes:
        text += f"{result.bytes / own / 1e9:8.1f} GB/s    {result.bytes / own / stream:4.0%}"
    else:
        text += " " * 21
    text += "".join(f"   {peer} / glassgrad {ratio:5.2f}" for peer, ratio in result.ratios.items())
    print(text, flush=True)
    return result


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:9.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:9.2f} us"


def _print_means(group: str, results: list[Result]) -> None:
    for peer in PEERS:
        ratios = [r.ratios[peer] for r in results if peer in r.ratios]
        if ratios:
            print(
                f"  {group}: geometric mean of {peer} / glassgrad over {len(ratios)} cases: {statistics.geometric_mean(ratios):.2f}"
            )


__all__ = ["Case", "Result", "main", "measure"]
