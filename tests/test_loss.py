"""Losses and dropout: against PyTorch with every option, at the edges, and what they refuse."""

import math
import warnings

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from oracle import same_as_torch

F = gg.nn.functional
REDUCTIONS = ["none", "mean", "sum"]
DTYPES = [np.float32, np.float64]
inf, nan = np.inf, np.nan

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean':UserWarning", "ignore:kl_div:UserWarning")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def same(torch, name, *arrays, tolerance=4.0, **options):
    """F.name and torch's agree on ``arrays``; arrays among the options become tensors without gradient."""

    def call(function, to_tensor):
        given = {k: to_tensor(v.copy()) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return lambda *tensors: function(*tensors, **given)

    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    same_as_torch(torch, call(ours, gg.from_numpy), call(theirs, torch.from_numpy), *arrays, tolerance=tolerance)


# -------------------------------------------------------------------------------------------------------- regression

REGRESSION = {
    "mse_loss": [{}],
    "l1_loss": [{}],
    "huber_loss": [{}, {"delta": 0.3}],
    "smooth_l1_loss": [{}, {"beta": 0.3}, {"beta": 0.0}],
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3), (7,), (), (0, 3)])
@pytest.mark.parametrize(("name", "options"), [(n, o) for n, several in REGRESSION.items() for o in several])
def test_regression(name, options, shape, dtype, reduction, torch, backend, rng):
    x, target = (np.asarray(rng.uniform(-2, 2, shape), dtype) for _ in range(2))
    same(torch, name, x, target, reduction=reduction, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_regression(name, reduction, torch, backend, rng):
    x, target, weight = rng.standard_normal((3, 4, 5))
    same(torch, name, x, target, weight=np.abs(weight), reduction=reduction)
    with pytest.raises(ShapeError, match=f"{name}: weight"):
        getattr(F, name)(gg.ones(2, 3), gg.ones(2, 3), weight=gg.ones(3))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_infinite_errors_have_finite_gradients_and_nan_stays(name, torch, backend):
    same(torch, name, np.array([inf, -inf]), np.zeros(2), reduction="none")
    x, target = gg.tensor([nan, 1.0]), gg.tensor([0.0, nan])
    assert np.isnan(getattr(F, name)(x, target, reduction="none").numpy()).all()


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_shapes_that_broadcast_are_computed_with_a_warning(name):
    f = getattr(F, name)
    with pytest.warns(
        UserWarning, match=r"input is \(4, 1\), target is \(4,\): they broadcast to \(4, 4\).*target.reshape"
    ):
        assert f(gg.ones(4, 1), gg.zeros(4), reduction="none").shape == (4, 4)
    with pytest.warns(UserWarning) as caught:
        f(gg.ones(4, 3), gg.zeros(3))
    assert caught[0].filename == __file__
    assert "reshape" not in str(caught[0].message)  # it would not fit
    with pytest.raises(ShapeError, match=rf"{name}: target does not fit the input: got \(5,\)"):
        f(gg.ones(4), gg.zeros(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(gg.ones(4), gg.zeros(4))


def test_integer_targets_are_numbers_and_integer_inputs_are_refused():
    assert F.mse_loss(gg.ones(2), gg.tensor([1, 3])).item() == 2.0
    with pytest.raises(DTypeError, match="mse_loss: input is not floating: got int64"):
        F.mse_loss(gg.tensor([1, 3]), gg.tensor([1, 3]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_counts_and_signs(reduction, torch, backend, rng):
    x = rng.uniform(0.1, 3, (5, 3))
    counts, signs = rng.integers(0, 4, x.shape).astype(float), rng.choice([-1.0, 1.0], x.shape)
    for options in ({}, {"full": True}, {"log_input": False}, {"log_input": False, "eps": 0.5}):
        same(torch, "poisson_nll_loss", x, target=counts, reduction=reduction, **options)
    same(torch, "soft_margin_loss", x - 1, target=signs, reduction=reduction)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("var_shape", [(4, 3), (4, 1), (4,)])
def test_gaussian_nll_loss(var_shape, reduction, full, torch, backend, rng):
    x, target = rng.standard_normal((2, 4, 3))
    var = rng.uniform(0.1, 2, var_shape)
    var.flat[0] = 0.0  # lifted to eps
    same(torch, "gaussian_nll_loss", x, target, var, reduction=reduction, full=full, eps=1e-2)
    with pytest.raises(ArgumentError, match="var is negative"):
        F.gaussian_nll_loss(gg.ones(2), gg.ones(2), gg.tensor([1.0, -1.0]))
    with pytest.raises(ShapeError, match="var does not fit"):
        F.gaussian_nll_loss(gg.ones(2, 3), gg.ones(2, 3), gg.ones(3, 2))


# ------------------------------------------------------------------------------------------------------ cross_entropy


def classification(rng, shape, dtype=np.float64, ignored=()):
    """Logits of ``shape`` and class indices, some of them -100."""
    classes = shape[min(1, len(shape) - 1)]
    target = np.asarray(rng.integers(0, classes, shape[:1] + shape[2:] if len(shape) > 1 else ()))
    for i in ignored:
        target.flat[i] = -100
    return (rng.standard_normal(shape) * 3).astype(dtype), target


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 4, 2), (2, 3, 2, 3), (0, 3)])
def test_cross_entropy_of_classes(shape, smoothing, weighted, dtype, reduction, torch, backend, rng):
    x, target = classification(rng, shape, dtype, ignored=(0, 2) if len(shape) > 1 and shape[0] else ())
    options = {"weight": rng.uniform(0.5, 2, shape[min(1, len(shape) - 1)]).astype(dtype)} if weighted else {}
    same(torch, "cross_entropy", x, target, reduction=reduction, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 4, 2)])
