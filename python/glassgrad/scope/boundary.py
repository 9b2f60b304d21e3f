"""Boundary: what a model of two inputs answers everywhere in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import autograd, nn
from ..creation import from_numpy
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from .plotting import pyplot_for

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#8a6d00",
    "#7a4fb0",
    "#1b1f24",
)  # after Okabe and Ito: told apart by the colour-blind
MARKERS = "os^Dv*"


@dataclass
class Boundary:
    """Answers on a grid: ``answers[i, j]`` at (xs[j], ys[i]): a class and ``sure``, its probability; or, of a regression, a value."""

    xs: np.ndarray
    ys: np.ndarray
    answers: np.ndarray
    sure: np.ndarray | None
    points: np.ndarray
    targets: np.ndarray

    def plot(self, ax=None):
        """Regions, paler where the model is unsure, and the data on top, on a matplotlib ``Axes``, which is returned."""
        pyplot = pyplot_for("boundary")
        from matplotlib.colors import to_rgb

        ax = ax if ax is not None else pyplot.subplots(figsize=(5, 4.4), layout="constrained")[1]
        extent = (self.xs[0], self.xs[-1], self.ys[0], self.ys[-1])
        if self.sure is None:
            limits = {
                "vmin": min(self.answers.min(), self.targets.min()),
                "vmax": max(self.answers.max(), self.targets.max()),
            }
            image = ax.imshow(self.answers, origin="lower", extent=extent, aspect="auto", cmap="cividis", **limits)
            ax.scatter(
                *self.points.T, c=self.targets, cmap="cividis", edgecolors="white", linewidths=0.7, s=26, **limits
            )
            ax.figure.colorbar(image, ax=ax, label="value")
        else:
            palette = np.array([to_rgb(c) for c in COLOURS])
            count = int(max(self.answers.max(), self.targets.max())) + 1
            chance = 1 / max(count, 2)
            strength = 0.08 + 0.42 * np.clip((self.sure - chance) / (1 - chance), 0, 1)[..., None]
            ax.imshow(1 - strength * (1 - palette[self.answers]), origin="lower", extent=extent, aspect="auto")
            for k in range(count):
                here = self.points[self.targets == k]
                ax.plot(
                    here[:, 0],
                    here[:, 1],
                    MARKERS[k],
                    color=COLOURS[k],
                    mec="white",
                    mew=0.6,
                    ms=5.5,
                    label=f"class {k}",
                )
            if count > 1:
                for k in range(count):
                    ax.contour(self.xs, self.ys, self.answers == k, levels=[0.5], colors="#1b1f24", linewidths=1)
            ax.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=8.5, loc="upper right")
        ax.set(xlabel="first input", ylabel="second input", xlim=extent[:2], ylim=extent[2:])
        ax.grid(visible=False)
        return ax

    def __repr__(self) -> str:
        if self.sure is None:
            return f"<Boundary: values {self.answers.min():.3g} to {self.answers.max():.3g}>"
        part = ", ".join(
            f"class {k} {share:.0%}" for k, share in enumerate(np.bincount(self.answers.ravel()) / self.answers.size)
        )
        return f"<Boundary: {part} of the plane>"


def boundary(model: nn.Module, x: Tensor, y: Tensor, *, steps: int = 200, margin: float = 0.3) -> Boundary:
    """Ask the model on a grid over the data. It answers in eval mode and is left in the mode it had.

    Args:
        model: (n, 2) to (n, k) scores of 2 to 6 classes; to (n, 1) or (n,), the logit of class 1 for integer ``y``, or a value.
        x: (n, 2). y: (n,) classes from 0, or numbers.
        steps: points along each side. margin: beyond the data, as a part of its extent.

    Raises:
        ShapeError: ``x`` is not (n, 2), ``y`` has another length, or the model's output does not fit. ArgumentError: more than 6 classes.

    >>> import glassgrad as gg
    >>> from glassgrad import nn, scope
    >>> class Sign(nn.Module):
    ...     def forward(self, x):
    ...         return 9 * x[:, 0]
    >>> x = gg.tensor([[-1.0, -1.0], [1.0, 1.0]])
    >>> scope.boundary(Sign(), x, gg.tensor([0, 1]), steps=10)
    <Boundary: class 0 50%, class 1 50% of the plane>
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"boundary: model: got {type(model).__name__}; expected a Module.")
    for name, t in (("x", x), ("y", y)):
        if not isinstance(t, Tensor):
            raise ArgumentError(f"boundary: {name}: got {type(t).__name__}; expected a Tensor.")
    if not isinstance(steps, int) or steps < 2:
        raise ArgumentError(f"boundary: steps: got {steps!r}; expected an integer of at least 2.")
    points, targets = x.data, y.data
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"boundary: x: got {points.shape}; expected (n, 2): two inputs, the two axes of the picture.")
    targets = targets.reshape(-1) if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if targets.shape != points.shape[:1]:
        raise ShapeError(f"boundary: y: got {y.shape} for {len(points)} points; expected ({len(points)},).")
    if not len(points) or not np.isfinite(points).all():
        raise ArgumentError(
            f"boundary: x: got {'no points' if not len(points) else 'NaN or infinity'}; expected finite points."
        )
    low, high = points.min(axis=0), points.max(axis=0)
    room = margin * np.maximum(high - low, 1e-9)
    xs, ys = (np.linspace(a - r, b + r, steps) for a, b, r in zip(low, high, room, strict=True))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2).astype(points.dtype)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with autograd.no_grad():
            out = model(from_numpy(grid)).data
    finally:
        for module, training in modes:
            module.training = training
    classes = targets.dtype.kind in "iub"
    if out.shape not in ((len(grid),), (len(grid), 1)) and not (classes and out.ndim == 2 and len(out) == len(grid)):
        raise ShapeError(
            f"boundary: the model gave {out.shape} for {len(grid)} points; expected (n,), (n, 1), or (n, classes)."
        )
    if not classes:
        return Boundary(xs, ys, out.reshape(steps, steps), None, points, targets)
    scores = out.reshape(len(grid), -1).astype(np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    if scores.shape[1] > len(COLOURS) or targets.max() >= scores.shape[1] or targets.min() < 0:
        raise ArgumentError(
            f"boundary: got {scores.shape[1]} classes of scores and labels from {targets.min()} to {targets.max()}; expected 2 to 6 classes, labels from 0."
        )
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    answers = probabilities.argmax(axis=1)
    return Boundary(
        xs, ys, answers.reshape(steps, steps), probabilities.max(axis=1).reshape(steps, steps), points, targets
    )
