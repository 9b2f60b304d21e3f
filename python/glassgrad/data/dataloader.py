"""DataLoader: batches of a dataset, in order or shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import creation
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor, wrap
from .dataset import Dataset, Subset, TensorDataset


class SequentialSampler:
    """The indices 0, 1, ... of a dataset."""

    def __init__(self, data_source) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler:
    """The indices of a dataset in a new random order each time; with ``replacement``, drawn independently.

    Args:
        num_samples: how many; default the dataset's length.
    """

    def __init__(self, data_source, replacement: bool = False, num_samples: int | None = None, generator=None) -> None:
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self.num_samples = len(data_source) if num_samples is None else num_samples
        if self.num_samples < 0 or (not replacement and self.num_samples > len(data_source)):
            expected = f"0 to {len(data_source)} without replacement"
            raise ArgumentError(message("RandomSampler", "num_samples", num_samples, expected))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def order(self) -> np.ndarray:
        n = len(self.data_source)
        if self.replacement and self.num_samples:
            return creation.randint(0, n, (self.num_samples,), generator=self.generator).data
        return creation.randperm(n, generator=self.generator).data[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


def default_collate(batch: Sequence) -> Any:
    """A batch from samples.

    Tensors, arrays and numbers are stacked along a new first dimension; tuples, lists and dicts are collated element by
    element; strings stay a list.

    >>> import glassgrad as gg
    >>> gg.data.default_collate([(gg.tensor(1.0), 2), (gg.tensor(3.0), 4)])
    [tensor([1., 3.]), tensor([2, 4])]
    """
    first = batch[0]
    if isinstance(first, (Tensor, np.ndarray)):
        arrays = [sample.data if isinstance(sample, Tensor) else sample for sample in batch]
        if any(a.shape != arrays[0].shape for a in arrays):
            shapes = ", ".join(dict.fromkeys(str(a.shape) for a in arrays))
            raise ShapeError(
                message("default_collate", "samples", f"shapes {shapes}", "one shape", "Pass a collate_fn that pads.")
            )
        return creation.from_numpy(np.stack(arrays))
    if isinstance(first, (bool, int, float, np.generic)):
        return creation.tensor(np.array(batch) if isinstance(first, np.generic) else list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            lengths = sorted({len(sample) for sample in batch})
            raise ShapeError(message("default_collate", "samples", f"lengths {lengths}", "one length"))
        parts = [default_collate(part) for part in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    expected = "tensors, arrays, numbers, strings, or tuples, lists and dicts of them"
    raise DTypeError(message("default_collate", "sample", type(first).__name__, expected, "Pass a collate_fn."))


class DataLoader:
    """Iterates over a dataset in batches; each pass is a new one.

    A TensorDataset, or a Subset of one, is indexed once per tensor and batch; others are asked sample by sample.

    Args:
        dataset: anything with ``__len__`` and ``__getitem__``.
        batch_size: samples per batch; None gives single samples.
        shuffle: a new random order each pass.
        sampler: gives the indices itself, in place of ``shuffle``.
        collate_fn: makes a batch of a list of samples; default ``default_collate``.
        drop_last: leave out a last batch that is not full.
        generator: of the random order.

    >>> import glassgrad as gg
    >>> loader = gg.data.DataLoader(gg.data.TensorDataset(gg.arange(5)), batch_size=2)
    >>> [x.tolist() for (x,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        *,
        collate_fn: Callable[[list], Any] | None = None,
        drop_last: bool = False,
        generator=None,
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            hint = "Use gg.data.TensorDataset(x, y) for tensors."
            raise DTypeError(message("DataLoader", "dataset", type(dataset).__name__, "__len__ and __getitem__", hint))
        if batch_size is not None:
            if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
                raise DTypeError(message("DataLoader", "batch_size", repr(batch_size), "an integer, or None"))
            if batch_size < 1:
                raise ArgumentError(message("DataLoader", "batch_size", batch_size, "an integer >= 1"))
        elif drop_last:
            raise ArgumentError(message("DataLoader", "drop_last", True, "False with batch_size=None"))
        if sampler is not None and shuffle:
            raise ArgumentError(message("DataLoader", "shuffle", True, "False with a sampler, which gives the order"))
        self.dataset, self.batch_size, self.drop_last, self.generator = dataset, batch_size, drop_last, generator
        self.collate_fn = collate_fn or (default_collate if batch_size is not None else _as_it_is)
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self.batch_size is None:
            return (self.collate_fn(self.dataset[i]) for i in self.sampler)
        found = _rows(self.dataset) if self.collate_fn is default_collate else None
        return self._batches_of_samples() if found is None else self._batches_of_rows(*found)

    def _batches_of_samples(self):
        samples: list = []
        for i in self.sampler:
            samples.append(self.dataset[i])
            if len(samples) == self.batch_size:
                yield self.collate_fn(samples)
                samples = []
        if samples and not self.drop_last:
            yield self.collate_fn(samples)

    def _batches_of_rows(self, arrays, rows):
        step = self.batch_size
        if type(self.sampler) is SequentialSampler and rows is None:
            n = len(self.sampler)
            for start in range(0, n - n % step if self.drop_last else n, step):
                # A copy: changing a batch must not change the data.
                yield [wrap(a[start : start + step].copy()) for a in arrays]
            return
        order = self.sampler.order() if type(self.sampler) is RandomSampler else np.fromiter(self.sampler, np.int64)
        if rows is not None:
            order = rows[order]
        n = len(order)
        for start in range(0, n - n % step if self.drop_last else n, step):
            indices = order[start : start + step]
            # take is twice as fast as a[indices], but would copy the whole of a strided array first.
            yield [wrap(a.take(indices, 0) if a.flags.c_contiguous else a[indices]) for a in arrays]


def _as_it_is(sample):
    return sample


def _rows(dataset) -> tuple[list[np.ndarray], np.ndarray | None] | None:
    """The arrays behind a TensorDataset and the rows a Subset chose of them (None: all); None for other datasets."""
    if type(dataset) is TensorDataset:
        return [t.data for t in dataset.tensors], None
    if type(dataset) is Subset:
        found = _rows(dataset.dataset)
        if found is not None:
            arrays, rows = found
            chosen = np.asarray(dataset.indices, dtype=np.int64)
            return arrays, chosen if rows is None else rows[chosen]
    return None


__all__ = ["DataLoader", "RandomSampler", "SequentialSampler", "default_collate"]
