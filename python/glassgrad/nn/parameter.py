"""Parameter: a leaf tensor that a Module finds by itself and an optimizer updates."""

from __future__ import annotations

from ..creation import as_tensor
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that becomes part of a Module when it is assigned to one of its attributes.

    Args:
        data: a tensor or array, whose memory is shared, or numbers; a tensor's history is left behind.
        requires_grad: False freezes it.

    >>> import glassgrad as gg
    >>> gg.nn.Parameter(gg.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data, requires_grad: bool = True):
        source = as_tensor(data).detach()
        self.data, self._version = source.data, source._version
        if requires_grad:
            self.requires_grad_()

    def __repr__(self):
        return f"Parameter containing:\n{super().__repr__()}"


__all__ = ["Parameter"]
