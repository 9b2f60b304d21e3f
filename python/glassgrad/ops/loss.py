"""Losses: how wrong a prediction is, in one number per element, summed up by ``reduction`` ("none", "mean" or "sum").

cross_entropy of class indices is the one that is an op; the others are short formulas of other ops.

forward    loss = l - (x_t - m),  m = max_j x_j,  l = ln sum_j exp(x_j - m)      x: the logits of one row, t: its class
           then the mean over the rows that count, the sum, or neither
backward   dx_j = dloss (softmax(x)_j - [j = t])  how much too likely each class is
           Both are 0 for a row whose class is ``ignore_index``.
saves      the logits, the classes, m and l: exp(x - m - l) is the softmax again. (m + l as one number would carry m's
           rounding error, which for logits near 1e4 is 0.1 % of a probability.)
native     csrc/cpu/cross_entropy.cpp
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from ..autograd import no_grad
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, message
from ..op import Op, Sample, apply
from ..tensor import Tensor, wrap
from .elementwise import abs, clamp, exp, log, logsigmoid, maximum, square, where
from .movement import tensor_of
from .norm import cosine_similarity, pairwise_distance
from .softmax import floating, log_softmax, number, softmax


def _cross_entropy_reference(logits, target, *, ignore_index, reduction):
    largest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    shifted = logits - largest
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    rows = np.flatnonzero(target != ignore_index)
    if ((target[rows] < 0) | (target[rows] >= logits.shape[1])).any():
        raise IndexError("a target is no class")
    losses = np.zeros_like(log_sum)
    losses[rows] = log_sum[rows] - shifted[rows, target[rows]]
    if reduction == "mean":
        losses = losses.sum() / logits.dtype.type(len(rows))
    elif reduction == "sum":
        losses = losses.sum()
    return losses, largest[:, 0], log_sum


def _cross_entropy_vjp(dy, logits, target, *, ignore_index, reduction):
    """Without max and log_sum, which as saved numbers would count as constants in a second derivative."""
    target = target.unsqueeze(1)
    is_target = target == wrap(np.arange(logits.shape[1]))
    if reduction == "none":
        dy = dy.unsqueeze(1)
    elif reduction == "mean":
        dy = dy / int((target.data != ignore_index).sum())
    dx = (softmax(logits, 1) - is_target.to(dy.dtype)) * dy
    return where(target == ignore_index, 0.0, dx)


def _cross_entropy_samples(rng):
    each, mean = {"ignore_index": -100, "reduction": "none"}, {"ignore_index": -100, "reduction": "mean"}
    for rows, classes in ((3, 5), (4, 33), (1, 1), (5, 2)):
        inputs = (rng.uniform(-3, 3, (rows, classes)), rng.integers(0, classes, rows))
        yield Sample(inputs, each)
        yield Sample(inputs, mean)
    logits, ignored = rng.uniform(-3, 3, (4, 3)), np.array([2, -100, 0, -100])
    for reduction in ("none", "mean", "sum"):
        static = {"ignore_index": -100, "reduction": reduction}
        yield Sample((logits, ignored), static, name=f"two ignored, {reduction}")
    yield Sample((logits, np.array([2, 1, 0, 1])), {**each, "ignore_index": 1}, name="a class ignored")
    yield Sample((rng.uniform(-3, 3, (5, 4)).T, np.array([0, 4, 2, 2])), each, name="transposed")
    far = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, 1 - 1e4, -2e4]])
    yield Sample((far, np.array([1, 0])), each, name="far from 0")
    yield Sample((np.zeros((0, 3)), np.zeros(0, np.int64)), each, name="no rows")
    yield Sample((np.zeros((2, 0)), np.full(2, -100)), each, name="no classes")
    inf, nan = np.inf, np.nan
    rows = np.array([[0.0, -inf, 1], [0, -inf, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [nan, 0, 1]])
    target = np.array([0, 1, 0, 0, 1, -100])
    yield Sample((rows, target), each, differentiable=False, name="edges")


_cross_entropy = Op(
    "cross_entropy",
    _cross_entropy_reference,
    vjps=(_cross_entropy_vjp, None),
    extras=("max", "log_sum"),
    fused_vjp=("cross_entropy_backward", "logits", "target", "max", "log_sum", "ignore_index", "reduction"),
    samples=_cross_entropy_samples,
    doc="cross_entropy: ln sum(exp(x)) - x[target] per row; derivative softmax(x) - onehot(target).",
)

# ------------------------------------------------------------------------------------------------- checks, reduction


def _check_reduction(op, reduction, allowed=("none", "mean", "sum")):
    if reduction not in allowed:
        raise ArgumentError(
            message(op, "unknown reduction", repr(reduction), f"one of {', '.join(map(repr, allowed))}")
        )


def _reduce(losses, reduction):
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _pair(op, input, target, reduction):
    """Both as tensors that broadcast; a warning where they need to."""
    _check_reduction(op, reduction)
    input, target = floating(op, "input", input), tensor_of(op, target)
    if input.shape != target.shape:
        same_count = input.numel() == target.numel()
        hint = "target.reshape(input.shape) would fit." if same_count else ""
        try:
            shape = np.broadcast_shapes(input.shape, target.shape)
        except ValueError:
            raise ShapeError(message(op, "target does not fit the input", target.shape, input.shape, hint)) from None
        warnings.warn(
            f"{op}: input is {input.shape}, target is {target.shape}: they broadcast to {shape}, so that "
            f"each prediction meets targets that are not its own. Give both the same shape. {hint}".rstrip(),
            UserWarning,
            stacklevel=3,
        )
    return input, target


def _same_shape(op, input, target, reduction):
    _check_reduction(op, reduction)
    input, target = floating(op, "input", input), tensor_of(op, target)
    if input.shape != target.shape:
        hint = "target.reshape(input.shape) would fit." if input.numel() == target.numel() else ""
        raise ShapeError(message(op, "target has another shape than the input", target.shape, input.shape, hint))
    return input, target


def _checked_weight(op, weight, input):
    weight = tensor_of(op, weight)
    if weight.shape != input.shape:
        raise ShapeError(message(op, "weight has another shape than the input", weight.shape, input.shape))
    return weight


def _weighted(op, losses, weight, input, reduction):
    """Each loss times its weight; the mean is by weight."""
    if weight is None:
        return _reduce(losses, reduction)
    weight = _checked_weight(op, weight, input)
    return (losses * weight).sum() / weight.sum() if reduction == "mean" else _reduce(losses * weight, reduction)


def _scaled(losses, weight, reduction):
    """Each loss times its weight, which broadcasts; the mean is over the elements."""
    return _reduce(losses if weight is None else losses * weight, reduction)


# -------------------------------------------------------------------------------------------------------- regression


def mse_loss(input, target, *, reduction: str = "mean", weight=None) -> Tensor:
    """(input - target)^2. With ``weight``, of the input's shape, the mean is sum(weight loss) / sum(weight).

    Shapes: equal. Others that broadcast are computed, with a warning: (n, 1) and (n,) would compare all n^2 pairs.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.mse_loss(gg.tensor([1.0, 4.0]), gg.tensor([1.0, 2.0]))
        tensor(2.)
    """
    input, target = _pair("mse_loss", input, target, reduction)
    return _weighted("mse_loss", square(input - target), weight, input, reduction)


def l1_loss(input, target, *, reduction: str = "mean", weight=None) -> Tensor:
    """|input - target|. Shapes and ``weight`` as ``mse_loss``.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.l1_loss(gg.tensor([1.0, 4.0]), gg.tensor([1.0, 2.0]))
        tensor(1.)
    """
    input, target = _pair("l1_loss", input, target, reduction)
    return _weighted("l1_loss", abs(input - target), weight, input, reduction)


def _huber(d, delta):
    """Both cases are c (d - c / 2), c being d clamped to +-delta."""
    c = clamp(d, -delta, delta)
    return c * (d - c * 0.5)


def huber_loss(input, target, reduction: str = "mean", delta: float = 1.0, weight=None) -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), d = input - target (Huber 1964).

    Shapes as ``mse_loss``. With ``weight``, of the input's shape, the mean is that of weight loss, as in PyTorch.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.huber_loss(gg.tensor([1.0, 4.0]), gg.zeros(2), reduction="none")
        tensor([0.5, 3.5])
    """
    if not delta > 0:
        raise ArgumentError(message("huber_loss", "delta", delta, "delta > 0"))
    input, target = _pair("huber_loss", input, target, reduction)
    weight = None if weight is None else _checked_weight("huber_loss", weight, input)
    return _scaled(_huber(input - target, delta), weight, reduction)


