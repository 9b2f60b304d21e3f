"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable

from ..ops.optim import rmsprop_step
from .optimizer import Optimizer, check_number, zeros_like


class RMSprop(Optimizer):
    """p -= lr g / (sqrt(v) + eps), v a running mean of g^2 (Tieleman & Hinton 2012).

    State: "step", "square_avg" (v), with momentum "momentum_buffer", centered "grad_avg".

    Args:
        alpha: how much of v each step keeps.
        momentum: sum the steps up, keeping this much of the sum each time.
        centered: divide by the standard deviation of g, sqrt(v - mean(g)^2) (Graves 2013).
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
                "centered": centered, "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, group):
        for name in ("lr", "eps", "weight_decay", "momentum", "alpha"):
            check_number("RMSprop", name, group[name])

    def _update(self, group, params, grads, states):
        momentum, centered = group["momentum"], group["centered"]
        for state, p in zip(states, params, strict=True):
            if "square_avg" not in state:
                state.update(step=0, square_avg=zeros_like(p))
            if momentum and "momentum_buffer" not in state:
                state["momentum_buffer"] = zeros_like(p)
            if centered and "grad_avg" not in state:
                state["grad_avg"] = zeros_like(p)
            state["step"] += 1
        rmsprop_step(
            params,
            grads,
            [state["square_avg"].data for state in states],
            [state["momentum_buffer"].data for state in states] if momentum else [],
            [state["grad_avg"].data for state in states] if centered else [],
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            momentum=momentum,
            centered=centered,
            maximize=group["maximize"],
        )


__all__ = ["RMSprop"]
