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
import operator
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import backends, nn, optim
from .backends import cpp
from .creation import from_numpy
from .errors import ArgumentError, MissingKernel

GROUPS = ("gemm", "conv", "rows", "step")
PEERS = ("numpy", "torch")
_BLOCK_SECONDS = 0.01  # of one measurement: 10^5 times what reading the clock costs


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


# --------------------------------------------------------------------------------------------------------------- cases


def _gemm(libraries: dict[str, Any]) -> Iterator[Case]:
    squares = [(n, n, n, "") for n in (32, 64, 128, 256, 512, 1024)]
    training = [
        (64, 128, 784, "nt"),
        (64, 784, 128, ""),
        (128, 784, 64, "tn"),
        (64, 10, 128, "nt"),
        (1, 4096, 1024, "nt"),
    ]
    rng = np.random.default_rng(0)
    for m, n, k, layout in squares + training:
        # nt: b is stored transposed, as a Linear's weight is; tn: a is, as in the weight's gradient.
        a = rng.standard_normal((k, m) if layout == "tn" else (m, k)).astype(np.float32)
        b = rng.standard_normal((n, k) if layout == "nt" else (k, n)).astype(np.float32)
        a, b = (a.T if layout == "tn" else a), (b.T if layout == "nt" else b)
        runs: Runs = {"glassgrad": partial(libraries["glassgrad"].matmul, a, b)}
        if "numpy" in libraries:
            runs["numpy"] = partial(operator.matmul, a, b)
        if torch := libraries.get("torch"):
            runs["torch"] = partial(operator.matmul, _torch(torch, a), _torch(torch, b))
        yield Case(
            "gemm",
            f"{m} x {n} x {k} {layout}".strip(),
            runs,
            flops=2.0 * m * n * k,
            bytes=4.0 * (m * k + k * n + m * n),
        )


def _torch(torch, array):
    """A torch tensor on the array's own memory, strides and all."""
    base = torch.from_numpy(array if array.flags.c_contiguous else array.T)
    return base if array.flags.c_contiguous else base.T


_CONVOLUTIONS = {  # name: (n, c, size, k, kernel, stride, padding)
    "c1_28": (64, 1, 28, 32, 3, 1, 1),
    "c32_13": (64, 32, 13, 64, 3, 1, 1),
    "c64_56": (4, 64, 56, 64, 3, 1, 1),
    "c128_28": (8, 128, 28, 128, 3, 1, 1),
    "1x1": (8, 128, 28, 256, 1, 1, 0),
    "stem7x7": (4, 3, 112, 64, 7, 2, 3),
    "stride-2": (8, 64, 56, 128, 3, 2, 1),
}


