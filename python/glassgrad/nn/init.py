"""Initial values: each function overwrites a tensor in place, without a gradient, and returns it.

With ``fan_in`` inputs to a sum, weights of variance 1 / fan_in keep the variance of what passes through. ``gain`` makes
up for what the activation after it takes away (ReLU: half of the variance, so sqrt(2)).
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor

_GAINS = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4, "linear": 1.0, "identity": 1.0}
_GAINS |= {f"conv{transposed}{n}d": 1.0 for transposed in ("", "_transpose") for n in (1, 2, 3)}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for an activation; ``param`` is leaky_relu's negative slope (default 0.01).

    >>> from glassgrad import nn
    >>> nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise DTypeError(message("calculate_gain", "negative slope", repr(slope), "a number"))
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join([*_GAINS, "leaky_relu"])
        raise ArgumentError(message("calculate_gain", "nonlinearity", repr(nonlinearity), f"one of {known}"))
    return _GAINS[nonlinearity]


def _fill(op: str, tensor: Tensor, values) -> Tensor:
    """Overwrite ``tensor``; ``values`` is an array or number, or makes an array from (shape, dtype)."""
    if not isinstance(tensor, Tensor):
        raise DTypeError(message(op, "tensor", type(tensor).__name__, "a Tensor"))
    if tensor.dtype.kind != "f" and callable(values):
        raise DTypeError(message(op, "dtype", tensor.dtype, "a floating dtype"))
    if not tensor.data.flags.writeable:
        raise ArgumentError(message(op, "tensor", "read-only memory", "writable memory", "Use clone() first."))
    tensor.data[...] = values(tensor.shape, tensor.dtype) if callable(values) else values
    tensor.bump_version()
    return tensor


def _source(generator):
    from .. import random

    return random.default_generator if generator is None else generator


def _spread(op: str, name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ArgumentError(message(op, name, value, "a finite number >= 0"))
    return value


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator=None) -> Tensor:
    """Uniform between ``a`` and ``b``."""
    if not -math.inf < a <= b < math.inf:
        raise ArgumentError(message("uniform_", "bounds", f"a={a}, b={b}", "finite numbers with a <= b"))
    return _fill("uniform_", tensor, lambda size, dtype: _source(generator).uniform(size, dtype) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator=None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    _spread("normal_", "std", std)
    return _fill("normal_", tensor, lambda size, dtype: _source(generator).normal(size, dtype) * std + mean)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator=None
) -> Tensor:
    """Normal, given that it lies in [a, b]: values outside are drawn again.

    Candidates are uniform and kept with the density's probability, which needs no inverse of erf. They come from the
    part of [a, b] where the density is at least 2^-60 of its largest, so even far out in the tail one in 50 is kept.
    """
    _spread("trunc_normal_", "std", std)
    if not a < b or math.isnan(mean):
        raise ArgumentError(message("trunc_normal_", "bounds", f"mean={mean}, a={a}, b={b}", "numbers with a < b"))

    def draw(size, dtype):
        if std == 0:
            return np.full(size, min(max(mean, a), b), dtype)
        low, high = (a - mean) / std, (b - mean) / std
        mode = min(max(0.0, low), high)  # where the density is largest
        reach = math.sqrt(mode * mode + 2 * 60 * math.log(2))
        low, high = max(low, -reach), min(high, reach)
        source, kept, missing = _source(generator), [], math.prod(size)
        while missing > 0:
            z = source.uniform((2 * missing + 16,), np.float64) * (high - low) + low
            z = z[source.uniform(z.shape, np.float64) < np.exp((mode * mode - z * z) / 2)][:missing]
            kept.append(z)
            missing -= len(z)
        z = np.concatenate(kept) if kept else np.empty(0)
        return np.clip(z * std + mean, a, b).reshape(size)

    return _fill("trunc_normal_", tensor, draw)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return _fill("constant_", tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    return _fill("ones_", tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    return _fill("zeros_", tensor, 0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity: ones on the diagonal of a matrix."""
    _check_ndim("eye_", tensor, 2, 2)
    return _fill("eye_", tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight (out, in, *kernel) that passes as many channels on unchanged as it can."""
    _check_ndim("dirac_", tensor, 3, 5)
    out, inputs, *kernel = tensor.shape
    if groups < 1 or out % groups:
        raise ArgumentError(message("dirac_", "groups", groups, f"a divisor of the {out} output channels"))
    weight = np.zeros(tensor.shape)
    centre = tuple(k // 2 for k in kernel)
    for group in range(groups):
        for channel in range(min(out // groups, inputs)):
            weight[(group * (out // groups) + channel, channel, *centre)] = 1
    return _fill("dirac_", tensor, weight)


def _check_ndim(op, tensor, low, high):
    if not isinstance(tensor, Tensor):
        raise DTypeError(message(op, "tensor", type(tensor).__name__, "a Tensor"))
    if not low <= tensor.ndim <= high:
        expected = f"{low} dimensions" if low == high else f"{low} to {high} dimensions"
        raise ShapeError(message(op, "tensor", f"shape {tensor.shape}", expected))


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs one output of a weight (out, in, *kernel) sums over, and how many outputs one input reaches."""
    _check_ndim("fan_in", tensor, 2, 64)
    out, inputs, *kernel = tensor.shape
    window = math.prod(kernel)
    return inputs * window, out * window


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """U(-l, l), l = gain sqrt(6 / (fan_in + fan_out)): the variance kept forward and back (Glorot & Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    limit = _spread("xavier_uniform_", "gain", gain) * math.sqrt(6 / max(fan_in + fan_out, 1))
    return uniform_(tensor, -limit, limit, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator=None) -> Tensor:
    """N(0, std), std = gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(fan_in + fan_out, 1)), generator)


def _kaiming_std(op, tensor, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(message(op, "mode", repr(mode), "'fan_in' or 'fan_out'"))
    fan = _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator=None
) -> Tensor:
    """U(-l, l), l = gain sqrt(3 / fan): the variance kept through ReLUs (He et al. 2015).

    Args:
        a: the negative slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
    """
    limit = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -limit, limit, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator=None
) -> Tensor:
    """N(0, std), std = gain / sqrt(fan) (He et al. 2015); arguments as for ``kaiming_uniform_``."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator=None) -> Tensor:
    """A random matrix with orthonormal rows or columns, times ``gain`` (Saxe et al. 2014).

    Dimensions after the first count as one. QR's free signs are fixed by R's diagonal, which makes Q uniform.
    """
    _check_ndim("orthogonal_", tensor, 2, 64)

    def draw(size, dtype):
        rows, cols = size[0], math.prod(size[1:])
        q, r = np.linalg.qr(_source(generator).normal((max(rows, cols), min(rows, cols)), np.float64))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return (q.T if rows < cols else q).reshape(size) * gain

    return _fill("orthogonal_", tensor, draw)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator=None) -> Tensor:
    """N(0, std) with the fraction ``sparsity`` of each column set to 0 (Martens 2010)."""
    _check_ndim("sparse_", tensor, 2, 2)
    if not 0 <= sparsity <= 1:
        raise ArgumentError(message("sparse_", "sparsity", sparsity, "a number from 0 to 1"))
    normal_(tensor, 0.0, std, generator)
    rows, cols = tensor.shape
    zeros = math.ceil(sparsity * rows)
    for col in range(cols):
        tensor.data[_source(generator).permutation(rows)[:zeros], col] = 0
    return tensor


__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
    "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip
