"""Random numbers from a counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

Number i of a stream is a hash of (seed, i). There is no state to walk through, so any thread can compute any part, and a
seed gives the same bits on every backend, with any number of threads, on every machine.

    one block    (c0, c1, c2, c3), (k0, k1)  ->  four numbers of 32 bits, by ten rounds of
    one round    c0', c1' = high(M1 c2) ^ c1 ^ k0, low(M1 c2);   c2', c3' = high(M0 c0) ^ c3 ^ k1, low(M0 c0)
                 k0', k1' = k0 + W0, k1 + W1                                              all modulo 2^32
    the counter  is the number of the block in the stream, the key is the seed
"""

from __future__ import annotations

import math
import secrets
import threading

import numpy as np

from . import backends
from .dtypes import float16, float32, float64
from .errors import ArgumentError, DTypeError, ShapeError, message
from .tensor import Tensor, wrap

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85  # golden ratio, sqrt(3) - 1
LOW32, MASK32, MASK64 = np.uint64(2**32 - 1), 2**32 - 1, 2**64 - 1
SHIFT = np.uint64(32)
CHUNK = 1 << 13  # blocks at a time: the four counters and two products, 8 bytes each, stay in a 512 KiB L2


def philox4x32(n: int, *, seed: int, offset: int) -> np.ndarray:
    """The first ``n`` numbers of 32 bits from block ``offset`` (128 bits) on: the specification of the native kernel."""
    blocks = -(-n // 4)
    out = np.empty((blocks, 4), np.uint32)
    for start in range(0, blocks, CHUNK):
        count = min(CHUNK, blocks - start)
        for word, values in enumerate(_rounds(count, seed, offset + start)):
            out[start : start + count, word] = values
    return out.reshape(-1)[:n]


def _rounds(count, seed, offset):
    first = np.uint64(offset & MASK64)
    low = np.arange(count, dtype=np.uint64) + first
    high = np.uint64(offset >> 64 & MASK64) + (low < first).astype(np.uint64)  # the carry out of 64 bits
    c0, c1, c2, c3 = low & LOW32, low >> SHIFT, high & LOW32, high >> SHIFT
    k0, k1 = seed & MASK32, seed >> 32 & MASK32
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ np.uint64(k0), p1 & LOW32, (p0 >> SHIFT) ^ c3 ^ np.uint64(k1), p0 & LOW32
        k0, k1 = k0 + W0 & MASK32, k1 + W1 & MASK32
    return c0, c1, c2, c3


class Generator:
    """A stream of random numbers: a seed and how many blocks of four were taken.

    Each call takes whole blocks, so two calls for 2 numbers are not one call for 4. Safe to share between threads; can be
    pickled and copied. Bits and integers are the same on every machine; ``normal`` uses the machine's sine and logarithm,
    which may differ in the last place.

    >>> import glassgrad as gg
    >>> g = gg.Generator().manual_seed(0)
    >>> g.integers(0, 10, (4,))
    array([3, 8, 7, 6])
    """

    def __init__(self, device: str = "cpu"):
        if device != "cpu":
            raise ArgumentError(message("Generator", "device", repr(device), "'cpu'"))
        self._lock = threading.Lock()
        self._seed, self._offset = 67280421310721, 0  # PyTorch's default seed

    def __repr__(self):
        return f"Generator(seed={self._seed}, offset={self._offset})"

    def __getstate__(self):
        return self._seed, self._offset

    def __setstate__(self, state):
        self._lock = threading.Lock()
        self._seed, self._offset = state

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed``, an integer of 64 bits (negative ones count from 2^64). Returns the generator."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise DTypeError(message("manual_seed", "seed", repr(seed), "an int"))
        seed = seed.__index__()
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(message("manual_seed", "seed", seed, "-2**63 <= seed < 2**64"))
        with self._lock:
            self._seed, self._offset = seed & MASK64, 0
        return self

    def seed(self) -> int:
        """Start a stream that nobody has seen; returns its seed, taken from the operating system."""
        seed = secrets.randbits(64)
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> Tensor:
        """Seed and offset as 16 bytes: a uint8 tensor for ``set_state``."""
        with self._lock:
            state = np.array([self._seed, self._offset], "<u8")
        return wrap(state.view(np.uint8))

    def set_state(self, state: Tensor) -> Generator:
        """Go on where ``get_state`` was called."""
        array = np.asarray(state)
        if array.dtype != np.uint8 or array.shape != (16,):
            raise ArgumentError(
                message("set_state", "state", f"{array.dtype} {array.shape}", "what get_state() returned: uint8 (16,)")
            )
        with self._lock:
            self._seed, self._offset = (int(v) for v in array.copy().view("<u8"))
        return self

    def bits(self, n: int) -> np.ndarray:
        """``n`` numbers of 32 random bits."""
        with self._lock:
            seed, offset = self._seed, self._offset
            self._offset = offset + -(-n // 4) & MASK64
        native = backends.current().fused("philox4x32")
        return (native or philox4x32)(n, seed=seed, offset=offset)

    def _bits64(self, n):
        return self.bits(2 * n).astype("<u4", copy=False).view("<u8")

    def uniform(self, size, dtype=float32) -> np.ndarray:
        """Uniform on [0, 1): the multiples of 2^-24 in float32, of 2^-53 in float64, of 2^-11 in float16. Never 1."""
        n, size, dtype = _checked("uniform", size, dtype)
        if dtype == float64:
            return ((self._bits64(n) >> np.uint64(11)) * 2.0**-53).reshape(size)
        digits = 24 if dtype == float32 else 11
        bits = self.bits(n)
        bits >>= np.uint32(32 - digits)
        u = bits.astype(dtype)
        u *= dtype.type(2.0**-digits)
        return u.reshape(size)

    def normal(self, size, dtype=float32) -> np.ndarray:
        """Normal with mean 0 and variance 1, by Box and Muller (1958).

        A pair of uniforms makes a pair of normals, sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v). u is never 0: it lies in the
        middle of its 2^-32 (float64: 2^-53), so the largest number is 6.8 (8.6).
        """
        n, size, dtype = _checked("normal", size, dtype)
        pairs = (n + 1) // 2
        if dtype == float64:
            u = (self._bits64(2 * pairs) >> np.uint64(11)).astype(float64)
            u *= 2.0**-53
            u[::2] += 2.0**-54
        else:
            u = self.bits(2 * pairs).astype(float32)
            u *= float32.type(2.0**-32)
            u[::2] += float32.type(2.0**-33)
        radius = np.sqrt(np.log(u[::2]) * u.dtype.type(-2))
        angle = u[1::2] * u.dtype.type(2 * math.pi)
        z = np.empty((pairs, 2), u.dtype)
        np.multiply(radius, np.cos(angle), out=z[:, 0])
        np.multiply(radius, np.sin(angle), out=z[:, 1])
        return z.reshape(-1)[:n].reshape(size).astype(dtype, copy=False)

    def integers(self, low: int, high: int, size) -> np.ndarray:
        """int64 of [low, high), all equally likely: numbers of the incomplete last round are drawn again (Lemire 2019)."""
        if not -(2**63) <= low < high <= 2**63:
            raise ArgumentError(
                message("integers", "bounds", f"low={low}, high={high}", "-2**63 <= low < high <= 2**63")
            )
        n, size, _ = _checked("integers", size, float32)
        span = high - low
        draw = _below_32 if span <= 2**32 else _below_64
        values, fair = draw(self, n, span)
        while not fair.all():
            (again,) = np.nonzero(~fair)
            values[again], fair[again] = draw(self, again.size, span)
        return (values + np.uint64(low & MASK64)).view(np.int64).reshape(size)

    def permutation(self, n: int) -> np.ndarray:
        """The integers below n in random order: the order of n random keys of 64 bits."""
        n, _, _ = _checked("permutation", n, float32)
        return np.argsort(self._bits64(n), kind="stable")

    def bernoulli(self, p, size=None) -> np.ndarray:
        """Bools that are True with probability ``p``: a number (to 2^-32), or an array whose shape is taken."""
        if isinstance(p, np.ndarray) and p.ndim:
            _check_probability(p.size == 0 or (p.min() >= 0 and p.max() <= 1), p)
            return self.uniform(p.shape, p.dtype if p.dtype == float64 else float32) < p
        _check_probability(0 <= p <= 1, p)
        n, size, _ = _checked("bernoulli", () if size is None else size, float32)
        below = round(float(p) * 2**32)
        if below == 2**32:
            return np.ones(size, np.bool_)
        return (self.bits(n) < np.uint32(below)).reshape(size)


def _below_32(generator, n, span):
    """(number, whether it may be kept): the high half of bits * span; its low half tells the uneven ones."""
    product = generator.bits(n) * np.uint64(span)
    return product >> SHIFT, (product & LOW32) >= np.uint64(2**32 % span)


def _below_64(generator, n, span):
    bits = generator._bits64(n).astype(np.uint64, copy=False)
    if span == 2**64:
        return bits, np.ones(n, np.bool_)
    return bits % np.uint64(span), bits <= np.uint64(MASK64 - 2**64 % span)


def _checked(op, size, dtype):
    """(how many, shape, dtype), all sound."""
    try:
        size = tuple(int(extent) for extent in size) if isinstance(size, (tuple, list)) else (int(size),)
    except (TypeError, ValueError):
        raise DTypeError(message(op, "size", repr(size), "an int or a tuple of them")) from None
    if any(extent < 0 for extent in size):
        raise ShapeError(message(op, "size", size, "sizes >= 0"))
    dtype = np.dtype(dtype)
    if dtype not in (float32, float64, float16):
        raise DTypeError(message(op, "dtype", dtype, "a floating one"))
    return math.prod(size), size, dtype


def _check_probability(good, p):
    if not good:
        raise ArgumentError(message("bernoulli", "probability", p, "0 <= p <= 1"))


default_generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Start the default generator's stream of ``seed``; returns the generator.

    >>> import glassgrad as gg
    >>> gg.manual_seed(7) is gg.default_generator
    True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Give the default generator a seed from the operating system; returns it. It starts with such a one."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Where the default generator stands, for ``set_rng_state``."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Let the default generator go on where ``get_rng_state`` was called."""
    default_generator.set_state(new_state)


def _floats(op, input) -> np.ndarray:
    if not isinstance(input, Tensor) or input.dtype.kind != "f":
        raise DTypeError(
            message(op, "input", getattr(input, "dtype", type(input).__name__), "a tensor of a floating dtype")
        )
    return input.data


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability each element of ``input`` gives (or ``p`` for all), else 0; no gradient.

    >>> import glassgrad as gg
    >>> gg.bernoulli(gg.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    x = _floats("bernoulli", input)
    source = default_generator if generator is None else generator
    hits = source.bernoulli(x, x.shape) if p is None else source.bernoulli(p, x.shape)
    return wrap(hits.astype(x.dtype))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with probabilities proportional to ``input``'s rows: (n,) to (num_samples,), (m, n) to (m, num_samples).

    With replacement, by the inverse of the cumulative sum. Without, by a race: index i arrives at a time that is
    exponential with rate input[i], and the first num_samples win, which is drawing one after the other.

    Raises:
        ArgumentError: a negative, infinite or NaN weight; a row of zeros; fewer positive weights than samples.

    >>> import glassgrad as gg
    >>> gg.multinomial(gg.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    x = _floats("multinomial", input)
    if x.ndim not in (1, 2):
        raise ShapeError(message("multinomial", "input", x.shape, "one row of weights, or a matrix of rows"))
    weights = np.atleast_2d(x).astype(float64)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ArgumentError(message("multinomial", "weights", "a negative, infinite or NaN one", "finite weights >= 0"))
    positive = int((weights > 0).sum(axis=1).min()) if weights.size else 0
    needed = 1 if replacement else num_samples
    if num_samples < 1 or positive < needed:
        hint = "" if replacement else "Or pass replacement=True."
        raise ArgumentError(
            message("multinomial", "samples", f"num_samples={num_samples}, {positive} positive weights in a row",
                    f"1 <= num_samples{'' if replacement else ' <= positive weights'}, and a positive weight", hint)
        )  # fmt: skip
    source = default_generator if generator is None else generator
    if replacement:
        upto = weights.cumsum(axis=1)
        u = source.uniform((len(weights), num_samples), float64) * upto[:, -1:]
        drawn = np.stack([np.searchsorted(row, points, side="right") for row, points in zip(upto, u, strict=True)])
        last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
        drawn = np.minimum(drawn, last[:, None])  # u * total can round up to the total
    else:
        with np.errstate(all="ignore"):
            arrival = -np.log1p(-source.uniform(weights.shape, float64)) / weights
        arrival[weights == 0] = np.inf
        drawn = np.argsort(arrival, axis=1, kind="stable")[:, :num_samples]
    return wrap(np.ascontiguousarray(drawn if x.ndim == 2 else drawn[0], np.int64))


__all__ = [
    "Generator", "bernoulli", "default_generator", "get_rng_state", "initial_seed", "manual_seed", "multinomial", "seed",
    "set_rng_state",
]  # fmt: skip
