"""Normalisation: subtract the mean, divide by the standard deviation, then scale and shift by learnt parameters.

forward    h = (x - mean) rstd,   rstd = 1 / sqrt(var + eps),   y = h weight + bias
           mean and var are taken over a set S of m elements: for batch_norm all elements of a channel (Ioffe & Szegedy
           2015), for layer_norm all of one sample (Ba, Kiros & Hinton 2016), for group_norm a group of one sample's
           channels (Wu & He 2018). var divides by m.
backward   with g = dy weight, every element of S reaches the loss in three ways, and the chain rule adds them up:
               directly          rstd g
               through the mean  -rstd mean_S(g)        the mean moves by 1/m, and every h in S by -rstd/m
               through the var   -rstd h mean_S(g h)    the squared distances change by 2 (x - mean) / m
           dx = rstd (g - mean_S(g) - h mean_S(g h)):  g without its mean and without its component along h, so
           that a step along dx neither shifts nor stretches x. dweight = sum of dy h, dbias = sum of dy.
saves      x, and mean and rstd (one number per set). When the gradient is to be differentiated again they are computed
           anew from x, since as saved numbers they would count as constants.
native     csrc/cpu/norm.cpp
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import mode
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..op import Op, Sample, apply, run
from ..tensor import Tensor, wrap
from .elementwise import clamp, rsqrt
from .softmax import floating, number

# --------------------------------------------------------------------------------------------- what all norms share


def _normalised(x, dims, eps):
    """(h, mean, rstd) over ``dims``, which stay with size 1. Of no values mean and rstd are NaN."""
    count = math.prod(x.shape[d] for d in dims)
    mean = x.sum(axis=dims, keepdims=True) / count
    centred = x - mean
    rstd = 1 / np.sqrt((centred * centred).sum(axis=dims, keepdims=True) / count + eps)
    return centred * rstd, mean, rstd


def _statistics(x, dims, eps):
    """mean and rstd as differentiable functions of the Tensor ``x``."""
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    return mean, rsqrt((centred * centred).mean(dims, keepdim=True) + eps)


def _vjp(dy, x, weight, mean, rstd, needs, dims, beside_x):
    """dx, dweight, dbias. ``beside_x``: the shape in which weight and bias broadcast to x."""
    dx = dweight = dbias = None
    h = (x - mean) * rstd
    if needs[0]:
        g = dy if weight is None else dy * weight.reshape(beside_x)
        dx = rstd * (g - g.mean(dims, keepdim=True) - h * (g * h).mean(dims, keepdim=True))
    if needs[1]:
        dweight = (dy * h).sum_to_size(beside_x).reshape(weight.shape)
    if needs[2]:
        dbias = dy.sum_to_size(beside_x)
    return dx, dweight, dbias


# ------------------------------------------------------------------------------------------------------- layer_norm


def _layer_norm_reference(x, weight, bias, *, ndims, eps):
    y, mean, rstd = _normalised(x, tuple(range(x.ndim - ndims, x.ndim)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, rstd


def _layer_norm_vjp(dy, x, weight, mean, rstd, needs, *, ndims, eps):
    dims = tuple(range(x.ndim - ndims, x.ndim))
    if mode.grad:
        mean, rstd = _statistics(x, dims, eps)
    return _vjp(dy, x, weight, mean, rstd, needs, dims, x.shape[x.ndim - ndims :])


def _layer_norm_samples(rng):
    def parameters(*shape):
        return rng.uniform(0.5, 2, shape), rng.standard_normal(shape)

    for shape, ndims in (((3, 5), 1), ((2, 33), 1), ((2, 3, 4), 2), ((2, 3, 4), 3), ((6,), 1), ((0, 5), 1)):
        yield Sample(
            (rng.standard_normal(shape), *parameters(*shape[len(shape) - ndims :])), {"ndims": ndims, "eps": 1e-5}
        )
    x = rng.standard_normal((4, 5)) + 3
    weight, bias = parameters(5)
    yield Sample((x, None, None), {"ndims": 1, "eps": 1e-5}, name="without parameters")
    yield Sample((x, weight, None), {"ndims": 1, "eps": 0.1}, name="without bias")
    yield Sample((x, None, bias), {"ndims": 1, "eps": 0.1}, name="without weight")
    yield Sample((rng.standard_normal((5, 3)).T, weight, bias), {"ndims": 1, "eps": 1e-5}, name="transposed")
    yield Sample((np.ones((2, 1)), None, None), {"ndims": 1, "eps": 1.0}, name="one value")
    yield Sample((np.ones((2, 0)), None, None), {"ndims": 1, "eps": 1e-5}, name="no values")
    inf, nan = np.inf, np.nan
    rows = np.array([[1.0, nan, 2], [1, inf, 2], [0, 0, 0], [1e15, -1e15, 0]])
    yield Sample((rows, None, None), {"ndims": 1, "eps": 1e-5}, differentiable=False, name="edges")


_layer_norm = Op(
    "layer_norm",
    _layer_norm_reference,
    vjp=_layer_norm_vjp,
    extras=("mean", "rstd"),
    fused_vjp=("layer_norm_backward", "x", "weight", "mean", "rstd", "ndims"),
    samples=_layer_norm_samples,
    doc="layer_norm: h weight + bias, h = (x - mean) rstd over the last dims; derivative with g = dy weight: "
    "rstd (g - mean(g) - h mean(g h)).",
)

# ------------------------------------------------------------------------------------------------------- batch_norm


def _batch_dims(x):
    """The dims that statistics run over, and the shape of one number per channel beside x: (N, C, ...)."""
    return (0, *range(2, x.ndim)), (x.shape[1],) + (1,) * (x.ndim - 2)


def _batch_norm_reference(x, weight, bias, *, eps):
    dims, per_channel = _batch_dims(x)
    y, mean, rstd = _normalised(x, dims, eps)
    y = y if weight is None else y * weight.reshape(per_channel)
    return y if bias is None else y + bias.reshape(per_channel), mean.reshape(-1), rstd.reshape(-1)


def _batch_norm_vjp(dy, x, weight, mean, rstd, needs, *, eps):
    dims, per_channel = _batch_dims(x)
    mean, rstd = _statistics(x, dims, eps) if mode.grad else (mean.reshape(per_channel), rstd.reshape(per_channel))
    dx, dweight, dbias = _vjp(dy, x, weight, mean, rstd, needs, dims, per_channel)
    return dx, dweight, dbias if dbias is None else dbias.reshape(x.shape[1])


def _batch_norm_eval_reference(x, weight, bias, mean, var, *, eps):
    _, per_channel = _batch_dims(x)
    y = (x - mean.reshape(per_channel)) * (1 / np.sqrt(var + eps)).astype(x.dtype, copy=False).reshape(per_channel)
    y = y if weight is None else y * weight.reshape(per_channel)
    return y if bias is None else y + bias.reshape(per_channel)


def _batch_norm_eval_vjp(dy, x, weight, mean, var, needs, *, eps):
    """The statistics are constants here: y is an affine function of x, and dx = dy weight rstd has one term."""
    _, per_channel = _batch_dims(x)
    channel = x.shape[1]
    rstd = rsqrt(var + eps)
    h = (x - mean.reshape(per_channel)) * rstd.reshape(per_channel)
    scale = rstd if weight is None else rstd * weight
    dbias = dy.sum_to_size(per_channel).reshape(channel)
    dh = (dy * h).sum_to_size(per_channel).reshape(channel)
    return (
        dy * scale.reshape(per_channel) if needs[0] else None,
        dh if needs[1] else None,
        dbias if needs[2] else None,
        -dbias * scale if needs[3] else None,
        dh * scale * rstd * -0.5 if needs[4] else None,
    )


def _batch_norm_samples(rng):
    def parameters(c):
        return rng.uniform(0.5, 2, c), rng.standard_normal(c)

    for shape in ((5, 3), (2, 3, 5), (2, 3, 4, 3), (5, 17), (4, 1, 5), (1, 2, 9)):
        yield Sample((rng.standard_normal(shape), *parameters(shape[1])), {"eps": 1e-5})
    x = rng.standard_normal((4, 2, 3)) - 3
    weight, bias = parameters(2)
    yield Sample((x, None, None), {"eps": 1e-5}, name="without parameters")
    yield Sample((x, weight, None), {"eps": 0.1}, name="without bias")
    yield Sample((x, None, bias), {"eps": 0.1}, name="without weight")
    yield Sample(
        (np.moveaxis(rng.standard_normal((4, 3, 2)), -1, 1), weight, bias), {"eps": 1e-5}, name="channels last"
    )
    yield Sample((np.ones((2, 0, 3)), np.ones(0), np.ones(0)), {"eps": 1e-5}, name="no channels")
    yield Sample((np.ones((0, 2)), weight, bias), {"eps": 1e-5}, name="no values")
    inf, nan = np.inf, np.nan
    columns = np.array([[1.0, nan, 2], [1, inf, 2], [0, 0, 0], [1e15, -1e15, 0]]).T
    yield Sample((columns, None, None), {"eps": 1e-5}, differentiable=False, name="edges")


def _batch_norm_eval_samples(rng):
    for sample in _batch_norm_samples(rng):
        c = sample.inputs[0].shape[1]
        statistics = rng.standard_normal(c), rng.uniform(0.5, 2, c)
        yield Sample((*sample.inputs, *statistics), sample.static, sample.differentiable, sample.name)


_batch_norm = Op(
    "batch_norm",
    _batch_norm_reference,
    vjp=_batch_norm_vjp,
    extras=("mean", "rstd"),
    fused_vjp=("batch_norm_backward", "x", "weight", "mean", "rstd"),
    samples=_batch_norm_samples,
    doc="batch_norm: h weight + bias, h = (x - mean) rstd per channel; derivative with g = dy weight: "
    "rstd (g - mean(g) - h mean(g h)).",
)
_batch_norm_eval = Op(
    "batch_norm_eval",
    _batch_norm_eval_reference,
    vjp=_batch_norm_eval_vjp,
    samples=_batch_norm_eval_samples,
    doc="batch_norm_eval: (x - mean) rstd weight + bias with rstd = 1 / sqrt(var + eps); derivative dy weight rstd.",
)

# --------------------------------------------------------------------------------------------------- public functions


def _working(op, input, shape, eps, **parameters):
    """The input and its parameters, each of ``shape``, checked. float16 as float32: squares beyond 65504 overflow."""
    number(op, "eps", eps, 0)
    half = input.dtype == np.float16
    checked = []
    for name, p in parameters.items():
        if p is not None:
            if not isinstance(p, Tensor):
                raise DTypeError(message(op, name, type(p).__name__, "a tensor"))
            if p.shape != shape:
                raise ShapeError(
                    message(op, f"{name} has the wrong shape", p.shape, f"{shape} for input {input.shape}")
                )
            if p.dtype != input.dtype and not (half and p.dtype == np.float32):
                hint = f"Use {name}.to(input.dtype)." if p.dtype.kind == "f" else ""
                raise DTypeError(message(op, f"{name} has another dtype than the input", p.dtype, input.dtype, hint))
        checked.append(p.to(np.float32) if half and p is not None else p)
    return (input.to(np.float32) if half else input), *checked


def _last_sizes(op, input, normalized_shape) -> tuple[int, ...]:
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape:
        raise ArgumentError(message(op, "normalized_shape is empty", "()", "at least one size"))
    if input.shape[-len(shape) :] != shape:
        raise ShapeError(message(op, "normalized_shape does not fit", shape, f"the last sizes of input {input.shape}"))
    return shape


def _channels(op, input, more=0) -> int:
    if input.ndim < 2 + more:
        raise ShapeError(
            message(op, "too few dims", input.shape, "(N, C, L, ...)" if more else "(N, C) or (N, C, ...)")
        )
    return input.shape[1]


def _affine(y, weight, bias):
    """y weight + bias per channel."""
    per_channel = (y.shape[1],) + (1,) * (y.ndim - 2)
    y = y if weight is None else y * weight.reshape(per_channel)
    return y if bias is None else y + bias.reshape(per_channel)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dims (Ba, Kiros & Hinton 2016).

    Args:
        normalized_shape: the sizes of those dims, or the size of the last one; also the shape of weight and bias.

    Raises:
        ShapeError: normalized_shape, weight or bias do not fit. DTypeError: not floating, or of two dtypes.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.layer_norm(gg.tensor([[1.0, 3.0], [5.0, 5.0]]), 2)
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    input = floating("layer_norm", "input", input)
    shape = _last_sizes("layer_norm", input, normalized_shape)
    x, weight, bias = _working("layer_norm", input, shape, eps, weight=weight, bias=bias)
    return apply(_layer_norm, x, weight, bias, ndims=len(shape), eps=eps).to(input.dtype)


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of (N, C, ...) (Ioffe & Szegedy 2015).

    Training: mean and var are the batch's, and the running ones, if given, move towards them in place:
    running = (1 - momentum) running + momentum batch, where the variance is the unbiased one (divided by m - 1).
    Otherwise: mean and var are the running ones.

    Args:
        running_mean, running_var, weight, bias: (C,) or None.
        momentum: a number; ``nn.BatchNorm``'s None (a plain average over all batches) is 1 / number of batches here.

    Raises:
        ShapeError: training with one value per channel, whose variance says nothing; a parameter not (C,).

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> mean, var = gg.zeros(1), gg.ones(1)
        >>> F.batch_norm(gg.tensor([[1.0], [3.0]]), mean, var, training=True, momentum=0.5)
        tensor([[-1.],
                [ 1.]])
        >>> mean, var
        (tensor([1.]), tensor([1.5]))
    """
    op = "batch_norm"
    input = floating(op, "input", input)
    c = _channels(op, input)
    x, weight, bias, mean, var = _working(
        op, input, (c,), eps, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var
    )
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            message(op, "half of the running statistics", "one of running_mean, running_var", "both or neither")
        )
    if not training:
        if running_mean is None:
            raise ArgumentError(
                message(op, "no running statistics", "None", "running_mean and running_var", "Or pass training=True.")
            )
        return apply(_batch_norm_eval, x, weight, bias, mean, var, eps=eps).to(input.dtype)
    count = x.numel() // c if c else 0
    if count == 1:
        raise ShapeError(
            message(op, "one value per channel in training", input.shape, "more than 1", "Use a larger batch.")
        )
    if not count:
        return _affine(x, weight, bias).to(input.dtype)  # empty; and nothing for the running statistics to learn
    if running_mean is None:
        return apply(_batch_norm, x, weight, bias, eps=eps).to(input.dtype)
    number(op, "momentum", momentum, 0, 1)
    y, mean, rstd = _with_statistics(x, weight, bias, eps)
    # 1 / rstd^2 - eps in double is off by no more than an ulp of var + eps, which is all that evaluation ever uses.
    variance = np.maximum(1 / np.square(rstd, dtype=np.float64) - eps, 0) * (count / (count - 1))
    for running, batch in ((running_mean, mean), (running_var, variance)):
        running.data[...] = (1 - momentum) * running.data + momentum * batch
        running.bump_version()
    return y.to(input.dtype)


