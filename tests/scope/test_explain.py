"""A receipt's factors multiply to the gradient that backward computes, on any graph, and say what took it."""

import math

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.scope import explain

F = nn.functional


def rms(x):
    return math.sqrt(np.mean(np.square(x.numpy(), dtype=np.float64)))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = gg.zeros(len(x), 6)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0].mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(gg.randn(4, 4))

    def forward(self, x):
        return (F.linear_relu(x, self.w) @ self.w.T)[:, :3] * 2


MODELS = {
    "sigmoids": (lambda: nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(4, 4), nn.Sigmoid())]), (6, 4)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)), (6, 4)),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), Residual(4), nn.MaxPool2d(2), Residual(4), nn.Flatten(), nn.Linear(16, 3)
        ),
        (6, 2, 6, 6),
    ),
    "unrolled": (Unrolled, (6, 5, 4)),
    "lstm": (Recurrent, (6, 5, 4)),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), nn.Flatten(), nn.Linear(20, 3)),
        (6, 5, 4),
    ),
    "tied": (Tied, (6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_factors_multiply_to_the_measured_gradient(name):
    gg.manual_seed(0)
    build, shape = MODELS[name]
    model, x = build(), gg.randn(*shape).requires_grad_()
    loss = F.cross_entropy(model(x), gg.tensor([0, 1, 2, 0, 1, 2]))
    targets = [x, *model.parameters()]
    receipts = [explain(target, loss, model) for target in targets]
    assert all(target.grad is None for target in targets)
    loss.backward()
    for target, receipt in zip(targets, receipts, strict=True):
        assert receipt.size == pytest.approx(rms(target.grad), rel=1e-6, abs=1e-30)
        assert receipt.product == pytest.approx(receipt.size, rel=1e-6, abs=1e-30)
        assert receipt.name in repr(receipt)


def test_a_deep_sigmoid_net_says_what_took_the_gradient():
    gg.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(32, 32), nn.Sigmoid())], nn.Linear(32, 3))
    loss = F.cross_entropy(model(gg.randn(6, 32)), gg.tensor([0, 1, 2, 0, 1, 2]))
    receipt = explain(model[0].weight, loss, model)
    kinds = receipt.by_kind()
    assert next(iter(kinds)) == "activation slope" and len(kinds["activation slope"]) == 12
    assert all(0.2 < factor.value < 0.26 for factor in kinds["activation slope"])  # a sigmoid's slope is 1/4 at most
    assert [factor.module for factor in kinds["weights"]] == [str(2 * i) for i in range(12, 0, -1)]
    assert "activation slope (sigmoid): ×0.2" in receipt.words and "12 times" in receipt.words
    assert "0.weight" in receipt.words and receipt.words.endswith("Most was lost to: activation slope.")


def test_a_skip_carries_the_gradient_past_its_branch():
    gg.manual_seed(0)
    x = gg.randn(5).requires_grad_()
    receipt = explain(x, (x + (0.1 * x).tanh() * 0.1).sum())
    assert [f.kind for f in receipt.factors] == ["paths meet"]  # add and sum change no size
    assert receipt.product == pytest.approx(1.01, rel=0.01)


def test_two_parts_of_a_fused_product_are_told_apart():
    x, w = gg.randn(64, 16).requires_grad_(), gg.randn(16, 16)
    receipt = explain(x, F.linear_relu(x, w).sum())
    slope = next(f for f in receipt.factors if f.kind == "activation slope")
    assert slope.value == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_a_hook_that_changes_the_gradient_is_a_factor():
    x = gg.randn(3).requires_grad_()
    y = x * 1
    y.register_hook(lambda dy: dy * 0.25)
    receipt = explain(x, y.sum())
    assert ("hook", 0.25) in [(f.op, f.value) for f in receipt.factors]


def test_a_gradient_of_nothing_says_where_it_ended():
    x = gg.tensor([-1.0, -2.0], requires_grad=True)
    receipt = explain(x, (x * 3).relu().sum())
    assert receipt.size == receipt.product == 0.0
    assert "lost at relu" in receipt.words


def test_a_gradient_that_is_no_number_says_where_it_began():
    x = gg.tensor([0.0, 1.0], requires_grad=True)
    receipt = explain(x, (x * 3).sqrt().square().sum())
    assert not math.isfinite(receipt.size)
    assert "stops being a number at sqrt" in receipt.words


def test_the_graph_can_be_used_afterwards():
    x = gg.randn(3).requires_grad_()
    loss = x.square().sum()
    explain(x, loss)
    explain(x, loss)
    loss.backward()
    assert np.allclose(x.grad.numpy(), 2 * x.detach().numpy())


def test_errors():
    x, other = gg.randn(3).requires_grad_(), gg.randn(3).requires_grad_()
    with pytest.raises(gg.errors.DTypeError, match="target: got int"):
        explain(3, x.sum())
    with pytest.raises(gg.errors.GraphError, match=r"loss: got a tensor of shape \(3,\)"):
        explain(x, x * 2)
    with pytest.raises(gg.errors.GraphError, match="does not depend on it"):
        explain(other, x.sum())
    with pytest.raises(gg.errors.GraphError, match="requires_grad=False"):
        explain(gg.ones(3), x.sum())
    loss = x.square().sum()
    loss.backward()
    with pytest.raises(gg.errors.GraphError, match="freed"):
        explain(x, loss)
    assert explain(loss, loss).size == 1.0


def test_the_picture_has_a_bar_for_each_factor():
    pytest.importorskip("matplotlib").use("Agg")
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3))
    receipt = explain(model[0].weight, F.cross_entropy(model(gg.randn(3, 4)), gg.tensor([0, 1, 2])), model)
    (ax,) = receipt.plot().axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [f.label for f in receipt.factors]
    assert len(ax.patches) == len(receipt.factors) and ax.get_xscale() == "log"
