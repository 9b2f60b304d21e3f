"""Initial values: formulas by their moments, PyTorch's rules for fans and gains, structure by definition."""

import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.errors import ArgumentError, DTypeError, ShapeError
from glassgrad.nn import init
from glassgrad.random import Generator


def close(array, mean, std, kurtosis):
    """Whether the sample's mean, deviation and fourth moment are within five standard errors of the expected ones."""
    z, n = (array.astype(np.float64).ravel() - mean) / std, array.size
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    assert abs((z**4).mean() - kurtosis) < 5 * math.sqrt(105 / n)  # the normal's eighth moment bounds the error


UNIFORM, NORMAL = 1.8, 3.0  # kurtosis


@pytest.mark.parametrize("dtype", [gg.float32, gg.float64])
@pytest.mark.parametrize(
    ("fill", "std", "kurtosis"),
    [
        (lambda t: init.uniform_(t, -3, 3), 3 / math.sqrt(3), UNIFORM),
        (lambda t: init.normal_(t, 0, 0.5), 0.5, NORMAL),
        (lambda t: init.xavier_uniform_(t, gain=2), 2 * math.sqrt(2 / (128 * 3 + 64 * 3)), UNIFORM),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / (128 * 3 + 64 * 3)), NORMAL),
        (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(2 / (128 * 3)), UNIFORM),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), math.sqrt(1 / (3 * 128 * 3)), UNIFORM),
        (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / (64 * 3)), NORMAL),
    ],
)
def test_moments(fill, std, kurtosis, dtype):
    weight = nn.Parameter(gg.empty(64, 128, 3, dtype=dtype))
    assert fill(weight) is weight
    close(weight.data, 0.0, std, kurtosis)


def test_the_same_seed_gives_the_same_values():
    a, b = (init.normal_(gg.empty(5), generator=Generator().manual_seed(1)) for _ in range(2))
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "nonlinearity",
    ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu"],
)
def test_gains_agree_with_pytorch(nonlinearity):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(nonlinearity) == pytest.approx(torch.nn.init.calculate_gain(nonlinearity), rel=1e-15)
    for slope in (None, 0.2):
        assert init.calculate_gain("leaky_relu", slope) == pytest.approx(
            torch.nn.init.calculate_gain("leaky_relu", slope)
        )


@pytest.mark.parametrize(
    "layer", ["Linear(7, 5)", "Conv2d(4, 6, (3, 5), groups=2)", "Conv1d(3, 4, 2)", "ConvTranspose2d(4, 6, 3, groups=2)"]
)
def test_default_bounds_of_layers_agree_with_pytorch(layer):
    torch = pytest.importorskip("torch")
    largest = []
    for package in (nn, torch.nn):
        made = [eval(layer, vars(package)) for _ in range(60)]
        largest.append([max(float(abs(getattr(m, name).detach()).max()) for m in made) for name in ("weight", "bias")])
    weight = made[0].weight
    limit = 1 / math.sqrt(weight.shape[1] * math.prod(weight.shape[2:]))
    for maxima in largest:
        # Of 60 biases of 4 or more values the largest is above 0.95 of the limit but for 1 in 200,000.
        assert all(0.95 * limit < m <= limit * (1 + 1e-6) for m in maxima)


def test_defaults_of_the_other_layers():
    close(nn.Embedding(200, 100).weight.data, 0, 1, NORMAL)
    assert not nn.Embedding(4, 3, padding_idx=-1).weight.data[3].any()
    norm = nn.BatchNorm2d(3)
    assert (norm.weight.tolist(), norm.bias.tolist()) == ([1.0] * 3, [0.0] * 3)
    assert (norm.running_mean.tolist(), norm.running_var.tolist()) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8), (8, 3), (4, 2, 3), (1, 5), (0, 3)])
