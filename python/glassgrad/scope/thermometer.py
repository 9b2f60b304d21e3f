"""The gradient thermometer: how large the gradient is at each layer on its way back from the loss.

If every layer multiplies it by the same factor, the picture is a straight line on an axis of powers of ten: falling where
gradients vanish, level where they reach the first layer, rising where they explode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from .plotting import COLD, GOOD, HOT, pyplot_for
from .record import Layer

MARKERS = {COLD: "v", GOOD: "o", HOT: "^"}


def temperature(factor: float) -> str:
    """The colour of a gradient that changes by ``factor`` per layer: 30 layers of 0.95 leave a fifth."""
    return COLD if factor < 0.95 else GOOD if factor < 1.06 else HOT


def power(x: float, _=None) -> str:
    """The nearest power of ten, as a tick's label.

    >>> power(1e-6), power(1.0)
    ('10⁻⁶', '1')
    """
    exponent = round(math.log10(x))
    return "1" if exponent == 0 else "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def relative(gradients: Sequence[float] | Sequence[Layer]) -> np.ndarray:
    """From the last layer back to the first, in units of the last.

    >>> relative([1.0, 2.0, 4.0])
    array([1.  , 0.5 , 0.25])
    """
    sizes = [g.gradient_rms if isinstance(g, Layer) else float(g) for g in gradients]
    if len(sizes) < 2 or not sizes[-1] > 0:
        got = f"{len(sizes)} layers" if len(sizes) < 2 else f"{sizes[-1]:g} at the last layer"
        raise ArgumentError(
            f"thermometer: gradients: got {got}; expected two layers or more and a gradient above 0 at the last. "
            "Run backward() while the Recorder watches."
        )
    back = np.array(sizes[::-1])
    return back / back[0]


def per_layer(gradients: Sequence[float] | Sequence[Layer]) -> float:
    """The factor per layer that leads from the last layer's gradient to the first's.

    >>> per_layer([1.0, 2.0, 4.0])
    0.5
    """
    back = relative(gradients)
    return float(back[-1] ** (1 / (len(back) - 1)))


def thermometer(gradients: Sequence[float] | Sequence[Layer], theory: float | None = None, ax=None, size: float = 5.0):
    """Draw it: dots for what was measured, a dashed line for the factor per layer that theory gives.

    Args:
        gradients: ``Recorder.layers``, or sizes, the first layer's first.
        theory: factor per layer.
        ax: a matplotlib ``Axes`` to add to; a new one if there is none. It is returned.
        size: of the dots.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.scope import Recorder, thermometer
    >>> model = nn.Sequential(*[layer for _ in range(9) for layer in (nn.Linear(32, 32), nn.Tanh())])
    >>> with Recorder(model) as record:
    ...     model(gg.randn(64, 32)).square().mean().backward()
    >>> ax = thermometer(record.layers, theory=3**-0.5)
    """
    back = relative(gradients)
    steps = np.arange(len(back))
    colour = temperature(per_layer(gradients) if theory is None else theory)
    if ax is None:
        ax = _axes()
        ax.set(xlabel="layers back from the loss", ylabel="gradient, as a multiple of the last layer's")
    if theory is not None:
        ax.plot(steps, theory**steps, "--", color=colour, lw=1.2, dashes=(4, 2.5))
    ax.plot(steps, back, MARKERS[colour], color=colour, ms=size, mec="#ffffff", mew=0.3)
    ax.set_yscale("log")
    return ax


def powers_of_ten(ax) -> None:
    """Ticks on a logarithmic y axis at every power of ten, or every third, or sixth: ten at most."""
    from matplotlib import ticker

    low, high = (math.log10(v) for v in ax.get_ylim())
    every = next(n for n in (1, 2, 3, 6, 12, 24, 48, 96) if (high - low) / n < 10)
    ticks = [10.0**e for e in range(math.ceil(low), math.floor(high) + 1) if e % every == 0]
    ax.yaxis.set_major_locator(ticker.FixedLocator(ticks))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(power))


def _axes():
    return pyplot_for("thermometer").subplots()[1]
