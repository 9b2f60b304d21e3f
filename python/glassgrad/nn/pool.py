"""Pooling layers: a window slides over each plane and keeps its largest value or its mean."""

from __future__ import annotations

from ..errors import ArgumentError, message
from ..tensor import Tensor
from . import functional as F
from ._arguments import integer, integers
from .module import Module


class _Pool(Module):
    ndim: int

    def __init__(self, kernel_size, stride, padding, dilation, ceil_mode) -> None:
        super().__init__()
        name, n = self._get_name(), self.ndim
        stride = kernel_size if stride is None else stride
        kernel = integers(name, "kernel_size", kernel_size, n)
        integers(name, "stride", stride, n)
        integers(name, "dilation", dilation, n)
        if any(2 * p > k for p, k in zip(integers(name, "padding", padding, n, low=0), kernel, strict=True)):
            raise ArgumentError(message(name, "padding", padding, f"at most half of kernel_size={kernel_size}"))
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, bool(ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    def __init__(
        self, kernel_size, stride=None, padding=0, dilation=1, return_indices: bool = False, ceil_mode: bool = False
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.dilation, self.return_indices = dilation, bool(return_indices)

    def forward(self, input: Tensor):
        pool = F.max_pool1d if self.ndim == 1 else F.max_pool2d
        return pool(
            input, self.kernel_size, self.stride, self.padding, self.dilation,
            ceil_mode=self.ceil_mode, return_indices=self.return_indices,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest value of each window. Shape: (n, c, length) or (c, length); arguments as for MaxPool2d."""

    ndim = 1


class MaxPool2d(_MaxPool):
    """The largest value of each window. Shape: (n, c, h, w) or (c, h, w).

    Args:
        stride: default ``kernel_size``: windows side by side.
        padding: minus infinity added at every side.
        return_indices: also return where in its plane each maximum was.
        ceil_mode: keep a last window that hangs over the edge.
    """

    ndim = 2


class AvgPool1d(_Pool):
    """The mean of each window. Shape: (n, c, length) or (c, length); arguments as for AvgPool2d."""

    ndim = 1

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.kernel_size = integers("AvgPool1d", "kernel_size", self.kernel_size, 1)
        self.stride = integers("AvgPool1d", "stride", self.stride, 1)
        self.padding = integers("AvgPool1d", "padding", self.padding, 1, low=0)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_Pool):
    """The mean of each window. Shape: (n, c, h, w) or (c, h, w).

    Args:
        stride: default ``kernel_size``: windows side by side.
        padding: zeros added at every side.
        ceil_mode: keep a last window that hangs over the edge.
        count_include_pad: let the padding count in the number that divides the sum.
        divisor_override: divide by this instead.
    """

    ndim = 2

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        if divisor_override is not None:
            divisor_override = integer("AvgPool2d", "divisor_override", divisor_override)
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip


class AdaptiveAvgPool1d(Module):
    """The mean over ``output_size`` windows of nearly equal length. Shape: (n, c, length) to (n, c, output_size)."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = integer("AdaptiveAvgPool1d", "output_size", output_size)

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(Module):
    """The mean over a grid of windows of nearly equal size. Shape: (n, c, h, w) to (n, c, *output_size).

    Args:
        output_size: an int or a pair; None keeps the input's size.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.AdaptiveAvgPool2d(1)(gg.ones(2, 3, 5, 4)).shape
    (2, 3, 1, 1)
    """

    def __init__(self, output_size) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
        if len(sizes) > 2:
            raise ArgumentError(message("AdaptiveAvgPool2d", "output_size", output_size, "one size or two"))
        for size in sizes:
            if size is not None:
                integer("AdaptiveAvgPool2d", "output_size", size)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d"]
