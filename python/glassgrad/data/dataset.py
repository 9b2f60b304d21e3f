"""Datasets: anything with a length and an index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..creation import randperm
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, message
from ..tensor import Tensor


class Dataset:
    """Base class. A subclass gives ``__len__`` and ``__getitem__(index)``, which returns one sample."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: got no __getitem__; expected the class to define it.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}: got no __len__; expected the class to define it.")


class TensorDataset(Dataset):
    """Samples are the rows of several tensors of one length.

    >>> import glassgrad as gg
    >>> data = gg.data.TensorDataset(gg.arange(4), gg.arange(4) * 10)
    >>> data[3]
    (tensor(3), tensor(30))
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ArgumentError(message("TensorDataset", "tensors", "none", "at least one"))
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise DTypeError(
                    message("TensorDataset", f"tensors[{i}]", type(t).__name__, "a Tensor", "Use gg.tensor(...).")
                )
            if not t.ndim or t.shape[0] != tensors[0].shape[0]:
                shapes = ", ".join(str(t.shape) for t in tensors)
                raise ShapeError(
                    message("TensorDataset", "tensors", f"shapes {shapes}", "one size of the first dimension")
                )
        self.tensors: tuple[Any, ...] = tensors

    def __getitem__(self, index) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset):
    """The samples of ``dataset`` at ``indices``."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index) -> Any:
        if isinstance(index, (list, slice)):
            chosen = self.indices[index] if isinstance(index, slice) else [self.indices[i] for i in index]
            return Subset(self.dataset, chosen)
        if not -len(self) <= index < len(self):
            raise AxisError(message("Subset", "index out of range", index, f"an index of {len(self)} samples"))
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Dataset, lengths: Sequence[int | float], generator=None) -> list[Subset]:
    """Split a dataset at random into parts of the given lengths.

    Args:
        lengths: integers that add up to the dataset's length, or fractions that add up to 1; what rounding leaves
            goes to the first parts, one each.

    >>> import glassgrad as gg
    >>> data = gg.data.TensorDataset(gg.arange(10))
    >>> [len(part) for part in gg.data.random_split(data, [0.75, 0.25])]
    [8, 2]
    """
    total = len(dataset)
    if any(n < 0 for n in lengths):
        raise ArgumentError(message("random_split", "lengths", list(lengths), "numbers >= 0"))
    if any(isinstance(n, (float, np.floating)) for n in lengths):
        if not math.isclose(sum(lengths), 1):
            expected = f"integers that add up to {total}, or fractions that add up to 1"
            raise ArgumentError(message("random_split", "lengths", list(lengths), expected))
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(n) for n in lengths]
        if sum(sizes) != total:
            raise ArgumentError(
                message("random_split", "lengths", f"{sizes}, a sum of {sum(sizes)}", f"a sum of {total}")
            )
    order = randperm(total, generator=generator).data
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[end - size : end].tolist()) for size, end in zip(sizes, ends, strict=True)]


__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]
