"""Movement ops: how broadcasting is undone."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..op import Op, Sample, apply


def _sum_to_size(x, *, size):
    extra = x.ndim - len(size)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(size) if n == 1 and x.shape[i + extra] != 1)
    return x.sum(axis=axes).reshape(size)


def _sum_to_size_samples(rng):
    yield Sample((rng.standard_normal((4, 3, 5)),), {"size": (3, 1)})
    yield Sample((rng.standard_normal((0, 3)),), {"size": (3,)})


_sum_to_size_op = Op(
    "sum_to_size",
    _sum_to_size,
    vjps=(lambda dy, shapes: expand(dy, *shapes[0]),),
    samples=_sum_to_size_samples,
    doc="sum_to_size: sum over the axes that broadcasting would repeat; derivative: repeat.",
)
_expand_op = Op(
    "expand",
    lambda x, *, size: np.broadcast_to(x, size),
    vjps=(lambda dy, shapes: sum_to_size(dy, *shapes[0]),),
    samples=lambda rng: iter([Sample((rng.standard_normal((3, 1)),), {"size": (2, 3, 4)})]),
    is_view=True,
    doc="expand: repeat axes of size 1 without copying; derivative: sum over them.",
)


def _size(size):
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else tuple(size)


def sum_to_size(input, *size):
    """Sum ``input`` to ``size``, a shape that broadcasts to the input's."""
    size = _size(size)
    if not _broadcasts(size, input.shape):
        raise ShapeError(f"sum_to_size: got {input.shape}; expected a shape that {size} broadcasts to.")
    return apply(_sum_to_size_op, input, size=size)


def expand(input, *size):
    """Repeat axes of size 1, without copying; -1 keeps an axis."""
    size = _size(size)
    extra = len(size) - input.ndim
    size = tuple(input.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(size))
    if not _broadcasts(input.shape, size):
        raise ShapeError(f"expand: got {input.shape}; expected a shape that broadcasts to {size}.")
    return apply(_expand_op, input, size=size)


def _broadcasts(small, large):
    return len(small) <= len(large) and all(
        s in (1, n) for s, n in zip(reversed(small), reversed(large), strict=False)
    )


METHODS = (sum_to_size, expand)
__all__ = ["expand", "sum_to_size"]
