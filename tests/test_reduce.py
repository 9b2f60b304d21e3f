"""Reductions beyond their samples: dtypes, ties, zeros, NaN, empty inputs, arguments as PyTorch takes them, refusals."""

import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from oracle import agree, both_refuse

X = np.array([[1.5, -2.0, 0.5], [3.0, 3.0, -1.0]])


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "all", "any", "logsumexp"])
@pytest.mark.parametrize("keepdim", [False, True])
def test_dims_as_pytorch_takes_them(name, keepdim):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for dim in (0, 1, -1, (0, 2), (-1, 0), [1, 2], (0, 1, 2)):
        agree(lambda lib, t, dim=dim: getattr(t, name)(dim=dim, keepdim=keepdim), x)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "prod", "amax", "amin", "var", "std", "max", "min", "norm", "all", "any"]
)
def test_without_a_dim_all_are_reduced(name):
    agree(lambda lib, t: getattr(lib, name)(t), X)
    agree(lambda lib, t: getattr(t, name)(), X.T)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "prod", "amax", "max", "argmax", "cumsum", "logsumexp", "std", "all", "sort"]
)
@pytest.mark.parametrize("dim", [0, -1])
def test_a_0d_tensor_has_one_dim_of_size_1(name, dim):
    agree(lambda lib, t: getattr(t, name)(dim), np.array(2.5))


@pytest.mark.parametrize("name", ["max", "min"])
def test_max_and_min_are_three_functions(name):
    agree(lambda lib, t: getattr(lib, name)(t, 1), X)
    agree(lambda lib, t: getattr(t, name)(dim=0, keepdim=True), X)
    agree(lambda lib, t, u: getattr(lib, name)(t, u), X, X[::-1] + 0.25)
    result = getattr(gg.tensor(X), name)(1)
    assert result.values is result[0]
    assert result.indices.dtype == gg.int64


def test_ties_share_the_gradient_or_send_it_to_the_index():
    tied = np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    agree(lambda lib, t: (lib.amax(t, 1), lib.amin(t, 1)), tied)
    agree(lambda lib, t: lib.max(t) + lib.min(t), tied)
    x = gg.tensor(tied, requires_grad=True)
    x.max(1).values.sum().backward()
    assert x.grad.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_the_second_derivative_of_max_with_dim_exists():
    x = gg.tensor(X + [[0.0, 0, 0], [0, 0.5, 0]], requires_grad=True)
    assert gg.gradgradcheck(lambda t: t.square().max(1).values, x)


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_prod_with_zeros(zeros):
    x = np.array([[1.5, -2.0, 0.5, 4.0], [3.0, 0.5, -1.0, 2.0]])
    x[0, :zeros] = 0
    agree(lambda lib, t: t.prod(1), x)
    agree(lambda lib, t: t.prod(), x)
    agree(lambda lib, t: t.prod(0, keepdim=True), x)
    assert gg.gradgradcheck(lambda t: t.prod(1), gg.tensor(x, requires_grad=True))


def test_prod_does_not_divide_by_what_underflowed():
    x = gg.tensor([1e-30, 1e-30, 1.0], requires_grad=True)  # the product of all is 0 in float32
    x.prod().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1e-30, 1e-30, 0])


def test_prod_over_several_dims_and_long_ones():
    x = gg.tensor(np.random.default_rng(0).uniform(0.8, 1.2, (3, 4, 5)), requires_grad=True)
    x.data[1, 2, 3] = 0
    assert gg.gradcheck(lambda t: t.prod((0, 2)), x)
    assert x.prod((0, 2)).shape == (4,)


def test_dtypes_follow_pytorch():
    for kind in (np.bool_, np.uint8, np.int32, np.int64):
        x = np.array([[1, 0, 1], [1, 1, 0]], kind)
        agree(lambda lib, t: (t.sum(0), t.prod(1), t.cumsum(1), t.logsumexp(1), t.amax(0), t.max(), *t.max(1)), x)
    agree(lambda lib, t: t.sum(dtype=lib.float64), np.ones(3, np.float32))
    agree(lambda lib, t: t.mean(0, dtype=lib.float32), np.array([1, 2]))
    agree(lambda lib, t: t.sum(1, dtype=lib.int32), np.array([[1.75, 2.5]]), gradients=False)
    agree(lambda lib, t: t.cumsum(0, dtype=lib.float64), np.array([1, 2]))


def test_float16_sums_in_a_wider_type():
    x = gg.ones(4096, dtype=gg.float16)
    assert x.sum().item() == 4096
    assert (x * 60).mean().item() == 60  # the sum is beyond 65504
    assert x.cumsum(0)[-1].item() == 4096
    assert gg.norm(x * 256).item() == 16384


def test_empty_sums_products_and_means():
    x = np.zeros((2, 0))
    agree(lambda lib, t: (t.sum(), t.sum(1), t.sum(0), t.prod(1), t.cumsum(1)), x)
    agree(lambda lib, t: (t.mean(1), t.var(1), t.logsumexp(1), t.all(1), t.any(1)), x)
    agree(lambda lib, t: t.amax(0), x)