def _with_statistics(x, weight, bias, eps):
    """batch_norm's y, and the mean and rstd that backward saves, as arrays."""
    if mode.grad and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        y = apply(_batch_norm, x, weight, bias, eps=eps)
        saved = dict(zip(y.grad_fn.plan.names, y.grad_fn.saved, strict=True))
        return y, saved["mean"].data, saved["rstd"].data
    y, mean, rstd = run(_batch_norm, *[t if t is None else t.data for t in (x, weight, bias)], eps=eps)
    return wrap(y), mean, rstd


def _grouped(x, groups, eps):
    """Each of ``groups`` runs of channels of each sample normalised by itself: layer_norm of another shape."""
    size = math.prod(x.shape[1:]) // groups
    return apply(_layer_norm, x.reshape(x.shape[0], groups, size), None, None, ndims=1, eps=eps).reshape(x.shape)


def group_norm(input, num_groups: int, weight=None, bias=None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics per group of channels of one sample (Wu & He 2018).

    Shape: input (N, C, ...), weight and bias (C,).

    Raises:
        ArgumentError: num_groups does not divide C. ShapeError: one value per group.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.group_norm(gg.tensor([[1.0, 3.0, 10.0, 30.0]]), 2)
        tensor([[-1.,  1., -1.,  1.]])
    """
    op = "group_norm"
    input = floating(op, "input", input)
    c = _channels(op, input)
    if not hasattr(num_groups, "__index__") or num_groups < 1 or c % num_groups:
        raise ArgumentError(message(op, "num_groups does not divide the channels", num_groups, f"a divisor of {c}"))
    if math.prod(input.shape) == num_groups:
        raise ShapeError(
            message(op, "one value per group", input.shape, "more than 1", f"{c} channels, {num_groups} groups.")
        )
    x, weight, bias = _working(op, input, (c,), eps, weight=weight, bias=bias)
    return _affine(_grouped(x, num_groups, eps), weight, bias).to(input.dtype)


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, statistics over one channel of one sample (Ulyanov et al. 2016).

    Shape: input (N, C, L, ...), the others (C,). The running statistics, if given, move as in ``batch_norm``, towards
    the average over the samples; with ``use_input_stats=False`` they are used instead.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.instance_norm(gg.tensor([[[1.0, 3.0], [10.0, 30.0]]]))
        tensor([[[-1.,  1.],
                 [-1.,  1.]]])
    """
    op = "instance_norm"
    input = floating(op, "input", input)
    c = _channels(op, input, more=1)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    n, _, *spatial = input.shape
    if math.prod(spatial) == 1:
        raise ShapeError(message(op, "one value per channel and sample", input.shape, "more than 1"))
    x, weight, bias, mean, var = _working(
        op, input, (c,), eps, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var
    )
    if running_mean is None and running_var is None:
        y = _grouped(x, c, eps) if c else x
    else:
        folded = x.reshape(1, n * c, *spatial)
        means, variances = (None if t is None else wrap(np.tile(t.data, n)) for t in (mean, var))
        y = batch_norm(folded, means, variances, training=True, momentum=momentum, eps=eps).reshape(x.shape)
        for running, moved in ((running_mean, means), (running_var, variances)):
            if n and moved is not None:
                running.data[...] = moved.data.reshape(n, c).mean(0)
                running.bump_version()
    return _affine(y, weight, bias).to(input.dtype)


def rms_norm(input, normalized_shape, weight=None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dims (Zhang & Sennrich 2019). eps None: the dtype's epsilon.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.rms_norm(gg.tensor([3.0, 3.0, 3.0, 3.0]), 4)
        tensor([1., 1., 1., 1.])
    """
    input = floating("rms_norm", "input", input)
    shape = _last_sizes("rms_norm", input, normalized_shape)
    x, weight = _working("rms_norm", input, shape, 0.0 if eps is None else eps, weight=weight)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    y = x * rsqrt((x * x).mean(tuple(range(x.ndim - len(shape), x.ndim)), keepdim=True) + eps)
    return (y if weight is None else y * weight).to(input.dtype)


# ----------------------------------------------------------------------------------------- lengths and directions


def normalize(input, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(||x||_p, eps) along ``dim``: vectors of length 1.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.normalize(gg.tensor([3.0, 4.0]), dim=0)
        tensor([0.6, 0.8])
    """
    x = floating("normalize", "input", input)
    return x / clamp(x.norm(p, dim, keepdim=True), min=eps)


def cosine_similarity(x1, x2, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along ``dim``: the cosine of their angle. Shapes broadcast.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.cosine_similarity(gg.tensor([1.0, 0.0]), gg.tensor([1.0, 1.0]), dim=0)
        tensor(0.7071)
    """
    x1, x2 = floating("cosine_similarity", "x1", x1), floating("cosine_similarity", "x2", x2)
    return (normalize(x1, 2.0, dim, eps) * normalize(x2, 2.0, dim, eps)).sum(dim)


def pairwise_distance(x1, x2, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """||x1 - x2 + eps||_p along the last dim.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.pairwise_distance(gg.zeros(1, 2), gg.tensor([[3.0, 4.0]]))
        tensor([5.])
    """
    x1, x2 = floating("pairwise_distance", "x1", x1), floating("pairwise_distance", "x2", x2)
    return (x1 - x2 + eps).norm(p, -1, keepdim)


METHODS = ()
__all__ = [
    "batch_norm", "cosine_similarity", "group_norm", "instance_norm", "layer_norm", "normalize", "pairwise_distance",
    "rms_norm",
]  # fmt: skip
