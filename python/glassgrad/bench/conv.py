"""Convolutions, all three passes in one: the shapes of known networks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .case import Case, Runs, forward_backward, tensor_libraries

_CONVOLUTIONS = {  # name: (n, c, size, k, kernel, stride, padding)
    "c1_28": (64, 1, 28, 32, 3, 1, 1),
    "c32_13": (64, 32, 13, 64, 3, 1, 1),
    "c64_56": (4, 64, 56, 64, 3, 1, 1),
    "c128_28": (8, 128, 28, 128, 3, 1, 1),
    "1x1": (8, 128, 28, 256, 1, 1, 0),
    "stem7x7": (4, 3, 112, 64, 7, 2, 3),
    "stride-2": (8, 64, 56, 128, 3, 2, 1),
}


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for name, (n, c, size, k, kernel, stride, padding) in _CONVOLUTIONS.items():
        x = rng.standard_normal((n, c, size, size)).astype(np.float32)
        w = rng.standard_normal((k, c, kernel, kernel)).astype(np.float32)
        out = (size + 2 * padding - kernel) // stride + 1
        flops = 2.0 * n * k * out * out * c * kernel * kernel
        runs: Runs = {}
        for library, tensor, functional in tensor_libraries(libraries):
            convolve = partial(functional.conv2d, stride=stride, padding=padding)
            runs[library] = partial(forward_backward, convolve, tensor(x).requires_grad_(), tensor(w).requires_grad_())
        yield Case("conv", f"{name} forward + backward", runs, flops=3 * flops)
