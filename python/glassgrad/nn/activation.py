"""Activation layers: a function of ``functional`` with its arguments kept.

``inplace=True`` overwrites the input, as in PyTorch; the gradient is right all the same, since the function then sees a
copy.
"""

from __future__ import annotations

from ..errors import DTypeError, message
from ..tensor import Tensor
from . import functional as F
from ._arguments import choice, number
from .module import Module


class _Activation(Module):
    """``arguments`` names the attributes that are passed on and printed."""

    arguments: tuple[str, ...] = ()

    def compute(self, input: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        return self.compute(input)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments)


class _InPlaceActivation(_Activation):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = bool(inplace)

    def forward(self, input: Tensor) -> Tensor:
        return input.copy_(self.compute(input.clone())) if self.inplace else self.compute(input)

    def extra_repr(self) -> str:
        return ", ".join([text for text in (super().extra_repr(), "inplace=True" if self.inplace else "") if text])


class ReLU(_InPlaceActivation):
    """max(x, 0)."""

    def compute(self, input: Tensor) -> Tensor:
        return F.relu(input)


class SiLU(_InPlaceActivation):
    """x sigmoid(x), also called swish."""

    def compute(self, input: Tensor) -> Tensor:
        return F.silu(input)


class LeakyReLU(_InPlaceActivation):
    """x where x > 0, else negative_slope x."""

    arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, -float("inf"))

    def compute(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)


class ELU(_InPlaceActivation):
    """x where x > 0, else alpha (e^x - 1) (Clevert et al. 2015)."""

    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = number("ELU", "alpha", alpha, -float("inf"))

    def compute(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha)


class GELU(_Activation):
    """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        approximate: "tanh" is the form that GPT-2 uses.
    """

    arguments = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = choice("GELU", "approximate", approximate, ("none", "tanh"))

    def compute(self, input: Tensor) -> Tensor:
        return F.gelu(input, self.approximate)


class Softplus(_Activation):
    """ln(1 + e^(beta x)) / beta; x itself where beta x > threshold."""

    arguments = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = number("Softplus", "beta", beta, 5e-324)
        self.threshold = number("Softplus", "threshold", threshold, -float("inf"))

    def compute(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)


class LogSigmoid(_Activation):
    """ln sigmoid(x), without overflow."""

    def compute(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)


class Sigmoid(_Activation):
    """1 / (1 + e^-x)."""

    def compute(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Tanh(_Activation):
    """tanh x."""

    def compute(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class _Softmax(_Activation):
    arguments = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def _dim(self) -> int:
        if self.dim is None:
            raise DTypeError(
                message(self._get_name(), "dim", None, "an int", "dim=-1 is right for logits (n, classes).")
            )
        return self.dim


class Softmax(_Softmax):
    """e^x / sum of e^x along ``dim``."""

    def compute(self, input: Tensor) -> Tensor:
        return F.softmax(input, self._dim())


class LogSoftmax(_Softmax):
    """ln softmax(x) along ``dim``, without overflow."""

    def compute(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self._dim())


__all__ = [
    "ELU", "GELU", "LeakyReLU", "LogSigmoid", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh",
]  # fmt: skip
