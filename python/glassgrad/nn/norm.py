"""Normalisation layers: batch, layer, group and root mean square."""

from __future__ import annotations

from ..creation import empty, ones, tensor, zeros
from ..dtypes import int64
from ..errors import ArgumentError, ShapeError, message
from ..tensor import Tensor
from . import functional as F
from . import init
from ._arguments import integer, number, shape
from .module import Module
from .parameter import Parameter


class _Affine(Module):
    """A layer with an optional weight (ones) and an optional bias (zeros)."""

    def _make_affine(self, size, weight: bool, bias: bool, dtype) -> None:
        self.register_parameter("weight", Parameter(empty(size, dtype=dtype)) if weight else None)
        self.register_parameter("bias", Parameter(empty(size, dtype=dtype)) if weight and bias else None)

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _BatchNorm(_Affine):
    input_ndim: tuple[int, ...]

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, bias: bool = True, *, dtype=None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = self._get_name()
        self.num_features = integer(name, "num_features", num_features)
        self.eps = number(name, "eps", eps, 0)
        self.momentum = momentum if momentum is None else number(name, "momentum", momentum, 0, 1)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_affine(self.num_features, affine, bias, dtype)
        self.register_buffer("running_mean", zeros(self.num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("running_var", ones(self.num_features, dtype=dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype=int64) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running mean and variance."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        super().reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self.input_ndim:
            expected = " or ".join(f"{n}-D" for n in self.input_ndim)
            raise ShapeError(message(self._get_name(), "input", f"shape {input.shape}", f"a {expected} tensor"))
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.data += 1
            if self.momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        return F.batch_norm(
            input,
            # Without tracking, evaluation uses the batch's statistics too.
            self.running_mean if self.track_running_stats else None,
            self.running_var if self.track_running_stats else None,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias per channel, over the batch (Ioffe & Szegedy 2015).

    In training the statistics are the batch's (var divides by n), and running_mean and running_var move towards them by
    ``momentum`` (var by n - 1 there); in evaluation the running ones are used.
    Shape: (n, num_features) or (n, num_features, length).

    Args:
        momentum: None makes the running statistics the plain average over all batches.
        track_running_stats: False uses the batch's statistics in evaluation too.
    """

    input_ndim = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d, for images: statistics per channel over the batch, height and width. Shape: (n, c, h, w)."""

    input_ndim = (4,)


class LayerNorm(_Affine):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last dimensions (Ba et al. 2016).

    Weight and bias have ``normalized_shape``, the sizes of those dimensions. Shape: the same as the input's.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.LayerNorm(2)(gg.tensor([[0.0, 2.0]])).tolist()[0][1] > 0.99
    True
    """

    def __init__(
        self, normalized_shape, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True, *, dtype=None
    ) -> None:
        super().__init__()
        self.normalized_shape = shape("LayerNorm", "normalized_shape", normalized_shape)
        self.eps = number("LayerNorm", "eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        self._make_affine(self.normalized_shape, elementwise_affine, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """As LayerNorm, over each of ``num_groups`` groups of channels of a sample (Wu & He 2018).

    Weight and bias: (num_channels,). Shape: (n, num_channels, ...).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        *,
        dtype=None,
    ) -> None:
        super().__init__()
        self.num_groups = integer("GroupNorm", "num_groups", num_groups)
        self.num_channels = integer("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ArgumentError(
                message("GroupNorm", "num_groups", self.num_groups, f"a divisor of num_channels={self.num_channels}")
            )
        self.eps = number("GroupNorm", "eps", eps, 0)
        self.affine = affine
        self._make_affine(self.num_channels, affine, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last dimensions (Zhang & Sennrich 2019).

    Args:
        eps: None is the dtype's machine epsilon.
    """

    def __init__(
        self, normalized_shape, eps: float | None = None, elementwise_affine: bool = True, *, dtype=None
    ) -> None:
        super().__init__()
        self.normalized_shape = shape("RMSNorm", "normalized_shape", normalized_shape)
        self.eps = eps if eps is None else number("RMSNorm", "eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        self.register_parameter(
            "weight", Parameter(empty(self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm"]
