"""Attention and its layer: against PyTorch with every option, second derivatives, memory, and what they refuse."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends, nn
from glassgrad.errors import ArgumentError, DTypeError, ShapeError
from oracle import same_as_torch

F = gg.nn.functional
DTYPES = [np.float32, np.float64]
inf = np.inf


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def same(torch, *arrays, tolerance=10.0, **options):
    """scaled_dot_product_attention and torch's agree on ``arrays``; arrays among the options become tensors without gradient."""

    def call(function, to_tensor):
        given = {k: to_tensor(v.copy()) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return lambda *tensors: function(*tensors, **given)

    ours, theirs = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
    same_as_torch(torch, call(ours, gg.from_numpy), call(theirs, torch.from_numpy), *arrays, tolerance=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}], ids=str)
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)),
        ((5, 4), (5, 4), (5, 4)),
        ((2, 1, 5, 4), (1, 3, 2, 4), (1, 3, 2, 3)),
        ((1, 1, 1), (1, 1, 1), (1, 1, 2)),
        ((2, 0, 4), (2, 3, 4), (2, 3, 4)),
    ],
    ids=str,
)
def test_attention(shapes, options, dtype, torch, backend, rng):
    if shapes[0] == (2, 1, 5, 4):  # torch's fused kernels broadcast no batch dims: spell it out for it
        arrays = [np.broadcast_to(rng.standard_normal(s), (2, 3, *s[-2:])).astype(dtype).copy() for s in shapes]
    else:
        arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
    same(torch, *arrays, **options)


def test_attention_broadcasts(backend, rng):
    q, k, v = (gg.from_numpy(rng.standard_normal(s)) for s in ((2, 1, 5, 4), (1, 3, 2, 4), (1, 3, 2, 3)))
    whole = F.scaled_dot_product_attention(q.expand(2, 3, 5, 4), k.expand(2, 3, 2, 4), v.expand(2, 3, 2, 3))
    np.testing.assert_allclose(F.scaled_dot_product_attention(q, k, v).numpy(), whole.numpy(), rtol=1e-13)


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("mask_shape", [(2, 3, 5, 7), (5, 7), (2, 1, 1, 7), (1, 1, 5, 1)])
def test_attention_masks(mask_shape, kind, torch, backend, rng):
    q, k, v = (rng.standard_normal(s) for s in ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)))
    look = rng.random(mask_shape) > 0.4
    if kind == "bool":
        same(torch, q, k, v, attn_mask=look)
    else:
        bias = np.where(look, rng.standard_normal(mask_shape), -inf)
        same(torch, q, k, v, attn_mask=bias)
        learnt = rng.standard_normal(mask_shape)
        same_as_torch(
            torch,
            F.scaled_dot_product_attention,
            torch.nn.functional.scaled_dot_product_attention,
            q,
            k,
            v,
            learnt,
            tolerance=10,
        )


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_may_look_nowhere_gives_zero_and_no_gradient(kind, torch, backend, rng):
    q, k, v = (rng.standard_normal(s) for s in ((2, 3, 4), (2, 3, 4), (2, 3, 5)))
    look = np.array([[True, False, True], [False, False, False], [True, True, True]])
    mask = look if kind == "bool" else np.where(look, 0.0, -inf)
    same(torch, q, k, v, attn_mask=mask)
    y = F.scaled_dot_product_attention(*map(gg.from_numpy, (q, k, v)), gg.from_numpy(mask))
    assert (y.numpy()[:, 1] == 0).all()


def test_grouped_queries(torch, backend, rng):
    q, k, v = (rng.standard_normal(s) for s in ((2, 6, 5, 4), (2, 2, 3, 4), (2, 2, 3, 4)))
    same(torch, q, k, v, enable_gqa=True)
    with pytest.raises(ShapeError, match="heads with enable_gqa: got 4"):
        F.scaled_dot_product_attention(gg.ones(1, 6, 2, 4), gg.ones(1, 4, 2, 4), gg.ones(1, 4, 2, 4), enable_gqa=True)


def test_attention_drops_weights(backend):
    q, v = gg.zeros(1, 1, 4), gg.ones(1, 1000, 1)
    gg.manual_seed(0)
    dropped = F.scaled_dot_product_attention(q, gg.zeros(1, 1000, 4), v, dropout_p=0.5).item()
    assert dropped != 1.0
    assert abs(dropped - 1.0) < 0.2  # 6 standard deviations: sqrt(1 / 1000)


def test_attention_second_derivative(backend, rng):
    q, k, v = (gg.from_numpy(rng.standard_normal((2, 3, 2))).requires_grad_() for _ in range(3))
    assert gg.gradgradcheck(lambda *a: F.scaled_dot_product_attention(*a, is_causal=True), (q, k, v))


