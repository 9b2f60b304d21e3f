"""dtypes and PyTorch's promotion rules.

A dtype is NumPy's. Promotion looks at the category first (bool < integer < floating): a tensor with dimensions outranks a
0-d tensor, which outranks a Python number, unless the lower one is of a higher category.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError

float16 = np.dtype("float16")
float32 = np.dtype("float32")
float64 = np.dtype("float64")
int64 = np.dtype("int64")
int32 = np.dtype("int32")
int16 = np.dtype("int16")
int8 = np.dtype("int8")
uint8 = np.dtype("uint8")
bool_ = np.dtype("bool")

_ALL = (float16, float32, float64, int64, int32, int16, int8, uint8, bool_)
_BY_NAME = {str(d): d for d in _ALL} | {
    "float": float32,
    "double": float64,
    "half": float16,
    "long": int64,
    "int": int32,
}
_default = float32


def get_default_dtype() -> np.dtype:
    """The dtype of floats that come from Python numbers: float32 unless ``set_default_dtype`` changed it."""
    return _default


def set_default_dtype(dtype) -> None:
    """The dtype of floats that come from Python numbers."""
    global _default
    dtype = as_dtype(dtype)
    if dtype.kind != "f":
        raise DTypeError(f"set_default_dtype: got {dtype}; expected a floating dtype.")
    _default = dtype


def as_dtype(dtype) -> np.dtype:
    """A supported dtype from a dtype, a name, or one of Python's float, int, bool."""
    if dtype is float:
        return _default
    if dtype is int:
        return int64
    if dtype is bool:
        return bool_
    try:
        found = _BY_NAME.get(dtype) if isinstance(dtype, str) else None
        found = found or np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"dtype: got {dtype!r}; expected one of {', '.join(map(str, _ALL))}.") from None
    if found not in _ALL:
        raise DTypeError(f"dtype: got {found}; expected one of {', '.join(map(str, _ALL))}.")
    return found


def category(dtype: np.dtype) -> int:
    """0 bool, 1 integer, 2 floating."""
    return "biuf".index(dtype.kind) if dtype.kind in "bi" else (1 if dtype.kind == "u" else 2)


def of_number(x) -> np.dtype:
    """The dtype a Python number has by itself."""
    if isinstance(x, (bool, np.bool_)):
        return bool_
    if isinstance(x, (int, np.integer)):
        return int64
    if isinstance(x, (float, np.floating)):
        return _default
    raise DTypeError(f"got {type(x).__name__}; expected a tensor or a number.")


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of two arrays of equal rank: float32 with int64 stays float32, as in PyTorch."""
    if a == b:
        return a
    ca, cb = category(a), category(b)
    if ca != cb:
        return a if ca > cb else b
    return np.promote_types(a, b)


def result_type(*operands) -> np.dtype:
    """The dtype of an operation on tensors and Python numbers.

    >>> import glassgrad as gg
    >>> gg.result_type(gg.ones(3, dtype=gg.int32), 1.5)
    dtype('float32')
    """
    ranks: list = [None, None, None]  # with dimensions, 0-d, Python numbers
    for x in operands:
        dtype = getattr(x, "dtype", None)
        rank = 2 if dtype is None else (0 if x.ndim else 1)
        dtype = of_number(x) if dtype is None else dtype
        ranks[rank] = dtype if ranks[rank] is None else promote(ranks[rank], dtype)
    result: Any = None
    for dtype in ranks:
        if dtype is None:
            continue
        if result is None:
            result = dtype
        elif category(dtype) > category(result):
            result = _default if dtype is ranks[2] and category(dtype) == 2 else dtype
    return result
