"""Dropout."""

from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from ._arguments import number
from .module import Module


class Dropout(Module):
    """In training each element becomes 0 with probability ``p``, and the others are divided by 1 - p.

    In evaluation it does nothing (Srivastava et al. 2014).

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Dropout(0.5).eval()(gg.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = number("Dropout", "p", p, 0, 1)
        self.inplace = bool(inplace)

    def forward(self, input: Tensor) -> Tensor:
        if self.inplace and self.training:
            return input.copy_(F.dropout(input.clone(), self.p, True))
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


__all__ = ["Dropout"]
