"""Element-wise ops: one row each. Forward (NumPy form), derivative and the values to sample it on stand side by side.

A rule names what it needs: ``y`` is the op's own output, ``x`` (or ``a``, ``b``) its input. The native twin of a row is a
struct in ``csrc/core/scalar_ops.h`` with ``f`` and ``df``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .. import dtypes
from ..dtypes import result_type
from ..errors import DTypeError, ShapeError
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap

METHODS: list = []
INPLACE: list = []
EDGES = (0.0, -0.0, 1.0, -1.0, 1e-30, -1e30, math.inf, -math.inf, math.nan)


def as_tensor(x, dtype=None) -> Tensor:
    """``x`` as a Tensor: itself, or a constant made of it."""
    if isinstance(x, Tensor):
        return x if dtype is None or x.dtype == dtype else cast_op(x, dtype)
    return wrap(np.asarray(x, dtype=dtype))


_NUMBERS = (float, int)


def _operands(name, a, b):
    """Both as Tensors of one dtype, shapes checked."""
    if type(b) in _NUMBERS and isinstance(a, Tensor) and a.data.dtype.kind == "f":
        return a, wrap(np.array(b, a.data.dtype))
    if type(a) in _NUMBERS and isinstance(b, Tensor) and b.data.dtype.kind == "f":
        return wrap(np.array(a, b.data.dtype)), b
    for operand in (a, b):
        if not isinstance(operand, (Tensor, int, float, bool, np.ndarray, np.generic)):
            raise DTypeError(f"{name}: got {type(operand).__name__}; expected a tensor or a number.")
    dtype = result_type(a, b)
    a, b = as_tensor(a, dtype), as_tensor(b, dtype)
    _check_broadcast(name, a, b)
    return a, b


def _check_broadcast(name, a, b):
    if a.shape == b.shape:
        return
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        pairs = list(zip(reversed(a.shape), reversed(b.shape), strict=False))
        axis = next(i for i, (m, n) in enumerate(pairs) if m != n and 1 not in (m, n))
        m, n = pairs[axis]
        hint = "b.T would fit." if a.ndim == b.ndim == 2 and a.shape == b.shape[::-1] else ""
        raise ShapeError(
            f"{name}: shapes do not broadcast: a is {a.shape}, b is {b.shape}; "
            f"a.shape[{-axis - 1}]={m} and b.shape[{-axis - 1}]={n} must be equal or one of them 1. {hint}".rstrip()
        ) from None


# ---------------------------------------------------------------------------------------------------------------- cast


def _cast_samples(rng):
    yield Sample((rng.standard_normal(5),), {"dtype": dtypes.float64})


_cast = Op(
    "cast",
    lambda x, *, dtype: x.astype(dtype),
    vjps=(lambda dy, dtypes_in: cast_op(dy, dtypes_in[0]),),
    samples=_cast_samples,
    native=False,
    doc="cast: the same values in another dtype; the gradient is cast back.",
)


def cast_op(x: Tensor, dtype) -> Tensor:
    """``x`` in another dtype; itself when it has it already."""
    dtype = dtypes.as_dtype(dtype)
    return x if x.dtype == dtype else apply(_cast, x, dtype=dtype)


# --------------------------------------------------------------------------------------------------------------- unary


def _unary(name, reference, vjp, *, low=-3.0, high=3.0, keep_int=False, cancels=False, doc) -> Callable[..., Tensor]:
    """A row: registers the op and returns the public function."""

    def samples(rng):
        # The grid keeps 0.05 away from the integers, where abs, relu and floor have their kinks.
        for shape in ((7,), (3, 5), (0,), (1,), (33,)):
            whole = rng.integers(math.floor(low), max(math.ceil(high), math.floor(low) + 1), shape)
            yield Sample((np.clip(whole + rng.uniform(0.05, 0.95, shape), low, high),))
        yield Sample((np.array(EDGES),), differentiable=False, name="edges")

    op = Op(
        name,
        reference,
        inputs=("x",),
        vjps=(vjp,),
        samples=samples,
        doc=f"{name}: {doc}",
        fused_vjp=_fused(name, vjp),
        pointwise=not cancels,
    )

    def function(input):
        x = input if isinstance(input, Tensor) else as_tensor(input, result_type(input))
        if x.data.dtype.kind != "f" and not keep_int:
            x = cast_op(x, dtypes.get_default_dtype())
        return apply(op, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}\n\nShape: any; the result has the input's. Integers become the default float dtype."
    METHODS.append(function)
    INPLACE.append(function)
    return function


def _fused(name, vjp):
    saved = [p for p in ("x", "y") if p in vjp.__code__.co_varnames[: vjp.__code__.co_argcount]]
    return (f"{name}_backward", saved[0]) if saved else None


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _erf_reference(x):
    return _erf(x).astype(x.dtype) if x.size else x.copy()


def _stable_sigmoid(x):
    e = np.exp(-np.abs(x))  # never overflows
    return _nan_like(np.where(x >= 0, 1 / (1 + e), e / (1 + e)), x)


def _nan_like(y, x):
    return np.where(np.isnan(x), x, y).astype(x.dtype, copy=False)


def _softplus_reference(x):
    return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))).astype(x.dtype, copy=False)


def _gelu_reference(x):
    return (x * 0.5 * (1 + _erf_reference(x * math.sqrt(0.5)))).astype(x.dtype, copy=False)


def _gelu_tanh_reference(x):
    return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))).astype(x.dtype, copy=False)


def _gelu_tanh_vjp(dy, x):
    k = math.sqrt(2 / math.pi)
    t = tanh((x + x * x * x * 0.044715) * k)
    return dy * ((t + 1) * 0.5 + x * (1 - t * t) * (1 + x * x * (3 * 0.044715)) * (0.5 * k))


_ISQRT2PI = 1 / math.sqrt(2 * math.pi)

# Rules may name what comes later in the table.
cos: Callable[..., Tensor]
gt: Callable[..., Tensor]
lt: Callable[..., Tensor]
pow: Callable[..., Tensor]
sign: Callable[..., Tensor]

abs = _unary("abs", np.abs, lambda dy, x: dy * sign(x), keep_int=True, doc="|x|; derivative sign(x), 0 at 0.")
neg = _unary("neg", np.negative, lambda dy: -dy, keep_int=True, doc="-x; derivative -1.")
exp = _unary("exp", np.exp, lambda dy, y: dy * y, doc="e^x; derivative y.")
log = _unary("log", np.log, lambda dy, x: dy / x, low=0.1, doc="ln x; derivative 1/x.")
log1p = _unary("log1p", np.log1p, lambda dy, x: dy / (x + 1), low=-0.9, doc="ln(1 + x); derivative 1/(1 + x).")
sqrt = _unary("sqrt", np.sqrt, lambda dy, y: dy / (y * 2), low=0.1, doc="sqrt(x); derivative 1/(2y).")
rsqrt = _unary(
    "rsqrt", lambda x: (1 / np.sqrt(x)).astype(x.dtype), lambda dy, y: dy * (y * y * y) * -0.5, low=0.1,
    doc="1/sqrt(x); derivative -y^3/2.",
)  # fmt: skip
square = _unary("square", np.square, lambda dy, x: dy * (x * 2), keep_int=True, doc="x^2; derivative 2x.")
reciprocal = _unary(
    "reciprocal", lambda x: (1 / x).astype(x.dtype), lambda dy, y: -dy * (y * y), low=0.3, doc="1/x; derivative -y^2."
)
sin = _unary("sin", np.sin, lambda dy, x: dy * cos(x), doc="sin x; derivative cos x.")
cos = _unary("cos", np.cos, lambda dy, x: -dy * sin(x), doc="cos x; derivative -sin x.")
tanh = _unary("tanh", np.tanh, lambda dy, y: dy * (1 - y * y), doc="tanh x; derivative 1 - y^2.")
sigmoid = _unary("sigmoid", _stable_sigmoid, lambda dy, y: dy * (y * (1 - y)), doc="1/(1 + e^-x); derivative y(1 - y).")
sign = _unary("sign", np.sign, lambda dy: None, keep_int=True, doc="-1, 0 or 1; derivative 0.")
floor = _unary("floor", np.floor, lambda dy: None, keep_int=True, doc="largest integer <= x; derivative 0.")
ceil = _unary("ceil", np.ceil, lambda dy: None, keep_int=True, doc="smallest integer >= x; derivative 0.")
round = _unary("round", np.rint, lambda dy: None, doc="nearest integer, halves to even; derivative 0.")
erf = _unary(
    "erf", _erf_reference, lambda dy, x: dy * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),
    doc="2/sqrt(pi) * integral of e^(-t^2) from 0 to x; derivative 2/sqrt(pi) e^(-x^2).",
)  # fmt: skip
relu = _unary(
    "relu",
    lambda x: np.maximum(x, x.dtype.type(0)),
    lambda dy, y: dy * (y > 0),
    keep_int=True,
    doc="max(x, 0); derivative 1 where y > 0.",
)
silu = _unary(
    "silu", lambda x: (x * _stable_sigmoid(x)).astype(x.dtype), lambda dy, x: dy * (sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    doc="x sigmoid(x); derivative s(1 + x(1 - s)).",
)  # fmt: skip
_softplus = _unary(
    "softplus", _softplus_reference, lambda dy, x: dy * sigmoid(x), doc="ln(1 + e^x); derivative sigmoid(x)."
)
logsigmoid = _unary(
    "logsigmoid", lambda x: (np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))).astype(x.dtype),
    lambda dy, x: dy * sigmoid(-x), doc="ln sigmoid(x); derivative sigmoid(-x).",
)  # fmt: skip
_gelu = _unary(
    "gelu", _gelu_reference,
    lambda dy, x: dy * ((erf(x * math.sqrt(0.5)) + 1) * 0.5 + x * exp(x * x * -0.5) * _ISQRT2PI),
    cancels=True,
    doc="x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).",
)  # fmt: skip
_gelu_tanh = _unary(
    "gelu_tanh", _gelu_tanh_reference, _gelu_tanh_vjp, cancels=True,
    doc="x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3))), the tanh form of GELU (Hendrycks & Gimpel 2016).",
)  # fmt: skip


def gelu(input, approximate: str = "none"):
    """x Phi(x); with ``approximate="tanh"`` the tanh form GPT-2 uses."""
    if approximate not in ("none", "tanh"):
        raise DTypeError(f"gelu: got approximate={approximate!r}; expected 'none' or 'tanh'.")
    return _gelu(input) if approximate == "none" else _gelu_tanh(input)


def softplus(input, beta: float = 1.0, threshold: float = 20.0):
    """ln(1 + e^(beta x)) / beta; x itself where beta x > threshold."""
    if beta == 1 and threshold == 20:
        return _softplus(input)
    return where(input * beta > threshold, input, _softplus(minimum(input * beta, threshold)) / beta)


def leaky_relu(input, negative_slope: float = 0.01):
    """x where x > 0, else negative_slope * x."""
    return where(input > 0, input, input * negative_slope)


def elu(input, alpha: float = 1.0):
    """x where x > 0, else alpha (e^x - 1)."""
    return where(input > 0, input, (exp(where(input > 0, 0.0, input)) - 1) * alpha)


# -------------------------------------------------------------------------------------------------------------- binary


def _binary(
    name, reference, da, db, *, low=-3.0, high=3.0, floating=False, fused_vjp=None, doc
) -> Callable[..., Tensor]:
    """A row: registers the op and returns the public function."""

    def samples(rng):
        for sa, sb in (((7,), (7,)), ((3, 5), (5,)), ((4, 1), (1, 3)), ((2, 3), ()), ((0, 3), (1, 3)), ((33,), (33,))):
            yield Sample((rng.uniform(low, high, sa), rng.uniform(low, high, sb)))
        a, b = np.meshgrid(EDGES, EDGES)
        yield Sample((a, b), differentiable=False, name="edges")

    op = Op(
        name,
        reference,
        inputs=("a", "b"),
        vjps=(da, db),
        samples=samples,
        broadcasts=True,
        fused_vjp=fused_vjp,
        pointwise=True,
        doc=f"{name}: {doc}",
    )

    def function(input, other):
        if isinstance(input, Tensor) and isinstance(other, Tensor):
            dtype = input.data.dtype
            if dtype is other.data.dtype and (not floating or dtype.kind == "f"):
                try:
                    return apply(op, input, other)
                except (ValueError, RuntimeError):
                    _check_broadcast(name, input, other)  # says it better; looking first would cost every call
                    raise
        x, y = _operands(name, input, other)
        if floating and x.data.dtype.kind != "f":
            x, y = cast_op(x, dtypes.get_default_dtype()), cast_op(y, dtypes.get_default_dtype())
        return apply(op, x, y)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}\n\nShapes broadcast; dtypes are promoted as in PyTorch."
    METHODS.append(function)
    INPLACE.append(function)
    return function


def _half_at_ties(wins, dy, a, b):
    """maximum and minimum give each side half of the gradient where they are equal, as PyTorch does."""
    return dy * (wins(a, b).to(dy.dtype) + (a == b).to(dy.dtype) * 0.5)


_add = _binary("add", np.add, lambda dy: dy, lambda dy: dy, doc="a + b; derivatives 1, 1.")
_sub = _binary("sub", np.subtract, lambda dy: dy, lambda dy: -dy, doc="a - b; derivatives 1, -1.")
mul = _binary(
    "mul", np.multiply, lambda dy, b: dy * b, lambda dy, a: dy * a, fused_vjp=("mul_backward", "a", "b"),
    doc="a b; derivatives b, a.",
)  # fmt: skip
_div = _binary(
    "div", np.true_divide, lambda dy, b: dy / b, lambda dy, a, b: -dy * a / (b * b), low=0.3, floating=True,
    doc="a / b; derivatives 1/b, -a/b^2.",
)  # fmt: skip
pow = _binary(
    "pow", np.power,
    lambda dy, a, b: dy * where(b == 0, a * 0, b * pow(a, b - 1)),
    lambda dy, a, b, y: dy * where(a == 0, a * 0, y * log(where(a == 0, a * 0 + 1, a))),
    low=0.3, doc="a^b; derivatives b a^(b-1), a^b ln a.",
)  # fmt: skip
maximum = _binary(
    "maximum", np.maximum, lambda dy, a, b: _half_at_ties(gt, dy, a, b), lambda dy, a, b: _half_at_ties(gt, dy, b, a),
    doc="the larger; NaN if either is NaN.",
)  # fmt: skip
minimum = _binary(
    "minimum", np.minimum, lambda dy, a, b: _half_at_ties(lt, dy, a, b), lambda dy, a, b: _half_at_ties(lt, dy, b, a),
    doc="the smaller; NaN if either is NaN.",
)  # fmt: skip


def add(input, other, *, alpha=1):
    """input + alpha other."""
    return _add(input, other) if alpha == 1 else _add(input, mul(other, alpha))


def sub(input, other, *, alpha=1):
    """input - alpha other."""
    return _sub(input, other) if alpha == 1 else _sub(input, mul(other, alpha))


def div(input, other, *, rounding_mode=None):
    """input / other; ``rounding_mode`` "floor" or "trunc" rounds the quotient, without a gradient."""
    if rounding_mode is None:
        return _div(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise DTypeError(f"div: got rounding_mode={rounding_mode!r}; expected None, 'floor' or 'trunc'.")
    a, b = _operands("div", input, other)
    with np.errstate(all="ignore"):
        q = np.floor_divide(a.data, b.data) if rounding_mode == "floor" else np.trunc(np.true_divide(a.data, b.data))
    return wrap(np.asarray(q).astype(a.dtype))


def floor_divide(input, other):
    """floor(input / other): Python's //, without a gradient."""
    return div(input, other, rounding_mode="floor")


