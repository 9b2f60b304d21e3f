"""The engine: deep chains, second derivatives, freed graphs, in-place checks, modes."""

import gc

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import DTypeError, GraphError, ShapeError


def test_gradient_of_a_polynomial():
    a = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (a * a + a).backward(gg.ones(3))
    assert a.grad.tolist() == [3.0, 5.0, 7.0]


def test_second_derivative():
    x = gg.tensor(2.0, dtype=gg.float64, requires_grad=True)
    (dx,) = gg.autograd.grad(x * x * x, x, create_graph=True)
    (ddx,) = gg.autograd.grad(dx, x)
    assert (dx.item(), ddx.item()) == (12.0, 12.0)


def test_a_chain_of_100_000_ops_needs_no_recursion():
    x = gg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 0.0
    y.backward()
    assert x.grad.item() == 1.0
    del y


def test_a_graph_leaves_no_cycles_for_the_collector():
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            x = gg.tensor([0.5, 1.0], requires_grad=True)
            (x * x).tanh().exp().backward(gg.ones(2))
        del x
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_second_backward_says_how_to_keep_the_graph():
    x = gg.tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward()


def test_backward_of_a_vector_needs_a_gradient():
    with pytest.raises(GraphError, match="expected one element"):
        (gg.ones(3, requires_grad=True) * 2).backward()


def test_in_place_change_of_a_saved_tensor_is_found():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    z = y * y
    y.add_(1.0)
    with pytest.raises(GraphError, match="modified in place"):
        z.backward(gg.ones(2))


def test_in_place_on_a_leaf_is_refused_and_allowed_without_grad():
    x = gg.tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="no_grad"):
        x.add_(1.0)
    with gg.no_grad():
        x.add_(1.0)
    assert x.tolist() == [2.0]


def test_broadcast_gradient_is_summed():
    x, b = gg.ones(4, 3, requires_grad=True), gg.ones(3, requires_grad=True)
    (x * b).backward(gg.ones(4, 3))
    assert b.grad.tolist() == [4.0, 4.0, 4.0]


def test_hooks_see_the_whole_gradient():
    x = gg.tensor(3.0, requires_grad=True)
    seen = []
    handle = x.register_hook(lambda dx: seen.append(dx.item()))
    (x * 2.0 + x * 5.0).backward()
    handle.remove()
    assert seen == [7.0]


def test_anomaly_names_the_forward_line():
    x = gg.tensor(0.0, requires_grad=True)
    with gg.detect_anomaly():
        y = x.sqrt() * 0.0
        with pytest.raises(GraphError, match=r"sqrt: backward gave NaN"):
            y.backward()


def test_errors_are_small_lessons():
    with pytest.raises(ShapeError, match="b.T would fit"):
        gg.ones(2, 3) + gg.ones(3, 2)
    with pytest.raises(DTypeError, match="floating"):
        gg.tensor([1, 2]).requires_grad_()
    with pytest.raises(DTypeError, match="byte order"):
        gg.from_numpy(np.ones(2, dtype=">f4"))


def test_promotion_follows_pytorch():
    assert (gg.ones(2) + gg.tensor([1, 2])).dtype == gg.float32
    assert (gg.tensor([1, 2]) / 2).dtype == gg.float32
    assert (gg.ones(2) * gg.tensor(2.0, dtype=gg.float64)).dtype == gg.float32
