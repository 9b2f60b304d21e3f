"""Training real models end to end: what all the parts are for."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, optim
from glassgrad.data import DataLoader, TensorDataset


@pytest.fixture(scope="module")
def digits():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = gg.tensor((images[order] / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    y = gg.tensor(labels[order].astype(np.int64))
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


def accuracy(model, x, y):
    model.eval()
    with gg.no_grad():
        return (model(x).argmax(1) == y).to(gg.float32).mean().item()


def fit(model, data, epochs, lr):
    loader = DataLoader(TensorDataset(*data), batch_size=64, shuffle=True, generator=gg.Generator().manual_seed(0))
    optimizer = optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - epoch / epochs)
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def test_a_cnn_reads_98_percent_of_the_digits(digits):
    gg.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    fit(model, digits[0], epochs=12, lr=3e-3)
    assert accuracy(model, *digits[1]) >= 0.98


def test_an_mlp_reads_96_percent(digits):
    gg.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    fit(model, digits[0], epochs=25, lr=3e-3)
    assert accuracy(model, *digits[1]) >= 0.96


def test_both_backends_train_alike(digits):
    (x, y), _ = digits
    losses = {}
    for backend in ("reference", gg.backends.current().name):
        with gg.use_backend(backend):
            gg.manual_seed(1)
            model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 10))
            optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for i in range(10):
                loss = nn.functional.cross_entropy(model(x[32 * i : 32 * i + 32]), y[32 * i : 32 * i + 32])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses[backend] = loss.item()
    first, *others = losses.values()
    assert all(abs(other - first) < 1e-4 * first for other in others)
