"""Forecast: how large signals and gradients will be at every layer, from initialisation alone (mean-field theory).

The theory looks at layers of infinitely many units. Two things are then true (Poole et al. 2016, Schoenholz et al. 2017):

1. what a product with fresh random weights gives is Gaussian over its units, and all that matters of the layer below is
   how its samples overlap: K[a, b] = mean over units of x[a] x[b]. The result's covariance is sigma_w^2 K (+ biases).
2. a gradient going back through the same weights is as good as independent of them: it, too, meets fresh ones.

So a forecast runs the model as it is, with all its activations, normalisations, skips and pools, and swaps one thing: each
product with a weight matrix becomes a draw of Gaussian units with exactly that covariance, forward and back. Only the
weights' mean square is read. Draws are stratified and whitened, which takes out most of the noise of a finite width; runs
are averaged until what is left is about 1 %.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .. import nn, random
from ..backends import selected, use_backend
from ..backends.protocol import Backend, Kernels
from ..errors import ArgumentError, DTypeError, message
from ..tensor import Tensor, wrap
from .plotting import pyplot_for
from .thermometer import GOOD, MARKERS, powers_of_ten, temperature

RUNS = 8, 64  # at least, at most
NOISE = 0.01  # standard error of a layer's mean square at which to stop
ACCEPTED = 0.99  # samples whose correlation is above this look the same to what follows


# -------------------------------------------------------------------------------------------- products, as theory has them


@functools.lru_cache(maxsize=16)
def _strata(n: int) -> np.ndarray:
    """The standard normal cut into n slices of equal weight: (n, 16) numbers spread evenly within each."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / (16 * n)) for i in range(16 * n)]).reshape(n, 16)


def _normals(rng: np.random.Generator, rows: int, units: int) -> np.ndarray:
    """Standard normal (rows, units). Each row has one number from every slice; where rows <= units / 2, the rows' mean
    products are exactly those of independent ones."""
    strata = _strata(units)
    z = strata[np.arange(units), rng.integers(0, 16, (rows, units))]
    z = rng.permuted(z, axis=1)
    if rows <= units // 2:
        # Solving with the Cholesky factor leaves the first row, the one that matters most, as it was stratified.
        return np.linalg.solve(np.linalg.cholesky(z @ z.T / units), z)
    return z / math.sqrt(np.mean(z * z))


def _drawn(rng, x: np.ndarray, weight: np.ndarray, units: int) -> np.ndarray:
    """What ``x`` (..., n) becomes through fresh weights as large as ``weight``: (..., units)."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    n, fan = rows.shape
    if not np.isfinite(rows).all():
        return np.full((*x.shape[:-1], units), np.nan, x.dtype)
    if n < fan and n <= 256:  # a factor of K with as few columns as there are samples, the largest first
        values, vectors = np.linalg.eigh(rows @ rows.T)
        rows = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1]
    y = rows @ _normals(rng, rows.shape[1], units) * _root_mean_square(weight)
    return y.reshape(*x.shape[:-1], units).astype(x.dtype)


def _root_mean_square(x: np.ndarray) -> float:
    return math.sqrt(_mean_square(x))


def _mean_square(x: np.ndarray) -> float:
    return float(np.mean(np.square(x, dtype=np.float64))) if x.size else math.nan


class _MeanField:
    """A backend, but for products with the model's weights."""

    name = "mean field"
    # A weight that these read is no product with it: nothing to say about them.
    harmless = frozenset({"add", "sub", "cast", "clone", "embedding", "index_select", "index", "sum_to_size"})

    def __init__(self, base: Backend, weights: list[np.ndarray], rng: np.random.Generator):
        self._base, self._weights, self._rng = base, weights, rng
        self.kernels = Kernels(self._kernel)
        self.own_weights = False  # whether an op has used weights in a way that theory does not know

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def fused(self, name):
        # Kernels for all gradients at once would pass the products by.
        return None if name in ("linear_backward", "linear_relu_backward") else self._base.fused(name)

    def _is_weight(self, array) -> bool:
        return array is not None and any(np.may_share_memory(array, w) for w in self._weights)

    def _kernel(self, op):
        base = self._base.kernels[op]
        ours: Callable | None = getattr(self, f"_{op.name}", None)

        def kernel(*arrays, **static):
            if any(self._is_weight(a) for a in arrays):
                if ours is not None:
                    return ours(base, *arrays, **static)
                if not op.is_view and op.name not in self.harmless:
                    self.own_weights = True
            return base(*arrays, **static)

        return kernel

    def _linear(self, base, x, weight, bias):
        y = _drawn(self._rng, x, weight, len(weight))
        return y if bias is None else y + bias

    def _linear_relu(self, base, x, weight, bias):
        return np.maximum(self._linear(base, x, weight, bias), 0)

    def _matmul(self, base, a, b):
        if b.ndim == 2 and self._is_weight(b):
            return _drawn(self._rng, a, b, b.shape[1])
        if a.ndim == 2 and self._is_weight(a) and b.ndim > 1:
            return np.ascontiguousarray(_drawn(self._rng, b.swapaxes(-1, -2), a, len(a)).swapaxes(-1, -2))
        self.own_weights = True
        return base(a, b)

    def _conv2d(self, base, x, weight, bias, **geometry):
        return base(x, self._fresh(weight), bias, **geometry)

    def _conv2d_backward_input(self, base, dy, weight, **geometry):
        return base(dy, self._fresh(weight), **geometry)

    def _fresh(self, weight):
        """Filters as large as ``weight``: of neighbouring positions, unlike of units, there are too few for a K."""
        k, *taps = weight.shape
        z = _normals(self._rng, math.prod(taps), k).T.reshape(weight.shape)
        return (z * _root_mean_square(weight)).astype(weight.dtype)