def remainder(input, other):
    """input - floor(input / other) other: Python's %."""
    return sub(input, mul(div(input, other, rounding_mode="floor"), other))


# --------------------------------------------------------------------------------------- comparison, logic, selection


def _compare(name, reference, doc) -> Callable[..., Tensor]:
    def samples(rng):
        yield Sample(
            (rng.integers(0, 3, (4, 5)).astype(float), rng.integers(0, 3, (5,)).astype(float)), differentiable=False
        )
        yield Sample((np.array(EDGES), np.array(EDGES[::-1])), differentiable=False, name="edges")

    op = Op(name, reference, inputs=("a", "b"), samples=samples, doc=f"{name}: {doc}")

    def function(input, other):
        return apply(op, *_operands(name, input, other))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}; a bool tensor. Shapes broadcast."
    METHODS.append(function)
    return function


eq = _compare("eq", np.equal, "a == b")
ne = _compare("ne", np.not_equal, "a != b")
lt = _compare("lt", np.less, "a < b")
le = _compare("le", np.less_equal, "a <= b")
gt = _compare("gt", np.greater, "a > b")
ge = _compare("ge", np.greater_equal, "a >= b")
logical_and = _compare("logical_and", np.logical_and, "a and b")
logical_or = _compare("logical_or", np.logical_or, "a or b")
logical_xor = _compare("logical_xor", np.logical_xor, "either, not both")


