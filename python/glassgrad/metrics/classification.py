"""Metrics of classifiers."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor, wrap


def _arrays(op: str, input, target) -> tuple[np.ndarray, np.ndarray]:
    for name, x in (("input", input), ("target", target)):
        if not isinstance(x, (Tensor, np.ndarray)):
            raise DTypeError(message(op, name, type(x).__name__, "a tensor"))
    arrays = [x.data if isinstance(x, Tensor) else x for x in (input, target)]
    if arrays[1].dtype.kind not in "iub":
        raise DTypeError(message(op, "target", f"dtype {arrays[1].dtype}", "integer class indices"))
    return arrays[0], arrays[1]


def accuracy(input: Tensor, target: Tensor, *, top_k: int = 1) -> float:
    """The fraction of samples whose class is right.

    Args:
        input: scores (n, classes), of which the largest counts, or class indices (n,). A row with NaN is wrong.
        target: class indices (n,).
        top_k: right is a class whose score is among the ``top_k`` largest.

    >>> import glassgrad as gg
    >>> gg.metrics.accuracy(gg.tensor([[0.1, 0.9], [0.8, 0.2]]), gg.tensor([1, 1]))
    0.5
    """
    scores, labels = _arrays("accuracy", input, target)
    if scores.shape[: labels.ndim] != labels.shape or scores.ndim - labels.ndim not in (0, 1):
        raise ShapeError(message("accuracy", "input", scores.shape, f"{labels.shape} or {(*labels.shape, 'classes')}"))
    if not labels.size:
        raise ShapeError(message("accuracy", "target", labels.shape, "at least one sample"))
    if scores.ndim == labels.ndim:
        if scores.dtype.kind == "f" or top_k != 1:
            raise DTypeError(
                message("accuracy", "input", f"dtype {scores.dtype} {scores.shape}", "scores (n, classes)")
            )
        return float(np.mean(scores == labels))
    classes = scores.shape[-1]
    if not 1 <= top_k <= classes:
        raise ArgumentError(message("accuracy", "top_k", top_k, f"1 to {classes}, the number of classes"))
    if labels.min() < 0 or labels.max() >= classes:
        got = f"classes from {labels.min()} to {labels.max()}"
        raise ArgumentError(message("accuracy", "target", got, f"0 to {classes - 1}"))
    own = np.take_along_axis(scores, labels[..., None].astype(np.int64), -1)
    # Of equal scores the first class wins, as in argmax.
    earlier = np.arange(classes) < labels[..., None]
    better = (scores > own) | ((scores == own) & earlier)
    right = (better.sum(-1) < top_k) & ~np.isnan(scores).any(-1)
    return float(np.mean(right))


def confusion_matrix(input: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """How often each true class (row) was taken for each class (column): (num_classes, num_classes), int64.

    Args:
        input: scores (n, num_classes) or class indices (n,).

    >>> import glassgrad as gg
    >>> gg.metrics.confusion_matrix(gg.tensor([0, 1, 1]), gg.tensor([0, 0, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    predicted, labels = _arrays("confusion_matrix", input, target)
    if predicted.ndim == labels.ndim + 1:
        predicted = predicted.argmax(-1)
    if predicted.shape != labels.shape:
        raise ShapeError(message("confusion_matrix", "input", predicted.shape, labels.shape))
    for name, x in (("input", predicted), ("target", labels)):
        if x.size and not (0 <= x.min() and x.max() < num_classes):
            got = f"classes from {x.min()} to {x.max()}"
            raise ArgumentError(message("confusion_matrix", name, got, f"0 to {num_classes - 1}"))
    pairs = labels.astype(np.int64).ravel() * num_classes + predicted.astype(np.int64).ravel()
    return wrap(np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes))


__all__ = ["accuracy", "confusion_matrix"]
