"""How good predictions are, as plain numbers and arrays; no gradient passes through."""

from .classification import accuracy, confusion_matrix

__all__ = ["accuracy", "confusion_matrix"]