def _predicate(name, reference, doc) -> Callable[..., Tensor]:
    op = Op(
        name,
        reference,
        inputs=("x",),
        samples=lambda rng: iter([Sample((np.array(EDGES),), differentiable=False)]),
        doc=f"{name}: {doc}",
    )

    def function(input):
        return apply(op, input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}; a bool tensor."
    METHODS.append(function)
    return function


logical_not = _predicate("logical_not", np.logical_not, "not x")
isnan = _predicate("isnan", np.isnan, "whether x is NaN")
isinf = _predicate("isinf", np.isinf, "whether x is infinite")
isfinite = _predicate("isfinite", np.isfinite, "whether x is neither infinite nor NaN")


def _where_samples(rng):
    yield Sample((rng.random((3, 4)) > 0.5, rng.standard_normal((3, 4)), rng.standard_normal((4,))))
    yield Sample((rng.random((0, 4)) > 0.5, rng.standard_normal((1, 4)), rng.standard_normal((0, 1))))


def _where_reference(mask, a, b):
    return np.where(mask, a, b)


_where = Op(
    "where",
    _where_reference,
    vjps=(
        None,
        lambda dy, mask: where(mask, dy, wrap(np.zeros((), dy.dtype))),
        lambda dy, mask: where(mask, wrap(np.zeros((), dy.dtype)), dy),
    ),
    samples=_where_samples,
    broadcasts=True,
    doc="where: a where mask, else b.",
)


