"""Learning-rate schedules: call ``step()`` after each epoch (OneCycleLR: after each batch), after ``optimizer.step()``.

Most multiply the rate that is there by a ratio, so several can be chained on one optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, DTypeError, message
from .optimizer import Optimizer


class LRScheduler:
    """Base class. A subclass gives ``get_lr``: the new rate of each group, at epoch ``last_epoch``.

    Args:
        last_epoch: the epoch to go on from; -1 starts.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        for i, group in enumerate(_groups(name, optimizer)):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    message(name, f"param_groups[{i}]", "no 'initial_lr'", "one, to go on with last_epoch")
                )
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def get_lr(self) -> list[float]:
        raise NotImplementedError

    def _lrs(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rate of each group that the last ``step`` set."""
        return self._last_lr

    def step(self) -> None:
        """One epoch on: set each group's "lr"."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = self._lrs()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """lr = initial lr * f(epoch), one function for all groups or a list of one each."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        n = len(_groups("LambdaLR", optimizer))
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * n
        if len(self.lr_lambdas) != n:
            raise ArgumentError(
                message("LambdaLR", "lr_lambda", f"{len(self.lr_lambdas)} functions", f"{n}, one per group")
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def state_dict(self):
        """Everything but the optimizer and the functions, which may not be picklable."""
        return {k: v for k, v in super().state_dict().items() if k != "lr_lambdas"}


class StepLR(LRScheduler):
    """Multiply the rate by ``gamma`` every ``step_size`` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma if due else lr for lr in self._lrs()]


class ExponentialLR(LRScheduler):
    """Multiply the rate by ``gamma`` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [lr * self.gamma if self.last_epoch > 0 else lr for lr in self._lrs()]


class LinearLR(LRScheduler):
    """A factor that goes in a line from ``start_factor`` to ``end_factor`` in ``total_iters`` epochs: a warm-up."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0 < start_factor <= 1:
            raise ArgumentError(
                message("LinearLR", "start_factor", start_factor, "a number with 0 < start_factor <= 1")
            )
        if not 0 <= end_factor <= 1:
            raise ArgumentError(message("LinearLR", "end_factor", end_factor, "a number from 0 to 1"))
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _positive("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch):
        return (
            self.start_factor + (self.end_factor - self.start_factor) * min(epoch, self.total_iters) / self.total_iters
        )

    def get_lr(self):
        if self.last_epoch > self.total_iters:
            return self._lrs()
        before = self._factor(self.last_epoch - 1) if self.last_epoch else 1.0
        return [lr * (self._factor(self.last_epoch) / before) for lr in self._lrs()]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov & Hutter 2017).

    Down to eta_min in T_max epochs, up again in the next T_max.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch):
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2

    def get_lr(self):
        if self.last_epoch == 0:
            return self._lrs()
        if (self.last_epoch - 1) % (2 * self.T_max) == self.T_max:  # at the bottom there is nothing to take a ratio of
            return [self.eta_min + (base - self.eta_min) * self._height(self.last_epoch) for base in self.base_lrs]
        ratio = self._height(self.last_epoch) / self._height(self.last_epoch - 1)
        return [self.eta_min + (lr - self.eta_min) * ratio for lr in self._lrs()]


class OneCycleLR(LRScheduler):
    """Up to ``max_lr`` and down to almost nothing, with momentum the other way round (Smith & Topin 2017).

    Call ``step()`` after every batch. The rate starts at max_lr / div_factor and ends at that / final_div_factor.

    Args:
        max_lr: one for all groups, or one each.
        total_steps: how many batches; or give ``epochs`` and ``steps_per_epoch``.
        pct_start: the part of the steps that goes up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: move momentum (Adam: beta1) between max_momentum and base_momentum.
        three_phase: come down to where it started first, and then to the end.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: float = 0.85, max_momentum: float = 0.95,
        div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError(
                    message("OneCycleLR", "length", "none", "total_steps, or epochs and steps_per_epoch")
                )
            total_steps = _positive("OneCycleLR", "epochs", epochs) * _positive(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch
            )
        self.total_steps = _positive("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ArgumentError(message("OneCycleLR", "pct_start", pct_start, "a number from 0 to 1"))
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(message("OneCycleLR", "anneal_strategy", repr(anneal_strategy), "'cos' or 'linear'"))
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        last, top = self.total_steps - 1, pct_start * self.total_steps - 1
        # (last step, lr at both ends, momentum at both ends)
        up = (top, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if three_phase:
            down = (2 * top, "max_lr", "initial_lr", "base_momentum", "max_momentum")
            self.phases = [up, down, (last, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
        else:
            self.phases = [up, (last, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        groups = _groups("OneCycleLR", optimizer)
        maxima = list(max_lr) if isinstance(max_lr, (list, tuple)) else [max_lr] * len(groups)
        if len(maxima) != len(groups):
            raise ArgumentError(
                message("OneCycleLR", "max_lr", f"{len(maxima)} rates", f"{len(groups)}, one per group")
            )
        if cycle_momentum and "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            hint = "cycle_momentum=False leaves it alone."
            raise ArgumentError(
                message("OneCycleLR", "optimizer", type(optimizer).__name__, "one with momentum or betas", hint)
            )
        if last_epoch == -1:
            for group, maximum in zip(groups, maxima, strict=True):
                start = maximum / div_factor
                group.update(initial_lr=start, max_lr=maximum, min_lr=start / final_div_factor)
                if cycle_momentum:
                    group.update(max_momentum=max_momentum, base_momentum=base_momentum)
        super().__init__(optimizer, last_epoch)

    def _between(self, start, end, part):
        if self.anneal_strategy == "linear":
            return start + (end - start) * part
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    def get_lr(self):
        step = self.last_epoch
        if step > self.total_steps:
            raise ArgumentError(
                message("OneCycleLR", "step", f"step {step}", f"at most total_steps={self.total_steps}")
            )
        now = next((i for i, phase in enumerate(self.phases[:-1]) if step <= phase[0]), len(self.phases) - 1)
        end, lr_from, lr_to, momentum_from, momentum_to = self.phases[now]
        begin = self.phases[now - 1][0] if now else 0.0
        part = (step - begin) / (end - begin) if end != begin else 1.0
        lrs = []
        for group in self.optimizer.param_groups:
            lrs.append(self._between(group[lr_from], group[lr_to], part))
            if self.cycle_momentum:
                momentum = self._between(group[momentum_from], group[momentum_to], part)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return lrs


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by ``factor`` when a metric has not got better for more than ``patience`` epochs.

    Call ``step(metric)``.

    Args:
        mode: "min" when smaller is better, "max" when larger.
        threshold: how much better counts; relative ("rel") or absolute ("abs") by ``threshold_mode``.
        cooldown: epochs after a cut that do not count.
        min_lr: never below; one for all groups, or one each.
        eps: a cut smaller than this is not made.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr=0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        name = "ReduceLROnPlateau"
        n = len(_groups(name, optimizer))
        if not factor < 1:
            raise ArgumentError(message(name, "factor", factor, "a number below 1"))
        if mode not in ("min", "max"):
            raise ArgumentError(message(name, "mode", repr(mode), "'min' or 'max'"))
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(message(name, "threshold_mode", repr(threshold_mode), "'rel' or 'abs'"))
        self.min_lrs = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * n
        if len(self.min_lrs) != n:
            raise ArgumentError(message(name, "min_lr", f"{len(self.min_lrs)} rates", f"{n}, one per group"))
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = self._lrs()

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            return sign * metric > sign * self.best + self.threshold
        return sign * metric > sign * self.best * (1 + sign * self.threshold)

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """One epoch on, with the metric it gave."""
        metric = float(metrics)
        self.last_epoch += 1
        if self._is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                new = max(group["lr"] * self.factor, least)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._lrs()


def _groups(owner: str, optimizer) -> list[dict[str, Any]]:
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(message(owner, "optimizer", type(optimizer).__name__, "an Optimizer"))
    return optimizer.param_groups


def _positive(owner: str, name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(message(owner, name, repr(value), "an integer >= 1"))
    return value


__all__ = [
    "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "OneCycleLR", "ReduceLROnPlateau",
    "StepLR",
]  # fmt: skip
