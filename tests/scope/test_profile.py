"""The profile: every kernel once, with the work that its formula has, and nothing left in the way."""

import json

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends, nn, optim, scope
from glassgrad.errors import ArgumentError
from glassgrad.nn import functional as F


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def mlp():
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), gg.randn(32, 64), gg.randint(10, (32,))


def test_kernels_of_all_phases_are_seen_and_named():
    model, optimizer, x, y = mlp()
    with scope.profile(model) as prof:
        step(model, optimizer, x, y)
    assert {"forward", "backward"} <= {e.phase for e in prof.events}
    linear = [e for e in prof.events if e.op in ("linear", "linear_relu") and e.phase == "forward"]
    assert [e.flops for e in linear] == [2 * 32 * 64 * 128, 2 * 32 * 128 * 10]
    assert linear[0].module == "0" and set(prof.modules()) >= {"0", "2"}
    assert 0 < prof.kernel_seconds < prof.seconds
    assert prof.python_seconds == pytest.approx(prof.seconds - prof.kernel_seconds)
    assert sum(r.calls for r in prof.rows()) == len(prof.events)
    starts = [e.start for e in prof.events]
    assert starts == sorted(starts)


@pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="needs kernels")
def test_work_is_what_the_formula_has():
    x, w = gg.randn(2, 8, 12, 12, requires_grad=True), gg.randn(16, 8, 3, 3, requires_grad=True)
    with scope.profile() as prof:
        F.conv2d(x, w, padding=1).sum().backward()
    flops = 2 * 2 * 16 * 12 * 12 * 8 * 9
    found = {e.op: e.flops for e in prof.events if e.op.startswith("conv2d")}
    assert found == {"conv2d": flops, "conv2d_backward_input": flops, "conv2d_backward_weight": flops}
    x, w = (
        gg.randn(16, 16, 8, 8, requires_grad=True),
        gg.randn(16, 16, 3, 3, requires_grad=True),
    )  # batch and channels alike
    with scope.profile() as prof:
        F.conv2d(x, w, padding=1).sum().backward()
    assert {e.flops for e in prof.events if e.op.startswith("conv2d")} == {2 * 16 * 16 * 8 * 8 * 16 * 9}
    lstm, x = nn.LSTM(6, 10), gg.randn(7, 3, 6)
    with scope.profile() as prof:
        lstm(x)[0].sum().backward()
    found = {e.op: e.flops for e in prof.events if e.op.startswith("lstm")}
    assert (
        found["lstm_layer"] == 2 * 7 * 3 * 4 * 10 * (6 + 10) and found["lstm_layer_backward"] == 2 * found["lstm_layer"]
    )
    q = gg.randn(2, 4, 32, 16)
    with scope.profile() as prof:
        F.scaled_dot_product_attention(q, q, q)
    assert [e.flops for e in prof.events if "attention" in e.op] == [4 * 2 * 4 * 32 * 32 * 16]
    a = gg.randn(64, 32, requires_grad=True)
    layer = nn.Linear(32, 48)
    with scope.profile() as prof:
        layer(a).sum().backward()
    assert [e.flops for e in prof.events if e.op == "linear_backward"] == [2 * 2 * 64 * 32 * 48]


def test_results_are_bit_for_bit_the_same_and_the_backend_is_back():
    plain = mlp()
    step(*plain)
    watched = mlp()
    before = backends.current()
    with scope.profile(watched[0]):
        step(*watched)
    assert backends.current() is before
    for a, b in zip(plain[0].parameters(), watched[0].parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    with pytest.raises(RuntimeError), scope.profile():
        raise RuntimeError
    assert backends.current() is before


def test_memory_rises_and_falls():
    x = gg.randn(1000, 100, requires_grad=True)
    with scope.profile() as prof:
        y = x
        for _ in range(10):
            y = y.exp().log()
        y.sum().backward()
        del y
    assert prof.peak >= 12 * 400_000
    assert prof.memory[-1][1] < prof.peak / 4


def test_the_trace_is_what_chrome_reads(tmp_path):
    model, optimizer, x, y = mlp()
    with scope.profile() as prof:
        step(model, optimizer, x, y)
    events = json.loads(prof.trace(tmp_path / "trace.json").read_text())["traceEvents"]
    bars = [e for e in events if e["ph"] == "X"]
    assert len(bars) == len(prof.events)
    for e in bars:
        assert isinstance(e["name"], str) and e["ts"] >= 0 and e["dur"] >= 0 and e["pid"] == 1 and e["tid"] == 1
    assert all("bytes" in e["args"] for e in events if e["ph"] == "C")


def test_the_table_and_the_picture(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    model, optimizer, x, y = mlp()
    with scope.profile() as prof:
        for _ in range(3):
            step(model, optimizer, x, y)
    text = prof.table()
    assert "linear" in text and "between the kernels: Python" in text and "of peak" in text
    figure = prof.plot()
    assert [bool(ax.get_xlabel() and ax.get_title(loc="left")) for ax in figure.axes] == [True] * 3
    figure.savefig(tmp_path / "profile.png")
    matplotlib.pyplot.close(figure)
    assert "kernel calls" in repr(prof)


def test_what_is_kept_for_backward_is_counted_once():
    x = gg.randn(50, 20, requires_grad=True)
    y = x.exp()
    loss = (y * y).sum() + y.tanh().sum()
    by_op = {k.op: k.bytes for k in scope.kept(loss)}
    assert by_op["exp"] == 4000 and by_op["mul"] == 0 and by_op["tanh"] == 4000
    loss.backward()
    with pytest.raises(ArgumentError, match="without a graph"):
        scope.kept(x)


def test_bad_use_is_named():
    with pytest.raises(ArgumentError, match="model: got int"):
        scope.profile(3)
    with scope.profile() as prof:
        pass
    for view in (prof.table, prof.plot, lambda: prof.trace("x.json")):
        with pytest.raises(ArgumentError, match="got no kernel call"):
            view()
    with pytest.raises(ArgumentError, match="runs already"), prof:
        pass
