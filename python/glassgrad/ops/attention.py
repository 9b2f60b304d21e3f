"""Attention: each query reads a mixture of the values, weighted by how well their keys match it.

forward    y = softmax(q k^T scale + mask) v,   scale = 1 / sqrt(E)    (Vaswani et al. 2017)
           E numbers with variance 1 give a product of variance E; the scale brings it back to 1, where softmax is not
           yet saturated.
It is composed of public ops, and so is its backward. Memory: the L x S scores and their softmax are kept.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor, wrap
from .dropout import dropout
from .elementwise import where
from .movement import tensor_of
from .softmax import floating, softmax

_OP = "scaled_dot_product_attention"


def _check(q, k, v):
    for name, t in (("query", q), ("key", k), ("value", v)):
        if t.ndim < 2:
            raise ShapeError(message(_OP, f"{name} has too few dims", t.shape, "(..., length, features)"))
        if t.dtype != q.dtype:
            raise DTypeError(message(_OP, f"{name} has another dtype than query", t.dtype, q.dtype))
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            message(_OP, "features of key", f"key {k.shape}", f"key.shape[-1]={q.shape[-1]}, as of query {q.shape}")
        )
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            message(_OP, "length of value", f"value {v.shape}", f"value.shape[-2]={k.shape[-2]}, as of key {k.shape}")
        )


def _checked_mask(mask, scores):
    mask = tensor_of(_OP, mask)
    if mask.dtype.kind != "b" and mask.dtype != scores.dtype:
        raise DTypeError(message(_OP, "attn_mask", mask.dtype, f"bool (True: may look) or {scores.dtype} (added)"))
    try:
        fits = np.broadcast_shapes(mask.shape, scores.shape) == scores.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(message(_OP, "attn_mask does not broadcast", mask.shape, f"(..., L, S) = {scores.shape}"))
    return mask


def _share_heads(t, heads):
    """(..., few, L, E) to (..., heads, L, E): every head of t serves heads / few queries' heads in a row."""
    few = t.shape[-3] if t.ndim > 2 else 0
    if not few or heads % few:
        raise ShapeError(message(_OP, "heads with enable_gqa", few, f"a divisor of the query's {heads}"))
    *batch, _, length, features = t.shape
    repeated = t.unsqueeze(-3).expand(*batch, few, heads // few, length, features)
    return repeated.reshape(*batch, heads, length, features)


def scaled_dot_product_attention(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query key^T scale + mask) value (Vaswani et al. 2017).

    Args:
        query, key, value: (..., L, E), (..., S, E), (..., S, Ev); the result is (..., L, Ev). Leading dims broadcast.
        attn_mask: broadcasts to (..., L, S). bool: True where a query may look; floating: added to the scores. A query
            that may look nowhere gives 0.
        dropout_p: drop attention weights with this probability. There is no ``training`` flag: pass 0 to evaluate.
        is_causal: query i may look at keys 0 to i. Not together with attn_mask.
        scale: default 1 / sqrt(E).
        enable_gqa: key and value may have fewer heads, dim -3, that divide the query's (Ainslie et al. 2023).

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> q = k = gg.zeros(2, 4)  # every key matches alike, so each query reads the mean of what it may see
        >>> F.scaled_dot_product_attention(q, k, gg.tensor([[1.0], [3.0]]), is_causal=True)
        tensor([[1.],
                [2.]])
    """
    q, k, v = floating(_OP, "query", query), floating(_OP, "key", key), floating(_OP, "value", value)
    _check(q, k, v)
    if is_causal and attn_mask is not None:
        raise ArgumentError(message(_OP, "two masks", "attn_mask and is_causal=True", "one of them"))
    if enable_gqa:
        heads = q.shape[-3] if q.ndim > 2 else 1
        k, v = _share_heads(k, heads), _share_heads(v, heads)
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0
    scores = (q * scale) @ k.transpose(-2, -1)  # (..., L, S); q is scaled because it is smaller than the scores

    blind = None
    if is_causal:
        scores = where(wrap(np.tri(*scores.shape[-2:], dtype=bool)), scores, -math.inf)
    elif attn_mask is not None:
        mask = _checked_mask(attn_mask, scores)
        closed = ~mask.data if mask.dtype.kind == "b" else np.isneginf(mask.data)
        scores = where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
        rows = closed.all(axis=-1, keepdims=True) if closed.ndim else closed
        if rows.any():
            # The softmax of -inf alone is NaN, and so would be the gradient of every key: such rows are set aside.
            blind = wrap(rows)
            scores = where(blind, 0.0, scores)
    weights = softmax(scores, -1)
    if blind is not None:
        weights = where(blind, 0.0, weights)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ v


METHODS = ()
__all__ = ["scaled_dot_product_attention"]
