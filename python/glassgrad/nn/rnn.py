"""Recurrent layers and cells. The maths of a step is in ``glassgrad.ops.rnn``; here are parameters, layers and directions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from ..creation import empty, zeros
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..ops.movement import cat, stack
from ..ops.rnn import gru_layer, lstm_layer, rnn_layer
from ..ops.softmax import floating
from ..tensor import Tensor
from . import functional as F
from . import init
from ._arguments import choice, integer, number
from .module import Module
from .parameter import Parameter


class _Recurrent(Module):
    """What layers and cells share: weights for ``_gates`` gates, and the check of what they are given."""

    _gates: int
    _states: int  # 1: h; 2: h and c
    input_size: int
    hidden_size: int
    bias: bool

    def _layer(self, *tensors, reverse: bool = False) -> tuple[Tensor, ...]:
        """(y, last states) of one layer in one direction."""
        raise NotImplementedError

    def _add_weights(self, inputs: int, suffix: str, dtype) -> None:
        width, hidden = self._gates * self.hidden_size, self.hidden_size
        for name, shape in (("weight_ih", (width, inputs)), ("weight_hh", (width, hidden))):
            setattr(self, name + suffix, Parameter(empty(*shape, dtype=dtype)))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name + suffix, Parameter(empty(width, dtype=dtype)) if self.bias else None)

    def reset_parameters(self) -> None:
        """U(-k, k) with k = 1 / sqrt(hidden_size) for all, as in PyTorch."""
        limit = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -limit, limit)

    def _weights(self, suffix: str) -> list:
        return [getattr(self, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def _checked_input(self, input, ndims: tuple[int, int], expected: str, weight: Tensor) -> Tensor:
        owner = self._get_name()
        if type(input).__name__ == "PackedSequence":
            hint = "Pad the sequences to one length, and leave the padding out of the loss."
            raise DTypeError(message(owner, "input", "a PackedSequence", "a tensor", hint))
        x = floating(owner, "input", input)
        if x.dtype != weight.dtype:
            hint = f"Use input.to(gg.{weight.dtype})."
            raise DTypeError(message(owner, "input has another dtype than the weights", x.dtype, weight.dtype, hint))
        if x.ndim not in ndims:
            raise ShapeError(message(owner, "number of dims of input", x.shape, expected))
        if x.shape[-1] != self.input_size:
            expected = f"input.shape[-1] to be input_size={self.input_size}"
            raise ShapeError(message(owner, "features of input", x.shape, expected))
        return x

    def _checked_states(self, hx, shape: tuple[int, ...], x: Tensor) -> tuple[Tensor, ...]:
        """The initial states, zeros if there are none."""
        owner = self._get_name()
        if hx is None:
            return (zeros(*shape, dtype=x.dtype),) * self._states
        if self._states == 1:
            named = {"hx": hx}
        else:
            if not isinstance(hx, (tuple, list)) or len(hx) != 2:
                got = f"{len(hx)} tensors" if isinstance(hx, (tuple, list)) else type(hx).__name__
                raise DTypeError(message(owner, "hx", got, "a pair (h_0, c_0)"))
            named = {"h_0": hx[0], "c_0": hx[1]}
        for name, state in named.items():
            if not isinstance(state, Tensor):
                raise DTypeError(message(owner, name, type(state).__name__, "a tensor"))
            if state.shape != shape:
                raise ShapeError(message(owner, f"shape of {name}", state.shape, f"{shape} for input {x.shape}"))
            if state.dtype != x.dtype:
                raise DTypeError(
                    message(owner, f"dtype of {name}", state.dtype, x.dtype, f"Use {name}.to(input.dtype).")
                )
        return tuple(named.values())


class _Elman:
    _gates, _states = 1, 1
    nonlinearity: str

    def _layer(self, *tensors, reverse: bool = False) -> tuple[Tensor, ...]:
        return rnn_layer(*tensors, nonlinearity=self.nonlinearity, reverse=reverse)


class _LongShortTermMemory:
    _gates, _states = 4, 2

    def _layer(self, *tensors, reverse: bool = False) -> tuple[Tensor, ...]:
        return lstm_layer(*tensors, reverse=reverse)


class _Gated:
    _gates, _states = 3, 1

    def _layer(self, *tensors, reverse: bool = False) -> tuple[Tensor, ...]:
        return gru_layer(*tensors, reverse=reverse)


# ------------------------------------------------------------------------------------------------------------- layers


class _Layers(_Recurrent):
    """``num_layers`` layers above each other, each in one or two directions."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype=None,
    ) -> None:
        super().__init__()
        owner = self._get_name()
        self.input_size = integer(owner, "input_size", input_size)
        self.hidden_size = integer(owner, "hidden_size", hidden_size)
        self.num_layers = integer(owner, "num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = number(owner, "dropout", dropout, 0, 1)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"{owner}: dropout={dropout} with num_layers=1 does nothing: it acts between layers.", stacklevel=3
            )
        self._suffixes = ("", "_reverse") if self.bidirectional else ("",)
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else self.hidden_size * len(self._suffixes)
            for suffix in self._suffixes:
                self._add_weights(inputs, f"_l{layer}{suffix}", dtype)
        self.reset_parameters()

    def _walk(self, input, hx) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output of the last layer, and the last states of all."""
        expected = "(batch, steps, features)" if self.batch_first else "(steps, batch, features)"
        x = self._checked_input(input, (2, 3), f"{expected}, or (steps, features)", self.weight_ih_l0)
        batched, count = x.ndim == 3, self.num_layers * len(self._suffixes)
        steps, batch = (x.shape[1], x.shape[0]) if self.batch_first and batched else (x.shape[0], x.shape[1])
        if steps == 0:
            raise ShapeError(message(self._get_name(), "no steps", x.shape, "a sequence of at least 1"))
        rest = (batch, self.hidden_size) if batched else (self.hidden_size,)
        states = self._checked_states(hx, (count, *rest), x)
        if not batched:
            x, states = x.unsqueeze(1), tuple(state.unsqueeze(1) for state in states)
        elif self.batch_first:
            x = x.transpose(0, 1).contiguous()  # once: every kernel that reads it would copy it again

        lasts: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            ways = []
            for suffix in self._suffixes:
                start = [state[len(lasts)] for state in states]
                y, *last = self._layer(x, *start, *self._weights(f"_l{layer}{suffix}"), reverse=suffix != "")
                ways.append(y)
                lasts.append(last)
            x = ways[0] if len(ways) == 1 else cat(ways, -1)

        finals = tuple(stack(of_one_kind) for of_one_kind in zip(*lasts, strict=True))
        if not batched:
            return x.squeeze(1), tuple(final.squeeze(1) for final in finals)
        return (x.transpose(0, 1) if self.batch_first else x), finals

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        output, (h_n,) = self._walk(input, hx)
        return output, h_n

    def flatten_parameters(self) -> None:
        """Does nothing: it is there for code that was written for PyTorch's GPU kernels."""

    def extra_repr(self) -> str:
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        options = [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join([str(self.input_size), str(self.hidden_size), *options])


class RNN(_Elman, _Layers):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), layer above layer (Elman 1990).

    Shape: (steps, batch, input_size) to (output, h_n): output (steps, batch, D * hidden_size), D = 2 if bidirectional,
    h_n (D * num_layers, batch, hidden_size). Without a batch: the same without that dim. h_0, as h_n, is zeros if not
    given. Parameters of layer k: weight_ih_lk, weight_hh_lk, bias_ih_lk, bias_hh_lk, and ..._reverse.

    Args:
        nonlinearity: "tanh" or "relu".
        batch_first: input and output are (batch, steps, features); the states stay as they are.
        dropout: probability that an output of a layer, but not of the last one, becomes 0 in training.
        bidirectional: a second layer walks from the last time to the first; outputs stand beside each other.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> output, h_n = nn.RNN(3, 4, num_layers=2)(gg.ones(5, 1, 3))
    >>> output.shape, h_n.shape
    ((5, 1, 4), (2, 1, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype=None,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)
        self.nonlinearity = choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))


