"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ArgumentError, message
from ..ops.optim import sgd_step
from .optimizer import Optimizer, check_number, zeros_like


class SGD(Optimizer):
    """p -= lr g; with momentum m = momentum m + (1 - dampening) g and p -= lr m.

    g is the gradient plus weight_decay p. ``nesterov`` uses g + momentum m in place of m (Sutskever et al. 2013).
    State: "momentum_buffer".

    >>> import glassgrad as gg
    >>> w = gg.tensor([1.0], requires_grad=True)
    >>> optimizer = gg.optim.SGD([w], lr=0.5)
    >>> (w * 3.0).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [-0.5]
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                "nesterov": nesterov, "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, group):
        for name in ("lr", "momentum", "weight_decay"):
            check_number("SGD", name, group[name])
        check_number("SGD", "dampening", group["dampening"], -float("inf"))
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            got = f"momentum={group['momentum']}, dampening={group['dampening']}"
            raise ArgumentError(message("SGD", "nesterov", got, "momentum > 0 and dampening 0"))

    def _update(self, group, params, grads, states):
        buffers: list = []
        first: list = []
        if group["momentum"]:
            first = [state.get("momentum_buffer") is None for state in states]
            if any(first):
                for state, p, new in zip(states, params, first, strict=True):
                    if new:
                        state["momentum_buffer"] = zeros_like(p)
            buffers = [state["momentum_buffer"].data for state in states]
        sgd_step(
            params, grads, buffers, first=first, lr=group["lr"], momentum=group["momentum"],
            dampening=group["dampening"], weight_decay=group["weight_decay"], nesterov=group["nesterov"],
            maximize=group["maximize"],
        )  # fmt: skip


__all__ = ["SGD"]
