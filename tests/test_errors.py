"""Bad input is a user having a bad day: one clear exception that names the op, what it got, what it expected, and a true hint."""

import pickle

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, optim
from glassgrad.errors import ArgumentError, AxisError, DTypeError, GlassgradError, GraphError, ShapeError

F = nn.functional

# (what the user wrote, exception, words that must be in the message)
CASES = {
    "shapes that do not broadcast": (lambda: gg.ones(2, 3) + gg.ones(3, 2), ShapeError, "add: .*b.T would fit"),
    "no such hint when it would not": (
        lambda: gg.ones(2, 3) + gg.ones(4, 5),
        ShapeError,
        "add: shapes do not broadcast",
    ),
    "inner sizes": (lambda: gg.ones(3, 4) @ gg.ones(5, 4), ShapeError, r"matmul: inner sizes differ.*b\.T would fit"),
    "matmul of a number": (lambda: gg.tensor(2.0) @ gg.ones(2), ShapeError, "matmul"),
    "matmul of two dtypes": (lambda: gg.ones(2, 2) @ gg.ones(2, 2, dtype=gg.float64), DTypeError, "matmul"),
    "axis": (lambda: gg.ones(2, 3).sum(2), AxisError, r"sum: dim out of range: got dim=2 .*expected -2 <= dim < 2"),
    "axis of softmax": (lambda: gg.softmax(gg.ones(2, 3), dim=5), AxisError, "softmax"),
    "the same axis twice": (lambda: gg.ones(2, 3).sum((0, -2)), ArgumentError, "the same dim twice"),
    "maximum of nothing": (lambda: gg.ones(0, 3).amax(0), GlassgradError, "amax"),
    "reshape": (lambda: gg.ones(2, 3).reshape(4, 2), ShapeError, "reshape"),
    "two unknown extents": (lambda: gg.ones(2, 3).reshape(-1, -1), GlassgradError, "reshape"),
    "view that needs a copy": (lambda: gg.ones(2, 3).t().view(6), GlassgradError, "reshape"),
    "expand": (lambda: gg.ones(2, 3).expand(4, 3), ShapeError, "expand"),
    "cat": (lambda: gg.cat([gg.ones(2, 3), gg.ones(2, 4)]), ShapeError, "cat"),
    "cat of nothing": (lambda: gg.cat([]), GlassgradError, "cat"),
    "index out of range": (lambda: gg.ones(3)[3], AxisError, "3"),
    "index array out of range": (lambda: gg.ones(3)[gg.tensor([0, 7])], AxisError, "7"),
    "mask of another shape": (lambda: gg.ones(3)[gg.tensor([True, False])], GlassgradError, "mask|bool"),
    "index with a float": (lambda: gg.ones(3)[1.5], GlassgradError, "index"),
    "gather": (lambda: gg.ones(2, 3).gather(1, gg.tensor([[5]])), AxisError, "gather"),
    "embedding": (lambda: F.embedding(gg.tensor([10]), gg.ones(3, 2)), AxisError, "embedding"),
    "backward of a vector": (lambda: gg.ones(3, requires_grad=True).mul(2).backward(), GraphError, r"\.sum\(\)"),
    "backward of a constant": (lambda: gg.ones(()).backward(), GraphError, "requires_grad_"),
    "gradient of a wrong shape": (
        lambda: gg.ones(3, requires_grad=True).mul(2).backward(gg.ones(2)),
        ShapeError,
        "gradient",
    ),
    "requires_grad of integers": (lambda: gg.tensor([1]).requires_grad_(), DTypeError, "float"),
    "numpy of a tensor that wants a gradient": (
        lambda: gg.ones(2, requires_grad=True).numpy(),
        GraphError,
        r"detach\(\)",
    ),
    "item of many": (lambda: gg.ones(2).item(), ArgumentError, "tolist"),
    "truth of many": (lambda: bool(gg.ones(2)), ArgumentError, r"\.any\(\)"),
    "object array": (lambda: gg.from_numpy(np.array([object()])), DTypeError, "object"),
    "complex array": (lambda: gg.from_numpy(np.ones(2, complex)), DTypeError, "complex"),
    "big-endian array": (lambda: gg.from_numpy(np.ones(2, ">f4")), DTypeError, "byte order"),
    "ragged lists": (lambda: gg.tensor([[1, 2], [3]]), ShapeError, "different lengths"),
    "strings": (lambda: gg.tensor(["a"]), DTypeError, "numbers"),
    "a number plus a string": (lambda: gg.ones(2) + "a", DTypeError, "add: got str"),
    "write to a read-only array": (lambda: _read_only().add_(1.0), ArgumentError, r"clone\(\)"),
    "float into an integer tensor": (lambda: gg.tensor([1]).add_(0.5), DTypeError, "in place"),
    "another device": (lambda: gg.ones(2).to("cuda"), ArgumentError, "expected 'cpu'"),
    "full of nothing": (lambda: gg.full((2,), None), DTypeError, "full: fill_value"),
    "negative size": (lambda: gg.zeros(-1), ShapeError, ">= 0"),
    "a size that overflows": (lambda: gg.zeros(2**40, 2**40), ShapeError, r"2\*\*60"),
    "step of arange": (lambda: gg.arange(0, 5, -1), ArgumentError, "step"),
    "channels of conv2d": (lambda: F.conv2d(gg.ones(1, 3, 8, 8), gg.ones(4, 2, 3, 3)), GlassgradError, "conv2d"),
    "kernel larger than the image": (
        lambda: F.conv2d(gg.ones(1, 1, 2, 2), gg.ones(1, 1, 5, 5)),
        GlassgradError,
        "conv2d",
    ),
    "groups": (lambda: F.conv2d(gg.ones(1, 3, 8, 8), gg.ones(4, 1, 3, 3), groups=2), GlassgradError, "groups"),
    "target out of range": (lambda: F.cross_entropy(gg.ones(2, 3), gg.tensor([0, 3])), GlassgradError, "3"),
    "target of a wrong length": (lambda: F.cross_entropy(gg.ones(2, 3), gg.tensor([0])), ShapeError, "cross_entropy"),
    "reduction": (lambda: F.mse_loss(gg.ones(2), gg.ones(2), reduction="avg"), ArgumentError, "'mean'"),
    "probability of dropout": (lambda: F.dropout(gg.ones(2), p=1.5), ArgumentError, "dropout"),
    "batch of one in training": (
        lambda: F.batch_norm(gg.ones(1, 3), gg.zeros(3), gg.ones(3), training=True),
        GlassgradError,
        "batch_norm",
    ),
    "mean of integers": (lambda: gg.tensor([1, 2]).mean(), DTypeError, "mean"),
    "softmax of integers": (lambda: gg.softmax(gg.tensor([1, 2]), dim=0), DTypeError, "softmax"),
    "where without a mask": (lambda: gg.where(gg.ones(2), 1.0, 2.0), DTypeError, "bool"),
    "unknown backend": (lambda: gg.use_backend("tpu").__enter__(), ArgumentError, "reference"),
    "linear of a wrong width": (lambda: nn.Linear(4, 2)(gg.ones(3, 5)), ShapeError, "linear"),
    "negative layer size": (lambda: nn.Linear(-1, 2), GlassgradError, "Linear"),
    "optimizer without parameters": (lambda: optim.SGD([], lr=0.1), GlassgradError, "SGD|param"),
    "negative learning rate": (lambda: optim.SGD([nn.Parameter(gg.ones(1))], lr=-1.0), GlassgradError, "lr"),
    "unexpected key": (lambda: nn.Linear(1, 1).load_state_dict({"w": gg.ones(1, 1)}), GlassgradError, "weight"),
    "einsum": (lambda: gg.einsum("ij,jk->ik", gg.ones(2, 3), gg.ones(4, 5)), GlassgradError, "einsum"),
}


