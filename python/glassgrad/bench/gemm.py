"""Matrix products: squares, the shapes that training multiplies, thin ones, and batches."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .case import Case, Runs

SQUARES = (32, 48, 64, 96, 100, 128, 192, 256, 384, 512, 1000, 1024, 2048)

# (batch, m, n, k, layout). nt: b is stored transposed, as a Linear's weight is; tn: a is, as in the weight's gradient.
SHAPES = (
    # an MLP 784-128-10 on 64 images: forward, the gradients of the input and of the weight
    (1, 64, 128, 784, "nt"),
    (1, 64, 784, 128, ""),
    (1, 128, 784, 64, "tn"),
    (1, 64, 10, 128, "nt"),
    (1, 64, 128, 10, ""),
    (1, 10, 128, 64, "tn"),
    # a GPT of width 128 on 12 x 64 tokens, and one of width 256 on 1024
    (1, 768, 512, 128, "nt"),
    (1, 768, 128, 512, "nt"),
    (1, 512, 128, 768, "tn"),
    (1, 1024, 256, 1024, "nt"),
    (1, 256, 1024, 4096, "tn"),
    (1, 1024, 4096, 256, "nt"),
    # few rows: a network that is asked one thing at a time
    (1, 1, 4096, 1024, "nt"),
    (1, 1, 1024, 4096, ""),
    (1, 4, 1024, 1024, "nt"),
    (1, 8, 1000, 1023, "nt"),  # rows of b at any alignment
    (1, 4, 1024, 1024, ""),
    (1, 16, 4096, 256, ""),
    (1, 64, 4000, 1000, ""),
    # tall, and long
    (1, 4096, 16, 256, ""),
    (1, 4096, 64, 64, "nt"),
    (1, 2048, 10, 512, "nt"),
    (1, 64, 64, 16384, "tn"),
    (1, 8, 8, 100000, "nt"),
    # batches: small products, and the two of attention
    (64, 32, 32, 32, ""),
    (32, 64, 64, 64, ""),
    (48, 64, 64, 32, "nt"),
    (48, 64, 32, 64, ""),
    (8, 512, 512, 64, "nt"),
    (8, 512, 64, 512, ""),
)
DOUBLE = ((1, 64, 64, 64, ""), (1, 256, 256, 256, ""), (1, 1024, 1024, 1024, ""), (1, 64, 128, 784, "nt"))


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    for n in SQUARES:
        yield _case(libraries, np.float32, 1, n, n, n, "")
    for shape in SHAPES:
        yield _case(libraries, np.float32, *shape)
    for shape in DOUBLE:
        yield _case(libraries, np.float64, *shape)


def _case(libraries: dict[str, Any], dtype: type[np.floating], batch: int, m: int, n: int, k: int, layout: str) -> Case:
    rng = np.random.default_rng(0)
    axes = () if batch == 1 else (batch,)
    a: Any = rng.standard_normal((*axes, *((k, m) if layout == "tn" else (m, k)))).astype(dtype)
    b: Any = rng.standard_normal((*axes, *((n, k) if layout == "nt" else (k, n)))).astype(dtype)

    def views(of_a: Any, of_b: Any) -> tuple[Any, Any]:
        return of_a.swapaxes(-1, -2) if layout == "tn" else of_a, of_b.swapaxes(-1, -2) if layout == "nt" else of_b

    runs: Runs = {"glassgrad": partial(libraries["glassgrad"].matmul, *views(a, b))}
    if "numpy" in libraries:
        runs["numpy"] = partial(operator.matmul, *views(a, b))
    if torch := libraries.get("torch"):
        runs["torch"] = partial(operator.matmul, *views(torch.from_numpy(a), torch.from_numpy(b)))
    size = np.dtype(dtype).itemsize
    name = f"{m} x {n} x {k} {layout}" if batch == 1 else f"{batch} of {m} x {n} x {k} {layout}"
    return Case(
        "gemm",
        name.strip() + (" float64" if dtype is np.float64 else ""),
        runs,
        flops=2.0 * batch * m * n * k,
        bytes=float(size * batch * (m * k + k * n + m * n)),
    )
