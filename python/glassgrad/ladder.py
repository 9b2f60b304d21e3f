"""The ladder of a kernel, rung by rung: is it right, how fast is it, how near to what this CPU can do, and why.

``glassgrad ladder matmul`` runs the files ``csrc/cpu/matmul/0_naive.cpp`` to ``5_production.cpp`` on the same two
matrices, on one thread. The limit of arithmetic and that of memory are measured in turn with the rungs, not looked up.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .backends import cpp
from .backends.rungs import LADDERS
from .bench.case import Result
from .bench.machine import Limit, cpu, highest, limited_to, measured_limits
from .errors import ArgumentError, MissingKernel, message
from .locate import roots
from .op import REGISTRY

_BEGIN, _END = "<!-- ladder:begin -->", "<!-- ladder:end -->"
_SECONDS = 0.3  # per rung and kernel, one run at least


# ------------------------------------------------------------------------------------------------------------ problems


@dataclass(frozen=True)
class Task:
    """One kernel call that every rung answers: ``op`` of arrays. ``torch`` is what PyTorch calls for it.

    ``error`` of an answer is the largest one in units of ``of``, which is eps times what went into the number;
    ``allowed`` is the largest that rounding can make of it, in any order.
    """

    name: str
    op: str
    arrays: tuple
    static: dict[str, Any]
    flops: float
    bytes: float
    error: Callable[[np.ndarray], float]
    allowed: float
    numpy: Callable | None = None
    torch: Callable | None = None

    @property
    def limit(self) -> str:
        return "copy" if self.flops < self.bytes else "multiply-adds"


@dataclass(frozen=True)
class Problem:
    title: str
    tasks: list[Task]
    unit: str  # of the error


def _matmul(size: str, dtype: np.dtype) -> Problem:
    sizes = _numbers("matmul", size, (1, 3), 8192)
    m, n, k = sizes if len(sizes) == 3 else sizes * 3
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (m, k)).astype(dtype), rng.uniform(-1, 1, (k, n)).astype(dtype)
    # The truth is one precision wider: slow for float64, so that is judged on 64 rows.
    rows = slice(None, None, 1 if dtype == np.float32 else max(1, m // 64))
    error = _error(np.matmul, (a[rows], b), {}, lambda c: c[rows])
    work = 2.0 * m * n * k, dtype.itemsize * float(m * k + k * n + m * n)
    task = Task("matmul", "matmul", (a, b), {}, *work, error, k + 2, np.matmul, lambda torch, a, b: a @ b)
    return Problem(f"matmul, {m} x {n} x {k}", [task], "eps sum |a| |b|")


_SHAPES = {  # name: n, c, size, k, kernel, stride, padding
    "body": (4, 64, 56, 64, 3, 1, 1),
    "deep": (8, 256, 14, 256, 3, 1, 1),
    "first": (16, 3, 56, 64, 3, 1, 1),
    "stride": (8, 64, 56, 128, 3, 2, 1),
    "1x1": (8, 128, 28, 256, 1, 1, 0),
}


def _conv(size: str, dtype: np.dtype) -> Problem:
    shape = _SHAPES.get(size) or _numbers("conv", size, (7,), 4096, f", or one of {', '.join(_SHAPES)}")
    n, c, pixels, k, kernel, stride, padding = shape
    out = (pixels + 2 * padding - kernel) // stride + 1
    if stride < 1 or out < 1:
        raise ArgumentError(message("ladder", "size", size, "a kernel that fits into the image, and a stride from 1"))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, c, pixels, pixels)).astype(dtype)
    w = rng.uniform(-1, 1, (k, c, kernel, kernel)).astype(dtype)
    dy = rng.uniform(-1, 1, (n, k, out, out)).astype(dtype)
    geometry = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": 1}
    flops = 2.0 * n * k * out**2 * c * kernel**2
    bytes_ = dtype.itemsize * float(x.size + w.size + dy.size)
    # One precision wider is slow for float64: that is judged on 2 channels.
    some = slice(None) if dtype == np.float32 else slice(2)

    def task(name, op, arrays, judged, static, judged_static, part, terms, torch):
        error = _error(REGISTRY[op].reference, judged, geometry | judged_static, part)
        return Task(name, op, arrays, geometry | static, flops, bytes_, error, terms + 2, None, torch)

    def torch_conv(torch, x, w, bias):
        return torch.nn.functional.conv2d(x, w, bias, stride, padding)

    def torch_input(torch, dy, w):
        return torch.nn.grad.conv2d_input(x.shape, w, dy, stride, padding)

    def torch_weight(torch, dy, x):
        return torch.nn.grad.conv2d_weight(x, w.shape, dy, stride, padding)

    tasks = [
        task("forward", "conv2d", (x, w, None), (x, w[some], None), {}, {}, lambda y: y[:, some], c * kernel**2, torch_conv),
        task("input gradient", "conv2d_backward_input", (dy, w), (dy, w[:, some]), {"x_shape": x.shape},
             {"x_shape": x[:, some].shape}, lambda dx: dx[:, some], k * kernel**2, torch_input),
        task("weight gradient", "conv2d_backward_weight", (dy, x), (dy[:, some], x), {"w_shape": w.shape},
             {"w_shape": w[some].shape}, lambda dw: dw[some], n * out**2, torch_weight),
    ]  # fmt: skip
    text = f"conv, {n} x {c} x {pixels} x {pixels} to {k} channels, {kernel} x {kernel}, stride {stride}"
    return Problem(text, tasks, "eps sum |x| |w|")


def _softmax(size: str, dtype: np.dtype) -> Problem:
    rows, cols = _numbers("softmax", size, (2,), 1 << 20)
    x = np.random.default_rng(0).uniform(-3, 3, (rows, cols)).astype(dtype)
    exact = REGISTRY["softmax"].reference(x.astype(_wider(dtype)), dim=1)
    eps = np.finfo(dtype).eps

    def error(y):
        return float(np.max(np.abs(y - exact) / (eps * exact)))

    def torch(torch, x):
        return torch.softmax(x, 1)

    # Per element: maximum, difference, exponential, sum, quotient. All terms have one sign: a sum of n is off by n eps.
    work = 5.0 * x.size, 2.0 * x.nbytes
    task = Task("softmax", "softmax", (x,), {"dim": 1}, *work, error, cols + 8, None, torch)
    return Problem(f"softmax, {rows} rows of {cols}", [task], "eps y")


PROBLEMS: dict[
    str, tuple[Callable[[str, np.dtype], Problem], str]
] = {  # ladder: (the problem of a size, the usual size)
    "matmul": (_matmul, "1024"),
    "conv2d": (_conv, "body"),
    "softmax": (_softmax, "8192x2048"),
}


def _numbers(kernel: str, size: str, counts: tuple[int, ...], most: int, more: str = "") -> list[int]:
    parts = re.split("[x,]", size)
    numbers = [int(p) for p in parts if p.isdecimal()]
    if (
        len(numbers) != len(parts)
        or len(numbers) not in counts
        or not all(n <= most for n in numbers)
        or 0 in numbers[:2]
    ):
        how_many = " or ".join(map(str, counts))
        raise ArgumentError(
            message(f"ladder {kernel}", "size", repr(size), f"{how_many} numbers from 1 to {most}{more}")
        )
    return numbers


def _wider(dtype: np.dtype) -> Any:
    return np.float64 if dtype == np.float32 else np.longdouble


def _error(reference: Callable, arrays: tuple, static: dict, part: Callable) -> Callable[[np.ndarray], float]:
    """Of an answer: the largest error of ``part`` of it, in units of eps times the sum of the |products| in a number."""
    dtype = arrays[0].dtype
    wide = [None if a is None else a.astype(_wider(dtype)) for a in arrays]
    exact = reference(*wide, **static)
    scale = np.finfo(dtype).eps * reference(*[None if a is None else np.abs(a) for a in wide], **static)
    scale = scale + np.finfo(dtype).tiny  # a number that no product reaches is 0, exactly
    return lambda y: float(np.max(np.abs(part(y) - exact) / scale))


# ------------------------------------------------------------------------------------------------------------ climbing


@dataclass(frozen=True)
class Measured:
    """A kernel on a rung. ``rate`` and ``limit`` are in FLOP/s or bytes a second; ``share`` is of the limit."""

    task: Task
    seconds: float
    limit: float
    error: float

    @property
    def rate(self) -> float:
        return (self.task.bytes if self.task.limit == "copy" else self.task.flops) / self.seconds

    @property
    def share(self) -> float:
        return self.rate / self.limit


@dataclass(frozen=True)
class Rung:
    """A line of the table: one measurement per task, None where the rung has no kernel for it (NotImplemented)."""

    name: str
    measured: list[Measured | None]
    why: str
    library: str = "glassgrad"

    @property
    def error(self) -> float:
        return max((m.error for m in self.measured if m), default=0.0)


def climb(kernel: str, problem: Problem, dtype: str) -> list[Rung]:
    """Every rung on one thread, production on all of them, and the peers on one."""
    module, ladder = cpp.BACKEND.module, LADDERS[kernel]  # type: ignore[union-attr]
    names, threads = ladder.names(), module.num_threads()
    peers = {name: importlib.import_module(name) for name in ("numpy", "torch") if _usable(name)}
    rungs = []
    with limited_to(1, module, peers), measured_limits(1, module, dtype) as limits:

        def rung(name: str, call_of: Callable[[Task], Callable], why: str, library: str = "glassgrad") -> Rung:
            return Rung(name, [_measure(t, call_of(t), limits[t.limit]) for t in problem.tasks], why, library)

        for i, name in enumerate(names):
            rungs.append(rung(f"{i} {name}", partial(_call, ladder, name), _why(ladder.folder, i, name)))
        for name in peers:
            if all(getattr(t, name) for t in problem.tasks):
                shown = {"numpy": "NumPy", "torch": "PyTorch"}[name]
                rungs.append(rung(f"{shown}, 1 thread", partial(_peer, name, peers[name]), "For comparison.", name))
    if threads > 1:
        with measured_limits(threads, module, dtype) as limits:
            why = "The work is shared out by shape; the sums are those of one thread, bit for bit."
            rungs.insert(len(names), rung(f"production, {threads} threads", partial(_call, ladder, names[-1]), why))
    return rungs


def _usable(peer: str) -> bool:
    """NumPy reads how many threads it has when it is imported: without threadpoolctl it cannot be held to one."""
    return importlib.util.find_spec({"numpy": "threadpoolctl"}.get(peer, peer)) is not None


def _call(ladder, rung: str, task: Task) -> Callable:
    return partial(ladder.kernel(task.op, rung), *task.arrays, **task.static)


def _peer(name: str, library: Any, task: Task) -> Callable:
    function: Any = getattr(task, name)
    if name == "numpy":
        return partial(function, *task.arrays)
    return partial(function, library, *[None if a is None else library.from_numpy(a) for a in task.arrays])


def _measure(task: Task, call: Callable, limit: Limit) -> Measured | None:
    """The quickest of many runs, and the limit, measured in turn: clocks change while one looks on."""
    answer = call()
    if answer is NotImplemented:
        return None
    error = task.error(np.asarray(answer))
    best, most, end = math.inf, 0.0, time.perf_counter() + _SECONDS
    while time.perf_counter() < end or not most:
        most = max(most, limit(task.bytes))
        stop = time.perf_counter() + 0.005
        while True:
            start = time.perf_counter()
            call()
            now = time.perf_counter()
            best = min(best, now - start)
            if now >= stop:
                break
    return Measured(task, best, most, error)


# ------------------------------------------------------------------------------------------------------------- showing


def main(argv: list[str]) -> int:
    folders = {ladder.folder: op for op, ladder in LADDERS.items()}
    parser = argparse.ArgumentParser(prog="glassgrad ladder", description=__doc__.partition("\n")[0])
    parser.add_argument("kernel", choices=folders, help="which ladder")
    sizes = f"matmul: N or MxNxK; softmax: ROWSxCOLS; conv: {', '.join(_SHAPES)}, or N,C,SIZE,K,KERNEL,STRIDE,PADDING"
    parser.add_argument("--size", help=sizes)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--png", metavar="FILE", help="draw the rungs under the machine's roofs")
    parser.add_argument("--write", action="store_true", help="put the table into the ladder's README")
    args = parser.parse_args(argv)
    if cpp.BACKEND is None:
        raise MissingKernel(f"ladder: {cpp.WHY_MISSING}; expected compiled kernels to time.")
    if args.png and importlib.util.find_spec("matplotlib") is None:
        raise ArgumentError(
            'ladder: a roofline needs matplotlib, which is not installed: pip install "glassgrad[viz]".'
        )

    op = folders[args.kernel]
    make, usual = PROBLEMS[op]
    size = args.size or usual
    problem = make(size, np.dtype(args.dtype))
    rungs = climb(op, problem, args.dtype)
    title = f"{problem.title}, {args.dtype}, {cpp.BACKEND.module.isa}: {_limits(rungs)}"
    print(title)
    for rung in rungs:
        print(f"\n{rung.name}")
        for task, m in zip(problem.tasks, rung.measured, strict=True):
            name = f"{task.name:16}" if len(problem.tasks) > 1 else ""
            if m is None:
                print(f"    {name}{'not for this shape':>15}")
                continue
            print(f"    {name}{_rate(m):>15} {m.share:7.1%} of the limit, error {m.error:.2g} {problem.unit}")
        print(f"    {rung.why}")
    if args.png:
        _draw(rungs, args.dtype, Path(args.png))
        print(f"\n{args.png}")
    if args.write:
        readme = _folder(args.kernel) / "README.md"
        command = f"glassgrad ladder {args.kernel} --size {size} --dtype {args.dtype} --write"
        write_table(readme, f"{title}. Remade by `{command}`.", problem.tasks, rungs)
        print(f"\nwritten: {readme}")
    wrong = [f"{r.name}, {m.task.name}" for r in rungs for m in r.measured if m and not m.error <= m.task.allowed]
    if wrong:
        print(f"\nwrong: {'; '.join(wrong)}: further off than rounding explains", file=sys.stderr)
    return 1 if wrong else 0


def _limits(rungs: list[Rung]) -> str:
    """The limit of one thread: the median over what was measured beside each rung."""
    one = [m for r in rungs for m in r.measured if m and not r.name.startswith("production, ")]
    value = float(np.median([m.limit for m in one])) / 1e9
    return f"copy {value:.1f} GB/s" if one[0].task.limit == "copy" else f"ceiling {value:.0f} GFLOP/s per thread"


def _rate(m: Measured) -> str:
    return f"{m.rate / 1e9:.1f} {'GB/s' if m.task.limit == 'copy' else 'GFLOP/s'}"


def write_table(readme: Path, title: str, tasks: list[Task], rungs: list[Rung]) -> None:
    """Replace what stands between the markers of ``readme``."""
    text = readme.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ArgumentError(f"ladder: {readme}: expected the markers {_BEGIN} and {_END} once each.")
    columns = []
    for task in tasks:
        name = f"{task.name}, " if len(tasks) > 1 else ""
        columns += [f"{name}{'GB/s' if task.limit == 'copy' else 'GFLOP/s'}", "of the limit"]
    rows = []
    for r in rungs:
        cells = [cell for m in r.measured for cell in ((f"{m.rate / 1e9:.1f}", f"{m.share:.1%}") if m else ("", ""))]
        rows.append(f"| {' | '.join([r.name, *cells, f'{r.error:.2g}', r.why])} |")
    table = [
        title,
        "",
        f"| rung | {' | '.join(columns)} | error, eps | why faster |",
        f"|---|{'---:|' * (len(columns) + 1)}---|",
        *rows,
    ]
    head, tail = text.partition(_BEGIN)[0], text.partition(_END)[2]
    readme.write_text(head + "\n".join([_BEGIN, *table, _END]) + tail, encoding="utf-8")


def _draw(rungs: list[Rung], dtype: str, path: Path) -> None:
    from .bench.roofline import draw

    module = cpp.BACKEND.module  # type: ignore[union-attr]
    with measured_limits(1, module, dtype) as limits:
        rates = highest(limits)
    results = []
    for rung in rungs:
        for m in rung.measured:
            if m and not rung.name.startswith("production, "):  # its roof is another
                one = Result(
                    m.task.name, rung.name, 1, 1, {rung.library: m.seconds}, {}, {}, m.task.flops, m.task.bytes
                )
                results.append(asdict(one))
    named = dict.fromkeys(r["group"] for r in results)
    record = {
        "machine": {"cpu": cpu(), "isa": module.isa, "dtype": dtype},
        "limits": [{"group": group, "threads": 1} | rates for group in named],
        "results": results,
    }
    draw(record, path)


def _folder(name: str) -> Path:
    return roots()[0] / "csrc" / "cpu" / name


def _why(folder: str, index: int, name: str) -> str:
    """The first sentence after "Why faster:" in the rung's own file."""
    path = _folder(folder) / f"{index}_{name}.cpp"
    if not path.is_file():
        return ""
    head = re.sub(r"\n//\s*", " ", path.read_text(encoding="utf-8").partition("#include")[0])
    found = re.search(r"Why faster: *(.*?\.)(?= [A-Z\d(]| *$)", head)
    return found.group(1)[0].upper() + found.group(1)[1:] if found else ""
