"""Embedding: a table of vectors, looked up by index."""

from __future__ import annotations

from ..creation import empty
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor
from . import functional as F
from . import init
from ._arguments import integer
from .module import Module
from .parameter import Parameter


class Embedding(Module):
    """y[..., :] = weight[x[...], :].

    Weight: (num_embeddings, embedding_dim), from N(0, 1). Shape: integers (...) to (..., embedding_dim).

    Args:
        padding_idx: its row starts as zeros and gets no gradient.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.Embedding(10, 4)(gg.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype=None) -> None:
        super().__init__()
        self.num_embeddings = n = integer("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = integer("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = integer("Embedding", "padding_idx", padding_idx, -n)
            if padding_idx >= n:
                raise ArgumentError(message("Embedding", "padding_idx", padding_idx, f"an index of {n} rows"))
            padding_idx %= n
        self.padding_idx = padding_idx
        self.weight = Parameter(empty(n, self.embedding_dim, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An Embedding on the memory of a table (num_embeddings, embedding_dim)."""
        if not isinstance(embeddings, Tensor):
            raise DTypeError(message("from_pretrained", "embeddings", type(embeddings).__name__, "a Tensor"))
        if embeddings.ndim != 2:
            raise ShapeError(message("from_pretrained", "embeddings", f"shape {embeddings.shape}", "two dimensions"))
        made = cls(embeddings.shape[0], embeddings.shape[1], padding_idx, dtype=embeddings.dtype)
        made.weight = Parameter(embeddings, requires_grad=not freeze)
        return made

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


__all__ = ["Embedding"]