# ----------------------------------------------------------------------------------------------------------------- one run


@dataclass
class Level:
    """One layer's place in a forecast or a measurement. All sizes are mean squares over units and samples.

    Attributes:
        name, kind: its path in the model and its class.
        forward: of what it passes on.
        backward: of the gradient that comes back to that; NaN where none does.
        weight: of the gradient of its own weight; NaN without one.
        correlation: mean cosine between two samples' outputs: 1 when they can't be told apart.
        exact: False where its own weights had to be used, in an op that the theory does not know.
    """

    name: str
    kind: str
    forward: float
    backward: float = math.nan
    weight: float = math.nan
    correlation: float = math.nan
    exact: bool = True


def _rows(model: nn.Module, kinds: tuple[type, ...] | None) -> list[tuple[str, nn.Module]]:
    """The modules to look at: of ``kinds``; else blocks with a forward of their own; else all that have a weight matrix."""
    named = [(name, module) for name, module in model.named_modules() if module is not model or not _children(model)]
    if kinds is not None:
        return [(name, module) for name, module in named if isinstance(module, kinds)]
    blocks = [(name, m) for name, m in named if _children(m) and not isinstance(m, _CONTAINERS)]
    outer = [(name, m) for name, m in blocks if not any(name.startswith(other + ".") for other, _ in blocks)]
    inside = tuple(name + "." for name, _ in outer) if len(outer) >= 3 else ()
    chosen = {name for name, _ in outer} if inside else set()
    return [
        (name, m)
        for name, m in named
        if name in chosen or (_has_weights(m) and not (inside and name.startswith(inside)))
    ]


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _children(module) -> bool:
    return next(module.children(), None) is not None


def _has_weights(module) -> bool:
    return any(p.ndim >= 2 for p in module.parameters(recurse=False))


def _run(model, input, kinds, loss_fn, seed, backend) -> list[Level]:
    """One forward and one backward pass of ``model``, whose gradients it fills."""
    levels: list[Level] = []
    modules: list[nn.Module] = []
    handles = []

    def watch(name):
        def hook(module, args, output):
            y = _first_tensor(output)
            if y is None:
                return
            level = Level(name, type(module).__name__, _mean_square(y.data), correlation=_correlation(y.data))
            if isinstance(backend, _MeanField):
                level.exact, backend.own_weights = not backend.own_weights, False
            levels.append(level)
            modules.append(module)
            if y.requires_grad:
                y.register_hook(lambda dy: setattr(level, "backward", _mean_square(dy.data)))

        return hook

    for name, module in _rows(model, kinds):
        handles.append(module.register_forward_hook(watch(name)))
    model.zero_grad()
    state = random.get_rng_state()
    random.manual_seed(seed)
    try:
        with use_backend(backend):
            output = model(input)
            loss = _pulled(output, seed) if loss_fn is None else loss_fn(output)
            if not isinstance(loss, Tensor) or not loss.requires_grad or loss.numel() != 1:
                got = f"a tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
                raise ArgumentError(
                    message("forecast", "loss_fn(output)", got, "one number that depends on the parameters")
                )
            loss.backward()
    finally:
        random.set_rng_state(state)
        for handle in handles:
            handle.remove()
    for level, module in zip(levels, modules, strict=True):
        own = [p.grad for p in module.parameters(recurse=False) if p.ndim >= 2 and p.grad is not None]
        if own:
            level.weight = _mean_square(own[0].data)
    return levels


