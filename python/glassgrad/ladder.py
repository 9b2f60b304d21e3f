"""The ladder of a kernel, rung by rung: is it right, how fast is it, how near to what this CPU can do, and why.

``glassgrad ladder matmul`` runs the files ``csrc/cpu/matmul/0_naive.cpp`` to ``5_production.cpp`` on the same two
matrices. The ceiling is measured, not looked up: multiply-adds that never leave the registers, on one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .backends import cpp
from .errors import ArgumentError, MissingKernel, message
from .locate import roots

_BEGIN, _END = "<!-- ladder:begin -->", "<!-- ladder:end -->"
_SECONDS = 0.3  # per rung, one run at least


@dataclass(frozen=True)
class Rung:
    """One line of the table. ``error`` is the largest one, in units of eps sum |a| |b|: at most k + 2, in any order."""

    name: str
    gflops: float
    share: float  # of the ceiling of its threads
    error: float
    why: str


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="glassgrad ladder", description=__doc__.partition("\n")[0])
    parser.add_argument("kernel", choices=["matmul"], help="which ladder")
    parser.add_argument("--size", type=int, default=1024, metavar="N", help="N x N matrices (default: 1024)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--write", action="store_true", help="put the table into the ladder's README")
    args = parser.parse_args(argv)
    if not 1 <= args.size <= 8192:
        raise ArgumentError(message("ladder", "size", args.size, "1 to 8192"))
    if cpp.BACKEND is None:
        raise MissingKernel(f"ladder: {cpp.WHY_MISSING}; expected compiled kernels to time.")

    title, rungs = climb(cpp.BACKEND.module, args.size, np.dtype(args.dtype))
    print(title)
    for rung in rungs:
        print(
            f"\n{rung.name:24} {rung.gflops:8.1f} GFLOP/s {rung.share:6.1%} of the ceiling, error {rung.error:.2g} eps"
        )
        print(f"    {rung.why}")
    if args.write:
        readme = _folder() / "README.md"
        write_table(readme, title, rungs, args)
        print(f"\nwritten: {readme}")
    wrong = [rung.name for rung in rungs if not rung.error <= args.size + 2]
    if wrong:
        print(f"\nwrong: {', '.join(wrong)}: off by more than {args.size + 2} eps", file=sys.stderr)
    return 1 if wrong else 0


def climb(module, size: int, dtype: np.dtype) -> tuple[str, list[Rung]]:
    """Every rung of matmul on one thread, production on all of them, and NumPy on one: a title and the lines."""
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (size, size)).astype(dtype) for _ in range(2))
    error_of = _judge(a, b)

    ceilings = []

    def run(name: str, product: Callable[[], np.ndarray], threads: int, why: str) -> Rung:
        module.set_num_threads(threads)
        error = error_of(product())
        seconds, ceiling = _best(product, module, dtype)
        ceilings.append(ceiling)
        gflops = 2e-9 * size**3 / seconds
        return Rung(name, gflops, gflops / (threads * ceiling), error, why)

    threads = module.num_threads()
    try:
        rungs = [
            run(f"{i} {name}", partial(module.matmul_rung, name, a, b), 1, _why(i, name))
            for i, name in enumerate(module.matmul_rungs())
        ]
        if threads > 1:
            why = "Blocks of c are shared out; the sums are those of one thread, bit for bit."
            rungs.append(run(f"production, {threads} threads", partial(module.matmul, a, b), threads, why))
    finally:
        module.set_num_threads(threads)
    rungs += _numpy(size, dtype)
    ceiling = float(np.median(ceilings))
    return f"matmul, {size} x {size}, {dtype}, {module.isa}: ceiling {ceiling:.0f} GFLOP/s per thread", rungs


def write_table(readme: Path, title: str, rungs: list[Rung], args: argparse.Namespace) -> None:
    """Replace what stands between the markers of ``readme``."""
    text = readme.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ArgumentError(f"ladder: {readme}: expected the markers {_BEGIN} and {_END} once each.")
    command = f"glassgrad ladder {args.kernel} --size {args.size} --dtype {args.dtype} --write"
    table = [
        f"{title}. Remade by `{command}`.",
        "",
        "| rung | GFLOP/s | of the ceiling | error, eps | why faster |",
        "|---|---:|---:|---:|---|",
        *(f"| {r.name} | {r.gflops:.1f} | {r.share:.1%} | {r.error:.2g} | {r.why} |" for r in rungs),
    ]
    head, tail = text.partition(_BEGIN)[0], text.partition(_END)[2]
    readme.write_text(head + "\n".join([_BEGIN, *table, _END]) + tail, encoding="utf-8")


def _judge(a: np.ndarray, b: np.ndarray) -> Callable[[np.ndarray], float]:
    """The error of a product, as in ``Rung``. The truth is one precision wider: slow for float64, so on 64 rows."""
    wide: Any = np.float64 if a.dtype == np.float32 else np.longdouble
    rows = slice(None, None, 1 if a.dtype == np.float32 else max(1, len(a) // 64))
    left, right = a[rows].astype(wide), b.astype(wide)
    exact, scale = left @ right, np.finfo(a.dtype).eps * (np.abs(left) @ np.abs(right))
    return lambda c: float(np.max(np.abs(c[rows] - exact) / scale))


def _best(product: Callable[[], object], module, dtype: np.dtype) -> tuple[float, float]:
    """The quickest of many runs in seconds, and the ceiling, measured in turn: clocks change while one looks on."""
    best, ceiling, end = np.inf, 0.0, time.perf_counter() + _SECONDS
    while time.perf_counter() < end or not ceiling:
        ceiling = max(ceiling, module.fma_ceiling(0, dtype.name))  # 1 to 4 ms
        stop = time.perf_counter() + 0.005
        while True:
            start = time.perf_counter()
            product()
            now = time.perf_counter()
            best = min(best, now - start)
            if now >= stop:
                break
    return best, ceiling


def _folder() -> Path:
    return roots()[0] / "csrc" / "cpu" / "matmul"


def _why(index: int, name: str) -> str:
    """The first sentence after "Why faster:" in the rung's own file."""
    path = _folder() / f"{index}_{name}.cpp"
    if not path.is_file():
        return ""
    head = re.sub(r"\n//\s*", " ", path.read_text(encoding="utf-8").partition("#include")[0])
    found = re.search(r"Why faster: *(.*?\.)(?= [A-Z\d(]| *$)", head)
    return found.group(1)[0].upper() + found.group(1)[1:] if found else ""


_NUMPY = """
import sys, numpy as np
from glassgrad.backends import cpp
from glassgrad.ladder import _best, _judge
size, dtype = int(sys.argv[1]), np.dtype(sys.argv[2])
rng = np.random.default_rng(0)
a, b = (rng.uniform(-1, 1, (size, size)).astype(dtype) for _ in range(2))
print(*_best(lambda: a @ b, cpp.BACKEND.module, dtype), _judge(a, b)(a @ b))
"""


def _numpy(size: int, dtype: np.dtype) -> list[Rung]:
    """NumPy on one thread, in a process of its own: it counts its threads once, when it is imported."""
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")
    path = os.pathsep.join(p for p in (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")) if p)
    command = [sys.executable, "-c", _NUMPY, str(size), dtype.name]
    environment = {**os.environ, **one, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return []
    seconds, ceiling, error = map(float, done.stdout.split())
    gflops = 2e-9 * size**3 / seconds
    return [Rung("NumPy, 1 thread", gflops, gflops / ceiling, error, "For comparison: np.matmul.")]
