"""Record: what each chosen layer of a model passes on, forward and back, during one step."""

from __future__ import annotations

import math

import numpy as np

from .. import nn
from ..errors import ArgumentError

# The slope of an activation as a part of its steepest, from its output y.
SLOPES = {
    nn.ReLU: lambda y: (y > 0) * 1.0,
    nn.Sigmoid: lambda y: 4 * y * (1 - y),
    nn.Tanh: lambda y: 1 - y * y,
}


class Layer:
    """One module's last output and the gradient that came back to it.

    Attributes:
        name: its path in the model, such as ``"0.2"``.
        kind: its class, such as ``"ReLU"``.
        output: the array it returned.
        gradient: d(loss)/d(output), or None before backward.
    """

    def __init__(self, name: str, module: nn.Module, output: np.ndarray):
        self.name, self.kind, self.output = name, type(module).__name__, output
        self.gradient: np.ndarray | None = None
        self._slope = SLOPES.get(type(module))

    @property
    def rms(self) -> float:
        """Size of the output: the root of its mean square."""
        return _rms(self.output)

    @property
    def gradient_rms(self) -> float:
        """Size of the gradient per entry; NaN before backward."""
        return math.nan if self.gradient is None else _rms(self.gradient)

    @property
    def saturated(self) -> float | None:
        """Share of entries whose slope is below a tenth of the steepest, so that hardly any gradient passes.

        For ReLU these are the units that are off. None for a module that is not an activation with a known slope.
        """
        return None if self._slope is None else float(np.mean(self._slope(self.output.astype(np.float64)) < 0.1))

    @property
    def spread(self) -> float:
        """How much an entry differs between the samples of the batch: its standard deviation, averaged over entries."""
        return _rms(self.output - self.output.mean(axis=0)) if self.output.size else 0.0

    def __repr__(self):
        return f"<{self.kind} {self.name}: output {self.rms:.3g}, gradient {self.gradient_rms:.3g}>"


class Recorder:
    """Watch all modules of some kinds while a model runs. The last step is kept; nothing is copied.

    Args:
        model: what to watch.
        kinds: classes of the modules of interest; the activations by default.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.scope import Recorder
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with Recorder(model) as record:
    ...     model(gg.ones(5, 2)).sum().backward()
    >>> [(layer.kind, layer.output.shape, layer.gradient.shape) for layer in record.layers]
    [('ReLU', (5, 3), (5, 3))]
    """

    def __init__(self, model: nn.Module, kinds: tuple[type, ...] = tuple(SLOPES)):
        self._model = model
        self._modules = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
        if not self._modules:
            names = ", ".join(kind.__name__ for kind in kinds)
            raise ArgumentError(f"Recorder: got a model without any {names}; expected at least one. Pass kinds=.")
        self.layers: list[Layer] = []
        self._handles: list = []

    def __enter__(self) -> Recorder:
        self._handles.append(self._model.register_forward_pre_hook(lambda module, args: self.layers.clear()))
        for name, module in self._modules:
            self._handles.append(module.register_forward_hook(self._watch(name)))
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, name):
        def hook(module, args, output):
            layer = Layer(name, module, output.data)
            self.layers.append(layer)
            if output.requires_grad:
                output.register_hook(lambda dy: setattr(layer, "gradient", dy.data))

        return hook


def _rms(x: np.ndarray) -> float:
    # float64: squares of float32 gradients underflow below 1e-23, where deep sigmoid nets live.
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0