class LSTM(_LongShortTermMemory, _Layers):
    """c_t = f c_(t-1) + i g, h_t = o tanh(c_t), with gates i, f, g, o of x_t and h_(t-1) (Hochreiter & Schmidhuber 1997).

    Shape: as RNN, with states (h, c): ``output, (h_n, c_n) = lstm(input, (h_0, c_0))``. Weights have 4 * hidden_size
    rows, gate after gate. Arguments as RNN's.

    Args:
        proj_size: only 0; hidden states of another size than the cell states are not there.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> output, (h_n, c_n) = nn.LSTM(3, 4, batch_first=True, bidirectional=True)(gg.ones(2, 5, 3))
    >>> output.shape, c_n.shape
    ((2, 5, 8), (2, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype=None,
    ) -> None:
        if proj_size != 0:
            hint = "A Linear after the LSTM gives outputs of that size."
            raise ArgumentError(message("LSTM", "proj_size", repr(proj_size), "0", hint))
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self._walk(input, hx)


class GRU(_Gated, _Layers):
    """h_t = (1 - z) n + z h_(t-1), n = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn)) (Cho et al. 2014).

    Shape: as RNN. Weights have 3 * hidden_size rows: gates r, z, n. Arguments as RNN's.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.GRU(3, 4)(gg.ones(5, 3))[0].shape
    (5, 4)
    """


# -------------------------------------------------------------------------------------------------------------- cells


class _Cell(_Recurrent):
    """One step of one layer."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, dtype=None) -> None:
        super().__init__()
        owner = self._get_name()
        self.input_size = integer(owner, "input_size", input_size)
        self.hidden_size = integer(owner, "hidden_size", hidden_size)
        self.bias = bool(bias)
        self._add_weights(self.input_size, "", dtype)
        self.reset_parameters()

    def _step(self, input, hx) -> Iterable[Tensor]:
        x = self._checked_input(input, (1, 2), "(batch, features) or (features,)", self.weight_ih)
        states = self._checked_states(hx, (*x.shape[:-1], self.hidden_size), x)
        if x.ndim == 1:
            one = self._layer(x.reshape(1, 1, -1), *[s.unsqueeze(0) for s in states], *self._weights(""))
            return [last.squeeze(0) for last in one[1:]]
        return self._layer(x.unsqueeze(0), *states, *self._weights(""))[1:]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        (h,) = self._step(input, hx)
        return h

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Elman, _Cell):
    """One step of RNN: (batch, input_size) and h (batch, hidden_size), zeros if not given, to the next h.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> nn.RNNCell(3, 4)(gg.ones(2, 3)).shape
    (2, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, dtype=None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        self.nonlinearity = choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))


class LSTMCell(_LongShortTermMemory, _Cell):
    """One step of LSTM: ``h, c = cell(input, (h, c))``."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, ...]:
        return tuple(self._step(input, hx))


class GRUCell(_Gated, _Cell):
    """One step of GRU: ``h = cell(input, h)``."""


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]
