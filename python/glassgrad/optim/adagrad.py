"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..ops.optim import adagrad_step
from ..tensor import wrap
from .optimizer import Optimizer, check_number


class Adagrad(Optimizer):
    """p -= lr' g / (sqrt(s) + eps), s being the sum of g^2 over all steps (Duchi et al. 2011).

    In step t the rate is lr' = lr / (1 + (t - 1) lr_decay).
    State: "step", "sum" (s), from the start.

    Args:
        initial_accumulator_value: what s starts from.
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
            },
        )  # fmt: skip

    def _check(self, group):
        for name in ("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value"):
            check_number("Adagrad", name, group[name])

    def add_param_group(self, param_group):
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            start = np.full(p.shape, group["initial_accumulator_value"], p.dtype)
            self.state[p] = {"step": 0, "sum": wrap(start)}

    def _update(self, group, params, grads, states):
        lr, decay = group["lr"], group["lr_decay"]
        rates = []
        for state in states:
            rates.append(lr / (1 + state["step"] * decay))
            state["step"] += 1
        adagrad_step(
            params,
            grads,
            [state["sum"].data for state in states],
            lr=rates,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )


__all__ = ["Adagrad"]
