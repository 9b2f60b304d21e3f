"""Indexing: every form against PyTorch, writing inside and outside graphs, bounds, sorting."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import ArgumentError, AxisError, DTypeError, GraphError, ShapeError
from oracle import agree, both_refuse

X = np.arange(24.0).reshape(2, 3, 4)


def index_of(lib, index):
    """Arrays of an index as tensors of ``lib``."""
    if isinstance(index, tuple):
        return tuple(index_of(lib, i) for i in index)
    return lib.tensor(index) if isinstance(index, np.ndarray) else index


A = np.array
MASK = X % 3 == 0
INDICES = [
    0, -1, (1, 2, 3), (0, ..., 1), slice(None), (slice(None), slice(1, 3)), (..., slice(0, 4, 3)), None, (None, 1, None), ...,
    (slice(1, 1),), (slice(-2, None), slice(None, -1)), (), np.int64(1), A(1), (A(0), A(2)),
    [0, 1, 1], A([1, 0, 1, -1]), A([[0, 1], [1, 0]]), (A([0, 1]), A([2, 0])), (slice(None), A([2, 0, 2])), (..., A([3, 3])),
    (A([0, 1]), slice(None), A([3, 0])), (slice(None), A([0, 2]), A([3, 0])), (A([[0], [1]]), A([2, 0])), (0, A([1, 1])),
    (0, slice(None), A([1, 2])), (A([0, 1]), 1), (A([0, 1]), None, A([0, 2])), (None, A([1, 0])), (slice(1), [0, 2], None),
    (slice(None), A([0, 2]), slice(1, 3)), (A([0, 1, 1]), ..., A([1, 2, 3])), ([0, 1], [1, 2], [3, 0]),
    MASK, A([True, False]), (slice(None), A([True, False, True])), (A([1, 0]), A([True, False, True])), MASK[:, :, 0], [True, False],
    (0, MASK[0]), True, False, (slice(None), True), A([], np.int64), [], (A([], np.int64), 1),
    np.array([1, 0], np.int32), A([False, False]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_reading(index):
    agree(lambda lib, t: t[index_of(lib, index)], X)


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_the_second_derivative_of_reading(index):
    x = gg.tensor(X, requires_grad=True)
    assert gg.gradgradcheck(lambda t: t[index_of(gg, index)] ** 2, x, fast_mode=True)


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_writing(index):
    def write(lib, t, v):
        y = t * 1
        y[index_of(lib, index)] = v
        return y

    agree(write, X, A(-1.0))
    read = gg.arange(24).reshape(2, 3, 4)[index_of(gg, index)].numpy()
    if len(np.unique(read)) == read.size:  # which of several values stays is not defined
        agree(write, X, read + 100.0)


def test_steps_may_be_negative():
    x = gg.tensor(X, requires_grad=True)
    y = x[:, ::-1, 3:0:-2]
    assert y.tolist() == X[:, ::-1, 3:0:-2].tolist()
    assert gg.gradcheck(lambda t: t[:, ::-1, 3:0:-2], x)


def test_basic_indexing_is_a_view_and_arrays_copy():
    x = gg.tensor(X)
    x[0][1][2] = -5.0
    assert x[0, 1, 2].item() == -5.0
    x[[0]].fill_(9.0)
    assert x[0, 1, 2].item() == -5.0


def test_a_later_change_of_the_index_does_not_reach_backward():
    x, i = gg.ones(3, requires_grad=True), gg.tensor([0, 0])
    y = x[i]
    i[0] = 2
    y.sum().backward()
    assert x.grad.tolist() == [2, 0, 0]


def test_writing_in_a_graph_takes_the_old_gradient_away():
    x, v = gg.ones(4, requires_grad=True), gg.ones(2, requires_grad=True)
    y = x * 3
    y[1:3] = v * 5
    (y * gg.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [3, 0, 0, 3000]
    assert v.grad.tolist() == [50, 500]


def test_a_value_that_broadcasts_gets_the_sum():
    y, v = gg.zeros(2, 3), gg.ones(1, 1, 3, requires_grad=True)
    y[:] = v
    y.sum().backward()
    assert v.grad.tolist() == [[[2, 2, 2]]]


def test_writing_into_a_view_reaches_the_base_and_back():
    def write(lib, t, v):
        y = t * 1
        part = y[1]
        part[0, 1:3] = v
        y[0][2] = part[1]
        return y * y, part

    agree(write, X, A([5.0, 6.0]))


def test_adding_to_a_part():
    def add(lib, t):
        y = t * 2
        y[0] += t[1]
        y[:, 1] *= 3.0
        return y

    agree(add, X)


def test_second_derivative_through_writing():
    def write(t, v):
        y = t * t
        y[:, [0, 2]] = v * v
        y[0, 1] = t[1, 1] * v[0, 0]
        return y

    x, v = gg.tensor(X[0], requires_grad=True), gg.tensor(X[1, :, :2], requires_grad=True)
    assert gg.gradgradcheck(write, (x, v), fast_mode=True)


def test_writing_to_a_leaf():
    x = gg.ones(3, requires_grad=True)
    with pytest.raises(GraphError, match=r"setitem: got a leaf that requires grad.*no_grad"):
        x[0] = 2.0
    with gg.no_grad():
        x[0] = 2.0
    assert x.tolist() == [2, 1, 1]
    assert x.is_leaf


def test_a_change_of_what_backward_needs_is_noticed():
    x = gg.ones(3, requires_grad=True) * 2
    y = x * x
    with gg.no_grad():
        x[0] = 5.0
    with pytest.raises(GraphError, match="modified in place"):
        y.sum().backward()


def test_a_view_made_before_its_base_joined_a_graph_knows():
    base, w = gg.zeros(4), gg.ones(2, requires_grad=True)
    view = base[1:3]
    base[:2] = w * 3
    view[0] = 7.0  # overwrites base[1]
    base.sum().backward()
    assert w.grad.tolist() == [3, 0]


def test_values_are_converted_and_overlap_is_safe():
    x = gg.zeros(3, dtype=gg.int64)
    x[0], x[1] = 1.75, gg.tensor(2.5)
    assert x.tolist() == [1, 2, 0]
    y = gg.arange(5)
    y[1:] = y[:-1]
    assert y.tolist() == [0, 0, 1, 2, 3]
    y[gg.tensor([True, False, True, False, False])] = [8, 9]
    assert y.tolist() == [8, 0, 9, 2, 3]


def test_fill_zero_and_copy():
    x = gg.ones(2, 3)
    assert x.fill_(2.0) is x
    assert x.copy_(gg.tensor([1, 2, 3])).tolist() == [[1, 2, 3]] * 2
    assert x.zero_().tolist() == [[0, 0, 0]] * 2
    with pytest.raises(ShapeError, match="fill_: value"):
        x.fill_(gg.ones(3))


def test_indexing_refusals_say_what_is_wrong():
    x = gg.tensor(X)
    for index, error, words in (
        (5, AxisError, r"index out of range: got index 5; expected -2 <= index < 2 along dim 0 of \(2, 3, 4\)"),
        ((..., -5), AxisError, "along dim 2"),
        ((0, 0, 0, 0), AxisError, r"too many indices: got 4 for shape \(2, 3, 4\); expected at most 3"),
        ((..., 0, ...), AxisError, "2 times ...; expected one at most"),
        (([0, 1], 0, 0, 0), AxisError, "too many indices"),
        (gg.tensor([0, 2]), AxisError, r"got index 2 at \(1,\); expected -2 <= index < 2 along dim 0"),
        ((slice(None), [3]), AxisError, "along dim 1"),
        (gg.tensor([True, False, True]), AxisError, r"mask at dim 0: got \(3,\); expected \(2,\)"),
        (gg.tensor([0.0]), DTypeError, "got float32; expected ints"),
        (gg.tensor([0], dtype=gg.uint8), DTypeError, "got uint8"),
        (1.0, DTypeError, "got float64"),
        ("a", DTypeError, "getitem: index"),
        (slice(None, None, 0), ArgumentError, "slice step: got 0"),
        (slice(0, 1.5), DTypeError, "integers or None as its bounds"),
        (([0, 1], [0, 1, 2]), ShapeError, "shapes that broadcast"),
        ([[0], [0, 1]], ShapeError, "rectangular"),
    ):
        with pytest.raises(error, match=words):
            x[index]
        with pytest.raises(error, match=words.replace("getitem", "setitem")):
            x[index] = 0.0
    with pytest.raises(
        ShapeError, match=r"setitem: value does not fit: got \(2,\); expected a shape that broadcasts to \(3, 4\)"
    ):
        x[0] = gg.ones(2)
    with pytest.raises(ShapeError, match="value does not fit"):
        x[[0, 1]] = gg.ones(5)
    both_refuse(lambda lib, t: t[2], X)
    both_refuse(lambda lib, t: t[lib.tensor([True])], X)


GATHER = np.array([[[0, 2, 1, 1]], [[1, 1, 2, 0]]])


def test_gather_and_scatter():
    for call in (
        lambda lib, t, i: t.gather(1, i),
        lambda lib, t, i: lib.gather(t, -2, i[:1, :, :2]),
        lambda lib, t, i: lib.take_along_dim(t, i, 1),
        lambda lib, t, i: lib.take_along_dim(t, i[:, :, :1], dim=1),
        lambda lib, t, i: lib.take_along_dim(t, i),
        lambda lib, t, i: t.scatter(1, i, t[:, :1] * 2),
        lambda lib, t, i: lib.scatter(t, 1, i, 5.0),
        lambda lib, t, i: t.scatter(1, i, value=-1.0),
        lambda lib, t, i: t.scatter_add(1, i, t[:, :1] ** 2),
        lambda lib, t, i: (t * 1).scatter_add_(1, i, t[:, 1:2]),
        lambda lib, t, i: t.index_select(2, i[0, 0]),
        lambda lib, t, i: lib.index_select(t, 0, lib.tensor([1, 1, 0])),
        lambda lib, t, i: t.index_add(1, i[0, 0], t[:, [0, 1, 1, 2]], alpha=3),
        lambda lib, t, i: (t * 1).index_add_(0, lib.tensor([1, 1]), t),
        lambda lib, t, i: t.masked_select(t > 5),
        lambda lib, t, i: lib.masked_select(t, lib.tensor([True, False, True, True])),
        lambda lib, t, i: t[0, 0].masked_select(lib.tensor([[True], [False], [True]])),
    ):
        agree(call, X, GATHER)


def test_scatter_takes_the_part_of_src_that_index_covers():
    x, src = gg.tensor(X, requires_grad=True), gg.tensor(X + 100, requires_grad=True)
    i = gg.tensor(GATHER[:1, :, :3])
    assert x.scatter(1, i, src)[0, 0].tolist() == [100, 1, 2, 3]
    assert gg.gradgradcheck(lambda t, s: t.scatter(1, i, s) ** 2, (x, src), fast_mode=True)


def test_gather_on_0d_tensors():
    zero = np.array(0)
    for call in (
        lambda lib, t, i: t.gather(0, i),
        lambda lib, t, i: t.index_select(0, i),
        lambda lib, t, i: t.scatter(0, i, 2.0),
        lambda lib, t, i: t.scatter_add(0, i, t),
    ):
        agree(call, np.array(3.0), zero)


def test_int32_indices_are_taken():
    agree(lambda lib, t, i: (t.gather(1, i), t.index_select(0, i[0, 0, :1])), X, np.minimum(GATHER, 1).astype(np.int32))


def test_gather_refusals():
    x = gg.tensor(X[0])
    with pytest.raises(
        AxisError, match=r"gather: index out of range: got index -1 at \(0, 1\); expected 0 <= index < 3 along dim 0"
    ):
        x.gather(0, gg.tensor([[0, -1]]))
    with pytest.raises(ShapeError, match="gather: index: got 1 dims"):
        x.gather(0, gg.tensor([0]))
    with pytest.raises(ShapeError, match="dim 1 is too large"):
        x.gather(0, gg.zeros(1, 5, dtype=gg.int64))
    with pytest.raises(DTypeError, match="index dtype: got float32"):
        x.gather(0, gg.zeros(1, 4))
    with pytest.raises(ShapeError, match="scatter_add: src"):
        x.scatter_add(0, gg.zeros(2, 4, dtype=gg.int64), gg.ones(1, 4, dtype=gg.float64))
    with pytest.raises(DTypeError, match="dtype of src"):
        x.scatter_add(0, gg.zeros(1, 4, dtype=gg.int64), gg.ones(1, 4))
    with pytest.raises(ShapeError, match=r"index_add: source: got \(1, 4\); expected \(2, 4\)"):
        x.index_add(0, gg.tensor([0, 1]), gg.ones(1, 4, dtype=gg.float64))
    both_refuse(lambda lib, t: t.index_select(0, lib.tensor([3])), X)
    both_refuse(lambda lib, t: t.masked_select(lib.tensor([1, 0, 1, 0])), X)


def test_integers_add_up_exactly():
    big = 2**53 + 1
    x = gg.zeros(2, dtype=gg.int64).scatter_add(0, gg.tensor([0, 0, 1]), gg.tensor([big, 1, big]))
    assert x.tolist() == [big + 1, big]


def test_embedding():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def embed(lib, i, w, **kw):
        return gg.embedding(i, w, **kw) if lib is gg else functional.embedding(i, w, **kw)

    i, w = np.array([[1, 0, 1], [3, 3, 1]]), np.arange(20.0).reshape(4, 5)
    agree(lambda lib, i, w: embed(lib, i, w), i, w)
    agree(lambda lib, i, w: embed(lib, i, w, padding_idx=1), i, w)
    agree(lambda lib, i, w: embed(lib, i, w, padding_idx=-1), i, w)
    agree(lambda lib, i, w: embed(lib, i[0, 0], w), i, w)
    weight = gg.tensor(w, requires_grad=True)
    assert gg.gradgradcheck(lambda t: gg.embedding(gg.tensor(i), t) ** 2, weight)
    with pytest.raises(
        AxisError, match=r"embedding: index out of range: got index 4 at \(1,\); expected 0 <= index < 4"
    ):
        gg.embedding(gg.tensor([0, 4]), weight)
    with pytest.raises(DTypeError, match="int64 or int32"):
        gg.embedding(gg.ones(2), weight)


def test_one_hot():
    assert gg.one_hot(gg.tensor([[2, 0]]), 3).tolist() == [[[0, 0, 1], [1, 0, 0]]]
    assert gg.one_hot(gg.tensor(1)).tolist() == [0, 1]
    with pytest.raises(AxisError, match="index 3"):
        gg.one_hot(gg.tensor([3]), 3)
    with pytest.raises(ArgumentError, match="no class to count"):
        gg.one_hot(gg.zeros(0, dtype=gg.int64))


SORTABLE = np.array([[3.0, -1.0, 2.0, 0.5], [np.inf, 5.0, -np.inf, 4.0]])


def test_sorting():
    for call in (
        lambda lib, t: t.sort(),
        lambda lib, t: lib.sort(t, 0, descending=True),
        lambda lib, t: t.argsort(-1, True),
        lambda lib, t: t.topk(2),
        lambda lib, t: lib.topk(t, 1, dim=0, largest=False),
        lambda lib, t: t.topk(4, 1),
        lambda lib, t: t.topk(0),
    ):
        agree(call, SORTABLE)
    agree(lambda lib, t: t.topk(1), np.array(3.0))
    both_refuse(lambda lib, t: t.topk(5), SORTABLE)


def test_sorting_keeps_equal_elements_in_order_and_nan_is_the_largest():
    x = np.array([2.0, np.nan, 1.0, 2.0, np.nan, 1.0, -0.0, 0.0])
    for descending in (False, True):
        agree(lambda lib, t, d=descending: lib.sort(t, descending=d, stable=True), x, gradients=False)
        agree(lambda lib, t, d=descending: t.topk(3, largest=d)[0], x, gradients=False)
    agree(lambda lib, t: lib.sort(t, descending=True, stable=True), np.array([0, 255, 0, 7], np.uint8))
    agree(lambda lib, t: lib.sort(t, descending=True, stable=True), np.array([True, False, True]))


def test_unique_nonzero_and_counting():
    x = np.array([[3, 1, 0], [1, 0, 3]])
    for call in (
        lambda lib, t: lib.unique(t),
        lambda lib, t: t.unique(return_inverse=True, return_counts=True),
        lambda lib, t: lib.unique(t, return_counts=True, dim=1),
        lambda lib, t: t.nonzero(),
        lambda lib, t: lib.nonzero(t, as_tuple=True),
        lambda lib, t: lib.where(t > 1),
        lambda lib, t: lib.where(t > 1, t, -t),
        lambda lib, t: t.where(t > 1, lib.zeros_like(t)),
        lambda lib, t: lib.bincount(t.reshape(-1), minlength=6),
        lambda lib, t: t.reshape(-1).bincount(t.reshape(-1).double()),
        lambda lib, t: lib.searchsorted(lib.tensor([0, 1, 1, 2]), t),
        lambda lib, t: lib.searchsorted(lib.tensor([0, 1, 1, 2]), t, right=True),
    ):
        agree(call, x)
    for zero in (np.array(0), np.array(4)):
        agree(lambda lib, t: (t.nonzero(), *t.nonzero(as_tuple=True)), zero)
