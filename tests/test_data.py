"""Datasets, batches and metrics."""

from collections import namedtuple

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import data, metrics
from glassgrad.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from glassgrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from glassgrad.random import Generator


def rows(n=10):
    return TensorDataset(gg.arange(n * 2).reshape(n, 2).to(gg.float32), gg.arange(n))


class Squares(Dataset):
    """A dataset that only knows single samples."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return index, index * index


def seen(loader):
    return [y for batch in loader for y in batch[-1].tolist()]


# ---------------------------------------------------------------------------------------------------------- datasets


def test_tensor_dataset():
    dataset = rows()
    x, y = dataset[3]
    assert (x.tolist(), y.item(), len(dataset)) == ([6.0, 7.0], 3, 10)
    assert [t.shape for t in dataset[2:5]] == [(3, 2), (3,)]


def test_subset_of_a_subset():
    subset = Subset(Subset(rows(), [1, 3, 5, 7]), [3, 0])
    assert [subset[i][1].item() for i in range(2)] == [7, 1]
    assert subset[-1][1].item() == 1
    with pytest.raises(AxisError, match="index of 2 samples"):
        subset[2]


@pytest.mark.parametrize(
    ("lengths", "sizes"), [([7, 3], [7, 3]), ([0.75, 0.25], [8, 2]), ([1 / 3] * 3, [4, 3, 3]), ([10, 0], [10, 0])]
)
def test_random_split_keeps_every_sample_once(lengths, sizes):
    parts = random_split(rows(), lengths, Generator().manual_seed(1))
    assert [len(p) for p in parts] == sizes
    assert sorted(part[i][1].item() for part in parts for i in range(len(part))) == list(range(10))
    again = random_split(rows(), lengths, Generator().manual_seed(1))
    assert [p.indices for p in parts] == [p.indices for p in again]


# ------------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11])
@pytest.mark.parametrize(
    "dataset", [rows(), Subset(rows(20), range(0, 20, 2)), list(range(10))], ids=["rows", "subset", "list"]
)
def test_batches_cover_the_data_in_order(dataset, batch_size, drop_last):
    loader = DataLoader(dataset, batch_size, drop_last=drop_last)
    batches = list(loader)
    whole = 10 - 10 % batch_size if drop_last else 10
    assert len(batches) == len(loader) == -(-whole // batch_size)
    if isinstance(dataset, list):
        assert [x for batch in batches for x in batch.tolist()] == dataset[:whole]
    else:
        assert seen(batches) == [dataset[i][1].item() for i in range(whole)]
        assert all(x.shape == (y.shape[0], 2) for x, y in batches)


@pytest.mark.parametrize(
    "dataset", [rows(), Squares(), Subset(rows(20), list(range(10)))], ids=["rows", "samples", "subset"]
)
def test_shuffling_is_a_new_permutation_each_pass_and_repeats_with_the_seed(dataset):
    loader = DataLoader(dataset, 4, shuffle=True, generator=Generator().manual_seed(5))
    first, second = seen(loader), seen(loader)
    assert sorted(first) == sorted(second) == sorted(dataset[i][1] for i in range(len(dataset)))
    assert first != second
    loader.generator.manual_seed(5)
    assert seen(loader) == first


def test_both_ways_of_making_batches_agree():
    dataset = rows(23)
    fast = DataLoader(dataset, 4, shuffle=True, generator=Generator().manual_seed(2))
    slow = DataLoader(
        dataset, 4, shuffle=True, generator=Generator().manual_seed(2), collate_fn=lambda b: default_collate(b)
    )
    for a, b in zip(fast, slow, strict=True):
        assert type(a) is type(b) is list
        for u, v in zip(a, b, strict=True):
            assert u.dtype == v.dtype
            np.testing.assert_array_equal(u.data, v.data)


@pytest.mark.parametrize("shuffle", [False, True])
def test_changing_a_batch_leaves_the_data_alone(shuffle):
    dataset = rows(4)
    before = dataset.tensors[0].data.copy()
    for x, _ in DataLoader(dataset, 4, shuffle=shuffle):
        x.add_(100.0)
    np.testing.assert_array_equal(dataset.tensors[0].data, before)


def test_sampler_gives_the_order():
    assert seen(DataLoader(rows(), 2, sampler=[5, 5, 1])) == [5, 5, 1]
    sampler = data.RandomSampler(rows(), replacement=True, num_samples=50)
    loader = DataLoader(rows(), 8, sampler=sampler)
    assert len(loader) == 7 and len(seen(loader)) == 50


def test_without_batches():
    assert list(DataLoader(Squares(), batch_size=None))[2] == (2, 4)


def test_an_empty_dataset_has_no_batches():
    empty = TensorDataset(gg.zeros(0, 2))
    assert list(DataLoader(empty, 3)) == list(DataLoader(empty, 3, shuffle=True)) == []


def test_collate():
    Point = namedtuple("Point", "x y")
    batch = default_collate(
        [
            {"p": Point(1.0, np.float64(2)), "s": "a", "ok": True},
            {"p": Point(3.0, np.float64(4)), "s": "b", "ok": False},
        ]
    )
    assert isinstance(batch["p"], Point)
    assert (batch["p"].x.dtype, batch["p"].y.dtype, batch["ok"].dtype) == (gg.float32, gg.float64, gg.bool)
    assert batch["s"] == ["a", "b"]
    with pytest.raises(ShapeError, match="collate_fn"):
        default_collate([gg.ones(2), gg.ones(3)])
    with pytest.raises(DTypeError, match="got object"):
        default_collate([object()])


def test_batches_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    x = np.arange(22).reshape(11, 2)
    ours = DataLoader(TensorDataset(gg.tensor(x)), 4, drop_last=True)
    theirs = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x)), 4, drop_last=True)
    assert len(ours) == len(theirs)
    for (a,), (b,) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.data, b.numpy())
    assert [len(p) for p in random_split(range(11), [0.3, 0.3, 0.4])] == [
        len(p) for p in torch.utils.data.random_split(range(11), [0.3, 0.3, 0.4])
    ]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: TensorDataset(), ArgumentError, "at least one"),
        (lambda: TensorDataset(gg.ones(3), gg.ones(4)), ShapeError, "first dimension"),
        (lambda: TensorDataset(np.ones(3)), DTypeError, "gg.tensor"),
        (lambda: TensorDataset(gg.tensor(1.0)), ShapeError, "first dimension"),
        (lambda: random_split(rows(), [5, 6]), ArgumentError, "sum of 10"),
        (lambda: random_split(rows(), [0.5, 0.6]), ArgumentError, "add up to 1"),
        (lambda: random_split(rows(), [11, -1]), ArgumentError, ">= 0"),
        (lambda: DataLoader(rows(), 0), ArgumentError, "batch_size: got 0"),
        (lambda: DataLoader(rows(), 2.5), DTypeError, "batch_size: got 2.5"),
        (lambda: DataLoader(rows(), shuffle=True, sampler=[1]), ArgumentError, "sampler"),
        (lambda: DataLoader(rows(), None, drop_last=True), ArgumentError, "drop_last"),
        (lambda: DataLoader(iter([1, 2])), DTypeError, "TensorDataset"),
        (lambda: data.RandomSampler(rows(), num_samples=11), ArgumentError, "num_samples"),
        (lambda: Dataset()[0], NotImplementedError, "__getitem__"),
    ],
)
def test_nonsense_says_so(make, error, match):
    with pytest.raises(error, match=match):
        make()


# ------------------------------------------------------------------------------------------------------------ metrics


def test_accuracy():
    scores = gg.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]])
    assert metrics.accuracy(scores, gg.tensor([1, 1, 2, 1])) == 0.5
    assert metrics.accuracy(scores, gg.tensor([1, 1, 2, 1]), top_k=2) == 1.0
    assert metrics.accuracy(gg.tensor([1, 2]), gg.tensor([1, 1])) == 0.5
    assert metrics.accuracy(gg.tensor([[float("nan"), 1.0]]), gg.tensor([1])) == 0.0


def test_confusion_matrix():
    counts = metrics.confusion_matrix(gg.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), gg.tensor([0, 0, 1]), 2)
    assert counts.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: metrics.accuracy(gg.ones(2, 3), gg.tensor([0, 1, 2])), ShapeError, "classes"),
        (lambda: metrics.accuracy(gg.ones(2, 3), gg.tensor([0, 3])), ArgumentError, "0 to 2"),
        (lambda: metrics.accuracy(gg.ones(2, 3), gg.ones(2)), DTypeError, "integer class"),
        (lambda: metrics.accuracy(gg.ones(2), gg.tensor([0, 1])), DTypeError, "scores"),
        (lambda: metrics.accuracy(gg.ones(0, 3), gg.zeros(0, dtype=gg.int64)), ShapeError, "at least one sample"),
        (lambda: metrics.accuracy(gg.ones(1, 3), gg.tensor([0]), top_k=4), ArgumentError, "top_k"),
        (lambda: metrics.confusion_matrix(gg.tensor([2]), gg.tensor([0]), 2), ArgumentError, "0 to 1"),
    ],
)
def test_metrics_nonsense_says_so(make, error, match):
    with pytest.raises(error, match=match):
        make()