def test_attention_refusals():
    f, x = F.scaled_dot_product_attention, gg.ones(2, 3, 4)
    with pytest.raises(ShapeError, match=r"key.shape\[-1\]=4, as of query"):
        f(x, gg.ones(2, 3, 5), x)
    with pytest.raises(ShapeError, match=r"value.shape\[-2\]=3, as of key"):
        f(x, x, gg.ones(2, 2, 4))
    with pytest.raises(ShapeError, match="query has too few dims"):
        f(gg.ones(4), x, x)
    with pytest.raises(DTypeError, match="key has another dtype"):
        f(x, gg.ones(2, 3, 4, dtype=gg.float64), x)
    with pytest.raises(ArgumentError, match="two masks"):
        f(x, x, x, gg.ones(3, 3, dtype=gg.bool), is_causal=True)
    with pytest.raises(ShapeError, match=r"attn_mask does not broadcast: got \(3, 4\)"):
        f(x, x, x, gg.ones(3, 4, dtype=gg.bool))
    with pytest.raises(DTypeError, match="attn_mask: got int64"):
        f(x, x, x, gg.ones(3, 3, dtype=gg.int64))
    with pytest.raises(ArgumentError, match="dropout: p"):
        f(x, x, x, dropout_p=-0.5)


@pytest.mark.parametrize("shape", [(2, 3, 70, 20), (1, 2, 300, 33), (3, 130, 16), (2, 2, 2, 5, 4)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_across_blocks(shape, causal, torch, backend, rng):
    same(torch, *(rng.standard_normal(shape).astype(np.float32) for _ in range(3)), is_causal=causal)


def test_heads_may_be_slices_of_a_row(backend, rng):
    """(batch, L, heads, E) seen as (batch, heads, L, E): the same numbers, and results that lie in memory alike."""
    rows = [gg.from_numpy(rng.standard_normal((2, 40, 3, 8))).requires_grad_() for _ in range(3)]
    y = F.scaled_dot_product_attention(*[x.transpose(1, 2) for x in rows], is_causal=True)
    dxs = gg.autograd.grad(y.sum(), rows)
    plain = [gg.from_numpy(x.detach().numpy().swapaxes(1, 2).copy()).requires_grad_() for x in rows]
    expected = F.scaled_dot_product_attention(*plain, is_causal=True)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    for dx, dp in zip(dxs, gg.autograd.grad(expected.sum(), plain), strict=True):
        np.testing.assert_allclose(dx.numpy(), dp.numpy().swapaxes(1, 2), rtol=1e-9, atol=1e-12)
    if gg.backends.selected.backend.name == "cpp":
        assert y.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("options", [{}, {"is_causal": True}], ids=str)
def test_second_derivatives_equal_torchs(options, torch, backend, rng):
    arrays = [rng.standard_normal(s) for s in ((1, 2, 4, 3), (1, 2, 5, 3), (1, 2, 5, 2))]

    def penalty(lib, functional, tensors):
        y = functional.scaled_dot_product_attention(*tensors, **options)
        dxs = lib.autograd.grad((y * y).sum(), tensors, create_graph=True)
        return lib.autograd.grad(sum((dx * dx).sum() for dx in dxs), tensors)

    ours = penalty(gg, F, [gg.from_numpy(a.copy()).requires_grad_() for a in arrays])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs = penalty(torch, torch.nn.functional, [torch.from_numpy(a).requires_grad_() for a in arrays])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")
@pytest.mark.parametrize("mask", [None, "keys"])
def test_memory_is_linear_in_the_length(mask):
    """2000 x 2000 scores are 16 MB; what forward and backward allocate stays far below."""
    module = backends.get("cpp").module
    with gg.use_backend("cpp"):
        q = gg.ones(1, 1, 2000, 8).requires_grad_()
        open_ = None if mask is None else gg.ones(2000, dtype=gg.bool)
        module.empty_cache()
        before = module.allocator_stats()["in_use"]
        F.scaled_dot_product_attention(q, q, q, open_, is_causal=mask is None).sum().backward()
        stats = module.allocator_stats()  # scratch is cached when a kernel ends: its peak shows there
    assert stats["in_use"] - before + stats["cached"] < 4e6


@pytest.mark.parametrize("where", range(3))
def test_nan_in_nan_out(where, backend, rng):
    arrays = [rng.standard_normal((1, 1, 4, 3)) for _ in range(3)]
    arrays[where][0, 0, 2, 1] = np.nan
    y = F.scaled_dot_product_attention(*map(gg.from_numpy, arrays)).numpy()
    spoilt = {0: np.s_[..., 2, :], 1: np.s_[...], 2: np.s_[..., 1]}[where]
    assert np.isnan(y[spoilt]).all()
    assert np.isnan(y).sum() == np.isnan(y[spoilt]).sum()


# -------------------------------------------------------------------------------------------------- MultiheadAttention


def layers(torch, *args, **options):
    """Our layer and torch's with the same weights, biases too, in float64."""
    theirs = torch.nn.MultiheadAttention(*args, **options, dtype=torch.float64)
    with torch.no_grad():
        for p in theirs.parameters():
            p.uniform_(-0.5, 0.5)
    ours = nn.MultiheadAttention(*args, **options, dtype=gg.float64)
    ours.load_state_dict({name: gg.from_numpy(p.numpy().copy()) for name, p in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def same_layer(ours, theirs, torch, arrays, together=False, **options):
    """Outputs, weights and every gradient agree. ``together``: query, key and value are one tensor."""

    def run(layer, to_tensor):
        given = {k: to_tensor(v.copy()) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        xs = [to_tensor(a.copy()).requires_grad_() for a in arrays]
        y, weights = layer(*(xs * 3 if together else xs), **given)
        (y * y).sum().backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        return [y.detach(), None if weights is None else weights.detach(), *[x.grad for x in xs]], grads

    (got, dps), (expected, dts) = run(ours, gg.from_numpy), run(theirs, torch.from_numpy)
    for a, b in [*zip(got, expected, strict=True), *((dps[name], dts[name]) for name in dts)]:
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-11)


LAYERS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "kdim": {"kdim": 5, "vdim": 7},
    "a learnt key": {"add_bias_kv": True},
    "a zero key": {"add_zero_attn": True, "batch_first": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "kdim": 3},
}


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("masks", ["none", "bool", "float", "per head"])
def test_layer(options, masks, need_weights, torch, backend, rng):
    ours, theirs = layers(torch, 8, 2, **options)
    n, length, keys = 3, 4, 5
    shapes = (length, n, 8), (keys, n, options.get("kdim", 8)), (keys, n, options.get("vdim", 8))
    if options.get("batch_first"):
        shapes = [(b, a, f) for a, b, f in shapes]
    given = {"need_weights": need_weights}
    closed = rng.random((length, keys)) > 0.6
    closed[:, 1] = False
    padding = np.zeros((n, keys), bool)
    padding[1, 3:] = True
    if masks == "bool":
        given |= {"attn_mask": closed, "key_padding_mask": padding}
    elif masks == "float":
        given |= {"attn_mask": rng.standard_normal((length, keys)), "key_padding_mask": np.where(padding, -inf, 0.0)}
    elif masks == "per head":
        given |= {"attn_mask": rng.standard_normal((n * 2, length, keys)), "average_attn_weights": False}
    same_layer(ours, theirs, torch, [rng.standard_normal(s) for s in shapes], **given)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (6, 2, 8)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layer_of_self_attention(batch_first, shape, need_weights, torch, backend, rng):
    ours, theirs = layers(torch, 8, 4, batch_first=batch_first)
    x = rng.standard_normal(shape)
    same_layer(ours, theirs, torch, [x], together=True, need_weights=need_weights)
    length = shape[1] if batch_first and len(shape) == 3 else shape[0]
    causal = ~np.tri(length, dtype=bool)
    same_layer(ours, theirs, torch, [x], together=True, need_weights=need_weights, attn_mask=causal, is_causal=True)


def test_layer_drops_weights_in_training_alone():
    x = gg.ones(2, 50, 8)
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    for need_weights in (True, False):
        first, again = (layer(x, x, x, need_weights=need_weights)[0].detach().numpy() for _ in range(2))
        assert (first != again).any()
    layer.eval()
    first, again = (layer(x, x, x)[0].detach().numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_layer_refusals():
    with pytest.raises(ArgumentError, match="num_heads: got 3; expected a divisor of embed_dim=8"):
        nn.MultiheadAttention(8, 3)
    layer, x = nn.MultiheadAttention(8, 2), gg.ones(4, 3, 8)
    with pytest.raises(ShapeError, match=r"query: got \(4, 3, 7\); expected \(L, N, 8\)"):
        layer(gg.ones(4, 3, 7), x, x)
    with pytest.raises(ShapeError, match="as long as key"):
        layer(x, x, gg.ones(5, 3, 8))
    with pytest.raises(ShapeError, match="batch of key"):
        layer(x, gg.ones(4, 2, 8), gg.ones(4, 2, 8))
    with pytest.raises(ShapeError, match=r"attn_mask: got \(4, 5\); expected \(4, 4\) or \(6, 4, 4\)"):
        layer(x, x, x, attn_mask=gg.ones(4, 5, dtype=gg.bool))
    with pytest.raises(ShapeError, match=r"key_padding_mask: got \(4, 3\); expected \(3, 4\)"):
        layer(x, x, x, key_padding_mask=gg.ones(4, 3, dtype=gg.bool))
    with pytest.raises(DTypeError, match="attn_mask: got int64"):
        layer(x, x, x, attn_mask=gg.ones(4, 4, dtype=gg.int64))
    with pytest.raises(ArgumentError, match="no attn_mask"):
        layer(x, x, x, is_causal=True)