def test_cross_entropy_of_probabilities(shape, smoothing, weighted, reduction, torch, backend, rng):
    x, target = rng.standard_normal(shape), rng.dirichlet(np.ones(4), shape)[..., 0]
    options = {"weight": rng.uniform(0.5, 2, shape[min(1, len(shape) - 1)])} if weighted else {}
    same(torch, "cross_entropy", x, target, reduction=reduction, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 4, 2), (0, 3)])
def test_nll_loss(shape, weighted, reduction, torch, backend, rng):
    x, target = classification(rng, shape, ignored=(0, 2) if len(shape) > 1 and shape[0] else ())
    options = {"weight": rng.uniform(0.5, 2, shape[min(1, len(shape) - 1)])} if weighted else {}
    same(torch, "nll_loss", x, target, reduction=reduction, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [-100, 2, 255, -1])
def test_ignore_index(ignore_index, smoothing, reduction, torch, backend, rng):
    x = rng.standard_normal((5, 4))
    target = np.array([0, ignore_index, 3, 2 if ignore_index == 2 else 1, ignore_index])
    same(torch, "cross_entropy", x, target, reduction=reduction, ignore_index=ignore_index, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_mean_over_no_rows_is_nan_and_its_sum_is_zero(smoothing, torch, backend, rng):
    x, target = rng.standard_normal((3, 4)), np.full(3, -100)
    for reduction in REDUCTIONS:
        same(torch, "cross_entropy", x, target, reduction=reduction, label_smoothing=smoothing)


def test_cross_entropy_at_the_edges(torch, backend):
    x = np.array([[0, -inf, 1], [0, -inf, 1], [inf, 0, 1], [nan, 0, 1], [-inf, -inf, -inf], [300, 0, -300]])
    same(torch, "cross_entropy", x, np.array([0, 1, 0, 1, 0, 2]), reduction="none")
    ignored = np.array([[nan, 0.0], [1.0, 0.0]])
    logits = gg.from_numpy(ignored).requires_grad_()
    F.cross_entropy(logits, gg.tensor([-100, 0])).backward()
    assert logits.grad.numpy()[0].tolist() == [0.0, 0.0]  # what is ignored is not looked at


def test_cross_entropy_far_from_zero_keeps_its_digits(torch, backend, rng):
    """Logits near 1e4 have 1e-3 between neighbours in float32; what is computed from them has all of its 24 bits."""
    logits = (1e4 + rng.integers(-3000, 3000, (8, 5)) / 1024).astype(np.float32)
    target = rng.integers(0, 5, 8)
    x, t = gg.from_numpy(logits).requires_grad_(), torch.from_numpy(logits).double().requires_grad_()
    loss, exact = (
        F.cross_entropy(x, gg.from_numpy(target)),
        torch.nn.functional.cross_entropy(t, torch.from_numpy(target)),
    )
    loss.backward()
    exact.backward()
    np.testing.assert_allclose(loss.item(), exact.item(), rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=2e-6)


def test_second_derivatives(backend, rng):
    x, target = classification(rng, (4, 3), ignored=(1,))
    x, target = gg.from_numpy(x).requires_grad_(), gg.from_numpy(target)
    weight = gg.from_numpy(rng.uniform(0.5, 2, 3))
    assert gg.gradgradcheck(lambda t: F.cross_entropy(t, target), (x,))
    assert gg.gradgradcheck(lambda t: F.cross_entropy(t, target, weight, label_smoothing=0.1), (x,))
    p = gg.from_numpy(rng.uniform(0.1, 0.9, 5)).requires_grad_()
    bits = gg.from_numpy(rng.integers(0, 2, 5).astype(float))
    assert gg.gradgradcheck(lambda t: F.binary_cross_entropy(t, bits), (p,))
    assert gg.gradgradcheck(lambda t: F.binary_cross_entropy_with_logits(t, bits), (p,))
    assert gg.gradgradcheck(lambda t: F.huber_loss(t, bits * 4, delta=0.7), (p,))
    assert gg.gradgradcheck(lambda t: F.kl_div(t.log(), bits * 0.5 + 0.1, reduction="sum"), (p,))


def test_half_precision(backend, rng):
    x = gg.from_numpy(rng.standard_normal((3, 4)).astype(np.float16)).requires_grad_()
    loss = F.cross_entropy(x, gg.tensor([0, 1, 2]), gg.ones(4, dtype=gg.float16))
    assert loss.dtype == gg.float16
    loss.backward()
    assert x.grad.dtype == gg.float16


def test_targets_that_are_no_classes():
    x = gg.ones(4, 3)
    with pytest.raises(
        AxisError, match=r"cross_entropy: target\[2\] is no class of the input: got 3; expected 0 <= class < 3"
    ):
        F.cross_entropy(x, gg.tensor([0, 1, 3, 5]))
    with pytest.raises(IndexError, match=r"target\[1, 0\] is no class.*got -1; .*ignore_index=-100"):
        F.cross_entropy(gg.ones(2, 3, 2), gg.tensor([[0, 1], [-1, 2]]))
    with pytest.raises(AxisError, match=r"Classes count from 0; target - 1 would fit"):
        F.cross_entropy(x, gg.tensor([1, 2, 3, 3]))
    with pytest.raises(AxisError, match="nll_loss: target is no class"):
        F.nll_loss(gg.ones(3), gg.tensor(7))
    with pytest.raises(ShapeError, match=r"cross_entropy: target does not fit the input: got \(3,\); expected \(4,\)"):
        F.cross_entropy(x, gg.tensor([0, 1, 2]))
    with pytest.raises(ShapeError, match=r"One-hot rows\? Use target.to\(input.dtype\), or target.argmax\(1\)"):
        F.cross_entropy(x, gg.ones(4, 3, dtype=gg.int64))
    with pytest.raises(DTypeError, match=r"target: got float32 \(4,\); .*Use target.to\(gg.int64\)"):
        F.cross_entropy(x, gg.ones(4))
    with pytest.raises(DTypeError, match="class indices"):
        F.cross_entropy(x, gg.ones(4, 2))
    with pytest.raises(DTypeError, match="got bool"):
        F.nll_loss(gg.ones(2, 2), gg.tensor([True, False]))
    with pytest.raises(ShapeError, match="no dim of classes"):
        F.cross_entropy(gg.tensor(1.0), gg.tensor(0))
    with pytest.raises(ShapeError, match=r"one number per class, \(3,\)"):
        F.cross_entropy(x, gg.tensor([0, 1, 2, 0]), gg.ones(4))
    with pytest.raises(DTypeError, match="weight has another dtype"):
        F.cross_entropy(x, gg.tensor([0, 1, 2, 0]), gg.ones(3, dtype=gg.float64))
    with pytest.raises(ArgumentError, match="label_smoothing"):
        F.cross_entropy(x, gg.tensor([0, 1, 2, 0]), label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="ignore_index with probabilities"):
        F.cross_entropy(x, gg.ones(4, 3), ignore_index=1)
    with pytest.raises(ArgumentError, match="unknown reduction: got 'avg'; expected one of 'none', 'mean', 'sum'"):
        F.cross_entropy(x, gg.tensor([0, 1, 2, 0]), reduction="avg")


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8])
def test_any_integer_dtype_counts_classes(dtype, backend):
    x = gg.tensor([[0.0, 1.0], [2.0, 0.0]])
    narrow = F.cross_entropy(x, gg.from_numpy(np.array([0, 1], dtype)))
    assert narrow.item() == F.cross_entropy(x, gg.tensor([0, 1])).item()


