"""Exceptions as small lessons: the op, what it got, what it expected, and a hint that was checked to be true.

Each class also derives from the exceptions that PyTorch and NumPy raise in the same place, so code written for either
catches them.
"""

from __future__ import annotations


class GlassgradError(Exception):
    """Base of every exception glassgrad raises on purpose."""


class ShapeError(GlassgradError, RuntimeError, ValueError):
    """Sizes that do not fit together."""


class AxisError(GlassgradError, IndexError, ValueError):
    """An axis, or an index along one, that does not exist."""


class DTypeError(GlassgradError, TypeError, RuntimeError):
    """A dtype the operation has no meaning for."""


class ArgumentError(GlassgradError, ValueError, RuntimeError):
    """An argument outside the values that make sense."""


class GraphError(GlassgradError, RuntimeError):
    """Backward cannot go on: graph freed, no gradient wanted, or a saved tensor changed in place."""


class MissingKernel(GlassgradError, NotImplementedError):
    """The backend has no kernel for this op and dtype, and falling back is forbidden."""


def message(op: str, what: str, got: object, expected: object, hint: str = "") -> str:
    """The one shape every message has: ``op: what: got ...; expected .... hint``."""
    text = f"{op}: {what}: got {got}; expected {expected}."
    return f"{text} {hint}" if hint else text


def check_dim(op: str, dim: int, ndim: int) -> int:
    """``dim`` counted from the front.

    >>> check_dim("sum", -1, 3)
    2
    """
    extent = max(ndim, 1)
    if not isinstance(dim, int) and not hasattr(dim, "__index__"):
        raise DTypeError(message(op, "dim is not an integer", repr(dim), "an int"))
    if not -extent <= dim < extent:
        raise AxisError(
            message(op, "dim out of range", f"dim={dim} for {ndim} dimensions", f"{-extent} <= dim < {extent}")
        )
    return int(dim) % extent


def check_dims(op: str, dim, ndim: int) -> tuple[int, ...] | None:
    """``dim`` (None, an int or several) as a sorted tuple counted from the front; None stands for all."""
    if dim is None:
        return None
    if not isinstance(dim, (tuple, list)):
        dim = (dim,)
    dims = tuple(sorted(check_dim(op, d, ndim) for d in dim))
    if len(set(dims)) != len(dims):
        raise ArgumentError(message(op, "the same dim twice", tuple(dim), "different dims"))
    return dims if ndim else ()


def graph_freed(op: str) -> GraphError:
    """A second backward found nothing that the first had kept."""
    return GraphError(
        f"{op}: backward through a graph that was freed: got a second backward; expected one. "
        "Pass retain_graph=True to the first to keep what it saved."
    )


def changed_in_place(op: str, tensor: str, got: int, expected: int) -> GraphError:
    """A tensor that backward needs is no longer what forward saw."""
    return GraphError(
        f"{op}: its saved tensor {tensor} was modified in place: got version {got}; expected {expected}. "
        "Use the out-of-place form, or clone() before the change."
    )
