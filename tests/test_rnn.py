"""Recurrent layers and cells: against PyTorch, second derivatives, dropout, and what is refused."""

import warnings

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import nn
from glassgrad.errors import ArgumentError, DTypeError, ShapeError

KINDS = ["RNN", "LSTM", "GRU"]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
OPTIONS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def pair(torch, kind, *arguments, dtype=np.float64, **options):
    """A layer of glassgrad, and PyTorch's with the same weights."""
    ours = getattr(nn, kind)(*arguments, **options, dtype=dtype)
    theirs = getattr(torch.nn, kind)(*arguments, **options, dtype=getattr(torch, np.dtype(dtype).name))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(p.numpy()) for name, p in ours.state_dict().items()})
    return ours, theirs


def flat(result):
    if isinstance(result, (tuple, list)):
        return [y for part in result for y in flat(part)]
    return [result]


def close(a, b, dtype):
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, np.abs(b).max(initial=0)))


def same(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def agree(torch, ours, theirs, x, *states, dtype=np.float64, used=None):
    """Outputs, and the gradients of inputs, states and weights; ``used``: the outputs that the loss depends on."""

    def through(layer, tensor):
        leaves = [tensor(a.astype(dtype)).requires_grad_() for a in (x, *states)]
        hx = None if not states else leaves[1] if len(states) == 1 else tuple(leaves[1:])
        ys = flat(layer(leaves[0], hx))
        loss = 0
        for i, y in enumerate(ys):
            if used is None or i in used:
                weights = np.cos(1.0 + np.arange(y.numel())).reshape(tuple(y.shape))
                loss = loss + (y * tensor(weights.astype(dtype))).sum()
        loss.backward()
        return ys, [*leaves, *layer.parameters()]

    ys, leaves = through(ours, gg.tensor)
    ts, theirs_leaves = through(theirs, torch.tensor)
    for y, t in zip(ys, ts, strict=True):
        assert y.shape == tuple(t.shape)
        close(y.detach().numpy(), t.detach().numpy(), dtype)
    for leaf, other in zip(leaves, theirs_leaves, strict=True):
        close(leaf.grad.numpy(), other.grad.numpy(), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_torchs(kind, options, dtype, backend, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, kind, 3, 17, dtype=dtype, **options)
    directions = 1 + options.get("bidirectional", False)
    states = [
        rng.uniform(-1, 1, (directions * options.get("num_layers", 1), 5, 17)) for _ in range(1 + (kind == "LSTM"))
    ]
    x = rng.standard_normal((5, 4, 3) if options.get("batch_first") else (4, 5, 3))
    agree(torch, ours, theirs, x, *states, dtype=dtype)
    for module in (ours, theirs):
        module.zero_grad()
    agree(torch, ours, theirs, x, dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 1), (1, 33), (40, 1), (9, 70)], ids=str)
