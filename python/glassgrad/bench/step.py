"""Whole training steps: zero_grad, forward, backward, update. Each model is written once, for any library's ``nn``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import nn, optim
from .case import Case, Runs, forward_backward, tensor_libraries

# -------------------------------------------------------------------------------------------------------------- models


def _mlp(nn):
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def _batch_norm_mlp(nn):
    return nn.Sequential(nn.Linear(784, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10))


def _deep_tanh(nn):
    return nn.Sequential(*[layer for _ in range(50) for layer in (nn.Linear(100, 100), nn.Tanh())], nn.Linear(100, 10))


def _cnn(nn):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 25, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def _resnet20(nn):
    """Deep residual learning, section 4.2, n = 3 (He et al. 2015); a 1x1 convolution where the shapes differ."""

    def convolution(c, k, kernel, stride):
        return nn.Sequential(nn.Conv2d(c, k, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(k))

    class Block(nn.Module):
        def __init__(self, c, k, stride):
            super().__init__()
            self.residual = nn.Sequential(convolution(c, k, 3, stride), nn.ReLU(), convolution(k, k, 3, 1))
            self.shortcut = nn.Identity() if c == k else convolution(c, k, 1, stride)

        def forward(self, x):
            return (self.residual(x) + self.shortcut(x)).relu()

    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(c, k, 1 if c == k else 2) for c, k in zip(widths, widths[1:], strict=False)]
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(convolution(3, 16, 3, 1), nn.ReLU(), *blocks, pool, nn.Flatten(), nn.Linear(64, 10))


def _gpt(nn, layers=4, heads=4, width=128, context=64, vocabulary=65):
    """GPT-2's blocks (Radford et al. 2019): normalise first, then attend or map, then add."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x):  # (n, t, width)
            n, t, _ = x.shape
            q, k, v = self.qkv(x).reshape(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (n, heads, t, width / heads)
            return self.out(y.transpose(1, 2).reshape(n, t, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.Sequential(nn.LayerNorm(width), Attention())
            self.map = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def forward(self, x):
            x = x + self.attend(x)
            return x + self.map(x)

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            blocks = [Block() for _ in range(layers)]
            self.body = nn.Sequential(*blocks, nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False))

        def forward(self, tokens):  # (n, context)
            return self.body(self.token(tokens) + self.place.weight).flatten(0, 1)

    return GPT()


def _lstm(nn):
    class LastOfSequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(64, 128), nn.Linear(128, 10)

        def forward(self, x):  # (steps, n, 64)
            return self.head(self.lstm(x)[0][-1])

    return LastOfSequence()


# --------------------------------------------------------------------------------------------------------------- cases


@dataclass(frozen=True)
class Step:
    """``products``: multiply-adds of the matrix products and convolutions of one forward pass, per example.

    Backward costs twice as many, but that nobody asks for the gradient of the input: ``first`` are those of its layer.
    """

    name: str
    model: Callable
    x: tuple[int, ...]
    optimizer: str
    options: dict
    products: int
    first: int = 0
    batch_dim: int = 0
    labels: tuple[int, int] | None = None  # (count, classes); None: one of 10 per example
    tokens: int = 0  # x holds integers below this

    @property
    def batch(self) -> int:
        return self.x[self.batch_dim]

    def flops(self) -> float:
        return 2.0 * self.batch * (3 * self.products - self.first)


_RESNET = 9 * (32**2 * (3 * 16 + 6 * 16 * 16) + 16**2 * (16 * 32 + 5 * 32 * 32) + 8**2 * (32 * 64 + 5 * 64 * 64))
_SHORTCUTS = 16**2 * 16 * 32 + 8**2 * 32 * 64
_GPT_TOKEN = 4 * (12 * 128**2 + 2 * 128 * (64 + 1) // 2) + 128 * 65  # causal: a token sees 32.5 of 64 on average
_LSTM_INPUT, _LSTM_STATE = 50 * 4 * 128 * 64, 50 * 4 * 128 * 128

STEPS = (
    Step("MLP 784-128-10, SGD momentum, batch 64", _mlp, (64, 784), "SGD", {"lr": 0.01, "momentum": 0.9},
         products=794 * 128, first=784 * 128),
    Step("MLP 784-256-BN-10, Adam, batch 64", _batch_norm_mlp, (64, 784), "Adam", {"lr": 1e-3},
         products=794 * 256, first=784 * 256),
    Step("50 x Linear(100) + Tanh, SGD, batch 64", _deep_tanh, (64, 100), "SGD", {"lr": 0.01},
         products=50 * 100 * 100 + 1000, first=100 * 100),
    Step("CNN 32c3-p2-64c3-p2-128-10, Adam, batch 64", _cnn, (64, 1, 28, 28), "Adam", {"lr": 1e-3},
         products=26**2 * 9 * 32 + 11**2 * 9 * 32 * 64 + 1600 * 128 + 1280, first=26**2 * 9 * 32),
    Step("ResNet-20 3 x 32 x 32, SGD momentum, batch 64", _resnet20, (64, 3, 32, 32), "SGD",
         {"lr": 0.01, "momentum": 0.9}, products=_RESNET + _SHORTCUTS + 640, first=32**2 * 9 * 3 * 16),
    Step("GPT 4 x 128 with 4 heads, context 64, AdamW, batch 12", _gpt, (12, 64), "AdamW", {"lr": 1e-3},
         products=64 * _GPT_TOKEN, labels=(12 * 64, 65), tokens=65),
    Step("LSTM 64-128, 50 steps, SGD momentum, batch 32", _lstm, (50, 32, 64), "SGD", {"lr": 0.01, "momentum": 0.9},
         products=_LSTM_INPUT + _LSTM_STATE + 1280, first=_LSTM_INPUT, batch_dim=1),
)  # fmt: skip


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    yield _small_graph(libraries)
    for step in STEPS:
        if step.model is not _lstm or hasattr(nn, "LSTM"):
            runs, state = _runs(step, libraries)
            yield Case("step", step.name, runs, flops=step.flops(), bytes=state)


def _runs(step: Step, libraries: dict[str, Any]) -> tuple[Runs, float]:
    """What to time; and bytes: the batch read, parameters, gradients and the optimizer's state read and written once."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, step.tokens, step.x) if step.tokens else rng.standard_normal(step.x).astype(np.float32)
    count, classes = step.labels or (step.batch, 10)
    labels = np.arange(count, dtype=np.int64) % classes
    runs: Runs = {}
    for library, tensor, functional in tensor_libraries(libraries):
        own, optimizers = (nn, optim) if library == "glassgrad" else (libraries["torch"].nn, libraries["torch"].optim)
        model = step.model(own)
        update = getattr(optimizers, step.optimizer)(model.parameters(), **step.options)
        runs[library] = partial(_train, model, update, functional.cross_entropy, tensor(x), tensor(labels))
        if library == "glassgrad":
            states = 2 if step.optimizer.startswith("Adam") else bool(step.options.get("momentum"))
            parameters = sum(math.prod(p.shape) for p in model.parameters())
    return runs, x.nbytes + 4.0 * parameters * 2 * (2 + states)


def _train(model: Callable, optimizer: Any, loss: Callable, x: Any, y: Any) -> None:
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()


def _small_graph(libraries) -> Case:
    numbers = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    runs: Runs = {
        library: partial(forward_backward, lambda a: a * a + a, tensor(numbers).requires_grad_())
        for library, tensor, _ in tensor_libraries(libraries)
    }
    return Case("step", "3 ops on 4 numbers, forward + backward", runs)
