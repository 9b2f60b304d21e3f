"""Dropout: zero a random part of the input and scale the rest up, so that the expectation stays.

forward    y = x mask,   mask = 0 with probability p, else 1 / (1 - p)
backward   dx = dy mask
The random numbers are float32 whatever the input's dtype: one seed gives one mask in every precision.
"""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..errors import ShapeError, message
from ..tensor import Tensor, wrap
from .softmax import floating, number


def _checked(op, input, p):
    number(op, "p", p, 0, 1)
    return floating(op, "input", input)


def _kept(shape, p, generator):
    """A bool array, True with probability 1 - p."""
    generator = random.default_generator if generator is None else generator
    return generator.uniform(shape, np.dtype("float32")) >= p


def _dropped(x, shape, p, training, inplace, generator):
    if not training or p == 0:
        return x
    scale = 1 / (1 - p) if p < 1 else 0.0
    mask = wrap(np.multiply(_kept(shape, p, generator), scale, dtype=x.dtype))
    return x.mul_(mask) if inplace else x * mask


def dropout(input, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator=None) -> Tensor:
    """0 with probability p, else input / (1 - p); the input itself when not training (Srivastava et al. 2014).

    Args:
        generator: a ``gg.Generator``; default the global one that ``gg.manual_seed`` sets.

    Raises:
        ArgumentError: p outside [0, 1]. DTypeError: an integer input.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> _ = gg.manual_seed(0)
        >>> sorted(set(F.dropout(gg.ones(100), p=0.75).tolist()))
        [0.0, 4.0]
    """
    x = _checked("dropout", input, p)
    return _dropped(x, x.shape, p, training, inplace, generator)


def _channels(op, x, allowed, unbatched):
    """The shape of one number per channel and sample beside x."""
    if x.ndim not in allowed:
        raise ShapeError(message(op, "number of dims", x.shape, " or ".join(f"{n} dims" for n in allowed)))
    leading = 1 if x.ndim == unbatched else 2
    return x.shape[:leading] + (1,) * (x.ndim - leading)


def dropout1d(input, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator=None) -> Tensor:
    """``dropout`` of whole channels of (N, C, L) or (C, L), since neighbours are alike (Tompson et al. 2015)."""
    x = _checked("dropout1d", input, p)
    return _dropped(x, _channels("dropout1d", x, (2, 3), unbatched=2), p, training, inplace, generator)


def dropout2d(input, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator=None) -> Tensor:
    """``dropout`` of whole channels of (N, C, H, W); 3 dims are taken as (N, C, L), as PyTorch does."""
    x = _checked("dropout2d", input, p)
    return _dropped(x, _channels("dropout2d", x, (3, 4), unbatched=None), p, training, inplace, generator)


def dropout3d(input, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator=None) -> Tensor:
    """``dropout`` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    x = _checked("dropout3d", input, p)
    return _dropped(x, _channels("dropout3d", x, (4, 5), unbatched=4), p, training, inplace, generator)


# SELU's limit for x -> -inf, -lambda alpha: what a unit that is off gives (Klambauer et al. 2017).
_SELU_OFF = -1.0507009873554805 * 1.6732632423543772


def alpha_dropout(input, p: float = 0.5, training: bool = False, *, generator=None) -> Tensor:
    """Dropout for SELU networks: to SELU's lower limit, then an affine map restores mean and variance.

    Klambauer et al. 2017: y = a where(keep, x, s) + b, a = 1 / sqrt((1 - p) (1 + p s^2)), b = -a p s, s = -1.7581.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.alpha_dropout(gg.tensor([1.0]), p=0.5)  # not training
        tensor([1.])
    """
    x = _checked("alpha_dropout", input, p)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    keep = _kept(x.shape, p, generator)
    a = 1 / math.sqrt((1 - p) * (1 + p * _SELU_OFF**2))
    off = wrap(np.where(keep, 0.0, a * _SELU_OFF).astype(x.dtype))
    return x * wrap(np.multiply(keep, a, dtype=x.dtype)) + off - a * p * _SELU_OFF


METHODS = ()
__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d"]