def _read_only():
    array = np.ones(2, np.float32)
    array.flags.writeable = False
    return gg.from_numpy(array)


@pytest.mark.parametrize("name", CASES)
def test_message(name, backend):
    call, kind, words = CASES[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    text = str(caught.value)
    assert len(text) < 400, "a lesson, not a lecture"
    assert text[-1] in ".)", "a sentence"


def test_a_failed_call_loses_nothing():
    model = nn.Linear(2, 2)
    before = pickle.dumps(model.state_dict())
    with pytest.raises(GlassgradError):
        model.load_state_dict({"weight": gg.ones(2, 2), "bias": gg.ones(3)})
    assert pickle.dumps(model.state_dict()) == before


def test_torch_and_numpy_habits_catch_our_exceptions():
    with pytest.raises(RuntimeError):
        gg.ones(2, 3) @ gg.ones(2, 3)
    with pytest.raises(ValueError):
        gg.ones(2) + gg.ones(3)
    with pytest.raises(IndexError):
        gg.ones(2)[5]
    with pytest.raises(TypeError):
        gg.tensor([1]).requires_grad_()


def test_nan_passes_through(backend):
    x = gg.tensor([1.0, float("nan"), 2.0])
    for y in (
        x.sum(),
        x.mean(),
        x.max(),
        x.amax(),
        gg.softmax(x, 0).sum(),
        gg.relu(x).sum(),
        (x @ x),
        gg.logsumexp(x, 0),
    ):
        assert np.isnan(y.item())
    assert x.argmax().item() == 1


def test_comparison_with_a_stranger_is_false():
    x = gg.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x == "a") is False
    assert x != "a"