def _conv(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for name, (n, c, size, k, kernel, stride, padding) in _CONVOLUTIONS.items():
        x = rng.standard_normal((n, c, size, size)).astype(np.float32)
        w = rng.standard_normal((k, c, kernel, kernel)).astype(np.float32)
        out = (size + 2 * padding - kernel) // stride + 1
        flops = 2.0 * n * k * out * out * c * kernel * kernel
        runs: Runs = {}
        for library, tensor, functional in _tensor_libraries(libraries):
            convolve = partial(functional.conv2d, stride=stride, padding=padding)
            runs[library] = partial(_forward_backward, convolve, tensor(x).requires_grad_(), tensor(w).requires_grad_())
        yield Case("conv", f"{name} forward + backward", runs, flops=3 * flops)


def _forward_backward(function: Callable, *leaves: Any) -> None:
    for leaf in leaves:
        leaf.grad = None
    function(*leaves).sum().backward()


def _rows(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    array = rng.standard_normal((4096, 2048)).astype(np.float32)
    n = array.nbytes
    numpy_forms: dict[str, Callable] = {
        "add": lambda: array + array,
        "exp": lambda: np.exp(array),
        "sum of rows": lambda: array.sum(1),
        "sum of columns": lambda: array.sum(0),
        "max of rows": lambda: array.max(1),
    }
    forms: dict[str, tuple[Callable, float]] = {
        "add": (lambda f, x: x + x, 2 * n),
        "exp": (lambda f, x: x.exp(), 2 * n),
        "gelu": (lambda f, x: f.gelu(x), 2 * n),
        "softmax": (lambda f, x: f.softmax(x, dim=1), 2 * n),
        "layer norm": (lambda f, x: f.layer_norm(x, (x.shape[1],)), 2 * n),
        "sum of rows": (lambda f, x: x.sum(1), n),
        "sum of columns": (lambda f, x: x.sum(0), n),
        "max of rows": (lambda f, x: x.amax(1), n),
    }
    for name, (form, bytes_) in forms.items():
        runs: Runs = {
            library: partial(form, functional, tensor(array))
            for library, tensor, functional in _tensor_libraries(libraries)
        }
        if "numpy" in libraries and name in numpy_forms:
            runs["numpy"] = numpy_forms[name]
        yield Case("rows", f"{name} (4096, 2048)", runs, bytes=float(bytes_))


def _tensor_libraries(libraries):
    """(name, array -> tensor, functional) of the libraries that have tensors."""
    yield "glassgrad", lambda array: from_numpy(array.copy()), nn.functional
    if torch := libraries.get("torch"):
        yield "torch", lambda array: torch.from_numpy(array.copy()), torch.nn.functional


def _mlp(nn):
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def _batch_norm_mlp(nn):
    return nn.Sequential(nn.Linear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10))


def _deep_tanh(nn):
    return nn.Sequential(*[layer for _ in range(50) for layer in (nn.Linear(100, 100), nn.Tanh())], nn.Linear(100, 10))


def _cnn(nn):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 25, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


_STEPS: dict[str, tuple[Callable, tuple[int, ...], str, dict]] = {
    "MLP 784-128-10, SGD momentum": (_mlp, (64, 784), "SGD", {"lr": 0.01, "momentum": 0.9}),
    "MLP 784-256-BN-10, Adam": (_batch_norm_mlp, (64, 784), "Adam", {"lr": 1e-3}),
    "50 x Linear(100) + Tanh, SGD": (_deep_tanh, (64, 100), "SGD", {"lr": 0.01}),
    "CNN 32c3-p2-64c3-p2-128-10, Adam": (_cnn, (64, 1, 28, 28), "Adam", {"lr": 1e-3}),
}


def _step(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int64) % 10
    yield _small_graph(libraries)
    for name, (make, shape, optimizer, options) in _STEPS.items():
        images = rng.standard_normal(shape).astype(np.float32)
        runs: Runs = {}
        for library, tensor, functional in _tensor_libraries(libraries):
            own, optimizers = (
                (nn, optim) if library == "glassgrad" else (libraries["torch"].nn, libraries["torch"].optim)
            )
            model = make(own)
            update = getattr(optimizers, optimizer)(model.parameters(), **options)

            runs[library] = partial(_train, model, update, functional.cross_entropy, tensor(images), tensor(labels))
        yield Case("step", f"{name}, batch 64", runs)


def _train(model: Callable, optimizer: Any, loss: Callable, x: Any, y: Any) -> None:
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()


def _small_graph(libraries) -> Case:
    numbers = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    runs: Runs = {
        library: partial(_forward_backward, lambda a: a * a + a, tensor(numbers).requires_grad_())
        for library, tensor, _ in _tensor_libraries(libraries)
    }
    return Case("step", "(a * a + a).sum().backward(), 4 numbers", runs)


_CASES: dict[str, Callable[[dict[str, Any]], Iterator[Case]]] = {
    "gemm": _gemm,
    "conv": _conv,
    "rows": _rows,
    "step": _step,
}

# ------------------------------------------------------------------------------------------------------------- measuring


def measure(case: Case, threads: int, rounds: int) -> Result:
    """Time every library of ``case`` in turn, ``rounds`` times."""
    counts = {}
    for library, run in case.runs.items():
        run()  # the first call plans, allocates and fills caches
        start = time.perf_counter()
        run()
        counts[library] = max(1, round(_BLOCK_SECONDS / max(time.perf_counter() - start, 1e-9)))
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


# --------------------------------------------------------------------------------------------------------------- command


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="glassgrad bench", description=__doc__.partition("\n")[0])
    parser.add_argument("group", nargs="?", default="all", choices=[*GROUPS, "all"], help="which cases (default: all)")
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
    groups = GROUPS if args.group == "all" else (args.group,)
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
                    _shown(measure(case, threads, args.rounds), peak, stream) for case in _CASES[group](libraries)
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
