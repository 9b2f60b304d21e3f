"""Optimizer steps: each updates all parameters of a group in place, in one call.

No gradient passes through a step, so these are not ops: lists of arrays in, nothing out. Here stands the NumPy
reference; the native kernel of the same name (``csrc/cpu/optim.cpp``) takes the same arguments. In all of them g is the
gradient, negated when ``maximize``, plus weight_decay p.
"""

from __future__ import annotations

import functools

import numpy as np

from .. import backends
from ..errors import MissingKernel


def _step(reference):
    """``reference`` as a function that uses the current backend's kernel of the same name where it has one."""
    name = reference.__name__

    @functools.wraps(reference)
    def step(params, *lists, **hyper):
        backend = backends.current()
        native = backend.fused(name)
        if native is not None:
            if native(params, *lists, **hyper) is not NotImplemented:
                return
            if not all(p.flags.c_contiguous for p in params):  # as a transposed weight is
                copies = [np.ascontiguousarray(p).reshape(p.shape) for p in params]
                if native(copies, *lists, **hyper) is not NotImplemented:
                    for p, new in zip(params, copies, strict=True):
                        p[...] = new
                    return
        if backend.name == "cpp":
            if backend.strict:
                dtypes = ", ".join(sorted({str(p.dtype) for p in params}))
                raise MissingKernel(
                    f"{name}: no native kernel for ({dtypes}), and GLASSGRAD_STRICT=1 forbids the reference."
                )
            backend.fallbacks[name] += 1
        with np.errstate(all="ignore"):  # an exploding run gives inf and NaN in silence, as natively
            reference(params, *lists, **hyper)

    step.reference = reference
    return step


def _effective(p, g, weight_decay, maximize):
    g = -g if maximize else g
    return g + weight_decay * p if weight_decay else g


@_step
def sgd_step(params, grads, momentum_buffers, *, first, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """p -= lr d, d = g; with momentum m = momentum m + (1 - dampening) g and d = m, nesterov: d = g + momentum m.

    Args:
        momentum_buffers: m of each parameter; empty when momentum is 0.
        first: whether m is still to be filled, with g itself.
    """
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        d = g = _effective(p, g, weight_decay, maximize)
        if momentum:
            m = momentum_buffers[i]
            m[...] = g if first[i] else momentum * m + (1 - dampening) * g
            d = g + momentum * m if nesterov else m
        p -= lr * d


@_step
def adam_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs,
    *, steps, lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, maximize,
):  # fmt: skip
    """p -= lr m' / (sqrt(v') + eps) with m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2 (Kingma & Ba 2015).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) undo the pull of the zeros both start from; t = ``steps[i]`` is 1
    in the first step. ``decoupled``: the weight decays by itself, p -= lr weight_decay p, instead of through g (AdamW,
    Loshchilov & Hutter 2019). ``amsgrad``: v' uses the largest v so far (Reddi et al. 2018).
    """
    for i, (p, g, m, v) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)):
        g = _effective(p, g, 0 if decoupled else weight_decay, maximize)
        if decoupled:
            p *= 1 - lr * weight_decay
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        if amsgrad:
            np.maximum(max_exp_avg_sqs[i], v, out=max_exp_avg_sqs[i])
            v = max_exp_avg_sqs[i]
        p -= lr / (1 - beta1 ** steps[i]) * m / (np.sqrt(v / (1 - beta2 ** steps[i])) + eps)


@_step
def rmsprop_step(
    params, grads, square_avgs, momentum_buffers, grad_avgs,
    *, lr, alpha, eps, weight_decay, momentum, centered, maximize,
):  # fmt: skip
    """p -= lr d, d = g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g^2 (Tieleman & Hinton 2012).

    ``centered``: v - a^2 in place of v, a = alpha a + (1 - alpha) g (Graves 2013). With momentum p -= lr m instead,
    m = momentum m + d.

    Args:
        momentum_buffers: m of each parameter; empty when momentum is 0.
        grad_avgs: a of each parameter; empty unless centered.
    """
    for i, (p, g, v) in enumerate(zip(params, grads, square_avgs, strict=True)):
        g = _effective(p, g, weight_decay, maximize)
        v[...] = alpha * v + (1 - alpha) * g * g
        variance = v
        if centered:
            a = grad_avgs[i]
            a[...] = alpha * a + (1 - alpha) * g
            variance = v - a * a
        d = g / (np.sqrt(variance) + eps)
        if momentum:
            m = momentum_buffers[i]
            m[...] = momentum * m + d
            d = m
        p -= lr * d


@_step
def adagrad_step(params, grads, state_sums, *, lr, eps, weight_decay, maximize):
    """p -= lr g / (sqrt(s) + eps), s = s + g^2: the sum over all steps (Duchi et al. 2011).

    Args:
        lr: one per parameter, already decayed.
    """
    for p, g, s, rate in zip(params, grads, state_sums, lr, strict=True):
        g = _effective(p, g, weight_decay, maximize)
        s += g * g
        p -= rate * g / (np.sqrt(s) + eps)


__all__ = ["adagrad_step", "adam_step", "rmsprop_step", "sgd_step"]
