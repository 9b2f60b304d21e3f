"""The training-bugs dojo: thirty broken trainings to find, and ten healthy ones that only look suspicious.

Each is small, real and runs in well under a second. ``story`` is what its owner would say; ``code`` is what ``scope.doctor``
calls the cause.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import nn, optim
from .creation import from_numpy
from .nn import functional as F
from .tensor import Tensor

Made = tuple[nn.Module, Callable, Tensor, Tensor, Any, Callable | None]


@dataclass(frozen=True)
class Run:
    """``make()`` gives ``(model, loss_fn, x, y, optimizer, train_step)``; ``code`` is empty for a healthy run."""

    name: str
    story: str
    make: Callable[[], Made]
    code: str = ""


BROKEN: list[Run] = []
HEALTHY: list[Run] = []


def _run(story: str, code: str = "") -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    def register(make: Callable[[], Made]) -> Callable[[], Made]:
        (BROKEN if code else HEALTHY).append(Run(make.__name__, story, make, code))
        return make

    return register


def find(name: str) -> Run:
    """The run called ``name``."""
    return next(run for run in BROKEN + HEALTHY if run.name == name)


# ----------------------------------------------------------------------------------------------------------------- data


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[:256]
    return images[order].astype(np.float32), labels[order].astype(np.int64)


def digits() -> tuple[Tensor, Tensor]:
    """256 images as 64 numbers each, of mean 0 and size about 1; their labels."""
    images, labels = _digits()
    return from_numpy((images - images.mean(axis=0)) / images.std()), from_numpy(labels)


def pictures() -> tuple[Tensor, Tensor]:
    """The same as (n, 1, 8, 8), 96 of them."""
    x, y = digits()
    return x[:96].reshape(-1, 1, 8, 8), y[:96]


def moons() -> tuple[Tensor, Tensor]:
    """Two interleaved half circles in the plane."""
    rng = np.random.default_rng(0)
    angle, label = rng.uniform(0, math.pi, 200), np.arange(200) % 2
    x = np.stack([np.cos(angle) + label - 0.5, np.sin(angle) * (1 - 2 * label) + label * 0.5 - 0.25], axis=1)
    x += rng.normal(0, 0.1, x.shape)
    return from_numpy((x / x.std(axis=0)).astype(np.float32)), from_numpy(label.astype(np.int64))


def curve() -> tuple[Tensor, Tensor]:
    """y = sin(2 x) and a little noise, as columns."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.7, 1.7, (128, 1))
    y = np.sin(2 * x) + rng.normal(0, 0.05, x.shape)
    return from_numpy(x.astype(np.float32)), from_numpy(y.astype(np.float32))


def waves() -> tuple[Tensor, Tensor]:
    """64 sequences of 20 steps: a slow or a fast wave at any phase."""
    rng = np.random.default_rng(0)
    label = np.arange(64) % 2
    t = np.arange(20)
    x = np.sin((0.3 + 0.5 * label[:, None]) * t + 0.5 * rng.uniform(0, math.pi, (64, 1)))
    return from_numpy((1.4 * x + rng.normal(0, 0.1, x.shape))[..., None].astype(np.float32)), from_numpy(
        label.astype(np.int64)
    )


