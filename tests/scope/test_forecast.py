"""The forecast agrees with theory's closed forms, and with what networks of finite width do."""

import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.scope import forecast, theory

F = nn.functional
WIDTH, BATCH = 256, 32


def dense(activation, sigma_w, sigma_b=0.1, *, depth=12, width=WIDTH, norm=False):
    layers = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        nn.init.normal_(linear.weight, 0.0, sigma_w / math.sqrt(width))
        nn.init.normal_(linear.bias, 0.0, sigma_b) if sigma_b else nn.init.zeros_(linear.bias)
        layers += [linear, *([nn.BatchNorm1d(width)] if norm else []), *([activation()] if activation else [])]
    return nn.Sequential(*layers)


class Block(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH) if norm else nn.Identity()
        self.linear = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.kaiming_normal_(self.linear.weight)

    def forward(self, x):
        return x + self.linear(F.relu(self.norm(x)))


def apart(ahead):
    """The largest relative difference between forecast and measurement, forward and back."""
    pairs = [(a.forward, b.forward) for a, b in zip(ahead.levels, ahead.measured, strict=True)]
    pairs += [(a.backward, b.backward) for a, b in zip(ahead.levels, ahead.measured, strict=True)]
    return max(abs(b / a - 1) for a, b in pairs)


@pytest.mark.parametrize(
    ("build", "models"),
    [
        pytest.param(lambda: dense(nn.Tanh, 1.5, width=512, depth=10), 16, id="tanh"),
        pytest.param(lambda: dense(nn.ReLU, math.sqrt(2), 0.0, depth=10), 200, id="relu"),
        pytest.param(lambda: dense(nn.Sigmoid, 1.0), 40, id="sigmoid"),
        pytest.param(lambda: dense(nn.ReLU, 1.0, norm=True, width=512, depth=10), 15, id="batch norm"),
        pytest.param(lambda: nn.Sequential(*[Block(False) for _ in range(10)]), 60, id="residual"),
        pytest.param(lambda: nn.Sequential(*[Block(True) for _ in range(12)]), 30, id="residual, batch norm"),
    ],
)
def test_it_agrees_with_measurement_within_5_percent(build, models):
    gg.manual_seed(0)
    model = build()
    x = gg.randn(BATCH, model[0].in_features if isinstance(model[0], nn.Linear) else WIDTH)
    assert apart(forecast(model, x).measure(*[build() for _ in range(models)])) < 0.05


@pytest.mark.parametrize("sigma_w", [0.8, 2.0, 3.0])
def test_chi_is_the_closed_form_of_schoenholz(sigma_w):
    gg.manual_seed(0)
    levels = forecast(dense(nn.Tanh, sigma_w, 0.3, depth=8), gg.randn(16, WIDTH)).levels
    chi = (levels[3].backward / levels[6].backward) ** (1 / 3)
    assert chi == pytest.approx(theory.chi_1(sigma_w, "tanh", 0.3), rel=0.03)


@pytest.mark.parametrize(("phi", "activation"), [("relu", nn.ReLU), ("linear", None)])
def test_batch_norm_grows_gradients_as_yang_et_al_say(phi, activation):
    gg.manual_seed(0)
    levels = forecast(dense(activation, 1.0, 0.0, depth=8, norm=True), gg.randn(16, WIDTH), kinds=(nn.Linear,)).levels
    growth = (levels[2].backward / levels[6].backward) ** (1 / 4)
    assert growth == pytest.approx(theory.batchnorm_growth(16, phi), rel=0.025)


def test_ten_layers_of_the_default_initialisation_lose_a_third_each():
    gg.manual_seed(0)
    ahead = forecast(nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(10)]), gg.randn(8, WIDTH))
    assert ahead.growth == pytest.approx(1 / 3, rel=0.02)
    assert ahead.chi == pytest.approx(1 / 3, rel=0.02)
    assert ahead.xi == pytest.approx(1 / math.log(3), rel=0.02)
    assert "dies" in ahead.words


def test_unnormalised_residual_blocks_double_the_variance():
    gg.manual_seed(0)
    ahead = forecast(nn.Sequential(*[Block(False) for _ in range(8)]), gg.randn(BATCH, WIDTH))
    assert math.log2(ahead.growth) == pytest.approx(1.0, abs=0.05)  # Zhang et al. 2019
    assert "explodes" in ahead.words


def test_weight_gradients_are_forecast_too():
    gg.manual_seed(0)
    models = [dense(nn.Tanh, 1.5, depth=6) for _ in range(20)]
    ahead = forecast(models[0], gg.randn(BATCH, WIDTH)).measure(*models)
    for expected, seen in zip(ahead.levels, ahead.measured, strict=True):
        assert seen.weight == pytest.approx(expected.weight, rel=0.05)


class ConvBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


def test_convolutions_skips_and_a_loss():
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), *[ConvBlock(32) for _ in range(4)], nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(32, 10),
        )  # fmt: skip

    gg.manual_seed(0)
    labels = gg.tensor(np.arange(16) % 10)
    ahead = forecast(build(), gg.randn(16, 1, 8, 8), lambda y: F.cross_entropy(y, labels))
    assert [level.kind for level in ahead.levels] == ["Conv2d", *["ConvBlock"] * 4, "Linear"]
    assert apart(ahead.measure(*[build() for _ in range(30)])) < 0.12  # 32 channels are few


def test_products_written_by_hand_count_as_weights():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Parameter(gg.randn(WIDTH, WIDTH) / math.sqrt(WIDTH)) for _ in range(2))
            self.inner = nn.ModuleList([nn.Identity(), nn.Identity()])

        def forward(self, x):
            x = self.inner[0](x @ self.a)
            return self.inner[1]((self.b @ x.T).T)

    gg.manual_seed(0)
    ahead = forecast(ByHand(), gg.randn(BATCH, WIDTH), kinds=(nn.Identity,))
    assert ahead.growth == pytest.approx(1.0, rel=0.03) and ahead.chi == pytest.approx(1.0, rel=0.03)
    assert all(level.exact for level in ahead.levels)


def test_what_theory_does_not_know_is_said():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    gg.manual_seed(0)
    ahead = forecast(Recurrent(), gg.randn(4, 5, 8))
    assert [level.exact for level in ahead.levels] == [False, True]
    assert "Not theory at rnn" in ahead.words and "own weights" in repr(ahead)


def test_nothing_of_the_model_is_changed():
    gg.manual_seed(0)
    model = dense(nn.ReLU, 1.0, depth=3, width=16, norm=True)
    model.append(nn.Dropout(0.5))
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    x, state = gg.randn(8, 16), gg.get_rng_state()
    forecast(model, x).measure()
    assert np.array_equal(gg.get_rng_state().numpy(), state.numpy())
    assert all(np.array_equal(value.numpy(), before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and not x.requires_grad
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_signals_that_overflow_or_vanish_are_said_to():
    gg.manual_seed(0)
    words = forecast(dense(nn.ReLU, 100.0, depth=30, width=16), gg.randn(4, 16)).words
    assert "leaves the range of its dtype" in words
    nothing = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(4)])
    for p in nothing.parameters():
        nn.init.zeros_(p)
    assert forecast(nothing, gg.randn(4, 8)).words == "No signal is left at 2."


def test_it_is_the_same_every_time():
    gg.manual_seed(0)
    model, x = dense(nn.Tanh, 1.0, depth=3, width=32), gg.randn(8, 32)
    assert repr(forecast(model, x)) == repr(forecast(model, x))


def test_errors():
    x = gg.randn(4, 8)
    with pytest.raises(gg.errors.DTypeError, match="model: got int"):
        forecast(3, x)
    with pytest.raises(gg.errors.DTypeError, match="input: got list"):
        forecast(nn.Linear(8, 8), [1.0])
    with pytest.raises(gg.errors.ArgumentError, match="layers: got 0; expected two or more"):
        forecast(nn.Sequential(nn.ReLU(), nn.ReLU()), x)
    with pytest.raises(gg.errors.ArgumentError, match=r"loss_fn\(output\): got a tensor of shape \(4, 8\)"):
        forecast(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), x, lambda y: y)
    with pytest.raises(gg.errors.ArgumentError, match=r"input: got a tensor of shape \(0, 8\)"):
        forecast(nn.Linear(8, 8), gg.zeros(0, 8))
    ahead = forecast(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), x)
    with pytest.raises(gg.errors.ArgumentError, match="measure: layers"):
        ahead.measure(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))


def test_the_picture_shows_theory_and_measurement():
    pytest.importorskip("matplotlib").use("Agg")
    gg.manual_seed(0)
    ahead = forecast(dense(nn.Sigmoid, 1.0, depth=6, width=32), gg.randn(8, 32)).measure()
    figure = ahead.plot()
    for ax, name in zip(figure.axes, ("forward", "backward"), strict=True):
        dashed, dots = ax.lines
        assert np.allclose(dashed.get_ydata(), [getattr(level, name) for level in ahead.levels])
        assert np.allclose(dots.get_ydata(), [getattr(level, name) for level in ahead.measured])
        assert ax.get_xlabel() and ax.get_ylabel()
