"""The machine: what it is, and what it can do at most, measured beside the cases and never looked up."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import importlib.util
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

COPIED = 1 << 27  # bytes: more than the last cache of most CPUs holds
SHARED = 1 << 20  # bytes: a smaller copy is done before a second thread has heard of it
Limit = Callable[[float], float]  # bytes of the case -> FLOP/s or bytes a second


def facts(module, peers: dict[str, Any]) -> dict[str, str]:
    """CPU, compiler, versions, date: all that a number needs beside it, as text."""
    known = {
        "cpu": cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "isa": module.isa,
        "compiler": f"g++ {module.compiler}",
        "flags": module.flags,
        "glassgrad": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    known |= {name: peer.__version__ for name, peer in peers.items()}
    # What changes the peers' speed from outside is told with it.
    return known | {k: v for k, v in sorted(os.environ.items()) if k.startswith(("OPENBLAS_", "OMP_", "MKL_", "KMP_"))}


def cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def slug(machine: dict[str, str]) -> str:
    """A file's name for the machine.

    >>> slug({"cpu": "Intel(R) Xeon(R) Platinum 8488C @ 2.40GHz", "isa": "avx512"})
    'intel-xeon-platinum-8488c-avx512'
    """
    name = re.sub(r"\((R|TM)\)|@.*|\bCPU\b", " ", machine["cpu"]).lower()
    return "-".join(re.findall(r"[a-z0-9]+", f"{name} {machine['isa']}"))


def commit() -> str:
    """The version, and the commit: of the checkout this package runs from, or GLASSGRAD_COMMIT, set by `make bench`."""
    from .. import __version__

    checkout = Path(__file__).parent.parent.parent.parent
    found = os.environ.get("GLASSGRAD_COMMIT", "")
    if not found and (checkout / ".git").exists() and (checkout / "csrc").is_dir():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            command = ["git", "-C", str(checkout), "describe", "--always", "--tags", "--dirty"]
            found = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    return f"{__version__} ({found})" if found else __version__


@contextlib.contextmanager
def limited_to(threads: int, module, peers: dict[str, Any]) -> Iterator[None]:
    """All libraries on so many threads; NumPy's only where threadpoolctl is installed."""
    torch = peers.get("torch")
    before = module.num_threads(), torch and torch.get_num_threads()
    module.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    blas: Any = contextlib.nullcontext()
    if "numpy" in peers and importlib.util.find_spec("threadpoolctl"):
        blas = importlib.import_module("threadpoolctl").threadpool_limits(threads)
    try:
        with blas:
            yield
    finally:
        module.set_num_threads(before[0])
        if torch:
            torch.set_num_threads(before[1])


@contextlib.contextmanager
def measured_limits(threads: int, module, dtype: str = "float32") -> Iterator[dict[str, Limit]]:
    """name -> a function that measures the limit once, on all threads at the same time.

    "multiply-adds": FLOP/s of numbers that never leave the registers, one to four milliseconds.
    "copy": bytes a second of a copy that reads half of the bytes given and writes the other half. As many as the case
    moves: what fits into a cache is copied in a cache.
    """
    source = np.ones(COPIED, np.uint8)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:

        def multiply_adds(_: float) -> float:
            return 1e9 * sum(pool.map(lambda _: module.fma_ceiling(0, dtype), range(threads)))

        def copy(moved: float) -> float:
            half = max(1, min(int(moved) // 2, COPIED))
            pieces = threads if half >= SHARED else 1
            parts = list(zip(np.array_split(target[:half], pieces), np.array_split(source[:half], pieces), strict=True))
            start, copies = time.perf_counter(), 0
            while copies == 0 or time.perf_counter() - start < 0.005:
                if pieces == 1:
                    np.copyto(*parts[0])
                else:
                    list(pool.map(lambda part: np.copyto(*part), parts))
                copies += 1
            return 2 * half * copies / (time.perf_counter() - start)

        yield {"multiply-adds": multiply_adds, "copy": copy}


def highest(limits: dict[str, Limit]) -> dict[str, float]:
    """The limits of the machine at this moment: each the best of five."""
    return {name: max(limit(2 * COPIED) for _ in range(5)) for name, limit in limits.items()}