def _pulled(output, seed):
    """A loss whose gradient at the output is random, of mean square 1, and independent from sample to sample."""
    y = _first_tensor(output)
    if y is None:
        raise ArgumentError(message("forecast", "output", type(output).__name__, "a tensor", "Pass loss_fn."))
    pull = np.random.default_rng(seed).standard_normal(y.shape)
    return (y * wrap((pull / _root_mean_square(pull)).astype(y.dtype))).sum()


def _first_tensor(output) -> Tensor | None:
    if isinstance(output, (tuple, list)):
        output = next((o for o in output if isinstance(o, Tensor)), None)
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def _correlation(x: np.ndarray) -> float:
    n = len(x) if x.ndim else 0
    if n < 2:
        return math.nan
    flat = x.reshape(n, -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    total = (flat / np.where(norms > 0, norms, 1)).sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def _mean(runs: list[list[Level]]) -> list[Level]:
    """Mean squares, averaged layer by layer."""
    averaged = []
    for same in zip(*runs, strict=True):
        level = copy.copy(same[0])
        for name in ("forward", "backward", "weight", "correlation"):
            setattr(level, name, float(np.mean([getattr(run, name) for run in same])))
        averaged.append(level)
    return averaged


def _noise(runs: list[list[Level]]) -> float:
    """The largest standard error of a layer's mean squares, in units of their mean."""
    sizes = np.array([[(level.forward, level.backward) for level in run] for run in runs])
    with np.errstate(all="ignore"):
        errors = sizes.std(axis=0, ddof=1) / sizes.mean(axis=0) / math.sqrt(len(runs))
    errors = errors[np.isfinite(errors)]
    return float(errors.max(initial=0.0))


# ---------------------------------------------------------------------------------------------------------------- forecast


@dataclass(repr=False)
class Forecast:
    """What theory expects of each layer, and, after ``measure``, what the model did.

    Attributes:
        levels: from the input to the output.
        measured: the same, measured; None before.
        runs, noise: how many runs were averaged, and the largest standard error that is left.
    """

    levels: list[Level]
    runs: int
    noise: float
    measured: list[Level] | None = None
    _again: Callable[..., list[Level]] = list

    def measure(self, *models: nn.Module) -> Forecast:
        """Run the model itself, or others of the same build whose mean squares are then averaged. Returns self.

        One model of width n strays from the theory by about the root of depth / n; averaging over several does not.
        """
        runs = [self._again(model) for model in models] or [self._again()]
        for run in runs:
            names, expected = [level.name for level in run], [level.name for level in self.levels]
            if names != expected:
                raise ArgumentError(message("measure", "layers", names, expected, "Pass models of the same build."))
        self.measured = _mean(runs)
        return self

    @property
    def _inner(self) -> list[Level]:
        """Without the output layer, whose few units make a step of their own."""
        return self.levels[:-1] if len(self.levels) > 3 else self.levels

    @property
    def growth(self) -> float:
        """The factor by which the signal's mean square grows per layer: the median, for it may jump before it settles."""
        sizes = [level.forward for level in self._inner]
        return float(np.median([_per_layer(b, a, 1) for a, b in zip(sizes, sizes[1:], strict=False)]))

    @property
    def chi(self) -> float:
        """The factor by which a squared gradient grows per layer on its way back: chi_1 of Schoenholz et al. 2017."""
        first, last = self._inner[0].backward, self._inner[-1].backward
        return _per_layer(first, last, len(self._inner) - 1)

    @property
    def xi(self) -> float:
        """Depth scale of the gradient, in layers: its square changes by a factor e in each xi = 1 / |ln chi|."""
        return _scale(self.chi)

    @property
    def words(self) -> str:
        """What it says, in sentences."""
        inner = self._inner
        first, last = inner[0], inner[-1]
        says = []
        lost = next((level for level in self.levels if not math.isfinite(level.forward)), None)
        if lost is not None:
            return (
                f"At {lost.name} the signal leaves the range of its dtype: neither it nor a gradient is a number there."
            )
        if not self.growth > 0:
            return f"No signal is left at {last.name}."
        if abs(math.log(self.growth)) * len(inner) > 1:
            way = f"is multiplied by {self.growth:.3g} per layer"
        else:
            way = "keeps its size" if 0.5 < last.forward / first.forward < 2 else "settles"
        says.append(
            f"Forward, the signal's mean square {way}: {first.forward:.2g} at {first.name}, {last.forward:.2g} at {last.name}."
        )
        if not self.chi > 0:
            says.append(f"Back, no gradient reaches {first.name}.")
        else:
            says.append(self._way_back)
        alike = next((level for level in inner if level.correlation > ACCEPTED), None)
        if alike is not None and not first.correlation > ACCEPTED:
            says.append(f"From {alike.name} on, samples look the same (correlation above {ACCEPTED:g}).")
        own = [level.name for level in self.levels if not level.exact]
        if own:
            says.append(
                f"Not theory at {', '.join(own)}: an op there uses weights in a way it does not know, so their own values were taken."
            )
        return " ".join(says)

    @property
    def _way_back(self) -> str:
        first, last, layers = self._inner[0], self._inner[-1], len(self._inner)
        ratio = math.sqrt(first.backward / last.backward)
        if abs(math.log(self.chi)) * layers < 1:
            return f"Back, the gradient keeps its size: {first.name} gets {ratio:.2g} of {last.name}'s."
        return (
            f"Back, the gradient {'dies' if self.chi < 1 else 'explodes'}: its square is multiplied by {self.chi:.3g} per "
            f"layer, and {first.name} gets {_times(ratio)} {last.name}'s. Depth scale xi = {self.xi:.2g} layers; nets train "
            f"to about 6 xi = {6 * self.xi:.2g} (Schoenholz et al. 2017), and here are {layers}."
        )

    def __repr__(self) -> str:
        width = max(len(_label(level)) for level in self.levels)
        head = f"{'layer':{width}}  {'forward':>9} {'backward':>9}"
        if self.measured:
            head += f"  {'measured':>9} {'measured':>9}"
        lines = [
            f"Forecast from {self.runs} mean-field runs, good to about {max(self.noise, 0.001):.1%}; mean squares",
            head,
        ]
        for i, level in enumerate(self.levels):
            line = f"{_label(level):{width}}  {level.forward:9.3g} {level.backward:9.3g}"
            if self.measured:
                line += f"  {self.measured[i].forward:9.3g} {self.measured[i].backward:9.3g}"
            lines.append(line + ("" if level.exact else "  own weights"))
        return "\n".join([*lines, self.words])

    def plot(self, axes=None):
        """Forward and backward panels: theory dashed, measurement as dots, hollow where it was not theory. Returns the
        figure.

        Args:
            axes: two matplotlib ``Axes`` to draw on; a new figure without.
        """
        pyplot = pyplot_for("plot")
        from matplotlib import ticker

        if axes is None:
            axes = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")[1]
        numbers = np.arange(1, len(self.levels) + 1)
        exact = np.array([level.exact for level in self.levels])
        panels = (
            ("forward", "signal", self.growth, "what each layer passes on"),
            ("backward", "gradient", self.chi, "what comes back to each layer"),
        )
        for ax, (name, noun, factor, title) in zip(axes, panels, strict=True):
            colour = temperature(math.sqrt(factor)) if factor > 0 else GOOD
            expected = np.array([getattr(level, name) for level in self.levels])
            ax.plot(
                numbers, expected, "--", color=colour, lw=1.4, dashes=(4, 2.5), label=f"theory: ×{factor:.3g} per layer"
            )
            if not exact.all():
                ax.plot(
                    numbers[~exact],
                    expected[~exact],
                    "o",
                    mfc="none",
                    mec=colour,
                    ms=10,
                    label="own weights: no theory",
                )
            if self.measured:
                seen = np.array([getattr(level, name) for level in self.measured])
                ax.plot(numbers, seen, MARKERS[colour], color=colour, ms=5, mec="#ffffff", mew=0.3, label="measured")
            ax.set_yscale("log")
            drawn = np.concatenate([expected, seen]) if self.measured else expected
            drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
            if drawn.size:
                low, high = drawn.min(), drawn.max()
                room, middle = max(10, high / low) ** 0.12, math.sqrt(low * high)
                low, high = min(low / room, middle / 5), max(high * room, middle * 5)
                ax.set_ylim(low, high)
                if high / low > 1000:
                    powers_of_ten(ax)
                else:
                    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                    ax.yaxis.set_minor_locator(ticker.NullLocator())
                    ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            ax.set(title=title, xlabel="layer, counted from the input", ylabel=f"mean square of the {noun}")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.legend(frameon=False, fontsize=8.5)
        return axes[0].figure


def _times(ratio: float) -> str:
    """A ratio as one would say it: a part below 1, a multiple above."""
    return f"{ratio:.1g} of" if ratio < 1 else f"{ratio:.3g} times"


def _label(level: Level) -> str:
    return f"{level.name} {level.kind}".strip()


def _per_layer(end: float, start: float, steps: int) -> float:
    if not start > 0 or not end >= 0 or steps < 1:
        return math.nan
    return (end / start) ** (1 / steps)


def _scale(factor: float) -> float:
    if not factor > 0:
        return 0.0 if factor == 0 else math.nan
    return math.inf if factor == 1 else 1 / abs(math.log(factor))


def forecast(
    model: nn.Module,
    input: Tensor,
    loss_fn: Callable[[Any], Tensor] | None = None,
    *,
    kinds: tuple[type, ...] | None = None,
    seed: int = 0,
) -> Forecast:
    """Expect, before any training, how large signals and gradients are at each layer: mean-field theory.

    Products with weights (Linear, Conv, ``x @ w``) take q, the mean square of x, to n sigma^2 q + mean(bias^2), where
    sigma^2 is the weights' mean square; everything else runs as it is (Poole et al. 2016; Schoenholz et al. 2017; Yang et
    al. 2019 for batch norm). The model, its buffers and the random generator stay as they were.

    Args:
        model: at its initialisation; trained weights are no longer independent, and measure() will show it.
        input: a batch, (samples, ...). 16 to 128 samples tell enough.
        loss_fn: ``loss_fn(output)`` gives the loss. Without it a random gradient of mean square 1 starts at the output.
        kinds: classes of the modules to report; by default blocks with a forward of their own, or all with a weight matrix.

    Raises:
        ArgumentError: fewer than two such modules run, or the loss is not one number.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.scope import forecast
    >>> _ = gg.manual_seed(0)
    >>> model = nn.Sequential(*[layer for _ in range(12) for layer in (nn.Linear(128, 128, bias=False), nn.ReLU())])
    >>> ahead = forecast(model, gg.randn(16, 128))  # nn.Linear's own initialisation has n sigma^2 = 1/3; ReLU halves
    >>> round(ahead.growth * 6, 1), round(ahead.chi * 6, 1)
    (1.0, 1.0)
    """
    if not isinstance(model, nn.Module):
        raise DTypeError(message("forecast", "model", type(model).__name__, "a Module"))
    if not isinstance(input, Tensor):
        raise DTypeError(message("forecast", "input", type(input).__name__, "a Tensor"))
    if not input.numel():
        raise ArgumentError(message("forecast", "input", f"a tensor of shape {input.shape}", "at least one sample"))

    def ready(model):
        model, x = copy.deepcopy(model), input.detach()
        return model, x.clone().requires_grad_() if x.is_floating_point() else x

    def again(model=model):
        return _run(*ready(model), kinds, loss_fn, seed, selected.backend)

    rng = np.random.default_rng(seed)
    runs: list[list[Level]] = []
    noise = math.inf
    while len(runs) < RUNS[0] or (noise > NOISE and len(runs) < RUNS[1]):
        copied, x = ready(model)
        weights = [p.data for p in copied.parameters() if p.ndim >= 2]
        runs.append(_run(copied, x, kinds, loss_fn, seed, _MeanField(selected.backend, weights, rng)))
        if len(runs[0]) < 2:
            raise ArgumentError(
                message("forecast", "layers", len(runs[0]), "two or more to compare", "Pass kinds= to name classes.")
            )
        if len(runs) > 1:
            noise = _noise(runs)
    return Forecast(_mean(runs), len(runs), noise, _again=again)
