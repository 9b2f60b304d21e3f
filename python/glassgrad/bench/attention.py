"""Scaled dot-product attention: the shapes of a large layer, of a small GPT, and of a long text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..autograd import no_grad
from .case import Case, Runs, forward_backward, tensor_libraries

_SHAPES = (  # (batch, heads, length, features), causal
    ((4, 8, 512, 64), False),
    ((4, 8, 512, 64), True),
    ((12, 4, 64, 32), True),
    ((1, 4, 2048, 64), False),
    ((1, 4, 2048, 64), True),
)


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for shape, causal in _SHAPES:
        batch, heads, length, features = shape
        qkv = [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]
        pairs = length * (length + 1) // 2 if causal else length * length
        flops = 4.0 * batch * heads * pairs * features
        forward: Runs = {}
        both: Runs = {}
        for library, tensor, functional in tensor_libraries(libraries):
            attend = partial(functional.scaled_dot_product_attention, is_causal=causal)
            leaves = [tensor(x).requires_grad_() for x in qkv]
            ours = library == "glassgrad"
            forward[library] = partial(_forward, no_grad if ours else libraries["torch"].no_grad, attend, leaves)
            both[library] = partial(forward_backward, attend, *leaves)
        name = f"{shape}{' causal' if causal else ''}"
        yield Case("attn", f"{name} forward", forward, flops=flops)
        # Backward computes the scores again: five products to forward's two.
        yield Case("attn", f"{name} forward + backward", both, flops=3.5 * flops)


def _forward(no_gradient: Any, attend: Any, leaves: list) -> None:
    with no_gradient():
        attend(*leaves)
