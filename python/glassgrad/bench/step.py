"""Whole training steps: zero_grad, forward, backward, update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import nn, optim
from .case import Case, Runs, forward_backward, tensor_libraries


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


_STEPS: dict[str, tuple[Callable, tuple[int, ...], str, dict]] = {
    "MLP 784-128-10, SGD momentum": (_mlp, (64, 784), "SGD", {"lr": 0.01, "momentum": 0.9}),
    "MLP 784-256-BN-10, Adam": (_batch_norm_mlp, (64, 784), "Adam", {"lr": 1e-3}),
    "50 x Linear(100) + Tanh, SGD": (_deep_tanh, (64, 100), "SGD", {"lr": 0.01}),
    "CNN 32c3-p2-64c3-p2-128-10, Adam": (_cnn, (64, 1, 28, 28), "Adam", {"lr": 1e-3}),
}


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int64) % 10
    yield _small_graph(libraries)
    for name, (make, shape, optimizer, options) in _STEPS.items():
        images = rng.standard_normal(shape).astype(np.float32)
        runs: Runs = {}
        for library, tensor, functional in tensor_libraries(libraries):
            own, optimizers = (
                (nn, optim) if library == "glassgrad" else (libraries["torch"].nn, libraries["torch"].optim)
            )
            model = make(own)
            update = getattr(optimizers, optimizer)(model.parameters(), **options)

            runs[library] = partial(_train, model, update, functional.cross_entropy, tensor(images), tensor(labels))
        yield Case("step", f"{name}, batch 64", runs)


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
    return Case("step", "(a * a + a).sum().backward(), 4 numbers", runs)
