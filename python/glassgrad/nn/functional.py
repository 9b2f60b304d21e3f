"""``torch.nn.functional``'s names: layers without state. Most are defined with their maths in ``glassgrad.ops``."""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError, check_dim, message
from ..ops.attention import scaled_dot_product_attention
from ..ops.conv import conv1d, conv2d, conv_transpose1d, conv_transpose2d, fold, pad, unfold
from ..ops.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d
from ..ops.elementwise import abs, elu, gelu, leaky_relu, logsigmoid, relu, sigmoid, silu, softplus, tanh, where
from ..ops.index import embedding, one_hot
from ..ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    nll_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
)
from ..ops.matmul import linear, linear_relu
from ..ops.movement import tensor_of
from ..ops.norm import (
    batch_norm,
    cosine_similarity,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    pairwise_distance,
    rms_norm,
)
from ..ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from ..ops.softmax import log_softmax, softmax, softmin
from ..tensor import Tensor

# -------------------------------------------------------------------------------------- activations made of others


def hardtanh(input, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x, cut to [min_val, max_val]; the gradient is 1 strictly inside and 0 elsewhere (``clamp`` has 1 on the bounds).

    >>> import glassgrad as gg
    >>> gg.nn.functional.hardtanh(gg.tensor([-3.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    if not min_val < max_val:
        raise ArgumentError(message("hardtanh", "bounds", f"{min_val}, {max_val}", "min_val < max_val"))
    return where(input <= min_val, min_val, where(input >= max_val, max_val, input))


def relu6(input) -> Tensor:
    """min(max(x, 0), 6) (Howard et al. 2017)."""
    return hardtanh(input, 0.0, 6.0)


def hardsigmoid(input) -> Tensor:
    """relu6(x + 3) / 6: a sigmoid of three straight lines (Courbariaux et al. 2015)."""
    return relu6(input + 3.0) / 6.0


def hardswish(input) -> Tensor:
    """x relu6(x + 3) / 6: silu with hardsigmoid (Howard et al. 2019)."""
    return input * hardsigmoid(input)


def selu(input) -> Tensor:
    """1.0507 elu(x, 1.6733): activations keep mean 0 and variance 1 from layer to layer (Klambauer et al. 2017)."""
    return elu(input, 1.6732632423543772) * 1.0507009873554805


def mish(input) -> Tensor:
    """x tanh(softplus(x)) (Misra 2019)."""
    return input * tanh(softplus(input))


def softsign(input) -> Tensor:
    """x / (1 + |x|) (Turian et al. 2009)."""
    return input / (abs(input) + 1.0)


def glu(input, dim: int = -1) -> Tensor:
    """a sigmoid(b), a and b the halves of the input along ``dim`` (Dauphin et al. 2017).

    >>> import glassgrad as gg
    >>> gg.nn.functional.glu(gg.tensor([4.0, 0.0]))
    tensor([2.])
    """
    input = tensor_of("glu", input)
    dim = check_dim("glu", dim, input.ndim)
    if not input.ndim or input.shape[dim] % 2:
        raise ShapeError(message("glu", "no two halves", f"{input.shape}, dim={dim}", "an even size"))
    a, b = input.chunk(2, dim)
    return a * sigmoid(b)


def prelu(input, weight) -> Tensor:
    """x where x > 0, else weight x; weight: (1,), or (C,) for input (N, C, ...) (He et al. 2015)."""
    input, weight = tensor_of("prelu", input), tensor_of("prelu", weight)
    if weight.numel() != 1:
        if weight.ndim != 1 or input.ndim < 2 or weight.shape[0] != input.shape[1]:
            channels = (input.shape[1],) if input.ndim > 1 else "one number"
            raise ShapeError(message("prelu", "weight", weight.shape, f"(1,) or {channels} for input {input.shape}"))
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    return where(input > 0, input, input * weight)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits", "conv1d",
    "conv2d", "conv_transpose1d", "conv_transpose2d", "cosine_embedding_loss", "cosine_similarity", "cross_entropy",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "embedding", "fold", "gaussian_nll_loss", "gelu", "glu",
    "group_norm", "hardsigmoid", "hardswish", "hardtanh", "hinge_embedding_loss", "huber_loss", "instance_norm",
    "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "linear_relu", "log_softmax", "logsigmoid", "margin_ranking_loss",
    "max_pool1d", "max_pool2d", "mish", "mse_loss", "nll_loss", "normalize", "one_hot", "pad", "pairwise_distance",
    "poisson_nll_loss", "prelu", "relu", "relu6", "rms_norm", "scaled_dot_product_attention", "selu", "sigmoid", "silu",
    "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "softsign", "tanh", "triplet_margin_loss",
    "unfold",
]  # fmt: skip