def smooth_l1_loss(input, target, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, d = input - target: huber_loss / beta (Girshick 2015).

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.smooth_l1_loss(gg.tensor([1.0, 4.0]), gg.zeros(2), reduction="none", beta=2.0)
        tensor([0.25, 3.  ])
    """
    number("smooth_l1_loss", "beta", beta, 0)
    input, target = _pair("smooth_l1_loss", input, target, reduction)
    d = input - target
    return _reduce(_huber(d, beta) / beta if beta else abs(d), reduction)


# ---------------------------------------------------------------------------------------------------- classification


def _class_dim(op, input) -> int:
    if not input.ndim:
        raise ShapeError(message(op, "input has no dim of classes", "()", "(C,), (N, C) or (N, C, d1, ...)"))
    dim = min(1, input.ndim - 1)
    if not input.shape[dim]:
        raise ShapeError(message(op, "input has no classes", input.shape, "at least one"))
    return dim


def _class_rows(op, input, target):
    """Logits (rows, C) and classes (rows,) as int64."""
    classes = input.shape[_class_dim(op, input)]
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.dtype.kind not in "iu":
        probabilities = f", or probabilities {input.shape}" if op == "cross_entropy" else ""
        hint = "Use target.to(gg.int64)." if target.shape == expected else ""
        raise DTypeError(
            message(
                op,
                "target",
                f"{target.dtype} {target.shape}",
                f"class indices, integers {expected}{probabilities}",
                hint,
            )
        )
    if target.shape != expected:
        hint = (
            f"One-hot rows? Use target.to(input.dtype), or target.argmax({_class_dim(op, input)})."
            if target.shape == input.shape
            else ""
        )
        raise ShapeError(
            message(op, "target does not fit the input", target.shape, f"{expected} for input {input.shape}", hint)
        )
    if target.dtype != np.int64:
        target = target.to(np.int64)
    if input.ndim == 2:
        return input, target
    if input.ndim > 2:
        input = input.permute(0, *range(2, input.ndim), 1)
    return input.reshape(target.numel(), classes), target.reshape(target.numel())


def _check_classes(op, target, classes, ignore_index):
    """Which rows count: an array, or None for all of them. An error that names the first that is no class."""
    if not target.size:
        return None
    low, high = target.min(), target.max()
    if 0 <= low and high < classes and not low <= ignore_index <= high:
        return None
    counted = target != ignore_index
    wrong = np.argwhere(counted & ((target < 0) | (target >= classes)))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        place = f"target[{', '.join(map(str, index))}]" if index else "target"
        hint = "Classes count from 0; target - 1 would fit." if low == 1 and high == classes else ""
        expected = f"0 <= class < {classes}, or ignore_index={ignore_index}"
        raise AxisError(message(op, f"{place} is no class of the input", target[index], expected, hint))
    return counted.reshape(-1)


def _class_weight(op, weight, input):
    if weight is None:
        return None
    weight = tensor_of(op, weight)
    expected = (input.shape[_class_dim(op, input)],)
    if weight.shape != expected:
        raise ShapeError(message(op, "weight", weight.shape, f"one number per class, {expected}"))
    if weight.dtype != input.dtype:
        raise DTypeError(message(op, "weight has another dtype than the input", weight.dtype, input.dtype))
    return weight


def _nll(log_p, classes, counted, weight):
    """-log_p[i, class_i] weight[class_i] per row, and that weight; both 0 for rows that do not count."""
    index = classes if counted is None else wrap(np.where(counted, classes.data, 0))
    losses = -log_p.gather(1, index.unsqueeze(1)).squeeze(1)
    w = wrap(np.ones(losses.shape, losses.dtype)) if weight is None else weight.gather(0, index)
    losses = losses if weight is None else losses * w
    return (losses, w) if counted is None else (where(wrap(counted), losses, 0.0), where(wrap(counted), w, 0.0))


def cross_entropy(
    input,
    target,
    weight=None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-ln softmax(input)[target]: the surprise at the true class, from logits.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices, integers (N,), () or (N, d1, ...); or probabilities, floating, of the input's shape, for
            which the loss is -sum_c target_c ln softmax(input)_c.
        weight: (C,), a factor per class. The mean of class indices is then sum(loss) / sum(weight[target]).
        ignore_index: rows of this class have no loss and no gradient, and the mean does not count them. Only with
            indices.
        reduction: "none", "mean" or "sum". The mean over no rows is NaN.
        label_smoothing: from 0 to 1; the target becomes (1 - s) target + s / C (Szegedy et al. 2016).

    Raises:
        AxisError: a target that is no class, by its place. ShapeError, DTypeError: a target that does not fit.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.cross_entropy(gg.zeros(2, 10), gg.tensor([3, 7]))  # ln 10: every class equally likely
        tensor(2.3026)
    """
    op = "cross_entropy"
    _check_reduction(op, reduction)
    input, target = floating(op, "input", input), tensor_of(op, target)
    weight = _class_weight(op, weight, input)
    number(op, "label_smoothing", label_smoothing, 0, 1)
    if input.dtype == np.float16:  # sums of exponentials want more than 11 bits
        weight = weight if weight is None else weight.to(np.float32)
        target = target.to(np.float32) if target.dtype == np.float16 else target
        losses = cross_entropy(
            input.to(np.float32),
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        return losses.to(np.float16)
    if target.dtype.kind == "f" and target.shape == input.shape:
        if ignore_index >= 0:
            raise ArgumentError(message(op, "ignore_index with probabilities", ignore_index, "class indices as target"))
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing)

    rows, classes = _class_rows(op, input, target)
    if weight is None and not label_smoothing:
        try:
            loss = apply(_cross_entropy, rows, classes, ignore_index=ignore_index, reduction=reduction)
        except (IndexError, RuntimeError):  # the kernel looks at every class; what is wrong with one is said here
            _check_classes(op, target.data, rows.shape[1], ignore_index)
            raise
        return loss.reshape(target.shape) if reduction == "none" and target.ndim != 1 else loss

    counted = _check_classes(op, target.data, rows.shape[1], ignore_index)
    log_p = log_softmax(rows, 1)
    losses, w = _nll(log_p, classes, counted, weight)
    if label_smoothing:
        spread = -(log_p if weight is None else log_p * weight).sum(1)
        spread = spread if counted is None else where(wrap(counted), spread, 0.0)
        losses = losses * (1 - label_smoothing) + spread * (label_smoothing / rows.shape[1])
    return _reduce_by_weight(losses, w, reduction, target.shape)


def _reduce_by_weight(losses, w, reduction, shape):
    if reduction == "none":
        return losses.reshape(shape)
    return losses.sum() / w.sum() if reduction == "mean" else losses.sum()


def _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing):
    dim = _class_dim("cross_entropy", input)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    log_p = log_softmax(input, dim)
    if weight is not None:
        log_p = log_p * weight.reshape((-1,) + (1,) * (input.ndim - 1 - dim))
    return _reduce(-(log_p * target).sum(dim), reduction)


