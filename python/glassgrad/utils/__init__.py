"""PyTorch's ``torch.utils``: what trades memory for time."""

from . import checkpoint

__all__ = ["checkpoint"]
