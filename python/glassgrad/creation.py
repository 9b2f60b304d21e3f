"""Functions that make tensors: from Python data, from NumPy and DLPack, constant, counted and random."""

from __future__ import annotations

import numpy as np

from . import backends, dtypes
from .dtypes import as_dtype
from .errors import ArgumentError, DTypeError, ShapeError
from .tensor import Tensor, wrap


def _finish(array, requires_grad) -> Tensor:
    backends.tell_if_pure_python()
    t = wrap(array)
    return t.requires_grad_() if requires_grad else t


def _shape(op, size) -> tuple[int, ...]:
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    total = 1
    for extent in size:
        if not isinstance(extent, (int, np.integer)) or isinstance(extent, bool):
            raise DTypeError(f"{op}: size: got {extent!r}; expected integers.")
        if extent < 0:
            raise ShapeError(f"{op}: size: got {tuple(size)}; expected sizes >= 0.")
        total *= int(extent)
    if total >= 2**60:
        raise ShapeError(f"{op}: size: got {tuple(size)}, which is {total} elements; expected less than 2**60.")
    return tuple(int(extent) for extent in size)


def tensor(data, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """A new leaf that owns a copy of ``data`` (numbers, nested lists, an array or a tensor).

    Python floats become the default dtype, ints int64, bools bool; arrays keep theirs.

    >>> import glassgrad as gg
    >>> gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, Tensor):
        data = data.data
    typed = isinstance(data, (np.ndarray, np.generic))
    if not typed and isinstance(data, (list, tuple)):
        data = _plain(data)
    try:
        array = np.array(data)
    except (ValueError, TypeError) as e:
        raise ShapeError(
            f"tensor: got rows of different lengths; expected a rectangular nest of numbers ({e})."
        ) from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"tensor: got values of type {array.dtype}; expected numbers or bools.")
    if dtype is not None:
        wanted = as_dtype(dtype)
    elif typed or array.dtype.kind == "b":
        wanted = as_dtype(array.dtype.newbyteorder("="))
    else:
        wanted = dtypes.get_default_dtype() if array.dtype.kind == "f" or array.size == 0 else dtypes.int64
    return _finish(np.ascontiguousarray(array, dtype=wanted).reshape(array.shape), requires_grad)


def _plain(data):
    return [_plain(d) if isinstance(d, (list, tuple)) else (d.data if isinstance(d, Tensor) else d) for d in data]


def as_tensor(data, dtype=None) -> Tensor:
    """``data`` as a tensor, sharing memory where it can."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == as_dtype(dtype)):
        return from_numpy(data)
    return tensor(data, dtype=dtype)


def from_numpy(array) -> Tensor:
    """A tensor on the array's own memory: a change of one is seen by the other.

    Raises:
        DTypeError: not an array, or of a dtype without kernels (object, complex, strings, foreign byte order).
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(
            f"from_numpy: got {type(array).__name__}; expected a numpy.ndarray. Use gg.tensor(...) for other data."
        )
    if not array.dtype.isnative:
        raise DTypeError(
            f"from_numpy: got byte order {array.dtype.byteorder!r}; expected the machine's own. "
            "gg.tensor(array) makes a native copy."
        )
    as_dtype(array.dtype)
    return _finish(array, False)


def from_dlpack(other) -> Tensor:
    """A tensor on the memory of any object that speaks DLPack."""
    return from_numpy(np.from_dlpack(other))


def full(size, fill_value, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` everywhere; its dtype is that of the number unless ``dtype`` is given."""
    size = size if isinstance(size, (tuple, list)) else (size,)
    if not isinstance(fill_value, (int, float, np.generic)):
        raise DTypeError(f"full: fill_value: got {type(fill_value).__name__}; expected a number or a bool.")
    kind = dtypes.of_number(fill_value) if dtype is None else as_dtype(dtype)
    return _finish(np.full(_shape("full", size), fill_value, kind), requires_grad)


def zeros(*size, dtype=None, requires_grad: bool = False) -> Tensor:
    """Zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``, of the default dtype unless said otherwise."""
    return _finish(np.zeros(_shape("zeros", size), as_dtype(dtype or dtypes.get_default_dtype())), requires_grad)


def ones(*size, dtype=None, requires_grad: bool = False) -> Tensor:
    """Ones: ``ones(2, 3)`` or ``ones((2, 3))``, of the default dtype unless said otherwise."""
    return _finish(np.ones(_shape("ones", size), as_dtype(dtype or dtypes.get_default_dtype())), requires_grad)


def empty(*size, dtype=None, requires_grad: bool = False) -> Tensor:
    """Memory that is not initialised."""
    return _finish(np.empty(_shape("empty", size), as_dtype(dtype or dtypes.get_default_dtype())), requires_grad)


def eye(n: int, m: int | None = None, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """(n, m) with ones on the diagonal and zeros elsewhere; m is n unless given."""
    n, m = _shape("eye", (n, n if m is None else m))
    return _finish(np.eye(n, m, dtype=as_dtype(dtype or dtypes.get_default_dtype())), requires_grad)


def arange(start, end=None, step=1, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below end.

    >>> import glassgrad as gg
    >>> gg.arange(3)
    tensor([0, 1, 2])
    """
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) * step < 0:
        raise ArgumentError(
            f"arange: got start={start}, end={end}, step={step}; expected a step that leads from start to end."
        )
    floating = any(isinstance(v, (float, np.floating)) for v in (start, end, step))
    kind = as_dtype(dtype) if dtype is not None else (dtypes.get_default_dtype() if floating else dtypes.int64)
    return _finish(np.arange(start, end, step).astype(kind), requires_grad)


def linspace(start, end, steps: int, *, dtype=None, requires_grad: bool = False) -> Tensor:
    """``steps`` numbers at equal distances from start to end, both included.

    >>> import glassgrad as gg
    >>> gg.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    (steps,) = _shape("linspace", (steps,))
    return _finish(np.linspace(start, end, steps).astype(as_dtype(dtype or dtypes.get_default_dtype())), requires_grad)


def _generator(generator):
    from . import random

    return random.default_generator if generator is None else generator


def rand(*size, generator=None, dtype=None, requires_grad: bool = False) -> Tensor:
    """Uniform on [0, 1)."""
    kind = as_dtype(dtype or dtypes.get_default_dtype())
    return _finish(_generator(generator).uniform(_shape("rand", size), kind), requires_grad)


def randn(*size, generator=None, dtype=None, requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    kind = as_dtype(dtype or dtypes.get_default_dtype())
    return _finish(_generator(generator).normal(_shape("randn", size), kind), requires_grad)


def randint(low, high=None, size=None, *, generator=None, dtype=None) -> Tensor:
    """Integers of [low, high); ``randint(high, size)`` starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise ArgumentError(f"randint: got low={low}, high={high}; expected low < high.")
    array = _generator(generator).integers(low, high, _shape("randint", (size,)))
    return _finish(array.astype(as_dtype(dtype or dtypes.int64)), False)


def randperm(n: int, *, generator=None) -> Tensor:
    """The integers below n in random order."""
    return _finish(_generator(generator).permutation(n).astype(np.int64), False)


def _like(make):
    def like(input, *args, dtype=None, requires_grad: bool = False, **keywords):
        return make(input.shape, *args, dtype=dtype or input.dtype, requires_grad=requires_grad, **keywords)

    like.__name__ = like.__qualname__ = f"{make.__name__}_like"
    like.__doc__ = f"``{make.__name__}`` with the shape and dtype of ``input``."
    return like


zeros_like, ones_like, full_like = _like(zeros), _like(ones), _like(full)
empty_like, rand_like, randn_like = _like(empty), _like(rand), _like(randn)


def randint_like(input, low, high=None, *, dtype=None) -> Tensor:
    """Integers of [low, high) in the shape and dtype of ``input``; ``randint_like(x, high)`` starts at 0."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.shape, dtype=dtype or input.dtype)


__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full", "full_like", "linspace",
    "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "tensor",
    "zeros", "zeros_like",
]  # fmt: skip
