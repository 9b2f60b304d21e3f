"""What memory limits: element-wise ops, reductions and norms on arrays larger than the last cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .case import Case, Runs, tensor_libraries


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
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
            for library, tensor, functional in tensor_libraries(libraries)
        }
        if "numpy" in libraries and name in numpy_forms:
            runs["numpy"] = numpy_forms[name]
        yield Case("rows", f"{name} (4096, 2048)", runs, bytes=float(bytes_))
