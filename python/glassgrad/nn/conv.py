"""Convolution layers."""

from __future__ import annotations

from typing import Any

from ..creation import empty
from ..errors import ArgumentError, message
from ..tensor import Tensor
from . import functional as F
from ._arguments import choice, integer, integers
from .linear import reset_uniform
from .module import Module
from .parameter import Parameter


class _Conv(Module):
    ndim = 2
    transposed = False

    def __init__(
        self, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
        padding_mode, dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        name, n = self._get_name(), self.ndim
        self.in_channels = integer(name, "in_channels", in_channels)
        self.out_channels = integer(name, "out_channels", out_channels)
        self.kernel_size = integers(name, "kernel_size", kernel_size, n)
        self.stride = integers(name, "stride", stride, n)
        self.dilation = integers(name, "dilation", dilation, n)
        self.groups = integer(name, "groups", groups)
        self.padding_mode = choice(name, "padding_mode", padding_mode, ("zeros",))
        for side in ("in_channels", "out_channels"):
            channels = getattr(self, side)
            if channels % self.groups:
                raise ArgumentError(message(name, "groups", self.groups, f"a divisor of {side}={channels}"))
        if isinstance(padding, str):
            self.padding: Any = choice(name, "padding", padding, ("valid", "same"))
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ArgumentError(message(name, "stride", self.stride, "1 with padding='same'"))
        else:
            self.padding = integers(name, "padding", padding, n, low=0)
        self.output_padding = integers(name, "output_padding", output_padding, n, low=0)
        if any(o and o >= max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            raise ArgumentError(
                message(
                    name,
                    "output_padding",
                    self.output_padding,
                    f"less than stride {self.stride} or dilation {self.dilation}",
                )
            )
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        self.weight = Parameter(empty(first, second // self.groups, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(self.out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_uniform(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.ndim:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.ndim:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.ndim:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else f"{text}, bias=False"


class Conv1d(_Conv):
    """Cross-correlation over length; see ``functional.conv1d`` for the formula.

    Weight: (out_channels, in_channels / groups, kernel), bias: (out_channels,), both U(-k, k) with
    k = 1 / sqrt(in_channels / groups * kernel).
    Shape: (n, in_channels, length) to (n, out_channels, l),
    l = (length + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    Args:
        padding: zeros added at both ends; "valid" adds none, "same" keeps the length.
    """

    ndim = 1

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1,
        bias: bool = True, padding_mode: str = "zeros", *, dtype=None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode, dtype
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """Cross-correlation over height and width; see ``functional.conv2d`` for the formula.

    Weight: (out_channels, in_channels / groups, kh, kw), bias: (out_channels,), both U(-k, k) with
    k = 1 / sqrt(in_channels / groups * kh * kw).
    Shape: (n, in_channels, h, w) to (n, out_channels, oh, ow),
    oh = (h + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Conv2d(3, 8, kernel_size=3, padding=1)(gg.ones(2, 3, 5, 5)).shape
    (2, 8, 5, 5)
    """

    ndim = 2

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1,
        bias: bool = True, padding_mode: str = "zeros", *, dtype=None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode, dtype
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Conv):
    """The gradient of Conv2d with respect to its input, as a layer: it enlarges where Conv2d shrinks.

    Weight: (in_channels, out_channels / groups, kh, kw), bias: (out_channels,), both U(-k, k) with
    k = 1 / sqrt(out_channels / groups * kh * kw).
    Shape: (n, in_channels, h, w) to (n, out_channels, oh, ow),
    oh = (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.
    """

    ndim = 2
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, output_padding=0, groups: int = 1,
        bias: bool = True, dilation=1, padding_mode: str = "zeros", *, dtype=None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, integers("ConvTranspose2d", "padding", padding, 2, low=0),
            output_padding, dilation, groups, bias, padding_mode, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d"]
