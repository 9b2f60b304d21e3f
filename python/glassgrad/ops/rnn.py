"""Recurrent layers: one step's output is part of the next step's input, and the same weights serve every step.

With a = W_ih x_t + b_ih, u = W_hh h_(t-1) + b_hh, cut into as many parts as the cell has gates:

rnn     h_t = tanh(a + u), or relu                                                    (Elman 1990)
lstm    i, f, o = sigmoid(a + u);  g = tanh(a + u)              gates in the order i, f, g, o
        c_t = f c_(t-1) + i g;     h_t = o tanh(c_t)            (Hochreiter & Schmidhuber 1997; f by Gers et al. 2000)
gru     r, z = sigmoid(a + u);     n = tanh(a_n + r u_n)        gates in the order r, z, n
        h_t = (1 - z) n + z h_(t-1)                             (Cho et al. 2014; r after the product, as in cuDNN)

backward through time: step by step from the last, dh_t = dy_t + what step t + 1 passed down, then the gates' own
        derivatives da, and dh_(t-1) = W_hh^T du + (gru: z dh_t).  lstm:
        dc_t = f_(t+1) dc_(t+1) + o (1 - tanh^2 c_t) dh_t
        da_i = dc g i (1 - i)     da_f = dc c_(t-1) f (1 - f)     da_g = dc i (1 - g^2)     da_o = dh tanh(c) o (1 - o)
        Only this waits for step t + 1. dx = W_ih^T da, dW_ih = sum_t da x^T, dW_hh = sum_t du h_(t-1)^T are products
        over all steps at once. Along c the gradient is multiplied by f, which may be near 1; along h by W_hh, whose
        powers vanish or explode (Bengio et al. 1994): that is what the LSTM is for.
saves   y, the activated gates, and c (lstm) or u_n (gru)
native  csrc/cpu/rnn.cpp
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..autograd import enable_grad, mode
from ..op import Op, Sample, apply
from ..tensor import Tensor, grad
from .elementwise import relu, sigmoid, tanh
from .matmul import linear
from .movement import blank, stack

# ---------------------------------------------------------------------------------------------- references, in NumPy


def _times(steps, reverse):
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _affine(x, weight, bias):
    return x @ weight.T if bias is None else x @ weight.T + bias


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _rnn_reference(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *, nonlinearity, reverse):
    h, y = h0, np.empty((len(x), *h0.shape), x.dtype)
    for t in _times(len(x), reverse):
        a = _affine(x[t], weight_ih, bias_ih) + _affine(h, weight_hh, bias_hh)
        h = y[t] = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)
    return y, h.copy()


def _lstm_reference(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, *, reverse):
    h, c, states = h0, c0, (len(x), *h0.shape)
    y, cells, gates = np.empty(states, x.dtype), np.empty(states, x.dtype), np.empty((4, *states), x.dtype)
    for t in _times(len(x), reverse):
        a = _affine(x[t], weight_ih, bias_ih) + _affine(h, weight_hh, bias_hh)
        i, f, g, o = np.split(a, 4, axis=-1)
        i, f, g, o = gates[:, t] = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c = cells[t] = f * c + i * g
        h = y[t] = o * np.tanh(c)
    return (y, h.copy(), c.copy()), np.concatenate(gates, axis=-1), cells


def _gru_reference(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *, reverse):
    h, states = h0, (len(x), *h0.shape)
    y, candidate, gates = np.empty(states, x.dtype), np.empty(states, x.dtype), np.empty((3, *states), x.dtype)
    for t in _times(len(x), reverse):
        a, u = _affine(x[t], weight_ih, bias_ih), _affine(h, weight_hh, bias_hh)
        (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3, axis=-1), np.split(u, 3, axis=-1)
        r, z = _sigmoid(a_r + u_r), _sigmoid(a_z + u_z)
        n = np.tanh(a_n + r * u_n)
        gates[:, t], candidate[t] = (r, z, n), u_n
        h = y[t] = (1 - z) * n + z * h
    return (y, h.copy()), np.concatenate(gates, axis=-1), candidate


# ------------------------------------------------------------------------------------------- one step, in Tensor ops


def _rnn_step(a, u, h, *, nonlinearity):
    return ((tanh if nonlinearity == "tanh" else relu)(a + u),)


def _lstm_step(a, u, h, c):
    i, f, g, o = (a + u).chunk(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(a, u, h):
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, -1), u.chunk(3, -1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = tanh(a_n + r * u_n)
    return (n + z * (h - n),)


def _unrolled(step, x, states, weight_ih, weight_hh, bias_ih, bias_hh, reverse):
    """y and the last states, as a graph of ordinary ops: as deep as the sequence is long."""
    a, ys = linear(x, weight_ih, bias_ih), []
    for t in _times(x.shape[0], reverse):
        states = step(a[t], linear(states[0], weight_hh, bias_hh), *states)
        ys.append(states[0])
    y = stack(ys[::-1] if reverse else ys) if ys else blank((0, *states[0].shape), x.dtype)
    return y, *states


def _vjp(step, dys, inputs, needs, reverse):
    """The gradients of the unrolled graph, whose ops can be differentiated again."""
    again = mode.grad
    with enable_grad():
        # Copies, so that a tensor that is two inputs at once gets the gradient of each by itself.
        copies = [t if t is None else t.clone() if again else t.detach() for t in inputs]
        wanted = [t if again else t.requires_grad_() for t, need in zip(copies, needs, strict=True) if need]
        x, *states = copies[:-4]
        ys = _unrolled(step, x, states, *copies[-4:], reverse)
    paths = [(y, dy) for y, dy in zip(ys, dys, strict=True) if dy is not None and y.requires_grad]
    dxs = grad([y for y, _ in paths], wanted, [dy for _, dy in paths], create_graph=again, allow_unused=True)
    # Without steps nothing depends on the weights.
    filled = iter([blank(t.shape, t.dtype) if dx is None else dx for t, dx in zip(wanted, dxs, strict=True)])
    return [next(filled) if need else None for need in needs]


def _rnn_vjp(dys, x, h0, weight_ih, weight_hh, bias_ih, bias_hh, needs, *, nonlinearity, reverse):
    step = partial(_rnn_step, nonlinearity=nonlinearity)
    return _vjp(step, dys, (x, h0, weight_ih, weight_hh, bias_ih, bias_hh), needs, reverse)


def _lstm_vjp(dys, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, needs, *, reverse):
    return _vjp(_lstm_step, dys, (x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh), needs, reverse)


def _gru_vjp(dys, x, h0, weight_ih, weight_hh, bias_ih, bias_hh, needs, *, reverse):
    return _vjp(_gru_step, dys, (x, h0, weight_ih, weight_hh, bias_ih, bias_hh), needs, reverse)


# --------------------------------------------------------------------------------------------------------------- ops


def _samples(gates, states, **static):
    def samples(rng):
        def sample(steps, batch, inputs, hidden, bias=True, reverse=False, name=""):
            width = gates * hidden
            arrays = [rng.standard_normal((steps, batch, inputs))]
            arrays += [rng.uniform(-1, 1, (batch, hidden)) for _ in range(states)]
            limit = hidden**-0.5  # as nn.RNN starts: no step makes the rounding errors of the one before larger
            arrays += [rng.uniform(-limit, limit, shape) for shape in ((width, inputs), (width, hidden))]
            arrays += [rng.uniform(-limit, limit, width) if bias else None for _ in range(2)]
            return Sample(tuple(arrays), {**static, "reverse": reverse}, name=name)

        for shape in ((3, 2, 2, 3), (1, 1, 1, 1), (2, 3, 3, 5), (3, 1, 2, 4)):
            yield sample(*shape)
        yield sample(3, 2, 2, 3, reverse=True, name="reverse")
        yield sample(3, 2, 2, 3, bias=False, name="no bias")
        for shape, name in (((0, 2, 2, 3), "no steps"), ((2, 0, 2, 3), "no batch"), ((2, 2, 0, 3), "no inputs")):
            yield sample(*shape, name=name)
        for hidden in (15, 16, 17, 33):
            wide = sample(5, 7, 9, hidden, reverse=hidden == 17, name=f"{hidden} hidden")
            yield Sample(wide.inputs, wide.static, differentiable=False, name=wide.name)

    return samples


_rnn = Op(
    "rnn_layer",
    _rnn_reference,
    vjp=_rnn_vjp,
    fused_vjp=(
        "rnn_layer_backward", "x", "h0", "weight_ih", "weight_hh", "bias_ih", "y", "needs", "nonlinearity", "reverse",
    ),
    samples=_samples(1, 1, nonlinearity="tanh"),
    multi=True,
    ulps=16,
    doc="rnn_layer: h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) for every step; derivative: through time.",
)  # fmt: skip
_lstm = Op(
    "lstm_layer",
    _lstm_reference,
    vjp=_lstm_vjp,
    extras=("gates", "cells"),
    fused_vjp=(
        "lstm_layer_backward", "x", "h0", "c0", "weight_ih", "weight_hh", "bias_ih", "y", "gates", "cells", "needs",
        "reverse",
    ),
    samples=_samples(4, 2),
    multi=True,
    ulps=16,
    doc="lstm_layer: c_t = f c_(t-1) + i g, h_t = o tanh(c_t) for every step; derivative: through time.",
)  # fmt: skip
_gru = Op(
    "gru_layer",
    _gru_reference,
    vjp=_gru_vjp,
    extras=("gates", "candidate"),
    fused_vjp=(
        "gru_layer_backward", "x", "h0", "weight_ih", "weight_hh", "bias_ih", "y", "gates", "candidate", "needs",
        "reverse",
    ),
    samples=_samples(3, 1),
    multi=True,
    ulps=16,
    doc="gru_layer: h_t = (1 - z) n + z h_(t-1) for every step; derivative: through time.",
)  # fmt: skip

# ----------------------------------------------------------------------------------------------- a layer, one way


def rnn_layer(
    x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *, nonlinearity="tanh", reverse=False
) -> tuple[Tensor, ...]:
    """(y, h_n) of x: (steps, batch, inputs) from h0: (batch, hidden); with ``reverse`` from the last time to the first.

    Shapes and dtypes are the caller's to check (``nn.RNN`` does): weight_ih (hidden, inputs), weight_hh (hidden,
    hidden), biases (hidden,) or both None. y: (steps, batch, hidden) in the order of time, h_n: (batch, hidden).
    """
    tensors = (x, h0, weight_ih, weight_hh, bias_ih, bias_hh)
    return apply(_rnn, *tensors, nonlinearity=nonlinearity, reverse=reverse)


def lstm_layer(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, *, reverse=False) -> tuple[Tensor, ...]:
    """(y, h_n, c_n); as ``rnn_layer`` with the cell state c, and weights of 4 * hidden rows, gates i, f, g, o."""
    return apply(_lstm, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, reverse=reverse)


def gru_layer(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *, reverse=False) -> tuple[Tensor, ...]:
    """(y, h_n); as ``rnn_layer`` with weights of 3 * hidden rows, gates r, z, n."""
    return apply(_gru, x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reverse=reverse)


METHODS = ()
__all__ = ["gru_layer", "lstm_layer", "rnn_layer"]
