"""Layers that only change the shape."""

from __future__ import annotations

from ..errors import ArgumentError, DTypeError, ShapeError, check_dim, message
from ..tensor import Tensor
from ._arguments import integer
from .module import Module


class Flatten(Module):
    """Dimensions ``start_dim`` to ``end_dim``, both included, as one.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Flatten()(gg.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension ``dim`` as several, of sizes ``unflattened_size`` (one of them may be -1).

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Unflatten(1, (3, 4))(gg.ones(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size) -> None:
        super().__init__()
        if not isinstance(unflattened_size, (tuple, list)):
            raise DTypeError(message("Unflatten", "unflattened_size", repr(unflattened_size), "a tuple of sizes"))
        self.dim = integer("Unflatten", "dim", dim, -64)
        self.unflattened_size = tuple(integer("Unflatten", "unflattened_size", s, -1) for s in unflattened_size)
        if self.unflattened_size.count(-1) > 1:
            raise ArgumentError(message("Unflatten", "unflattened_size", self.unflattened_size, "at most one -1"))

    def forward(self, input: Tensor) -> Tensor:
        dim, sizes = check_dim("Unflatten", self.dim, input.ndim), self.unflattened_size
        known = 1
        for size in sizes:
            known *= size if size != -1 else 1
        extent = input.shape[dim]
        if (known != extent) if -1 not in sizes else (known == 0 or extent % known):
            raise ShapeError(message("Unflatten", f"sizes of dim {dim}", sizes, f"sizes whose product is {extent}"))
        return input.reshape(*input.shape[:dim], *sizes, *input.shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


__all__ = ["Flatten", "Unflatten"]