# ------------------------------------------------------------------------------------------------------ probabilities


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_shape", [None, (4, 3), (3,), (4, 1)])
def test_binary_cross_entropy(weight_shape, dtype, reduction, torch, backend, rng):
    p, target = rng.uniform(0.01, 0.99, (4, 3)).astype(dtype), rng.uniform(0, 1, (4, 3)).astype(dtype)
    options = {} if weight_shape is None else {"weight": rng.uniform(0.5, 2, weight_shape).astype(dtype)}
    same(torch, "binary_cross_entropy", p, target, reduction=reduction, **options, tolerance=20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_certainties(dtype, torch, backend):
    p, target = np.array([0, 0, 1, 1, 1e-30, 1e-13, 0.5], dtype), np.array([1, 0.5, 0, 0.5, 1, 0.25, 1], dtype)
    same(torch, "binary_cross_entropy", p, reduction="none", target=target, tolerance=1e5)  # torch's 1e-12 is a float
    p = gg.from_numpy(np.array([0, 1, 1e-30], dtype)).requires_grad_()
    F.binary_cross_entropy(p, gg.from_numpy(np.array([0, 1, 0], dtype)), reduction="sum").backward()
    assert p.grad.tolist() == [1.0, -1.0, 1.0]  # the derivative; torch rounds it to 0


def test_binary_cross_entropy_refusals():
    with pytest.raises(ArgumentError, match=r"input is no probability: got 1.5; .*binary_cross_entropy_with_logits"):
        F.binary_cross_entropy(gg.tensor([0.5, 1.5]), gg.ones(2))
    with pytest.raises(ArgumentError, match="got nan"):
        F.binary_cross_entropy(gg.tensor([nan]), gg.ones(1))
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        with pytest.raises(ShapeError, match=rf"{name}: target has another shape.*target.reshape"):
            getattr(F, name)(gg.full((2, 1), 0.5), gg.ones(2))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")])
def test_binary_cross_entropy_with_logits(options, dtype, reduction, torch, backend, rng):
    x, target = (rng.standard_normal((4, 3)) * 3).astype(dtype), rng.uniform(0, 1, (4, 3)).astype(dtype)
    factors = {name: rng.uniform(0.5, 2, 3).astype(dtype) for name in options}
    same(torch, "binary_cross_entropy_with_logits", x, target, reduction=reduction, **factors, tolerance=8)


def test_logits_stay_exact_on_both_sides(backend):
    x = gg.tensor([-15.0, 15.0, -1000.0, 1000.0])
    right, wrong = gg.tensor([0.0, 1.0, 0.0, 1.0]), gg.tensor([1.0, 0.0, 1.0, 0.0])
    losses = F.binary_cross_entropy_with_logits(x, right, reduction="none").numpy()
    np.testing.assert_allclose(losses, [math.log1p(math.exp(-15))] * 2 + [0, 0], rtol=1e-6)
    losses = F.binary_cross_entropy_with_logits(x, wrong, reduction="none").numpy()
    np.testing.assert_allclose(losses, [15, 15, 1000, 1000], rtol=1e-6)


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div(dtype, log_target, reduction, torch, backend, rng):
    q, p = rng.dirichlet(np.ones(5), 4).astype(dtype), rng.dirichlet(np.ones(5), 4).astype(dtype)
    same(torch, "kl_div", np.log(q), np.log(p) if log_target else p, reduction=reduction, log_target=log_target)


def test_kl_div_of_impossible_events(torch, backend):
    q, p = np.log(np.array([0.5, 0.25, 0.25])), np.array([1.0, 0.0, -1.0])
    same(torch, "kl_div", q, target=p, reduction="none")
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(gg.zeros(2), gg.ones(2))


# ---------------------------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_losses_of_pairs(margin, reduction, torch, backend, rng):
    a, b, c = rng.standard_normal((3, 6, 4))
    sign = rng.choice([-1, 1], 6)
    options = {"margin": margin, "reduction": reduction}
    same(torch, "cosine_embedding_loss", a, b, sign, **options, tolerance=1e4)  # torch puts its eps elsewhere
    same(torch, "margin_ranking_loss", a[:, 0], b[:, 0], sign, **options)
    same(torch, "hinge_embedding_loss", a[:, 0], sign, **options)
    same(torch, "triplet_margin_loss", a, b, c, **options, tolerance=10)
    same(torch, "triplet_margin_loss", a, b, c, swap=True, p=1.0, **options, tolerance=10)


def test_cosine_embedding_loss_refuses_other_shapes():
    with pytest.raises(ShapeError, match="cosine_embedding_loss: shapes do not fit"):
        F.cosine_embedding_loss(gg.ones(2, 3), gg.ones(2, 3), gg.ones(3))


# ------------------------------------------------------------------------------------------------------------ dropout


def test_dropout_keeps_the_expectation(backend):
    gg.manual_seed(1)
    x = gg.ones(100_000, requires_grad=True)
    y = F.dropout(x, 0.3)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.008  # 5 standard deviations: sqrt(.3 .7 / 1e5)
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_repeats_with_its_seed_in_every_precision(backend):
    masks = []
    for dtype in (gg.float16, gg.float32, gg.float64):
        gg.manual_seed(3)
        y = F.dropout(gg.ones(64, dtype=dtype), 0.5)
        assert y.dtype == dtype
        masks.append(y.tolist())
    assert masks[0] == masks[1] == masks[2]
    assert F.dropout(gg.ones(64), 0.5).tolist() != masks[1]


def test_dropout_at_its_limits(backend):
    x = gg.tensor([1.0, -2.0])
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.5, training=False) is x
    assert (F.dropout(x, 1.0).numpy() == 0).all()
    assert F.dropout(gg.ones(0, 3)).shape == (0, 3)
    for p in (-0.1, 1.1, nan):
        with pytest.raises(ArgumentError, match=r"dropout: p: got .*0 <= p <= 1"):
            F.dropout(x, p)
    with pytest.raises(DTypeError, match="dropout: input is not floating: got int64"):
        F.dropout(gg.tensor([1, 2]))


def test_dropout_in_place(backend):
    x = gg.ones(100)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}


def test_dropout_of_whole_channels(backend):
    for f, shape in ((F.dropout1d, (8, 16, 5)), (F.dropout2d, (8, 16, 3, 3)), (F.dropout3d, (8, 16, 2, 2, 2))):
        y = f(gg.ones(shape)).numpy().reshape(8, 16, -1)
        assert (y == y[:, :, :1]).all()
        assert set(np.unique(y)) == {0.0, 2.0}
    with pytest.raises(ShapeError, match="dropout2d"):
        F.dropout2d(gg.ones(2, 3))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(p, backend, rng):
    x = gg.from_numpy(rng.standard_normal(200_000).astype(np.float32))
    y = F.alpha_dropout(x, p, training=True).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03
    assert F.alpha_dropout(x, p) is x