# --------------------------------------------------------------------------------------------------------------- models


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(n, m), *([nn.BatchNorm1d(m)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def initialised(model: nn.Module, init: Callable) -> nn.Module:
    """The weights of its Linear layers drawn by ``init``, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            init(module.weight)
            nn.init.zeros_(module.bias)
    return model


def he(model: nn.Module) -> nn.Module:
    return initialised(model, functools.partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )  # fmt: skip


class Residual(nn.Module):
    """x + branch(x)"""

    def __init__(self, *branch: nn.Module):
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x):
        return x + self.branch(x)


class WaveReader(nn.Module):
    """An LSTM whose last output is classified."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def sgd(model, lr: float = 0.1, momentum: float = 0.9):
    return optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def classifier(model, data, optimizer=None, step=None) -> Made:
    return model, F.cross_entropy, *data, optimizer or sgd(model, 0.05), step


def regression(model, data, optimizer=None, step=None, loss=F.mse_loss) -> Made:
    return model, loss, *data, optimizer or sgd(model, 0.05), step


# --------------------------------------------------------------------------------------------------------------- broken


@_run("Eight layers, and the loss does not move from ln 10.", "vanishing-gradient")
def deep_sigmoid():
    model = initialised(mlp(64, *[32] * 8, 10, activation=nn.Sigmoid), nn.init.xavier_normal_)
    return classifier(model, digits(), sgd(model, 0.01))


@_run("I copied the classic network with tanh. Twenty layers learn nothing.", "vanishing-gradient")
def deep_tanh_small():
    model = initialised(mlp(64, *[32] * 20, 10, activation=nn.Tanh), functools.partial(nn.init.normal_, std=0.08))
    return classifier(model, digits(), sgd(model, 0.01))


@_run("It worked with three layers. With sixteen and the same first weights it doesn't.", "vanishing-gradient")
def deep_relu_small():
    model = initialised(mlp(64, *[48] * 16, 10), functools.partial(nn.init.normal_, std=0.09))
    return classifier(model, digits(), sgd(model, 0.01))


@_run("The loss is 10^12 in the first step.", "exploding-gradient")
def deep_relu_large():
    model = initialised(mlp(64, *[48] * 16, 10), functools.partial(nn.init.normal_, std=0.7))
    return classifier(model, digits(), sgd(model, 1e-3))


@_run("A tanh network that answers the same for almost every image, with full conviction.", "saturated-activation")
def loud_tanh():
    model = initialised(mlp(64, 64, 64, 10, activation=nn.Tanh), functools.partial(nn.init.normal_, std=2.0))
    return classifier(model, digits(), sgd(model, 0.01, 0))


@_run("I set the biases to -10 in a test and forgot about it.", "dead-relu")
def negative_bias():
    model = he(mlp(64, 64, 64, 10))
    nn.init.constant_(model[0].bias, -10.0)
    return classifier(model, digits())


@_run("64 units, but it does no better than one.", "symmetric-init")
def constant_weights():
    model = initialised(mlp(64, 64, 10), functools.partial(nn.init.constant_, val=0.02))
    return classifier(model, digits())


@_run("I start all weights at zero, to be fair to all of them.", "symmetric-init")
def zero_weights():
    model = initialised(mlp(2, 16, 16, 2, activation=nn.Tanh), nn.init.zeros_)
    return classifier(model, moons())


@_run("The loss swings wider with every step, whatever the learning rate.", "missing-zero-grad")
def never_cleared():
    model = mlp(1, 32, 1, activation=nn.Tanh)

    def step(model, loss_fn, optimizer, x, y):
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return regression(model, curve(), sgd(model, 0.1, 0), step)


@_run("I clear the gradients, I checked. Adam hides it at first, then it walks past the minimum.", "missing-zero-grad")
def cleared_in_part():
    model = mlp(1, 32, 1, activation=nn.Tanh)

    def step(model, loss_fn, optimizer, x, y):
        model[0].zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return regression(model, curve(), optim.Adam(model.parameters(), lr=0.01), step)


@_run("My model ends in probabilities, as it should. Training is slow.", "double-softmax")
def softmax_at_the_end():
    model = he(mlp(64, 32, 10)).append(nn.Softmax(1))
    return classifier(model, digits())


@_run("The loss never goes below 1.46.", "double-softmax")
def softmax_in_the_loss():
    model = he(mlp(64, 32, 10))
    return model, lambda scores, y: F.cross_entropy(F.softmax(scores, dim=1), y), *digits(), sgd(model), None


@_run("My regression predicts the mean of everything.", "broadcast-loss")
def column_against_row():
    x, y = curve()
    return regression(mlp(1, 32, 1, activation=nn.Tanh), (x, y.reshape(-1)))


@_run("I wrote the squared error myself, it is one line.", "broadcast-loss")
def own_squared_error():
    x, y = curve()
    model = mlp(1, 32, 1, activation=nn.Tanh)
    return regression(model, (x, y), loss=lambda prediction, y: ((prediction.reshape(-1) - y) ** 2).mean())


@_run("The loss is nan after a few steps.", "lr-too-high")
def rate_of_thirty():
    model = he(mlp(64, 32, 10))
    return classifier(model, digits(), sgd(model, 30.0, 0))


@_run("Linear regression, the simplest there is, and it blows up.", "lr-too-high")
def steep_line():
    x, _ = curve()
    model = nn.Linear(1, 1)
    return regression(model, (x, 3 * x + 1), sgd(model, 1.6, 0))


@_run("Adam with lr 1, since larger steps learn faster.", "lr-too-high")
def adam_of_one():
    model = he(mlp(64, 32, 32, 10))
    return classifier(model, digits(), optim.Adam(model.parameters(), lr=1.0))


@_run("It learns, I think. Look: the fifth digit of the loss moves.", "lr-too-low")
def rate_of_a_millionth():
    model = he(mlp(64, 32, 10))
    return classifier(model, digits(), sgd(model, 1e-6, 0))


class _Forgotten(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.skip, self.head = nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(F.relu(self.first(x)))


@_run("I added a second path and accuracy did not change at all. Not by one image.", "unused-parameter")
def forgotten_path():
    return classifier(_Forgotten(), digits())


@_run(
    "Fine-tuning: the head should learn, and the body too. The body's weights are bit for bit as before.",
    "frozen-parameter",
)
def frozen_body():
    model = he(mlp(64, 32, 10))
    model[0].requires_grad_(False)
    return classifier(model, digits(), optim.SGD(model[2].parameters(), lr=0.1))


@_run("I replaced the last layer for my ten classes. It stays random.", "frozen-parameter")
def optimizer_of_the_old_head():
    model = he(mlp(64, 32, 7))
    optimizer = sgd(model, 0.05)
    model[2] = nn.Linear(32, 10)
    return classifier(model, digits(), optimizer)


class _LogOfZero(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = he(mlp(64, 32, 10))

    def forward(self, x):
        return F.relu(self.body(x)).log()


@_run("nan from the very first step.", "nan-source")
def log_of_relu():
    return classifier(_LogOfZero(), digits())


@_run("Somewhere in 256 images there must be something.", "nan-source")
def broken_pixel():
    x, y = digits()
    data = x.numpy().copy()
    data[17, 5] = np.nan
    return classifier(he(mlp(64, 32, 10)), (from_numpy(data), y))


@_run("I freeze the batch norm by accident: my evaluation function runs before training.", "bn-eval-in-training")
def left_in_eval():
    model = mlp(64, 32, 32, 10, norm=True)
    model.eval()
    return classifier(model, digits(), sgd(model, 0.02))


@_run("Online learning: one image after the other. Batch norm is on, so it should be stable.", "bn-batch-of-one")
def one_at_a_time():
    x, y = pictures()
    return classifier(cnn(), (x[:1], y[:1]), None)


@_run("Incomes in dollars, ages in years. The net learns one of them.", "unnormalised-input")
def dollars_and_years():
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(50_000, 15_000, 200), rng.uniform(18, 90, 200)], axis=1)
    y = (x[:, 0] / 1000 + x[:, 1] > 104).astype(np.int64)
    return classifier(he(mlp(2, 16, 2)), (from_numpy(x.astype(np.float32)), from_numpy(y)), None)


@_run("Pixels from 0 to 255, straight from the file.", "unnormalised-input")
def raw_pixels():
    images, labels = _digits()
    return classifier(he(mlp(64, 32, 10)), (from_numpy(images * 16), from_numpy(labels)), None)


class _Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(F.relu(self.body(x)).detach())


@_run("Only the last layer seems to learn.", "detached-graph")
def cut_in_the_middle():
    return classifier(_Cut(), digits())


@_run("Training accuracy rises, validation stays at 10 %.", "shuffled-labels")
def labels_of_others():
    x, y = digits()
    return classifier(he(mlp(64, 64, 10)), (x, from_numpy(np.random.default_rng(1).permutation(y.numpy()))))


@_run("The curve is clearly a sine. The net sees fog.", "shuffled-labels")
def sorted_inputs():
    x, y = curve()
    return regression(mlp(1, 32, 1, activation=nn.Tanh), (from_numpy(np.sort(x.numpy(), axis=0)), y))


# -------------------------------------------------------------------------------------------------------------- healthy


@_run("A plain network with ReLU and momentum.")
def plain():
    return classifier(he(mlp(64, 64, 10)), digits())


@_run("tanh and Adam.")
def tanh_adam():
    model = mlp(64, 48, 48, 10, activation=nn.Tanh)
    return classifier(model, digits(), optim.Adam(model.parameters(), lr=3e-3))


@_run("Sigmoids again, this time with batch norm.")
def sigmoid_batch_norm():
    model = mlp(64, *[32] * 4, 10, activation=nn.Sigmoid, norm=True)
    return classifier(model, digits(), sgd(model, 0.1))


@_run("A convolutional network.")
def convolutional():
    model = cnn()
    return classifier(model, pictures(), optim.Adam(model.parameters(), lr=3e-3))


@_run("Residual blocks.")
def residual():
    blocks = [Residual(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(6)]
    model = nn.Sequential(nn.Linear(64, 32), *blocks, nn.Linear(32, 10))
    return classifier(model, digits(), sgd(model, 0.02))


@_run("An LSTM on short waves.")
def lstm():
    model = WaveReader()
    return classifier(model, waves(), optim.Adam(model.parameters(), lr=0.02))


@_run("Regression of a curve.")
def sine():
    model = mlp(1, 32, 32, 1, activation=nn.Tanh)
    return regression(model, curve(), optim.Adam(model.parameters(), lr=0.01))


@_run("Dropout, so the loss is noisy.")
def dropout():
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, 10))
    return classifier(he(model), digits(), optim.Adam(model.parameters(), lr=3e-3))


@_run("Twelve layers with He's weights.")
def deep_he():
    model = he(mlp(64, *[64] * 12, 10))
    return classifier(model, digits(), sgd(model, 0.005))


@_run("Two classes in the plane, one probability out.")
def binary():
    x, y = moons()
    model = mlp(2, 24, 1)
    return regression(
        model,
        (x, y.float().reshape(-1, 1)),
        optim.Adam(model.parameters(), lr=0.02),
        loss=F.binary_cross_entropy_with_logits,
    )
