"""Linear layers."""

from __future__ import annotations

import math

from ..creation import empty
from ..tensor import Tensor
from . import functional as F
from . import init
from ._arguments import integer
from .module import Module
from .parameter import Parameter


class Identity(Module):
    """The input, unchanged; arguments are taken and ignored, so that it can stand in for any layer."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """y = x W^T + b over the last dimension.

    Weight: (out_features, in_features), bias: (out_features,), both U(-k, k) with k = 1 / sqrt(in_features).
    Shape: (..., in_features) to (..., out_features).

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Linear(3, 2)(gg.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype=None) -> None:
        super().__init__()
        self.in_features = integer("Linear", "in_features", in_features, 0)
        self.out_features = integer("Linear", "out_features", out_features, 0)
        self.weight = Parameter(empty(self.out_features, self.in_features, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(self.out_features, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def reset_uniform(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's default: weight and bias from U(-k, k), k = 1 / sqrt(fan_in).

    It is what kaiming_uniform_ gives for a = sqrt(5): gain sqrt(2 / (1 + 5)) = sqrt(1 / 3), times sqrt(3 / fan_in).
    """
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in, _ = init._calculate_fan_in_and_fan_out(weight)
        limit = 1 / math.sqrt(fan_in) if fan_in else 0.0
        init.uniform_(bias, -limit, limit)


__all__ = ["Identity", "Linear"]
