"""Twins that are the same never part; one difference is found where it first shows, and named."""

import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends, nn, optim
from glassgrad.scope import twin

needs_native = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


def build(p=0.2, eps=1e-5, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16, eps=eps), activation(), nn.Dropout(p), nn.Linear(16, 3)
    )  # fmt: skip


@pytest.fixture
def data():
    gg.manual_seed(1)
    return [(gg.randn(12, 4), gg.tensor(np.arange(12) % 3)) for _ in range(3)]


def adam(parameters):
    return optim.Adam(parameters, lr=0.01)


def where(found):
    return found.first.step, found.first.stage, found.first.name


def test_the_same_model_twice_never_parts(data):
    found = twin(build, build, data, optimizer=adam, steps=7)
    assert found.same and found.first is None and found.distance == [0.0] * 8
    assert found.losses[0] == found.losses[1] and len(found.losses[0]) == 7
    assert "the same to the last bit: 7 steps" in repr(found)


def test_dropout_shows_at_its_output(data):
    found = twin(build, lambda: build(0.5), data, steps=3)
    assert where(found) == (1, "output", "3")
    assert found.settings == [("3", "Dropout(p=0.2, inplace=False)", "Dropout(p=0.5, inplace=False)")]
    assert "Set differently: 3: Dropout(p=0.2" in repr(found)
    assert found.distance[0] == 0 < found.distance[1]


def test_another_activation_shows_at_its_output(data):
    assert where(twin(build, lambda: build(activation=nn.GELU), data, steps=1)) == (1, "output", "2")


def test_eps_of_batch_norm_shows_there_and_how_much(data):
    found = twin(build, lambda: build(eps=1e-3), data, steps=2)
    assert where(found) == (1, "output", "1")
    assert found.first.ulps > 100 and 1e-5 < found.first.relative < 0.1


def test_one_weight_shows_before_the_first_step(data):
    gg.manual_seed(0)
    a = build()
    b = build()
    b.load_state_dict(a.state_dict())
    with gg.no_grad():
        b[4].weight[1, 2] = np.nextafter(b[4].weight[1, 2].item(), np.float32(9), dtype=np.float32).item()
    found = twin(a, b, data, steps=2)
    assert where(found) == (0, "parameter", "4.weight")
    assert 0 < found.first.ulps <= 1 and "before the first step" in repr(found)


def test_momentum_shows_in_the_optimizers_state_or_the_second_step(data):
    found = twin(
        build, build, data, optimizer=(adam, lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.999))), steps=2
    )  # fmt: skip
    step, stage, name = where(found)
    assert (step, stage) == (1, "optimizer state") and name.startswith("0.weight (")
    assert found.settings[-1][0] == "optimizer"


def test_a_learning_rate_shows_at_the_first_parameter(data):
    pair = (lambda p: optim.SGD(p, lr=0.01), lambda p: optim.SGD(p, lr=0.02))
    assert where(twin(build, build, data, optimizer=pair, steps=2)) == (1, "parameter", "0.weight")


def test_a_detached_branch_shows_in_the_gradients(data):
    class Branch(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.a, self.b, self.cut = nn.Linear(4, 8), nn.Linear(8, 3), cut

        def forward(self, x):
            h = self.a(x)
            return self.b(h) + self.b(h.detach() if self.cut else h)

    assert where(twin(lambda: Branch(False), lambda: Branch(True), data, steps=1)) == (1, "gradient", "a")


@needs_native
def test_a_rung_of_a_ladder_differs_in_the_last_digits(data):
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 3))
    batch = gg.randn(32, 40), gg.tensor(np.arange(32) % 3)
    found = twin(model, model, batch, around_b=lambda: gg.kernel("matmul", "naive"), steps=4)
    assert found.first.step == 1 and found.first.stage == "output"
    assert found.first.ulps < 50
    assert twin(model, model, batch, around_b=lambda: gg.kernel("matmul", "naive"), steps=4, atol=1e-4).same


@needs_native
def test_a_backend_differs_in_the_last_digits(data):
    found = twin(build, build, data, around_b=lambda: gg.use_backend("reference"), steps=2)
    assert found.first.step == 1 and found.first.ulps < 50 and found.first.relative < 1e-5


def test_nan_counts_however_large_atol_is(data):
    class Spoiled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * math.nan

    found = twin(lambda: nn.Sequential(nn.Linear(4, 3)), lambda: nn.Sequential(Spoiled(4, 3)), data, steps=1, atol=1e9)
    assert where(found) == (1, "output", "0") and "only one of them is a number" in repr(found)


def test_the_models_and_the_random_numbers_stay_as_they_were(data):
    gg.manual_seed(0)
    model = build()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    state = gg.get_rng_state().numpy().copy()
    twin(model, model, data, steps=3)
    assert np.array_equal(gg.get_rng_state().numpy(), state)
    assert all(np.array_equal(value.numpy(), before[name]) for name, value in model.state_dict().items())


def test_structures_that_differ_are_named(data):
    with pytest.raises(gg.errors.ArgumentError, match="model_b: got module '4'; expected no further module"):
        twin(lambda: nn.Sequential(*list(build())[:4]), build, data)
    with pytest.raises(gg.errors.ArgumentError, match=r"got parameter '0.weight' of shape \(8, 4\)"):
        twin(lambda: nn.Sequential(nn.Linear(4, 3)), lambda: nn.Sequential(nn.Linear(4, 8)), data)


def test_errors(data):
    with pytest.raises(gg.errors.ArgumentError, match="steps: got 0"):
        twin(build, build, data, steps=0)
    with pytest.raises(gg.errors.DTypeError, match="model_b: got int"):
        twin(build, 3, data)
    with pytest.raises(gg.errors.DTypeError, match="data: got int"):
        twin(build, build, 3)
    with pytest.raises(gg.errors.DTypeError, match="a batch: got Tensor"):
        twin(build, build, [gg.ones(3, 4)])
    with pytest.raises(gg.errors.ArgumentError, match="no batches"):
        twin(build, build, [])


def test_the_picture_shows_distance_and_losses(data):
    pytest.importorskip("matplotlib").use("Agg")
    found = twin(build, lambda: build(0.5), data, steps=6)
    left, right = found.plot().axes
    assert np.allclose(left.lines[0].get_ydata(), found.distance[1:])
    assert np.allclose(right.lines[1].get_ydata(), found.losses[1])
    twin(build, build, data, steps=2).plot()
