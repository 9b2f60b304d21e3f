"""Kernels and training steps against NumPy and PyTorch, timed in turn in one run.

Machines are noisy, so no time stands alone: every round times each library once, one after the other, and what the CPU
and its memory can do at most has its turn as well. What is quoted is the median over the rounds of their ratio. A ratio
above 1 says that glassgrad is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import backends
from ..backends import cpp
from ..errors import ArgumentError, MissingKernel
from . import attention, conv, gemm, recurrent, report, rows, step
from .case import Case, Result, measure
from .goals import judge, judge_mean
from .machine import facts, highest, limited_to, measured_limits, slug
from .worker import Worker

CASES: dict[str, Callable[[dict[str, Any]], Iterator[Case]]] = {
    "gemm": gemm.cases,
    "conv": conv.cases,
    "attention": attention.cases,
    "rows": rows.cases,
    "recurrent": recurrent.cases,
    "step": step.cases,
}
PEERS = ("numpy", "torch")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="glassgrad bench", description=__doc__.partition("\n")[0])
    parser.add_argument("group", nargs="?", default="all", choices=[*CASES, "all"], help="which cases (default: all)")
    parser.add_argument(
        "--against", default="numpy,torch", metavar="PEERS", help="libraries to time beside (default: numpy,torch)"
    )
    parser.add_argument("--threads", default="1", metavar="N[,N]", help="numbers of threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=11, help="times that each library has its turn (default: 11)")
    parser.add_argument("--json", metavar="FILE", help="write the results and the machine to FILE")
    parser.add_argument("--roofline", metavar="FILE", help="draw every case under the machine's roofs: a PNG")
    parser.add_argument(
        "--results", metavar="FOLDER", help="write <machine>.json, .md and .png there, named after this machine"
    )
    args = parser.parse_args(argv)
    if cpp.BACKEND is None:
        raise MissingKernel(f"bench: {cpp.WHY_MISSING}; expected compiled kernels to time.")
    if args.rounds < 1:
        raise ArgumentError(f"bench: rounds: got {args.rounds}; expected at least 1.")
    if (args.roofline or args.results) and importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError('bench: a roofline needs matplotlib, which is not installed: pip install "glassgrad[viz]".')
    counts = _counts(args.threads)
    peers = _peers(args.against)
    machine = facts(cpp.BACKEND.module, peers)
    print("\n".join(f"{key:10} {value}" for key, value in machine.items()))
    record = {"machine": machine} | _run(
        list(CASES) if args.group == "all" else [args.group], counts, args.rounds, peers
    )
    print(report.summary(record), flush=True)
    for path in _write(record, args):
        print(path)
    return 0


def _run(groups: list[str], counts: list[int], rounds: int, peers: dict[str, Any]) -> dict[str, Any]:
    """Every case of the groups on each number of threads, shown as they come: results, and the limits of each group."""
    module = cpp.BACKEND.module  # type: ignore[union-attr]
    results: list[Result] = []
    limits_of_groups = []
    libraries = {"glassgrad": module} | peers
    for threads in counts:
        with contextlib.ExitStack() as stack:

            def all_cases(libraries):
                return itertools.chain.from_iterable(CASES[group](libraries) for group in groups)

            workers = [stack.enter_context(Worker(name, all_cases, libraries, threads)) for name in peers]
            stack.enter_context(limited_to(threads, module, {}))
            limits = stack.enter_context(measured_limits(threads, module))
            stack.enter_context(backends.use_backend("cpp"))
            for group in groups:
                # Clocks and neighbours change within minutes: each group says what the machine could do in its time.
                rates = highest(limits)
                limits_of_groups.append({"group": group, "threads": threads} | rates)
                print(report.heading(group, threads, rates), flush=True)
                of_group = []
                for case in CASES[group]({"glassgrad": module}):
                    able = {worker.library: worker for worker in workers if worker.next_case()}
                    result = measure(case, threads, rounds, limits, able)
                    result.goals = judge(result)
                    print(report.line(result), flush=True)
                    of_group.append(result)
                print(report.means(group, of_group, judge_mean(group, of_group)), flush=True)
                results += of_group
    return {"limits": limits_of_groups, "results": [asdict(r) for r in results]}


def _write(record: dict[str, Any], args: argparse.Namespace) -> Iterator[Path]:
    """The files that were asked for."""
    folder = Path(args.results) if args.results else None
    name = slug(record["machine"])
    jsons = [Path(p) for p in (args.json, folder and folder / f"{name}.json") if p]
    pictures = [Path(p) for p in (args.roofline, folder and folder / f"{name}.png") if p]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    for path in jsons:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        yield path
    for path in pictures:
        from .roofline import draw

        draw(record, path)
        yield path
    if folder:
        path = folder / f"{name}.md"
        path.write_text(report.page(record, f"{name}.png"), encoding="utf-8")
        yield path


def _counts(threads: str) -> list[int]:
    try:
        counts = [int(n) for n in threads.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise ArgumentError(f"bench: threads: got {threads!r}; expected numbers from 1 with commas between.")
    return counts


def _peers(against: str) -> dict[str, Any]:
    peers: dict[str, Any] = {}
    for name in filter(None, against.split(",")):
        if name not in PEERS:
            raise ArgumentError(f"bench: against: got {name!r}; expected any of {', '.join(PEERS)}.")
        try:
            peers[name] = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed: its columns are missing", file=sys.stderr)
    if "numpy" in peers and importlib.util.find_spec("threadpoolctl") is None:
        print("threadpoolctl is not installed: NumPy keeps the threads it started with", file=sys.stderr)
    return peers


__all__ = ["Case", "Result", "main", "measure"]
