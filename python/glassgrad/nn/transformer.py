"""The encoder of a Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable

from ..tensor import Tensor
from . import functional as F
from ._arguments import choice, integer
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward net, each in a residual branch of its own.

    x = norm1(x + attention(x)), x = norm2(x + linear2(activation(linear1(x)))); with ``norm_first`` each branch is
    normalised before it starts, not after it is added: gradients then reach the first layers unhindered, and no warm-up
    is needed (Xiong et al. 2020).

    Shape: (L, N, d_model), with batch_first (N, L, d_model), unbatched (L, d_model); the result has the same.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(gg.ones(2, 5, 8)).shape
    (2, 5, 8)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, *, dtype=None,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(activation, str):
            activation = getattr(F, choice(self._get_name(), "activation", activation, ("relu", "gelu")))
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = activation

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """Masks as in ``MultiheadAttention``: attn_mask, key_padding_mask and is_causal."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = src + self._attend(self.norm1(src), *masks)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + self._attend(src, *masks))
        return self.norm2(x + self._feed_forward(x))

    def _attend(self, x, mask, padding, is_causal):
        y, _ = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)
        return self.dropout1(y)

    def _feed_forward(self, x):
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """``num_layers`` copies of a layer, one after the other, and a norm at the end where one is given.

    The copies start with equal weights, as PyTorch's do: initialise them anew to train a deep one.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)(gg.ones(5, 2, 8)).shape
    (5, 2, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.num_layers = integer(self._get_name(), "num_layers", num_layers, 0)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.norm = norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """Masks as in ``MultiheadAttention``: attn_mask, key_padding_mask and is_causal."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]
