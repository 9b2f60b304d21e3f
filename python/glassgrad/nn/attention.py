"""Attention with several heads (Vaswani et al. 2017)."""

from __future__ import annotations

import math

from ..creation import empty, zeros
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..ops.movement import cat
from ..tensor import Tensor
from . import functional as F
from . import init
from ._arguments import integer, number
from .linear import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """out_proj(concat_h softmax(q_h k_h^T / sqrt(D) + mask) v_h), D = embed_dim / num_heads (Vaswani et al. 2017).

    q, k and v are linear in query, key and value; head h has the features h D to (h + 1) D of each. With
    ``need_weights=False`` the scores are never held as a whole: memory grows with L + S, not with L S.

    Weights: in_proj_weight (3 embed_dim, embed_dim), or q_proj_weight, k_proj_weight, v_proj_weight where kdim or vdim
    differs; in_proj_bias (3 embed_dim,); out_proj, a Linear; bias_k, bias_v (1, 1, embed_dim) with add_bias_kv.
    Shape: query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim); with batch_first (N, L, embed_dim) and so on;
    unbatched without N. The result is shaped as the query; the weights are (N, L, S), or (N, num_heads, L, S).

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> x = gg.ones(2, 5, 8)
    >>> y, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> y.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False, *,
        dtype=None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = self._get_name()
        self.embed_dim = integer(name, "embed_dim", embed_dim)
        self.num_heads = integer(name, "num_heads", num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(message(name, "num_heads", num_heads, f"a divisor of embed_dim={embed_dim}"))
        self.kdim = embed_dim if kdim is None else integer(name, "kdim", kdim)
        self.vdim = embed_dim if vdim is None else integer(name, "vdim", vdim)
        self.dropout = number(name, "dropout", dropout, 0, 1)
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn

        def parameter(wanted, *shape):
            return Parameter(empty(*shape, dtype=dtype)) if wanted else None

        same = self.kdim == self.vdim == embed_dim
        self.register_parameter("in_proj_weight", parameter(same, 3 * embed_dim, embed_dim))
        self.register_parameter("q_proj_weight", parameter(not same, embed_dim, embed_dim))
        self.register_parameter("k_proj_weight", parameter(not same, embed_dim, self.kdim))
        self.register_parameter("v_proj_weight", parameter(not same, embed_dim, self.vdim))
        self.register_parameter("in_proj_bias", parameter(bias, 3 * embed_dim))
        self.register_parameter("bias_k", parameter(add_bias_kv, 1, 1, embed_dim))
        self.register_parameter("bias_v", parameter(add_bias_kv, 1, 1, embed_dim))
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The attended values and the attention weights (None unless ``need_weights``).

        Args:
            key_padding_mask: (N, S): bool, True where a key is padding, or floating, added to the scores.
            attn_mask: (L, S) or (N num_heads, L, S): bool, True where a query may NOT look (the opposite of
                ``scaled_dot_product_attention``), or floating, added to the scores.
            average_attn_weights: the mean of the weights over the heads, or those of each.
            is_causal: a promise that attn_mask is the causal one; the mask is then not read where it can be left out.
        """
        self._check(query, key, value)
        batched, dim = query.ndim == 3, 0 if self.batch_first else 1
        if is_causal and attn_mask is None:
            raise ArgumentError(
                message(self._get_name(), "is_causal", "no attn_mask", "the causal attn_mask beside it")
            )
        together = query is key and key is value
        if not batched:
            query, key, value = (x.unsqueeze(dim) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = self._project(query, key, value, together)
        if self.bias_k is not None:
            k, v = (self._with_row(x, row) for x, row in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (self._with_row(x, zeros(1, 1, self.embed_dim, dtype=x.dtype)) for x in (k, v))
        sizes = (query.shape[dim], self.num_heads, query.shape[1 - dim], key.shape[1 - dim])
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = self._mask(None if causal else attn_mask, key_padding_mask, sizes, query.dtype)
        q, k, v = (self._heads(x) for x in (q, k, v))  # (N, num_heads, L or S, D)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout, self.training)
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        y = (y.transpose(1, 2) if self.batch_first else y.permute(2, 0, 1, 3)).flatten(2)
        y = self.out_proj(y)
        return (y, weights) if batched else (y.squeeze(dim), None if weights is None else weights.squeeze(0))

    def _check(self, query, key, value) -> None:
        name = self._get_name()
        features = ("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)
        for what, x, size in features:
            if x.ndim not in (2, 3) or x.ndim != query.ndim or x.shape[-1] != size:
                lead = "(S, N, " if x is not query else "(L, N, "
                raise ShapeError(message(name, what, x.shape, f"{lead}{size}), or all three unbatched, without N"))
        if key.shape[:-1] != value.shape[:-1]:
            raise ShapeError(message(name, "value", value.shape, f"as long as key {key.shape}"))
        dim = 0 if self.batch_first else 1
        if query.ndim == 3 and query.shape[dim] != key.shape[dim]:
            raise ShapeError(message(name, "batch of key", key.shape, f"{query.shape[dim]} at dim {dim}, as the query"))

    def _project(self, query, key, value, together):
        if self.in_proj_weight is None:
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        elif together:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _with_row(self, x, row):
        """One more key or value, the same for every sample."""
        n = x.shape[0 if self.batch_first else 1]
        return cat(
            [x, row.expand(n, 1, -1) if self.batch_first else row.expand(1, n, -1)], 1 if self.batch_first else 0
        )

    def _heads(self, x):
        x = x.unflatten(-1, (self.num_heads, self.head_dim))
        return x.transpose(1, 2) if self.batch_first else x.permute(1, 2, 0, 3)

    def _mask(self, attn_mask, key_padding_mask, sizes, dtype):
        """What is added to the scores: both masks, as (1 or N, 1 or num_heads, 1 or L, keys)."""
        n, heads, length, keys = sizes
        total = None
        given = (
            ("attn_mask", attn_mask, {(length, keys): (1, 1, length, keys), (n * heads, length, keys): sizes}),
            ("key_padding_mask", key_padding_mask, {(n, keys): (n, 1, 1, keys)}),
        )
        for what, mask, shapes in given:
            if mask is None:
                continue
            if mask.shape not in shapes:
                raise ShapeError(message(self._get_name(), what, mask.shape, " or ".join(map(str, shapes))))
            if mask.dtype.kind == "b":
                mask = zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf)
            elif mask.dtype != dtype:
                raise DTypeError(message(self._get_name(), what, mask.dtype, f"bool (True: closed) or {dtype} (added)"))
            mask = mask.reshape(shapes[mask.shape])
            total = mask if total is None else total + mask
        more = (self.bias_k is not None) + bool(self.add_zero_attn)  # keys of our own, which no mask closes
        return total if total is None or not more else F.pad(total, (0, more))


__all__ = ["MultiheadAttention"]