def test_orthogonal(shape):
    w = init.orthogonal_(gg.empty(*shape, dtype=gg.float64), gain=2).data.reshape(shape[0], math.prod(shape[1:]))
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-13)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (1, 2, 0, 1.5), (0, 1, 5, 6), (0, 1, -100, 100), (0, 0.02, -2, 2), (0, 1, 30, math.inf)],
)
def test_truncated_normal(mean, std, a, b):
    x = init.trunc_normal_(gg.empty(20000, dtype=gg.float64), mean, std, a, b).data
    assert a <= x.min() and x.max() <= b
    # The exact mean, by Simpson-free brute force where the density matters.
    low, high = max(a, mean - 12 * std), min(b, max(a, mean) + 12 * std)
    grid = np.linspace(low, high, 400001)
    weight = np.exp(-(((grid - mean) / std) ** 2 - ((max(min(mean, b), a) - mean) / std) ** 2) / 2)
    expected = (grid * weight).sum() / weight.sum()
    spread = math.sqrt(((grid - expected) ** 2 * weight).sum() / weight.sum())
    assert abs(x.mean() - expected) < 5 * spread / math.sqrt(x.size)
    assert abs(x.std() / spread - 1) < 0.06


def test_truncated_normal_without_spread():
    assert init.trunc_normal_(gg.empty(3), mean=1, std=0).tolist() == [1.0] * 3


def test_sparse():
    w = init.sparse_(gg.empty(10, 4), sparsity=0.25).data
    assert ((w == 0).sum(0) == 3).all()


@pytest.mark.parametrize(
    ("shape", "groups"), [((4, 4, 3), 1), ((4, 2, 3, 3), 2), ((2, 5, 3, 3), 1), ((6, 2, 1, 2, 3), 3)]
)
def test_dirac_and_eye_agree_with_pytorch(shape, groups):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
    np.testing.assert_array_equal(init.dirac_(gg.empty(*shape), groups).data, theirs)
    np.testing.assert_array_equal(
        init.eye_(gg.empty(*shape[:2])).data, torch.nn.init.eye_(torch.empty(shape[:2])).numpy()
    )


def test_filling_leaves_no_history_and_bumps_the_version():
    w = gg.ones(3, requires_grad=True)
    y = w * w
    init.constant_(w, 2.0)
    assert w.is_leaf and w.tolist() == [2.0] * 3
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward(gg.ones(3))
    assert init.zeros_(w).tolist() == [0.0] * 3 and init.ones_(gg.empty(2, dtype=gg.int64)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "fill", [init.xavier_uniform_, init.kaiming_normal_, init.orthogonal_, init.uniform_, init.trunc_normal_]
)
def test_no_elements(fill):
    assert fill(gg.empty(0, 3)).shape == (0, 3)
    assert fill(gg.empty(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: init.calculate_gain("swish"), ArgumentError, "nonlinearity: got 'swish'"),
        (lambda: init.calculate_gain("leaky_relu", "x"), DTypeError, "negative slope"),
        (lambda: init.uniform_(gg.empty(2), 1, 0), ArgumentError, "a <= b"),
        (lambda: init.normal_(gg.empty(2), std=-1), ArgumentError, "std"),
        (lambda: init.normal_(gg.empty(2, dtype=gg.int64)), DTypeError, "floating"),
        (lambda: init.normal_(np.empty(2)), DTypeError, "got ndarray"),
        (lambda: init.xavier_normal_(gg.empty(3)), ShapeError, r"shape \(3,\)"),
        (lambda: init.kaiming_normal_(gg.empty(3, 3), mode="fan_avg"), ArgumentError, "'fan_in' or 'fan_out'"),
        (lambda: init.eye_(gg.empty(3)), ShapeError, "2 dimensions"),
        (lambda: init.dirac_(gg.empty(4, 2, 3), 3), ArgumentError, "divisor"),
        (lambda: init.orthogonal_(gg.empty(3)), ShapeError, "2 to 64"),
        (lambda: init.trunc_normal_(gg.empty(3), a=1, b=1), ArgumentError, "a < b"),
        (lambda: init.sparse_(gg.empty(2, 2), 2), ArgumentError, "sparsity"),
    ],
)
def test_nonsense_says_so(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_read_only_memory_says_so():
    array = np.ones(2)
    array.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        init.zeros_(gg.from_numpy(array))
