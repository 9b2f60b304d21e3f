"""Attention: each query reads a mixture of the values, weighted by how well their keys match it.

forward    y_i  = sum_j p_ij v_j,   p_ij = exp(s_ij - lse_i),   s = scale q k^T + mask,   lse_i = ln sum_j exp(s_ij)
           scale = 1 / sqrt(E): E numbers with variance 1 give a product of variance E; the scale brings it back to 1,
           where softmax is not yet saturated (Vaswani et al. 2017).
backward   dv_j = sum_i p_ij dy_i
           ds_ij = p_ij (dy_i . v_j - dy_i . y_i)    since sum_j p_ij dy_i . v_j = dy_i . y_i
           dq_i = scale sum_j ds_ij k_j,   dk_j = scale sum_i ds_ij q_i,   dmask = ds
saves      q, k, v, y and lse: the native kernels compute the scores again in blocks, and never hold all L x S of them
           (Dao et al. 2022). The reference does, and so do second derivatives, the gradient of a mask, and dropout.
native     csrc/cpu/attention.cpp
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap
from .dropout import dropout
from .elementwise import where
from .movement import tensor_of
from .softmax import floating, softmax

_OP = "scaled_dot_product_attention"


def _reference(query, key, value, attn_mask, *, is_causal, scale):
    s = (query * query.dtype.type(scale)) @ key.swapaxes(-2, -1)  # (batch, heads, L, S)
    if is_causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, s.dtype.type(-np.inf))
    if attn_mask is not None:
        s = s + (np.where(attn_mask, 0, -np.inf).astype(s.dtype) if attn_mask.dtype.kind == "b" else attn_mask)
    most = s.max(axis=-1, keepdims=True, initial=-np.inf)
    most[np.isneginf(most)] = 0  # a query that meets no key: e and its sum are 0, and so is y
    e = np.exp(s - most)
    total = e.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (most + np.log(total))[..., 0]
    return (e @ value) / np.where(total == 0, 1, total), lse


def _weights(query, key, attn_mask, is_causal, scale):
    """p in Tensor ops: (..., L, S); 0 for a query that meets no key."""
    scores = (query * scale) @ key.transpose(-2, -1)  # q is scaled because it is smaller than the scores
    closed = None  # where no query looks
    if is_causal:
        seen = np.tri(*scores.shape[-2:], dtype=bool)
        scores, closed = where(wrap(seen), scores, -math.inf), ~seen
    if attn_mask is not None:
        if attn_mask.dtype.kind == "b":
            scores, shut = where(attn_mask, scores, -math.inf), ~attn_mask.data
        else:
            scores, shut = scores + attn_mask, np.isneginf(attn_mask.data)
        closed = shut if closed is None else closed | shut
    rows = closed.all(axis=-1, keepdims=True) if closed is not None and closed.ndim else closed
    if rows is None or not rows.any():
        return softmax(scores, -1)
    # The softmax of -inf alone is NaN, and so would be the gradient of every key: such rows are set aside.
    blind = wrap(np.asarray(rows))
    return where(blind, 0.0, softmax(where(blind, 0.0, scores), -1))


def _vjp(dy, query, key, value, attn_mask, needs, *, is_causal, scale):
    p = _weights(query, key, attn_mask, is_causal, scale)
    dp = dy @ value.transpose(-2, -1)
    ds = p * (dp - (dp * p).sum(-1, keepdim=True))
    dmask = ds.sum_to_size(attn_mask.shape) if needs[3] else None
    return (ds @ key) * scale, (ds.transpose(-2, -1) @ query) * scale, p.transpose(-2, -1) @ dy, dmask


def _samples(rng):
    def qkv(batch=1, heads=1, length=3, keys=3, features=4, values=None):
        sizes = (length, features), (keys, features), (keys, features if values is None else values)
        return [rng.uniform(-1, 1, (batch, heads, *size)) for size in sizes]

    plain, causal = {"is_causal": False, "scale": 0.5}, {"is_causal": True, "scale": 0.5}
    for static, name in ((plain, ""), (causal, "causal ")):
        yield Sample((*qkv(2, 2), None), static, name=f"{name}square")
        yield Sample((*qkv(1, 2, 2, 5, 3, 2), None), static, name=f"{name}more keys")
        yield Sample((*qkv(1, 1, 5, 2, 1, 3), None), static, name=f"{name}more queries")
        yield Sample((*qkv(length=1, keys=1, features=1), None), static, name=f"{name}of size 1")
        yield Sample((*qkv(length=0), None), static, name=f"{name}no queries")
        yield Sample((*qkv(keys=0), None), static, name=f"{name}no keys")
        yield Sample((*qkv(features=0, values=2), None), static, name=f"{name}no features")
        yield Sample((*qkv(values=0), None), static, name=f"{name}no values")
        sizes = (1, 2, 37, 131, 33, 35) if static is plain else (1, 1, 150, 140, 5, 18)
        yield Sample((*qkv(*sizes), None), static, False, name=f"{name}across blocks")
    heads = [x.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3) for x in qkv(2, 3, 4, 4, 2)]
    yield Sample((*heads, None), causal, name="slices of a row")
    for shape in ((2, 2, 3, 5), (3, 5), (2, 1, 1, 5), (1, 1, 3, 1), ()):
        look = rng.random(shape) > 0.4
        yield Sample((*qkv(2, 2, 3, 5), look), plain, name=f"bool mask {shape}")
        yield Sample((*qkv(2, 2, 3, 5), rng.uniform(-1, 1, shape)), plain, name=f"float mask {shape}")
    yield Sample((*qkv(1, 1, 40, 120), rng.random((40, 120)) > 0.5), plain, False, name="bool mask across blocks")
    yield Sample((*qkv(1, 1, 40, 120), rng.uniform(-1, 1, (40, 120))), plain, False, name="float mask across blocks")
    yield Sample((*qkv(1, 1, 3, 5), np.array([True, True, False, True, True])), causal, name="mask and causal")
    shut = np.array([[True, False, True], [False, False, False], [True, True, True]])
    yield Sample((*qkv(), shut), plain, name="a query that meets no key")
    yield Sample((*qkv(), np.where(shut, 0.0, -np.inf)), plain, False, name="a mask of -inf")
    q, k, v = qkv()
    yield Sample((q * 100, k * 100, v, None), plain, False, name="scores far from 0")
    q, k, v = qkv(1, 1, 3, 4)
    q[0, 0, 1, 2] = np.nan
    yield Sample((q, k, v, None), plain, False, name="NaN")


_attention = Op(
    "scaled_dot_product_attention",
    _reference,
    vjp=_vjp,
    fused_vjp=(
        "scaled_dot_product_attention_backward",
        *("query", "key", "value", "attn_mask", "y", "lse", "needs", "is_causal", "scale"),
    ),
    samples=_samples,
    extras=("lse",),
    ulps=16.0,  # the mean of many values is small beside their errors
    doc="scaled_dot_product_attention: softmax(scale query key^T + mask) value; derivatives: see the module.",
)


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


def _common(q, k, v):
    try:
        return np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ShapeError(
            message(_OP, "leading dims do not broadcast", f"{q.shape}, {k.shape}, {v.shape}", "sizes equal or 1")
        ) from None


def _checked_mask(mask, shape, dtype):
    mask = tensor_of(_OP, mask)
    if mask.dtype.kind != "b" and mask.dtype != dtype:
        raise DTypeError(message(_OP, "attn_mask", mask.dtype, f"bool (True: may look) or {dtype} (added)"))
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(message(_OP, "attn_mask does not broadcast", mask.shape, f"(..., L, S) = {shape}"))
    return mask


def _four_dims(t):
    """(..., L, E) to (batch, heads, L, E), the heads being the last of the leading dims."""
    leading = t.shape[:-2]
    return t.reshape(math.prod(leading[:-1]), leading[-1] if leading else 1, *t.shape[-2:])


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
    batch = q.shape[:-2]
    if not batch == k.shape[:-2] == v.shape[:-2]:
        batch = _common(q, k, v)
        q, k, v = (t.expand(*batch, *t.shape[-2:]) for t in (q, k, v))
    mask = None if attn_mask is None else _checked_mask(attn_mask, (*batch, q.shape[-2], k.shape[-2]), q.dtype)
    if dropout_p:
        return dropout(_weights(q, k, mask, is_causal, scale), dropout_p) @ v
    if len(batch) == 2:
        return apply(_attention, q, k, v, mask, is_causal=bool(is_causal), scale=float(scale))
    if mask is not None and mask.ndim > 2:
        mask = _four_dims(mask.expand(*batch, *mask.shape[-2:]))
    q4, k4, v4 = map(_four_dims, (q, k, v))
    y = apply(_attention, q4, k4, v4, mask, is_causal=bool(is_causal), scale=float(scale))
    return y.reshape(*batch, *y.shape[-2:])


METHODS = ()
__all__ = ["scaled_dot_product_attention"]
