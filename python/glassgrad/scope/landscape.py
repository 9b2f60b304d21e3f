"""Landscape: the loss around a model's weights, along two random directions that are scaled like the weights themselves.

Li, Xu, Taylor, Studer and Goldstein 2018, Visualizing the loss landscape of neural nets, section 4: a filter of a direction is
scaled to the norm of the weights' filter, so that a step means the same in layers of any size, and a picture of one network
can be laid beside another's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import autograd, nn
from .. import random as random_
from ..errors import ArgumentError, GlassgradError
from ..nn import functional as F
from ..tensor import Tensor
from .plotting import pyplot_for


@dataclass
class Landscape:
    """``losses[i, j]`` is the loss at weights + alphas[j] * first direction + alphas[i] * second."""

    alphas: np.ndarray
    losses: np.ndarray

    @property
    def centre(self) -> float:
        """The loss at the weights themselves."""
        middle = len(self.alphas) // 2
        return float(self.losses[middle, middle])

    @property
    def sharpness(self) -> float:
        """(median of the losses within a quarter of the span - centre) / (1 + centre): 0 for a plain, large for a pit (after Keskar et al. 2017)."""
        near = np.abs(self.alphas) <= 0.25 * self.alphas[-1] + 1e-12
        return float((np.median(self.losses[np.ix_(near, near)]) - self.centre) / (1 + self.centre))

    def plot(self, ax=None, like: Landscape | None = None):
        """Filled contours on a matplotlib ``Axes``, which is returned; colours as in ``like``, to compare two."""
        pyplot = pyplot_for("landscape")
        from matplotlib.colors import LogNorm, Normalize

        ax = ax if ax is not None else pyplot.subplots(figsize=(5, 4.2), layout="constrained")[1]
        both = np.concatenate([self.losses.ravel(), *([like.losses.ravel()] if like else [])])
        both = both[np.isfinite(both)]
        if not both.size:
            raise ArgumentError(
                "landscape: plot: got losses that are all NaN or infinite; expected some that are numbers."
            )
        low, high = float(both.min()), float(both.max())
        logarithmic = low > 0 and high > 30 * low
        levels = np.geomspace(low, high, 16) if logarithmic else np.linspace(low, high + (high == low), 16)
        norm = LogNorm(low, high) if logarithmic else Normalize(low, high)
        shown = np.ma.masked_invalid(self.losses)
        filled = ax.contourf(self.alphas, self.alphas, shown, levels=levels, norm=norm, cmap="cividis", extend="both")
        ax.contour(self.alphas, self.alphas, shown, levels=levels[::3], colors="white", linewidths=0.5, alpha=0.7)
        ax.plot(0, 0, "+", color="white", ms=11, mew=2)
        bar = ax.figure.colorbar(filled, ax=ax, label="loss", format="%.3g", ticks=levels[::3])
        bar.ax.minorticks_off()
        ax.set(
            xlabel="first direction (1: as large as the weights)",
            ylabel="second direction",
            aspect="equal",
        )
        ax.set_title(f"sharpness {self.sharpness:.3g}")
        ax.grid(visible=False)
        return ax

    def __repr__(self) -> str:
        return (
            f"<Landscape {len(self.alphas)} x {len(self.alphas)}: loss {self.centre:.3g} in the middle, up to {np.nanmax(self.losses):.3g}, "
            f"sharpness {self.sharpness:.3g}>"
        )


def landscape(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    steps: int = 21,
    span: float = 1.0,
    seed: int = 0,
) -> Landscape:
    """The loss on a square of weights around the ones ``model`` has. A copy is moved; the model stays as it is.

    Biases and the parameters of normalisation do not move. The model's mode is kept: in training mode BatchNorm uses the batch, as it
    does while it learns.

    Args:
        data: ``(x, y)``.
        loss_fn: cross-entropy for integer ``y``, mean squared error otherwise.
        steps: points along each side, odd, so that the weights themselves are one.
        span: how far each side reaches, in units of the weights' size.
        seed: of the directions: the same for two models that are to be compared.

    Raises:
        ArgumentError: no module, no pair of tensors, ``steps`` even or below 3, ``span`` not above 0, no weight that could move.

    >>> import glassgrad as gg
    >>> from glassgrad import nn, scope
    >>> _ = gg.manual_seed(0)
    >>> x, y = gg.randn(32, 4), gg.randint(3, (32,))
    >>> plain = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> normed = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    >>> without, with_norm = (scope.landscape(m, (x, y), steps=5) for m in (plain, normed))
    >>> without.losses.shape
    (5, 5)
    """
    x, y = _checked(model, data, steps, span)
    loss_fn = loss_fn or (F.cross_entropy if y.data.dtype.kind in "iu" else F.mse_loss)
    moved = copy.deepcopy(model)
    weights = [p for p in moved.parameters() if p.ndim > 1]
    if not weights:
        raise ArgumentError(
            "landscape: model: got one without weights of two dims or more; expected something to move."
        )
    start = [p.data.copy() for p in weights]
    rng = np.random.default_rng(seed)
    first, second = ([_like(w, rng) for w in start] for _ in range(2))
    alphas = np.linspace(-span, span, steps)
    losses = np.empty((steps, steps))
    state = random_.get_rng_state()
    try:
        with autograd.no_grad(), np.errstate(all="ignore"):
            for i, b in enumerate(alphas):
                for j, a in enumerate(alphas):
                    for p, w, u, v in zip(weights, start, first, second, strict=True):
                        p.data[...] = w + a * u + b * v
                    random_.set_rng_state(state)  # the same dropout everywhere
                    losses[i, j] = loss_fn(moved(x), y).item()
    except GlassgradError as error:
        raise ArgumentError(f"landscape: the loss can't be computed: {error}") from error
    finally:
        random_.set_rng_state(state)
    return Landscape(alphas, losses)


def _like(w: np.ndarray, rng) -> np.ndarray:
    """A random direction, each filter (row) as long as the weights' own."""
    d = rng.standard_normal(w.shape)
    axes = tuple(range(1, w.ndim))
    size = np.sqrt(np.square(w, dtype=np.float64).sum(axis=axes, keepdims=True))
    return (d * size / np.sqrt(np.square(d).sum(axis=axes, keepdims=True))).astype(w.dtype)


def _checked(model: Any, data: Any, steps: Any, span: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"landscape: model: got {type(model).__name__}; expected a Module.")
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not all(isinstance(t, Tensor) for t in data):
        raise ArgumentError(f"landscape: data: got {type(data).__name__}; expected a pair of tensors (x, y).")
    if not isinstance(steps, int) or steps < 3 or steps % 2 == 0:
        raise ArgumentError(f"landscape: steps: got {steps!r}; expected an odd number of at least 3.")
    if not span > 0:
        raise ArgumentError(f"landscape: span: got {span!r}; expected a number above 0.")
    return data[0], data[1]
