"""gg.kernel: every use of an op on one rung of its ladder, restored on exit, in this thread alone."""

import threading

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends, nn
from glassgrad.backends.rungs import LADDERS

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


def rungs():
    module = backends.BACKENDS["cpp"].module if "cpp" in backends.BACKENDS else None
    return [(op, rung) for op, ladder in LADDERS.items() for rung in (ladder.names() if module else ())]


def attention(x, w):
    return gg.softmax(x @ w @ x.mT / 2.0, -1) @ x


class Small(nn.Module):
    """Convolutions, products of two and of three dims, and a softmax: all that has a ladder."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 3, padding=1), nn.Tanh())
        self.w = nn.Parameter(gg.eye(9))
        self.hidden, self.head = nn.Linear(36, 18), nn.Linear(18, 3)

    def forward(self, x):
        x = self.convs(x).flatten(2)  # (n, 4, 9)
        hidden = nn.functional.linear_relu(attention(x, self.w).flatten(1), self.hidden.weight, self.hidden.bias)
        return self.head(hidden)


def losses(dtype=gg.float64):
    gg.manual_seed(0)
    model = Small().to(dtype)
    optimizer = gg.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    x, y = gg.randn(8, 2, 3, 3, dtype=dtype), gg.arange(8) % 3
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize("start", ["cpp", "reference"])
@pytest.mark.parametrize(("op", "rung"), rungs())
def test_a_training_on_any_rung_is_the_same_training(op, rung, start):
    with gg.use_backend(start):
        expected = losses()
        with gg.kernel(op, rung):
            got = losses()
    assert expected[-1] < 0.8 * expected[0]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("op", LADDERS)
def test_forward_and_backward_are_on_the_rung(op, monkeypatch):
    module, ladder, seen = backends.get("cpp").module, LADDERS[op], []

    def spy(binding):
        real = getattr(module, binding)
        return lambda rung, *arrays, **static: seen.append((binding, rung)) or real(rung, *arrays, **static)

    for binding in ladder.kernels.values():
        monkeypatch.setattr(module, binding, spy(binding))
    with gg.kernel(op, ladder.names()[0]):
        losses(gg.float32)
    assert set(seen) == {(binding, ladder.names()[0]) for binding in ladder.kernels.values()}
    counted = len(seen)
    losses(gg.float32)
    assert len(seen) == counted, "still on the rung after the block"


def test_no_fused_gradient_passes_the_rungs_by():
    for op, ladder in LADDERS.items():
        with gg.kernel(op, ladder.names()[0]):
            assert backends.current().fused("sgd_step") is not None
            for name in ladder.fused:
                assert backends.get("cpp").fused(name) is not None, "no such kernel"
                assert backends.current().fused(name) is None


def test_blocks_nest_and_end_with_an_error():
    before = backends.current()
    with pytest.raises(KeyError), gg.kernel("matmul", "naive"), gg.kernel("matmul", "tiled"):
        raise KeyError
    assert backends.current() is before


def test_other_threads_stay_in_production():
    inside, checked, found = threading.Event(), threading.Event(), []

    def other():
        inside.wait(10)
        found.append(backends.current())
        with gg.kernel("matmul", "naive"):
            found.append(backends.current())
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with gg.kernel("matmul", "tiled"):
        own = backends.current()
        inside.set()
        assert checked.wait(10)
        assert backends.current() is own
    thread.join()
    assert found[0] is backends.get("cpp")
    assert own not in found


def test_what_has_no_rungs_is_computed_as_before():
    with gg.kernel("matmul", "packed"):
        assert (gg.arange(4).reshape(2, 2) @ gg.arange(4).reshape(2, 2)).tolist() == [[2, 3], [6, 11]]


def test_mistakes_list_what_there_is():
    with pytest.raises(gg.errors.ArgumentError, match="'sin'; expected one that has a ladder: matmul"):
        gg.kernel("sin", "naive").__enter__()
    with pytest.raises(gg.errors.ArgumentError, match="'fast'; expected one of the ladder of matmul: naive, reordered"):
        gg.kernel("matmul", "fast").__enter__()