@pytest.mark.parametrize("hidden", [1, 16, 31, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_sizes(kind, hidden, shape, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, kind, 2, hidden, bidirectional=True)
    agree(torch, ours, theirs, rng.standard_normal((*shape, 2)))


@pytest.mark.parametrize("used", [[0], [1], [2], [0, 2]], ids=str)
def test_a_loss_of_some_outputs(used, backend, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, "LSTM", 3, 5)
    agree(torch, ours, theirs, rng.standard_normal((4, 2, 3)), used=used)


def test_relu(backend, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, "RNN", 3, 6, nonlinearity="relu", num_layers=2)
    agree(torch, ours, theirs, rng.standard_normal((4, 2, 3)))
    ours, theirs = pair(torch, "RNNCell", 3, 6, nonlinearity="relu")
    agree(torch, ours, theirs, rng.standard_normal((2, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_batch(kind, backend, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, kind, 3, 5, num_layers=2, batch_first=True)
    states = [rng.uniform(-1, 1, (2, 5)) for _ in range(1 + (kind == "LSTM"))]
    agree(torch, ours, theirs, rng.standard_normal((4, 3)), *states)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (1,), (7,), (0,)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_torchs(kind, batch, bias, backend, rng):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, f"{kind}Cell", 3, 18, bias=bias)
    states = [rng.uniform(-1, 1, (*batch, 18)) for _ in range(1 + (kind == "LSTM"))]
    agree(torch, ours, theirs, rng.standard_normal((*batch, 3)), *states)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_cell_at_every_step(kind, backend, rng):
    layer, cell = getattr(nn, kind)(3, 5), getattr(nn, f"{kind}Cell")(3, 5)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    x, state = gg.tensor(rng.standard_normal((4, 2, 3)), dtype=gg.float32), None
    for t, y in enumerate(layer(x)[0]):
        state = cell(x[t], state)
        same(state[0] if kind == "LSTM" else state, y)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivative(kind, backend, rng):
    layer = getattr(nn, kind)(2, 3, num_layers=2, bidirectional=True, dtype=gg.float64)
    x = gg.tensor(rng.standard_normal((2, 2, 2)), requires_grad=True)

    def function(x, *weights):
        names = [name for name, _ in layer.named_parameters()]
        for name, weight in zip(names, weights, strict=True):
            layer.__dict__[name] = weight
        return tuple(flat(layer(x)))

    assert gg.gradgradcheck(function, (x, *layer.parameters()), fast_mode=True, atol=1e-4)


def test_one_tensor_as_both_states(backend, rng):
    """Each of the two inputs has a gradient of its own, and they add up."""
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, "LSTM", 2, 3)
    x, h = rng.standard_normal((3, 2, 2)), rng.standard_normal((1, 2, 3))
    for create_graph in (False, True):
        a, b = gg.tensor(h, requires_grad=True), torch.tensor(h, requires_grad=True)
        (da,) = gg.autograd.grad(ours(gg.tensor(x), (a, a))[0].sum(), a, create_graph=create_graph)
        (db,) = torch.autograd.grad(theirs(torch.tensor(x), (b, b))[0].sum(), b)
        close(da.detach().numpy(), db.numpy(), np.float64)


def test_dropout_acts_between_layers_in_training_alone(rng):
    x = gg.tensor(rng.standard_normal((4, 2, 3)), dtype=gg.float32)
    two = nn.LSTM(3, 5, num_layers=2, dropout=1.0)
    first = nn.LSTM(3, 5)
    first.load_state_dict({n: p for n, p in two.state_dict().items() if n.endswith("l0")})
    second = nn.LSTM(5, 5)
    second.load_state_dict({n[:-1] + "0": p for n, p in two.state_dict().items() if n.endswith("l1")})
    between = first(x)[0]
    same(two(x)[0], second(gg.zeros_like(between))[0])
    same(two(x)[1][0][0], first(x)[1][0][0])  # the states of the first layer are untouched
    same(two.eval()(x)[0], second(between)[0])
    with pytest.warns(UserWarning, match="acts between layers"):
        one = nn.GRU(3, 5, dropout=0.5)
    same(one(x)[0], one.eval()(x)[0])


def test_initial_weights(rng):
    layer = nn.GRU(50, 64, bidirectional=True)
    for name, p in layer.state_dict().items():
        assert 0.11 < np.abs(p.numpy()).max() <= 1 / 8, name
        assert abs(p.numpy().mean()) < 0.03, name


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_threads_gives_the_same_bits(kind, rng):
    module = gg.backends.cpp.BACKEND and gg.backends.cpp.BACKEND.module
    if module is None:
        pytest.skip("the native module was not built")
    layer, x = getattr(nn, kind)(20, 40), gg.tensor(rng.standard_normal((9, 37, 20)), dtype=gg.float32)
    before, results = module.num_threads(), []
    try:
        for threads in (1, 2, 5):
            module.set_num_threads(threads)
            layer.zero_grad()
            y = layer(x)[0]
            y.sum().backward()
            results.append([y.detach().numpy(), *[p.grad.numpy().copy() for p in layer.parameters()]])
    finally:
        module.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_repr_is_torchs():
    torch = pytest.importorskip("torch")
    for make in (
        lambda nn: nn.LSTM(3, 4),
        lambda nn: nn.GRU(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True),
        lambda nn: nn.LSTMCell(3, 4, bias=False),
    ):
        assert repr(make(nn)) == repr(make(torch.nn))


class PackedSequence:
    pass


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.LSTM(3, 4)(gg.ones(5, 2, 7)), ShapeError, "features of input: got (5, 2, 7); expected input.shape"),
        (lambda: nn.LSTM(3, 4)(gg.ones(5, 2, 2, 3)), ShapeError, "(steps, batch, features), or (steps, features)"),
        (lambda: nn.GRU(3, 4, batch_first=True)(gg.ones(3)), ShapeError, "(batch, steps, features)"),
        (lambda: nn.RNN(3, 4)(gg.ones(0, 2, 3)), ShapeError, "no steps"),
        (lambda: nn.RNN(3, 4)(gg.ones(5, 2, 3), gg.ones(2, 4)), ShapeError, "got (2, 4); expected (1, 2, 4)"),
        (lambda: nn.RNN(3, 4)(gg.ones(5, 3), gg.ones(1, 1, 4)), ShapeError, "got (1, 1, 4); expected (1, 4)"),
        (lambda: nn.LSTM(3, 4)(gg.ones(5, 2, 3), gg.ones(1, 2, 4)), DTypeError, "a pair (h_0, c_0)"),
        (lambda: nn.LSTM(3, 4)(gg.ones(5, 3), (gg.ones(1, 4), gg.ones(1, 5))), ShapeError, "shape of c_0"),
        (lambda: nn.LSTM(3, 4)(gg.ones(5, 3), (gg.ones(1, 4), 0)), DTypeError, "c_0: got int"),
        (lambda: nn.GRU(3, 4)(gg.ones(5, 3, dtype=gg.float64)), DTypeError, "input.to(gg.float32)"),
        (lambda: nn.GRU(3, 4)(gg.ones(5, 3), gg.ones(1, 4, dtype=gg.float64)), DTypeError, "dtype of hx"),
        (lambda: nn.GRU(3, 4)(gg.ones(5, 3, dtype=gg.int64)), DTypeError, "not floating"),
        (lambda: nn.GRU(3, 4)(PackedSequence()), DTypeError, "Pad the sequences"),
        (lambda: nn.LSTM(3, 4, proj_size=2), ArgumentError, "A Linear after the LSTM"),
        (lambda: nn.LSTM(3, 0), ArgumentError, "hidden_size"),
        (lambda: nn.LSTM(3, 4, num_layers=0), ArgumentError, "num_layers"),
        (lambda: nn.LSTM(3, 4, num_layers=2, dropout=1.5), ArgumentError, "dropout"),
        (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), ArgumentError, "'tanh', 'relu'"),
        (lambda: nn.GRUCell(3, 4)(gg.ones(2, 5)), ShapeError, "features of input"),
        (lambda: nn.GRUCell(3, 4)(gg.ones(2, 3), gg.ones(3, 4)), ShapeError, "got (3, 4); expected (2, 4)"),
        (lambda: nn.RNNCell(3, 4)(gg.ones(2, 2, 3)), ShapeError, "(batch, features) or (features,)"),
    ],
)
def test_mistakes_say_so(call, error, text):
    with warnings.catch_warnings(), pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
