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
        gc.set_debug(gc.DEBUG_SAVEALL)  # other things of this process may leave cycles of their own
        gc.collect()
        assert not [o for o in gc.garbage if isinstance(o, (gg.Tensor, gg.autograd.Node))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
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


def test_what_no_wanted_gradient_needs_is_not_kept():
    x, c = gg.ones(3, requires_grad=True), gg.tensor([1.0, 2.0, 3.0])
    y = x * c  # dx needs c alone, although the kernel for both gradients would ask for x too
    with gg.no_grad():
        x.add_(1.0)
    y.sum().backward()
    assert x.grad.tolist() == [1, 2, 3]
    rows, frozen = gg.ones(4, 3, requires_grad=True), gg.ones(2, 3)
    h = rows * 1.0
    y = gg.nn.functional.linear(h, frozen)  # frozen weights: the activations are not held until backward
    h.zero_()
    y.sum().backward()
    assert rows.grad is not None


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


class Cube(gg.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * 3 * x * x * ctx.scale, None


def test_function_is_an_op_of_the_users_own_twice_differentiable():
    x = gg.tensor([0.5, -2.0], dtype=gg.float64, requires_grad=True)
    assert gg.gradcheck(lambda x: Cube.apply(x, 2.0), x)
    assert gg.gradgradcheck(lambda x: Cube.apply(x, 2.0), x)
    assert Cube.apply(x, 2.0).grad_fn.name == "Cube"


def test_function_with_the_wrong_number_of_gradients_says_so():
    class Wrong(gg.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(GraphError, match="got 1 gradients; expected one per forward argument: 2"):
        Wrong.apply(gg.ones(1, requires_grad=True), gg.ones(1)).backward()


def test_function_of_several_outputs_gets_zeros_where_no_gradient_came():
    seen = []

    class Split(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, da, db):
            seen.append((da.tolist(), db.tolist()))
            return da + db * 2

    x = gg.tensor([1.0, 2.0], requires_grad=True)
    _, b = Split.apply(x)
    b.sum().backward()
    assert seen == [([0.0, 0.0], [1.0, 1.0])]
    assert x.grad.tolist() == [2.0, 2.0]


def test_once_differentiable_refuses_a_second_derivative():
    class Square(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @gg.autograd.once_differentiable
        def backward(ctx, dy):
            return gg.from_numpy(2 * ctx.saved_tensors[0].detach().data * dy.detach().data)

    x = gg.tensor([3.0], requires_grad=True)
    (dx,) = gg.autograd.grad(Square.apply(x), x, create_graph=True)
    assert dx.tolist() == [6.0]
    with pytest.raises(GraphError, match="once_differentiable"):
        dx.backward()


def test_writing_through_a_view_changes_the_history_of_the_base():
    x = gg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    base = x * 1.0
    row = base[0]
    row.mul_(10.0)
    assert base.tolist() == [[10.0, 20.0], [3.0, 4.0]]
    (base * base).sum().backward()
    assert x.grad.tolist() == [[200.0, 400.0], [6.0, 8.0]]


def test_other_views_learn_of_a_write_through_one():
    x = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    base = x * 1.0
    first, last = base[:2], base[1:]
    first.mul_(3.0)
    last.sum().backward()
    assert x.grad.tolist() == [0.0, 3.0, 1.0]


def test_augmented_assignment_to_a_slice():
    x = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2.0
    y[1:] += 10.0
    y[0] = x[2] * x[2]
    y.sum().backward()
    assert y.tolist() == [9.0, 14.0, 16.0]
    assert x.grad.tolist() == [0.0, 2.0, 8.0]


def test_writing_through_a_view_of_a_leaf_is_refused():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match="leaf that requires grad"):
        x[0] = 5.0
    with pytest.raises(GraphError, match="through a view"):
        x[:1].mul_(2.0)
    assert x.tolist() == [1.0, 2.0]


def test_copy_sends_the_gradient_to_the_source():
    source = gg.tensor([1.0, 2.0], requires_grad=True)
    target = gg.zeros(2, 2)
    target.copy_(source)
    (target * gg.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert source.grad.tolist() == [4.0, 6.0]
    assert source.is_leaf
    assert not target.is_leaf


def test_grad_of_a_middle_tensor_leaves_grad_alone():
    x = gg.tensor(2.0, requires_grad=True)
    y = x * x
    z = y * y
    (dy,) = gg.autograd.grad(z, y)
    assert dy.item() == 8.0
    assert x.grad is None


def test_grad_of_an_unused_input_says_so():
    x, unused = gg.ones(1, requires_grad=True), gg.ones(1, requires_grad=True)
    with pytest.raises(GraphError, match="allow_unused=True"):
        gg.autograd.grad(x * 2, unused)
    assert gg.autograd.grad(x * 2, unused, allow_unused=True) == (None,)


def test_modes_nest_and_decorate():
    x = gg.ones(1, requires_grad=True)

    @gg.no_grad()
    def quiet():
        return x * 2

    with gg.no_grad():
        assert not (x * 2).requires_grad
        with gg.enable_grad():
            assert (x * 2).requires_grad
    assert not quiet().requires_grad
    assert gg.is_grad_enabled()
    with gg.inference_mode():
        y = x * 2
    with pytest.raises(GraphError, match="inference_mode"):
        y.requires_grad_()


def test_memory_stays_flat_over_10_000_steps():
    resource = pytest.importorskip("resource")
    w = gg.ones(64, 64, requires_grad=True)
    x = gg.ones(8, 64)

    def step():
        (x @ w).tanh().sum().backward()
        w.grad = None

    for _ in range(500):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024  # KiB: one leaked step is 16 KiB


def test_retain_grad_and_hooks_on_a_middle_tensor():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.retain_grad()
    y.register_hook(lambda dy: dy * 10)
    (y * y).sum().backward()
    assert x.grad.tolist() == [180.0, 360.0]
    assert y.grad.tolist() == [60.0, 120.0]


def test_node_hooks_see_both_sides():
    x = gg.tensor([2.0], requires_grad=True)
    y = x * 3
    seen = []
    y.grad_fn.register_hook(lambda dxs, dys: seen.append((dxs[0].item(), dys[0].item())))
    y.backward(gg.tensor([5.0]))
    assert seen == [(15.0, 5.0)]


def test_anomaly_names_this_file():
    x = gg.tensor([-1.0], requires_grad=True)
    with gg.detect_anomaly():
        y = x.sqrt()
        with pytest.raises(GraphError, match=r"test_autograd\.py:\d+: y = x\.sqrt"):
            y.backward()


def test_threads_have_their_own_modes_and_graphs():
    import threading

    x = gg.ones(100, requires_grad=True)
    results = []

    def work(k):
        with gg.no_grad():
            quiet = (x * k).requires_grad
        (dx,) = gg.autograd.grad((x * k).sum(), x)
        results.append((quiet, dx.data.tolist() == [float(k)] * 100))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [(False, True)] * 8


def test_pickle_and_deepcopy():
    import copy
    import pickle

    x = gg.tensor([1.0, 2.0], requires_grad=True)
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert again.requires_grad
        assert again.tolist() == [1.0, 2.0]
        assert not np.shares_memory(again.data, x.data)


def test_numpy_and_dlpack_share_memory():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = gg.from_numpy(a)
    a[0, 0] = 42.0
    assert t[0, 0].item() == 42.0
    assert np.shares_memory(np.from_dlpack(t), a)
    assert np.shares_memory(gg.from_dlpack(t).data, a)
    assert np.asarray(t) is a
    with pytest.raises(GraphError, match=r"detach\(\)"):
        np.asarray(gg.ones(2, requires_grad=True))
    with pytest.raises(TypeError):
        np.sin(gg.ones(2))


def test_in_place_keeps_what_the_derivative_needs():
    x, z = gg.tensor([1.0, 2.0], requires_grad=True), gg.tensor([3.0, 4.0], requires_grad=True)
    y = x * 1.0
    y.mul_(z)
    y.sin_()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.data, [3 * np.cos(3), 4 * np.cos(8)], rtol=1e-5)
    np.testing.assert_allclose(z.grad.data, [1 * np.cos(3), 2 * np.cos(8)], rtol=1e-5)


def test_writing_through_a_view_of_a_transposed_base():
    with gg.use_backend("reference"):  # whose element-wise results keep the order of their operands
        x = gg.arange(6).reshape(2, 3).float().requires_grad_()
        y = x.T * 1
        v = y.T.view(6)
        v[0] = 5
        (y * y).sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]


def test_gradients_of_two_leaves_never_share_memory(backend):
    a, b = gg.ones(300, 300, requires_grad=True), gg.ones(300, 300, requires_grad=True)
    w = gg.ones(300, 300, requires_grad=True)
    dy = gg.ones(300, 300)
    (a + b).backward(dy)
    (w.T.reshape(300, 300) * 2).T.contiguous().backward(dy)
    grads = [a.grad, b.grad, w.grad, dy]
    for i, g in enumerate(grads):
        for other in grads[i + 1 :]:
            assert not np.shares_memory(g.data, other.data)
    for g in grads[:3]:
        g.add_(1.0)  # writable, and no one else's
    assert dy.tolist()[0][0] == 1.0


def test_a_function_may_return_what_it_saved():
    class Dot(gg.autograd.Function):
        @staticmethod
        def forward(ctx, w, x):
            ctx.save_for_backward(x)
            return (w * x).sum()

        @staticmethod
        def backward(ctx, dy):
            return ctx.saved_tensors[0], None  # right where dy is 1

    w, x = gg.ones(3, requires_grad=True), gg.tensor([1.0, 2.0, 3.0])
    for _ in range(2):
        Dot.apply(w, x).backward()
    assert w.grad.tolist() == [2.0, 4.0, 6.0]
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_elu_has_slope_alpha_at_zero():
    x = gg.tensor([-1.0, 0.0, 1.0, 1e4], dtype=gg.float64, requires_grad=True)
    gg.nn.functional.elu(x, alpha=0.5).sum().backward()
    np.testing.assert_allclose(x.grad.data, [0.5 * np.exp(-1), 0.5, 1.0, 1.0])


def test_a_view_made_before_learns_that_a_graph_came_in():
    p = gg.tensor([1.0, 2.0], requires_grad=True)
    x = gg.zeros(3)
    before, last = x[1:], x[2]
    x[:2].copy_(p)
    ((before * 3.0).sum() + last).backward()
    assert before.tolist() == [2.0, 0.0]
    assert p.grad.tolist() == [0.0, 3.0]


def test_a_gradient_that_a_hook_kept_stays_as_it_was():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    y = w * gg.tensor([3.0, 4.0])
    kept = []
    y.grad_fn.register_hook(lambda dxs, dys: kept.append(dxs[0]))
    y.sum().backward()
    (w * 10.0).sum().backward()
    assert w.grad.tolist() == [13.0, 14.0]
    assert kept[0].tolist() == [3.0, 4.0]
