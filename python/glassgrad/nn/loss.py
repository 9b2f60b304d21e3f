"""Loss layers: a function of ``functional`` with its arguments kept.

``reduction``: "mean", "sum", or "none" for one loss per element (or per sample).
"""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from ._arguments import choice, integer, number
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean", *, reductions: tuple[str, ...] = ("mean", "sum", "none")) -> None:
        super().__init__()
        self.reduction = choice(self._get_name(), "reduction", reduction, reductions)


class MSELoss(_Loss):
    """(x - y)^2.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.MSELoss()(gg.tensor([1.0, 2.0]), gg.tensor([1.0, 4.0])).item()
    2.0
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """abs(x - y)."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """(x - y)^2 / 2 where abs(x - y) < delta, else delta (abs(x - y) - delta / 2) (Huber 1964)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number("HuberLoss", "delta", delta, 5e-324)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class SmoothL1Loss(_Loss):
    """(x - y)^2 / (2 beta) where abs(x - y) < beta, else abs(x - y) - beta / 2; L1Loss for beta 0."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number("SmoothL1Loss", "beta", beta, 0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class KLDivLoss(_Loss):
    """y (ln y - x), x being log-probabilities; "batchmean" divides the sum by the batch size, as the formula does.

    Args:
        log_target: the target is log-probabilities too.
    """

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, reductions=("mean", "batchmean", "sum", "none"))
        self.log_target = bool(log_target)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class _WeightedLoss(_Loss):
    def __init__(self, weight: Tensor | None, reduction: str) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


class CrossEntropyLoss(_WeightedLoss):
    """-ln softmax(logits)[target]: log-softmax and NLLLoss in one.

    Shape: logits (n, classes, ...) or (classes,); target: class indices (n, ...), or probabilities (n, classes, ...).

    Args:
        weight: (classes,), the weight of each class.
        ignore_index: targets of this value count nothing.
        label_smoothing: this much of the target is spread evenly over all classes (Szegedy et al. 2015).

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> round(nn.CrossEntropyLoss()(gg.zeros(1, 2), gg.tensor([0])).item(), 4)
    0.6931
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = integer("CrossEntropyLoss", "ignore_index", ignore_index, -(2**63))
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip


class NLLLoss(_WeightedLoss):
    """-x[target], x being log-probabilities; arguments as for CrossEntropyLoss."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = integer("NLLLoss", "ignore_index", ignore_index, -(2**63))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_WeightedLoss):
    """-(y ln p + (1 - y) ln(1 - p)), p being probabilities; each logarithm is cut at -100.

    Args:
        weight: of each element; broadcast.
    """

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """BCELoss of sigmoid(x), in one step that cannot overflow.

    Args:
        weight: of each element; broadcast.
        pos_weight: how much the positive side counts; broadcast.
    """

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "NLLLoss",
    "SmoothL1Loss",
]  # fmt: skip
