"""Normalisation: against PyTorch, the running statistics, the geometry of the gradient, and what is refused."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, DTypeError, ShapeError
from oracle import same_as_torch

F = gg.nn.functional
DTYPES = [np.float32, np.float64]


def parameters(rng, c, dtype, weight=True, bias=True):
    return (
        rng.uniform(0.5, 2, c).astype(dtype) if weight else None,
        rng.standard_normal(c).astype(dtype) if bias else None,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weight", "bias"), [(True, True), (False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (3, 5, 4, 4), (2, 2, 3, 2, 3), (70, 67), (0, 3)])
def test_batch_norm_of_the_batch(shape, weight, bias, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x = (rng.standard_normal(shape) * 3 + 2).astype(dtype)
    same_as_torch(
        torch,
        lambda *a: F.batch_norm(a[0], None, None, *a[1:], training=True),
        lambda *a: torch.nn.functional.batch_norm(a[0], None, None, *a[1:], training=True),
        x, *parameters(rng, shape[1], dtype, weight, bias), tolerance=20,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weight", "bias"), [(True, True), (False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(6, 3), (1, 3), (3, 5, 4, 4), (0, 3)])
def test_batch_norm_of_given_statistics(shape, weight, bias, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(shape).astype(dtype)
    mean, var = rng.standard_normal(shape[1]).astype(dtype), rng.uniform(0.5, 2, shape[1]).astype(dtype)
    same_as_torch(
        torch,
        lambda *a: F.batch_norm(a[0], gg.from_numpy(mean), gg.from_numpy(var), *a[1:]),
        lambda *a: torch.nn.functional.batch_norm(a[0], torch.from_numpy(mean), torch.from_numpy(var), *a[1:]),
        x, *parameters(rng, shape[1], dtype, weight, bias), tolerance=10,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, 0.25])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 0.0])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_running_statistics_are_torchs(dtype, momentum, scale, requires_grad, backend, rng):
    torch = pytest.importorskip("torch")
    mean, var = rng.standard_normal(3).astype(dtype), rng.uniform(0.5, 2, 3).astype(dtype)
    ours, theirs = (gg.from_numpy(mean.copy()), gg.from_numpy(var.copy())), (torch.tensor(mean), torch.tensor(var))
    for _ in range(3):
        x = (rng.standard_normal((4, 3, 5)) * scale + 1).astype(dtype)
        t = gg.from_numpy(x)
        F.batch_norm(t.requires_grad_() if requires_grad else t, *ours, training=True, momentum=momentum)
        torch.nn.functional.batch_norm(torch.from_numpy(x), *theirs, training=True, momentum=momentum)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=4 * np.finfo(dtype).eps, atol=1e-11)


def test_running_statistics_change_in_place_and_an_empty_batch_teaches_nothing(backend):
    mean, var = gg.zeros(2), gg.ones(2)
    memory = mean.numpy()
    F.batch_norm(gg.ones(3, 2), mean, var, training=True, momentum=0.5)
    assert mean.numpy() is memory
    assert memory.tolist() == [0.5, 0.5]
    assert mean.version == 1
    before = var.tolist()
    y = F.batch_norm(gg.ones(0, 2), mean, var, training=True)
    assert y.shape == (0, 2)
    assert var.tolist() == before


def test_evaluation_leaves_the_running_statistics_alone(backend):
    mean, var = gg.zeros(2), gg.ones(2)
    F.batch_norm(gg.ones(3, 2), mean, var)
    assert mean.tolist() == [0.0, 0.0]
    assert var.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
def test_the_gradient_neither_shifts_nor_stretches(norm, backend, rng):
    """The three terms: dx has no mean and no component along x - mean, within each set that is normalised together."""
    x = gg.from_numpy(rng.standard_normal((8, 4, 6))).requires_grad_()
    forward, dims = {
        "batch": (lambda t: F.batch_norm(t, None, None, training=True, eps=0.0), (0, 2)),
        "layer": (lambda t: F.layer_norm(t, (4, 6), eps=0.0), (1, 2)),
        "group": (lambda t: F.group_norm(t, 4, eps=0.0), (2,)),
    }[norm]
    forward(x).backward(gg.from_numpy(rng.standard_normal(x.shape)))
    dx, centred = x.grad.numpy(), x.detach().numpy() - x.detach().numpy().mean(dims, keepdims=True)
    np.testing.assert_allclose(dx.sum(dims), 0, atol=1e-12)
    np.testing.assert_allclose((dx * centred).sum(dims), 0, atol=1e-12)


def test_second_derivatives_see_through_the_statistics(backend, rng):
    """Saved mean and rstd are numbers: as constants in a second derivative they would make it wrong."""
    x = gg.from_numpy(rng.standard_normal((5, 4))).requires_grad_()
    weight, bias = (gg.from_numpy(rng.standard_normal(4)).requires_grad_() for _ in range(2))
    assert gg.gradgradcheck(lambda *a: F.batch_norm(a[0], None, None, a[1], a[2], training=True), (x, weight, bias))
    assert gg.gradgradcheck(lambda *a: F.layer_norm(a[0], 4, a[1], a[2]), (x, weight, bias))
    assert gg.gradgradcheck(lambda *a: F.group_norm(a[0], 2, a[1], a[2]), (x, weight, bias))
    assert gg.gradgradcheck(lambda *a: F.rms_norm(a[0], 4, a[1]), (x, weight))
    assert gg.gradgradcheck(lambda a: F.normalize(a), (x,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "sizes"), [((4, 6), (6,)), ((2, 3, 5), (3, 5)), ((3, 33), (33,)), ((0, 4), (4,)), ((5,), (5,))]
)
@pytest.mark.parametrize(("weight", "bias"), [(True, True), (False, False), (True, False)])
def test_layer_norm(shape, sizes, weight, bias, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x = (rng.standard_normal(shape) * 3 + 2).astype(dtype)
    theirs = torch.nn.functional.layer_norm
    same_as_torch(
        torch, lambda t, *p: F.layer_norm(t, sizes, *p, eps=1e-3), lambda t, *p: theirs(t, sizes, *p, eps=1e-3),
        x, *parameters(rng, sizes, dtype, weight, bias), tolerance=10,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 6), 2), ((3, 4, 5), 4), ((2, 6, 3, 3), 1), ((2, 6, 3, 3), 3), ((0, 4, 3), 2)]
)
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(shape, groups, affine, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x = (rng.standard_normal(shape) * 3 + 2).astype(dtype)
    theirs = torch.nn.functional.group_norm
    same_as_torch(
        torch, lambda t, *p: F.group_norm(t, groups, *p), lambda t, *p: theirs(t, groups, *p),
        x, *parameters(rng, shape[1], dtype, affine, affine), tolerance=20,
    )  # fmt: skip


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(affine, backend, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 4, 5))
    theirs = torch.nn.functional.instance_norm
    same_as_torch(
        torch, lambda t, *p: F.instance_norm(t, None, None, *p), lambda t, *p: theirs(t, None, None, *p),
        x, *parameters(rng, 4, np.float64, affine, affine), tolerance=20,
    )  # fmt: skip
    ours, other = (
        (gg.zeros(4, dtype=gg.float64), gg.ones(4, dtype=gg.float64)),
        (torch.zeros(4).double(), torch.ones(4).double()),
    )
    same_as_torch(torch, lambda t: F.instance_norm(t, *ours), lambda t: theirs(t, *other), x, tolerance=20)
    for a, b in zip(ours, other, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10)
    same_as_torch(
        torch, lambda t: F.instance_norm(t, *ours, use_input_stats=False),
        lambda t: theirs(t, *other, use_input_stats=False),
        x, tolerance=1000,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", [None, 1e-2])
def test_rms_norm(eps, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    x, weight = rng.standard_normal((3, 4, 5)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    theirs = torch.nn.functional.rms_norm
    same_as_torch(
        torch,
        lambda t, w: F.rms_norm(t, (4, 5), w, eps),
        lambda t, w: theirs(t, (4, 5), w, eps),
        x,
        weight,
        tolerance=4,
    )
    small = np.full((2, 3), 1e-6, dtype)
    same_as_torch(torch, lambda t: F.rms_norm(t, 3), lambda t: theirs(t, (3,)), small, tolerance=8)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_normalize(p, dim, backend, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 4))
    x[:, 1] = 0.0 if dim == 0 else x[:, 1]
    theirs = torch.nn.functional.normalize
    same_as_torch(torch, lambda t: F.normalize(t, p, dim), lambda t: theirs(t, p, dim), x, tolerance=10)


def test_the_zero_vector_has_a_direction_of_zero_and_a_finite_gradient(backend):
    x = gg.zeros(1, 3, requires_grad=True)
    F.normalize(x).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    F.cosine_similarity(x, gg.ones(1, 3)).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("shapes", [((3, 5), (3, 5)), ((3, 5), (1, 5)), ((2, 3, 4), (2, 3, 4))])
def test_cosine_similarity_and_pairwise_distance(shapes, backend, rng):
    torch = pytest.importorskip("torch")
    a, b = (rng.standard_normal(s) for s in shapes)
    theirs = torch.nn.functional
    same_as_torch(torch, F.cosine_similarity, theirs.cosine_similarity, a, b, tolerance=10)
    same_as_torch(
        torch,
        lambda x, y: F.pairwise_distance(x, y, 2.0),
        lambda x, y: theirs.pairwise_distance(x, y, 2.0),
        a,
        b,
        tolerance=10,
    )
    same_as_torch(
        torch, lambda x, y: F.pairwise_distance(x, y, 1.0, keepdim=True),
        lambda x, y: theirs.pairwise_distance(x, y, 1.0, keepdim=True), a, b, tolerance=10,
    )  # fmt: skip


def test_half_precision_computes_in_single(backend):
    x = gg.from_numpy(np.array([[300.0, -300.0, 600.0]], np.float16)).requires_grad_()  # 300^2 is beyond float16
    y = F.layer_norm(x, 3, gg.ones(3), gg.zeros(3, dtype=gg.float16))
    assert y.dtype == gg.float16
    np.testing.assert_allclose(y.detach().numpy(), [[0.267, -1.336, 1.069]], atol=2e-3)
    y.sum().backward()
    assert x.grad.dtype == gg.float16
    mean, var = gg.zeros(3), gg.ones(3)
    assert F.batch_norm(gg.ones(2, 3, dtype=gg.float16) * 400.0, mean, var, training=True).dtype == gg.float16
    assert mean.dtype == gg.float32


def test_refusals():
    x = gg.ones(4, 3)
    with pytest.raises(ShapeError, match=r"one value per channel in training: got \(1, 3\)"):
        F.batch_norm(gg.ones(1, 3), None, None, training=True)
    with pytest.raises(ShapeError, match=r"batch_norm: too few dims: got \(3,\)"):
        F.batch_norm(gg.ones(3), None, None, training=True)
    with pytest.raises(ShapeError, match=r"batch_norm: weight has the wrong shape: got \(4,\); expected \(3,\)"):
        F.batch_norm(x, None, None, gg.ones(4), training=True)
    with pytest.raises(ArgumentError, match=r"no running statistics.*training=True"):
        F.batch_norm(x, None, None)
    with pytest.raises(ArgumentError, match="both or neither"):
        F.batch_norm(x, gg.zeros(3), None, training=True)
    with pytest.raises(ArgumentError, match="momentum"):
        F.batch_norm(x, gg.zeros(3), gg.ones(3), training=True, momentum=None)
    with pytest.raises(ArgumentError, match="eps: got -1.0; expected a number, 0 <= eps"):
        F.batch_norm(x, None, None, training=True, eps=-1.0)
    with pytest.raises(DTypeError, match=r"weight has another dtype.*got float64; expected float32. Use weight.to"):
        F.layer_norm(x, 3, gg.ones(3, dtype=gg.float64))
    with pytest.raises(DTypeError, match="layer_norm: input is not floating: got int64"):
        F.layer_norm(gg.tensor([[1, 2]]), 2)
    with pytest.raises(ShapeError, match=r"layer_norm: normalized_shape does not fit: got \(4,\)"):
        F.layer_norm(x, 4)
    with pytest.raises(ArgumentError, match="at least one size"):
        F.layer_norm(x, ())
    with pytest.raises(ArgumentError, match="num_groups does not divide the channels: got 2; expected a divisor of 3"):
        F.group_norm(x, 2)
    with pytest.raises(ShapeError, match="one value per group"):
        F.group_norm(gg.ones(1, 3), 3)
    with pytest.raises(ShapeError, match="one value per channel and sample"):
        F.instance_norm(gg.ones(2, 3, 1))
    with pytest.raises(ArgumentError, match="norm: p: got -1"):
        F.normalize(x, p=-1)