def where(condition, input=None, other=None):
    """input where condition, else other. Shapes broadcast; dtypes are promoted.

    ``where(condition)`` alone is ``condition.nonzero(as_tuple=True)``.

    >>> import glassgrad as gg
    >>> gg.where(gg.tensor([True, False]), 1.0, 2.0)
    tensor([1., 2.])
    """
    mask = as_tensor(condition)
    if input is None and other is None:
        return mask.nonzero(as_tuple=True)
    if mask.dtype.kind != "b":
        raise DTypeError(
            f"where: condition: got dtype {mask.dtype}; expected bool. Compare it, for instance with != 0."
        )
    a, b = _operands("where", input, other)
    try:
        np.broadcast_shapes(mask.shape, a.shape, b.shape)
    except ValueError:
        raise ShapeError(
            f"where: got condition {mask.shape}, input {a.shape}, other {b.shape}; expected shapes that broadcast."
        ) from None
    return apply(_where, mask, a, b)


def masked_fill(input, mask, value):
    """value where mask, else input."""
    filled = where(mask, as_tensor(value, input.dtype), input)
    if filled.shape != input.shape:
        raise ShapeError(f"masked_fill: mask: got {mask.shape}; expected one that broadcasts to {input.shape}.")
    return filled


def clamp(input, min=None, max=None):
    """min(max(x, min), max); the gradient is 1 inside and on the bounds, else 0."""
    if min is None and max is None:
        raise DTypeError("clamp: got neither min nor max; expected at least one.")
    y = input
    if min is not None:
        y = where(input < min, min, y)
    if max is not None:
        y = where(input > max, max, y)
    return y


METHODS += [gelu, softplus, leaky_relu, elu, add, sub, div, floor_divide, remainder, masked_fill, clamp]
INPLACE += [add, sub, div, floor_divide, remainder, masked_fill, clamp]
__all__ = [
    "abs", "add", "ceil", "clamp", "cos", "div", "elu", "eq", "erf", "exp", "floor", "floor_divide", "ge", "gelu", "gt",
    "isfinite", "isinf", "isnan", "le", "leaky_relu", "log", "log1p", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mul", "ne", "neg", "pow", "reciprocal", "relu",
    "remainder", "round", "rsqrt", "sigmoid", "sign", "silu", "sin", "softplus", "sqrt", "square", "sub", "tanh", "where",
]  # fmt: skip