def nll_loss(input, target, weight=None, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-input[target]: cross_entropy of logarithms of probabilities, such as ``log_softmax`` gives. Arguments as there.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.nll_loss(gg.tensor([[-0.1, -2.4]]), gg.tensor([1]))
        tensor(2.4)
    """
    _check_reduction("nll_loss", reduction)
    input, target = floating("nll_loss", "input", input), tensor_of("nll_loss", target)
    weight = _class_weight("nll_loss", weight, input)
    rows, classes = _class_rows("nll_loss", input, target)
    counted = _check_classes("nll_loss", target.data, rows.shape[1], ignore_index)
    losses, w = _nll(rows, classes, counted, weight)
    return _reduce_by_weight(losses, w, reduction, target.shape)


# --------------------------------------------------------------------------------------------------- probabilities


def _bounded_log(x):
    """ln x, no less than -100, with the slope 1 / max(x, 1e-12): a prediction of exactly 0 still learns, finitely."""
    if not x.numel() or x.data.min() >= 1e-12:
        return log(x)
    with no_grad():
        lift = clamp(x, min=1e-12) - x
        bounded = maximum(log(x), -100.0)
    y = log(x + lift)
    return y + (bounded - y.detach())


def binary_cross_entropy(input, target, weight=None, *, reduction: str = "mean") -> Tensor:
    """-(t ln p + (1 - t) ln(1 - p)) for probabilities p = input and targets t; a logarithm is at least -100.

    Prefer ``binary_cross_entropy_with_logits``, which stays exact where p rounds to 0 or 1.

    Args:
        weight: a factor per element; broadcasts.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.binary_cross_entropy(gg.tensor([0.5, 0.0]), gg.tensor([1.0, 1.0]), reduction="none")
        tensor([  0.6931, 100.    ])
    """
    op = "binary_cross_entropy"
    p, t = _same_shape(op, input, target, reduction)
    if p.numel() and not (p.data.min() >= 0 and p.data.max() <= 1):
        wrong = p.data[~((p.data >= 0) & (p.data <= 1))][0]
        hint = "Apply sigmoid first, or use binary_cross_entropy_with_logits."
        raise ArgumentError(message(op, "input is no probability", wrong, "0 <= input <= 1", hint))
    return _scaled(-(t * _bounded_log(p) + (1 - t) * _bounded_log(1 - p)), weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, *, reduction: str = "mean", pos_weight=None) -> Tensor:
    """-(pos_weight t ln sigmoid(x) + (1 - t) ln sigmoid(-x)) for logits x = input and targets t.

    Args:
        weight: a factor per element; broadcasts.
        pos_weight: a factor for the positive targets, for instance negatives / positives per class; broadcasts.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.binary_cross_entropy_with_logits(gg.tensor([0.0, -200.0]), gg.tensor([1.0, 1.0]), reduction="none")
        tensor([  0.6931, 200.    ])
    """
    x, t = _same_shape("binary_cross_entropy_with_logits", input, target, reduction)
    positive = t if pos_weight is None else t * pos_weight
    return _scaled(-(positive * logsigmoid(x) + (1 - t) * logsigmoid(-x)), weight, reduction)


def kl_div(input, target, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (ln t - input): the Kullback-Leibler divergence of q = exp(input), given as logarithms, from t = target.

    Args:
        reduction: "batchmean" divides the sum by the first size, which is the divergence of the mathematics; "mean"
            divides by the number of elements, with a warning.
        log_target: the target is given as logarithms too.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.kl_div(gg.tensor([[0.5, 0.5]]).log(), gg.tensor([[1.0, 0.0]]), reduction="batchmean")
        tensor(0.6931)
    """
    op = "kl_div"
    _check_reduction(op, reduction, ("none", "mean", "batchmean", "sum"))
    input, target = floating(op, "input", input), floating(op, "target", target)
    if reduction == "mean":
        warnings.warn(
            "kl_div: 'mean' divides by every element; 'batchmean' gives the divergence.", UserWarning, stacklevel=2
        )
    if log_target:
        losses = exp(target) * (target - input)
    else:
        losses = target * (log(where(target == 0, 1.0, target)) - input)
    if reduction == "batchmean":
        return losses.sum() / input.shape[0] if input.ndim else losses
    return _reduce(losses, reduction)


def poisson_nll_loss(
    input, target, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """exp(input) - target input, or input - target ln(input + eps): how badly a rate explains counts.

    Args:
        log_input: the input is the logarithm of the rate.
        full: add Stirling's approximation of ln(target!) where target > 1.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.poisson_nll_loss(gg.tensor([0.0]), gg.tensor([2.0]))
        tensor(1.)
    """
    input, target = _pair("poisson_nll_loss", input, target, reduction)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        t = where(target > 1, target, 1.0)
        losses = losses + where(target > 1, t * log(t) - t + log(t * (2 * math.pi)) * 0.5, 0.0)
    return _reduce(losses, reduction)


def gaussian_nll_loss(input, target, var, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Tensor:
    """(ln v + (input - target)^2 / v) / 2, v = max(var, eps) (Nix & Weigend 1994).

    Args:
        var: a number or a tensor: one variance per element, or per row (one dim less, or a last size of 1).
        full: add ln(2 pi) / 2.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.gaussian_nll_loss(gg.tensor([1.0]), gg.tensor([3.0]), gg.tensor([1.0]))
        tensor(2.)
    """
    op = "gaussian_nll_loss"
    input, target = _pair(op, input, target, reduction)
    var = tensor_of(op, var).to(input.dtype)
    if var.numel() and not var.data.min() >= 0:
        raise ArgumentError(message(op, "var is negative or NaN", var.data.min(), "var >= 0"))
    if var.ndim and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    if var.ndim and (
        var.ndim != input.ndim or any(v not in (1, n) for v, n in zip(var.shape, input.shape, strict=True))
    ):
        raise ShapeError(
            message(op, "var does not fit the input", var.shape, f"{input.shape}, or a 1 in place of a size")
        )
    with no_grad():
        lift = clamp(var, min=eps) - var
    v = var + lift  # below eps the slope is that at eps: the gradient of var must not vanish there
    losses = (log(v) + square(input - target) / v) * 0.5
    return _reduce(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def soft_margin_loss(input, target, *, reduction: str = "mean") -> Tensor:
    """ln(1 + exp(-target input)) for targets 1 and -1.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.soft_margin_loss(gg.tensor([0.0]), gg.tensor([-1.0]))
        tensor(0.6931)
    """
    input, target = _pair("soft_margin_loss", input, target, reduction)
    return _reduce(-logsigmoid(target * input), reduction)


# ----------------------------------------------------------------------------------------------------------- distances


def _at_least_0(x):
    return clamp(x, min=0.0)


def cosine_embedding_loss(input1, input2, target, margin: float = 0.0, *, reduction: str = "mean") -> Tensor:
    """1 - cos(input1, input2) where target is 1; max(0, cos - margin) where it is -1. Inputs (N, D) or (D,).

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.cosine_embedding_loss(gg.tensor([[1.0, 0.0]]), gg.tensor([[0.0, 1.0]]), gg.tensor([1]))
        tensor(1.)
    """
    op = "cosine_embedding_loss"
    _check_reduction(op, reduction)
    input1, input2, target = floating(op, "input1", input1), floating(op, "input2", input2), tensor_of(op, target)
    if input1.shape != input2.shape or target.ndim + 1 != input1.ndim or target.shape != input1.shape[:-1]:
        got = f"{input1.shape}, {input2.shape} and target {target.shape}"
        raise ShapeError(message(op, "shapes do not fit", got, "(N, D), (N, D) and (N,), or (D,), (D,) and ()"))
    cosine = cosine_similarity(input1, input2, -1)
    losses = where(target == 1, 1 - cosine, where(target == -1, _at_least_0(cosine - margin), 0.0))
    return _reduce(losses, reduction)


def margin_ranking_loss(input1, input2, target, margin: float = 0.0, *, reduction: str = "mean") -> Tensor:
    """max(0, -target (input1 - input2) + margin): target 1 wants input1 the larger, -1 the smaller.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.margin_ranking_loss(gg.tensor([1.0]), gg.tensor([3.0]), gg.tensor([1]))
        tensor(2.)
    """
    op = "margin_ranking_loss"
    _check_reduction(op, reduction)
    d = floating(op, "input2", input2) - floating(op, "input1", input1)
    return _reduce(_at_least_0(tensor_of(op, target) * d + margin), reduction)


def hinge_embedding_loss(input, target, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """input where target is 1; max(0, margin - input) where it is -1; for distances of like and unlike pairs.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.hinge_embedding_loss(gg.tensor([0.25, 0.25]), gg.tensor([1, -1]), reduction="none")
        tensor([0.25, 0.75])
    """
    input, target = _pair("hinge_embedding_loss", input, target, reduction)
    losses = where(target == 1, input, 0.0) + where(target == -1, _at_least_0(margin - input), 0.0)
    return _reduce(losses, reduction)


def triplet_margin_loss(
    anchor,
    positive,
    negative,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference (Balntas et al. 2016).

    Args:
        swap: use d(positive, negative) in place of d(anchor, negative) where it is smaller.

    Example:
        >>> import glassgrad as gg
        >>> from glassgrad.nn import functional as F
        >>> F.triplet_margin_loss(gg.zeros(1, 2), gg.tensor([[3.0, 4.0]]), gg.tensor([[0.0, 5.0]]))
        tensor(1.)
    """
    _check_reduction("triplet_margin_loss", reduction)
    if not margin > 0:
        raise ArgumentError(message("triplet_margin_loss", "margin", margin, "margin > 0"))
    to_negative = pairwise_distance(anchor, negative, p, eps)
    if swap:
        other = pairwise_distance(positive, negative, p, eps)
        to_negative = where(other < to_negative, other, to_negative)
    return _reduce(_at_least_0(pairwise_distance(anchor, positive, p, eps) - to_negative + margin), reduction)


METHODS = ()
__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
    "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss",
    "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
]  # fmt: skip
