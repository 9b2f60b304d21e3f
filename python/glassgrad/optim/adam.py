"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import DTypeError, message
from ..ops.optim import adam_step
from .optimizer import Optimizer, check_number, zeros_like


class Adam(Optimizer):
    """p -= lr m' / (sqrt(v') + eps): m and v are running means of g and g^2 (Kingma & Ba 2015).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) undo the pull of the zeros both start from.
    State: "step", "exp_avg" (m), "exp_avg_sq" (v), with amsgrad "max_exp_avg_sq".

    Args:
        betas: how much of the means each step keeps.
        weight_decay: added to the gradient, times p; with ``decoupled_weight_decay`` as in AdamW.
        amsgrad: divide by the largest v so far (Reddi et al. 2018).
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False, decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
            },
        )  # fmt: skip

    def _check(self, group):
        name = self._name()
        for option in ("lr", "eps", "weight_decay"):
            check_number(name, option, group[option])
        if not isinstance(group["betas"], (tuple, list)) or len(group["betas"]) != 2:
            raise DTypeError(message(name, "betas", repr(group["betas"]), "two numbers"))
        for i, beta in enumerate(group["betas"]):
            check_number(name, f"betas[{i}]", beta, below=1)

    def _update(self, group, params, grads, states):
        amsgrad = group["amsgrad"]
        for state, p in zip(states, params, strict=True):
            if "exp_avg" not in state:
                state.update(step=0, exp_avg=zeros_like(p), exp_avg_sq=zeros_like(p))
            if amsgrad and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = zeros_like(p)
            state["step"] += 1
        beta1, beta2 = group["betas"]
        adam_step(
            params,
            grads,
            [state["exp_avg"].data for state in states],
            [state["exp_avg_sq"].data for state in states],
            [state["max_exp_avg_sq"].data for state in states] if amsgrad else [],
            steps=[state["step"] for state in states],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=group["decoupled_weight_decay"],
            amsgrad=amsgrad,
            maximize=group["maximize"],
        )


class AdamW(Adam):
    """Adam whose weights decay by themselves, p -= lr weight_decay p, not through g (Loshchilov & Hutter 2019)."""

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)

    def load_state_dict(self, state_dict) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # also after loading the state of an Adam


__all__ = ["Adam", "AdamW"]
