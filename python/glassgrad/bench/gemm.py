"""Matrix products: squares, and the shapes that training multiplies."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .case import Case, Runs


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
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
