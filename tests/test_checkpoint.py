"""Computing again instead of keeping: the same gradients, bit for bit, for less memory."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn, scope
from glassgrad.errors import ArgumentError, GlassgradError, GraphError
from glassgrad.utils.checkpoint import checkpoint, checkpoint_sequential


def chain(n=12, width=16, dropout=0.3):
    gg.manual_seed(0)
    return nn.Sequential(*[m for _ in range(n) for m in (nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout))])


def gradients(model, run):
    gg.manual_seed(1)
    x = gg.randn(8, 16, requires_grad=True)
    loss = run(x).square().sum()
    loss.backward()
    found = [x.grad.data.copy(), *[p.grad.data.copy() for p in model.parameters()]]
    model.zero_grad()
    return loss.item(), found


@pytest.mark.parametrize("segments", [1, 2, 5, 36])
def test_gradients_are_those_of_the_plain_chain_bit_for_bit(segments):
    model = chain()
    plain = gradients(model, model)
    again = gradients(model, lambda x: checkpoint_sequential(model, segments, x))
    assert plain[0] == again[0]
    for a, b in zip(plain[1], again[1], strict=True):
        assert np.array_equal(a, b)


def test_less_is_kept():
    model = chain(16, dropout=0.0)
    x = gg.randn(64, 16, requires_grad=True)
    whole = sum(k.bytes for k in scope.kept(model(x).sum()))
    pieces = sum(k.bytes for k in scope.kept(checkpoint_sequential(model, 8, x).sum()))
    assert pieces < 0.6 * whole


def test_nested_several_outputs_and_other_arguments():
    w = gg.randn(4, 4, requires_grad=True)

    def inner(x, scale):
        return (x @ w * scale).tanh()

    def outer(x, scale, flag=False):
        y = checkpoint(inner, x, scale)
        return y, (y * 2 if flag else y).sum(0)

    x = gg.randn(3, 4, requires_grad=True)
    results = []
    for run in (lambda: outer(x, 3.0, flag=True), lambda: checkpoint(outer, x, 3.0, flag=True)):
        a, b = run()
        results.append(gg.autograd.grad((a.square().sum() + b.sum()), [x, w]))
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a.data, b.data)


def test_an_output_that_is_not_used_and_an_input_without_gradient():
    x, fixed = gg.randn(3, requires_grad=True), gg.randn(3)
    a, _ = checkpoint(lambda x, f: (x * f, x + f), x, fixed)
    a.sum().backward()
    assert np.array_equal(x.grad.data, fixed.data)


def test_a_tensor_from_outside_may_be_used_elsewhere_too():
    w = gg.randn(4, requires_grad=True)
    results = []
    for call in (lambda f, x: f(x), checkpoint):
        h, x = w.exp(), gg.ones(4)
        y = call(lambda x, h=h: x * h, x)
        z = call(lambda x, h=h: (x * h).tanh(), y)
        w.grad = None
        (z.sum() + h.sum()).backward()
        results.append(w.grad.data.copy())
    assert np.allclose(*results, rtol=1e-6)


def test_without_gradients_it_is_a_plain_call():
    with gg.no_grad():
        assert not checkpoint(lambda x: x * 2, gg.ones(2, requires_grad=True)).requires_grad


def test_what_cannot_be_done_is_said():
    x = gg.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match="create_graph=True"):
        gg.autograd.grad(checkpoint(lambda x: x.exp(), x).sum(), x, create_graph=True)
    for call, says in (
        (lambda: checkpoint(3, x), "function: got int"),
        (lambda: checkpoint(lambda x: 3, x), "function gave int"),
        (lambda: checkpoint(lambda x: x, x, use_reentrant=True), "use_reentrant: got True"),
        (lambda: checkpoint_sequential([nn.ReLU()], 2, x), "segments: got 2"),
    ):
        with pytest.raises(ArgumentError, match=says):
            call()
    y = x * 1
    z = checkpoint(lambda y: y.exp(), y)
    y.add_(1)
    with pytest.raises(GlassgradError, match="changed|in place|modified"):
        z.sum().backward()