def test_the_largest_of_nothing_is_an_error():
    assert "got shape (2, 0)" in both_refuse(lambda lib, t: t.amax(), np.zeros((2, 0)))
    both_refuse(lambda lib, t: t.max(), np.zeros((2, 0)))
    both_refuse(lambda lib, t: t.min(1), np.zeros((2, 0)))
    both_refuse(lambda lib, t: t.argmax(1), np.zeros((2, 0)))
    both_refuse(lambda lib, t: t.argmin(), np.zeros((2, 0)))
    assert "nothing along dim 1" in both_refuse(lambda lib, t: t.amin(1), np.zeros((2, 0)))


def test_nan_and_infinity():
    inf, nan = math.inf, math.nan
    x = np.array([[1, nan, inf], [-inf, -inf, -inf], [inf, 1, inf], [inf, -inf, 0]])
    agree(lambda lib, t: (t.sum(1), t.amax(1), t.amin(1), t.logsumexp(1), t.cumsum(1), t.any(1)), x, gradients=False)
    agree(lambda lib, t: (*t.max(1), *t.min(1), t.argmax(1), t.argmin(1)), x[:2], gradients=False)


def test_logsumexp_of_minus_infinity_has_a_gradient():
    x = gg.tensor([[-math.inf, -math.inf], [-math.inf, 1.0], [2.0, 2.0]], requires_grad=True)
    x.logsumexp(1).sum().backward()
    np.testing.assert_allclose(
        x.grad.numpy(), [[0, 0], [0, 1], [0.5, 0.5]], rtol=1e-6
    )  # PyTorch has NaN in the first row


def test_variance_takes_every_form_of_correction():
    for call in (
        lambda lib, t: lib.var(t), lambda lib, t: lib.var(t, 1), lambda lib, t: t.var(1, False), lambda lib, t: t.var(False),
        lambda lib, t: t.var(unbiased=False), lambda lib, t: t.std(1, correction=0), lambda lib, t: t.var(0, True, True),
        lambda lib, t: t.std(dim=(0, 1), correction=2, keepdim=True), lambda lib, t: lib.var_mean(t, 1, keepdim=True),
    ):  # fmt: skip
        agree(call, X)


def test_variance_of_one_number_is_nan():
    agree(lambda lib, t: t.var(0), np.array([3.0]))
    agree(lambda lib, t: t.var(0, correction=0), np.array([3.0]))


def test_std_and_norm_have_a_gradient_at_zero():
    agree(lambda lib, t: t.std(1), np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]]))
    agree(lambda lib, t: lib.norm(t, dim=1), np.array([[0.0, 0.0], [3.0, 4.0]]))


@pytest.mark.parametrize("p", ["fro", 2, 1, 0, 3, 0.5, math.inf, -math.inf])
def test_norms(p):
    agree(lambda lib, t: lib.norm(t, p=p), X, gradients=p != 0)
    agree(lambda lib, t: t.norm(p, dim=1, keepdim=True), X, gradients=p != 0)


def test_argmax_flattens_and_keeps_dims():
    agree(lambda lib, t: (t.argmax(), t.argmin(), t.argmax(keepdim=True), t.argmax(1, keepdim=True), t.argmin(-2)), X)


def test_the_gradient_of_a_sum_is_a_view():
    seen = []
    x = gg.ones(4, 3, requires_grad=True)
    y = x * 1
    y.register_hook(lambda dy: seen.append(dy.stride()))
    y.sum().backward()
    assert seen == [(0, 0)]


def test_refusals_say_what_to_do():
    with pytest.raises(DTypeError, match=r"mean: dtype: got int64; expected a floating dtype. Use .float\(\)"):
        gg.tensor([1, 2]).mean()
    with pytest.raises(AxisError, match=r"sum: dim out of range: got dim=2 for 2 dimensions; expected -2 <= dim < 2"):
        gg.ones(2, 2).sum(2)
    with pytest.raises(ArgumentError, match="the same dim twice"):
        gg.ones(2, 2).sum((0, -2))
    with pytest.raises(ArgumentError, match="two corrections"):
        gg.ones(2).var(unbiased=True, correction=1)
    with pytest.raises(ArgumentError, match="norm: p: got 'nuc'"):
        gg.ones(2, 2).norm("nuc")
    with pytest.raises(DTypeError, match=r"sum: input: got list; expected a tensor. gg.tensor"):
        gg.sum([1, 2])
    with pytest.raises(ShapeError, match="amax: nothing to reduce"):
        gg.zeros(0).amax()
    both_refuse(lambda lib, t: t.var(), np.array([1, 2]))
    both_refuse(lambda lib, t: t.cumsum(2), X)
    both_refuse(lambda lib, t: lib.norm(t), np.array([3, 4]))
