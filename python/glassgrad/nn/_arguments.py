"""What layers check in their constructors: each function returns the argument in one form, or says what is wrong."""

from __future__ import annotations

import operator

from ..errors import ArgumentError, DTypeError, message


def integer(owner: str, name: str, value, low: int = 1) -> int:
    """``value`` as an int that is at least ``low``."""
    expected = f"an integer >= {low}"
    try:
        number = operator.index(value)
    except TypeError:
        raise DTypeError(message(owner, name, repr(value), expected)) from None
    if isinstance(value, bool):
        raise DTypeError(message(owner, name, repr(value), expected))
    if number < low:
        raise ArgumentError(message(owner, name, number, expected))
    return number


def integers(owner: str, name: str, value, n: int, low: int = 1) -> tuple[int, ...]:
    """``n`` integers from one for all or one each."""
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise ArgumentError(message(owner, name, tuple(value), f"one integer, or {n}"))
        return tuple(integer(owner, name, v, low) for v in value)
    return (integer(owner, name, value, low),) * n


def shape(owner: str, name: str, value) -> tuple[int, ...]:
    """A shape with at least one dimension, from an int or several."""
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not sizes:
        raise ArgumentError(message(owner, name, "()", "at least one size"))
    return tuple(integer(owner, name, size) for size in sizes)


def number(owner: str, name: str, value, low: float, high: float | None = None) -> float:
    """A real number in [low, high]; NaN is not."""
    expected = f"a number >= {low:g}" if high is None else f"a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise DTypeError(message(owner, name, repr(value), expected))
    if not (low <= float(value) and (high is None or float(value) <= high)):
        raise ArgumentError(message(owner, name, value, expected))
    return value


def choice(owner: str, name: str, value, options: tuple):
    """One of ``options``."""
    if value not in options:
        raise ArgumentError(message(owner, name, repr(value), f"one of {', '.join(map(repr, options))}"))
    return value
