"""Convolutions: the shapes of known networks, each pass by itself and all three in a training step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .case import Case, Runs, forward_backward, tensor_libraries


class _Shape(NamedTuple):
    n: int
    c: int
    size: int
    k: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


_CONVOLUTIONS = {
    "c1_28": _Shape(64, 1, 28, 32, 3, padding=1),
    "first3": _Shape(16, 3, 32, 64, 3, padding=1),
    "c32_13": _Shape(64, 32, 13, 64, 3, padding=1),
    "c64_56": _Shape(4, 64, 56, 64, 3, padding=1),
    "c128_28": _Shape(8, 128, 28, 128, 3, padding=1),
    "c256_14": _Shape(8, 256, 14, 256, 3, padding=1),
    "1x1": _Shape(8, 128, 28, 256, 1),
    "stem7x7": _Shape(4, 3, 112, 64, 7, stride=2, padding=3),
    "stride-2": _Shape(8, 64, 56, 128, 3, stride=2, padding=1),
    "grouped": _Shape(8, 128, 28, 128, 3, padding=1, groups=4),
    "depthwise": _Shape(8, 64, 56, 64, 3, padding=1, groups=64),
    "dilated": _Shape(4, 64, 56, 64, 3, padding=2, dilation=2),
}


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for name, s in _CONVOLUTIONS.items():
        out = (s.size + 2 * s.padding - s.dilation * (s.kernel - 1) - 1) // s.stride + 1
        x = rng.standard_normal((s.n, s.c, s.size, s.size)).astype(np.float32)
        w = rng.standard_normal((s.k, s.c // s.groups, s.kernel, s.kernel)).astype(np.float32)
        dy = rng.standard_normal((s.n, s.k, out, out)).astype(np.float32)
        flops = 2.0 * dy.size * w[0].size
        runs: Runs = {}
        for library, tensor, functional in tensor_libraries(libraries):
            convolve = partial(functional.conv2d, **_geometry(s))
            runs[library] = partial(forward_backward, convolve, tensor(x).requires_grad_(), tensor(w).requires_grad_())
        yield Case("conv", f"{name} forward + backward", runs, flops=3 * flops)
        for which, passes in _passes(libraries, s, x, w, dy).items():
            yield Case("conv", f"{name} {which}", passes, flops=flops)


def _geometry(s: _Shape) -> dict[str, int]:
    return {"stride": s.stride, "padding": s.padding, "dilation": s.dilation, "groups": s.groups}


def _passes(libraries: dict[str, Any], s: _Shape, x, w, dy) -> dict[str, Runs]:
    """Each pass by itself: the kernels of both libraries, without graph and tensors."""
    module, torch = libraries["glassgrad"], libraries.get("torch")
    pairs: dict[str, Any] = {key: value if key == "groups" else (value,) * 2 for key, value in _geometry(s).items()}
    names = ("forward", "backward input", "backward weight")
    passes: list[Runs] = [
        {"glassgrad": partial(module.conv2d, x, w, None, **pairs)},
        {"glassgrad": partial(module.conv2d_backward_input, dy, w, x_shape=x.shape, **pairs)},
        {"glassgrad": partial(module.conv2d_backward_weight, dy, x, w_shape=w.shape, **pairs)},
    ]
    if torch:
        tx, tw, tdy = map(torch.from_numpy, (x, w, dy))
        place = ((s.stride,) * 2, (s.padding,) * 2, (s.dilation,) * 2, False, (0, 0), s.groups)
        backward = partial(torch.ops.aten.convolution_backward, tdy, tx, tw, None, *place)
        passes[0]["torch"] = partial(torch.ops.aten.convolution, tx, tw, None, *place)
        passes[1]["torch"] = partial(backward, (True, False, False))
        passes[2]["torch"] = partial(backward, (False, True, False))
    return dict(zip(names, passes, strict=True))
