"""Record: what the layers of a model pass on, forward and back: of one step (``Recorder``), or sampled over a training (``record``)."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .. import autograd, nn
from ..errors import ArgumentError
from ..tensor import Tensor

# The slope of an activation as a part of its steepest, from its output y.
SLOPES = {
    nn.ReLU: lambda y: (y > 0) * 1.0,
    nn.Sigmoid: lambda y: 4 * y * (1 - y),
    nn.Tanh: lambda y: 1 - y * y,
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
VERSION = 1
BINS = 40
SPAN = 4.0  # an activation's histogram goes from -SPAN to SPAN; what lies beyond is in the outer bins
DECADES = (-12.0, 4.0)  # a gradient's goes over powers of ten; zeros are in the first bin
MOST = 4096  # numbers of an array that a statistic reads: of normal ones, so many give an rms within 1 %
IN_BINS = 1024  # of them that a histogram counts
SPECTRUM_EVERY = 10  # samples: singular values cost n^3
WIDEST = 512  # of a weight's two sides the smaller: beyond, one spectrum would use up the budget of a hundred samples


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
        self._kind = type(module)

    @property
    def rms(self) -> float:
        """Size of the output: the root of its mean square."""
        return rms(self.output)

    @property
    def gradient_rms(self) -> float:
        """Size of the gradient per entry; NaN before backward."""
        return math.nan if self.gradient is None else rms(self.gradient)

    @property
    def saturated(self) -> float | None:
        """Share of entries whose slope is below a tenth of the steepest, so that hardly any gradient passes.

        For ReLU these are the units that are off. None for a module that is not an activation with a known slope.
        """
        return saturated_share(self._kind, self.output) if self._kind in SLOPES else None

    @property
    def spread(self) -> float:
        """How much an entry differs between the samples of the batch: its standard deviation, averaged over entries."""
        return rms(self.output - self.output.mean(axis=0)) if self.output.size else 0.0

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


def record(
    model: nn.Module,
    every: int = 10,
    *,
    kinds: tuple[type, ...] | None = None,
    budget: float | None = 0.05,
    live: bool = False,
) -> Record:
    """Watch a training from outside: a context whose body is your own loop, unchanged.

    A step is a forward of ``model`` in training mode with gradients on. Each ``every``-th is sampled: of every layer's output and
    its gradient, size, mean, spread, histogram, share of saturated entries and dead units, NaNs and denormals; of every
    parameter its size, gradient and update:data ratio, rms(change) / std(value); of BatchNorm what it does to the batch.
    Other steps cost one comparison.

    Args:
        model: what to watch.
        every: steps from one sample to the next.
        kinds: classes of the modules of interest; all that have no modules inside by default.
        budget: part of the time that recording may take: a sample is left out while it has taken more. None: never.
        live: keep one line of the terminal up to date.

    Raises:
        ArgumentError: no module, nothing to watch, ``every`` below 1, or a model that is being recorded already.

    >>> import glassgrad as gg
    >>> from glassgrad import nn, optim, scope
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> x = gg.randn(32, 2)
    >>> with scope.record(model, every=5, budget=None) as rec:
    ...     for _ in range(11):
    ...         optimizer.zero_grad()
    ...         (model(x) - 1).square().mean().backward()
    ...         optimizer.step()
    >>> rec.steps
    [0, 5, 10]
    >>> len(rec.layers["1"]["saturated"]), len(rec.parameters["0.weight"]["update_ratio"])
    (3, 3)
    """
    return Record(model, every, kinds=kinds, budget=budget, live=live)


class Record:
    """What ``record`` gives. Lists hold one entry per sample; None where there was nothing to measure.

    Attributes:
        steps: numbers of the sampled steps.
        losses: what was handed to ``loss`` in them.
        layers: name -> statistic -> list: ``rms mean std saturated dead nonfinite denormal histogram`` of the output and
            ``gradient_rms gradient_mean gradient_std gradient_nonfinite gradient_denormal gradient_histogram``.
        kinds: name -> class. shapes: of the parameters.
        parameters: name -> ``rms gradient_rms update_ratio`` (log10) and, of matrices, ``spectrum`` (singular values).
        norms: name of a BatchNorm -> ``before after`` (histograms), ``batch_mean running_mean batch_std running_std`` (of its
            first 32 channels) and the sizes of the three terms of its backward, ``term_dy term_mean term_xhat``.
        cost: part of the time since the start that recording took.
    """

    def __init__(self, model, every=10, *, kinds=None, budget=0.05, live=False):
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"record: model: got {type(model).__name__}; expected a Module.")
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ArgumentError(f"record: every: got {every!r}; expected an integer of at least 1.")
        watched = [
            (name or type(module).__name__, module)
            for name, module in model.named_modules()
            if (isinstance(module, kinds) if kinds else not any(True for _ in module.children()))
        ]
        if not watched:
            names = ", ".join(kind.__name__ for kind in kinds or ())
            raise ArgumentError(f"record: got a model without any {names or 'layers'}; expected at least one.")
        self.steps: list[int] = []
        self.losses: list[float | None] = []
        self.kinds = {name: type(module).__name__ for name, module in watched}
        self.layers: dict[str, dict[str, list]] = {name: {} for name, _ in watched}
        self.parameters: dict[str, dict[str, list]] = {name: {} for name, _ in model.named_parameters()}
        self.shapes = {name: list(p.shape) for name, p in model.named_parameters()}
        self.norms: dict[str, dict[str, list]] = {name: {} for name, m in watched if isinstance(m, NORMS)}
        self.cost = 0.0
        self._model, self._watched, self._every, self._budget, self._live = model, watched, every, budget, live
        self._step = -1
        self._handles: list = []
        self._on_layers: list = []  # hooks of the sampled forward
        self._on_parameters: list = []  # hooks until its update
        self._before: dict[str, np.ndarray] | None = None  # parameters before the update of the sampled step
        self._spent = 0.0

    # ------------------------------------------------------------------------------------------------------ watching

    def __enter__(self) -> Record:
        if "_glassgrad_record" in vars(self._model):
            raise ArgumentError("record: got a model that is being recorded already; expected one record at a time.")
        object.__setattr__(self._model, "_glassgrad_record", True)
        self._start = time.perf_counter()
        self._handles = [
            self._model.register_forward_pre_hook(lambda module, args: self._begin()),
            self._model.register_forward_hook(lambda module, args, output: _remove(self._on_layers)),
        ]
        return self

    def __exit__(self, *exc) -> None:
        self._finish()
        _remove(self._handles)
        object.__delattr__(self._model, "_glassgrad_record")
        self.cost = self._spent / max(time.perf_counter() - self._start, 1e-9)
        if self._live and self.steps:
            print(file=sys.stderr)

    def loss(self, value) -> Any:
        """Note this step's loss if the step is sampled, and hand it through."""
        if self._before is not None and self.steps and self.steps[-1] == self._step:
            self.losses[-1] = float(value.item() if isinstance(value, Tensor) else value)
        return value

    def _begin(self) -> None:
        if not self._model.training or not autograd.is_grad_enabled():
            return
        self._step += 1
        if self._before is None and self._step % self._every:
            return
        start = time.perf_counter()
        self._finish()
        allowed = self._budget is None or not self.steps or self._spent <= self._budget * (start - self._start)
        if self._step % self._every == 0 and allowed:
            self._sample()
        self._spent += time.perf_counter() - start

    def _sample(self) -> None:
        self.steps.append(self._step)
        self.losses.append(None)
        for table in (self.layers, self.parameters, self.norms):
            for columns in table.values():
                for values in columns.values():
                    values.extend([None] * (len(self.steps) - 1 - len(values)))
        for name, module in self._watched:
            self._on_layers.append(module.register_forward_hook(self._watch(name)))
        self._before = {}
        spectra = len(self.steps) % SPECTRUM_EVERY == 1
        for name, p in self._model.named_parameters():
            self._before[name] = p.data.copy()
            self._put(self.parameters[name], rms=rms(p.data))
            if spectra and p.ndim == 2 and min(p.shape) <= WIDEST:
                self._put(self.parameters[name], spectrum=[_short(v) for v in _spectrum(p.data)])
            if p.requires_grad:
                self._on_parameters.append(p.register_hook(self._gradient_of(name)))

    def _finish(self) -> None:
        """After the sampled step's update: how far the parameters moved."""
        if self._before is None:
            return
        before, self._before = self._before, None
        _remove(self._on_layers)  # they are there still if the forward failed
        _remove(self._on_parameters)
        for name, p in self._model.named_parameters():
            old = before.get(name)
            if old is None or old.shape != p.shape:
                continue
            moved, size = rms(p.data - old), float(old.std()) if old.size > 1 else abs(float(old.reshape(-1)[0]))
            if moved > 0 and size > 0:
                self._put(self.parameters[name], update_ratio=_short(math.log10(moved / size)))
        if self._live:
            self._tell()

    def _watch(self, name):
        def hook(module, args, output):
            if not isinstance(output, Tensor):
                output = next((o for o in output if isinstance(o, Tensor)), None) if isinstance(output, tuple) else None
                if output is None:
                    return
            start = time.perf_counter()
            columns, y = self.layers[name], output.data
            self._put(columns, **_statistics(y, _linear_bins))
            if type(module) in SLOPES:
                self._put(columns, saturated=_short(saturated_share(type(module), _some(y))))
            if isinstance(module, (nn.ReLU, nn.LeakyReLU)) and y.ndim > 1:
                self._put(columns, dead=_short(dead_share(y)))
            norm = name in self.norms and module.training
            if norm:
                self._forward_of_norm(self.norms[name], module, args[0].data, y)
            if output.requires_grad:
                x = args[0].data if norm else None
                output.register_hook(lambda dy: self._gradient(name, module, x, dy.data))
            self._spent += time.perf_counter() - start

        return hook

    def _gradient(self, name, module, x, dy) -> None:
        start = time.perf_counter()
        found = _statistics(dy, _log_bins)
        self._put(self.layers[name], **{f"gradient_{key}": value for key, value in found.items()})
        if x is not None:
            self._put(self.norms[name], **_terms(module, x, dy))
        self._spent += time.perf_counter() - start

    def _gradient_of(self, name):
        def hook(dp):
            self._put(self.parameters[name], gradient_rms=_short(rms(dp.data)))

        return hook

    def _forward_of_norm(self, columns, module, x, y) -> None:
        axes = tuple(i for i in range(x.ndim) if i != 1)
        self._put(
            columns,
            before=_linear_bins(_some(x, IN_BINS)),
            after=_linear_bins(_some(y, IN_BINS)),
            batch_mean=[_short(v) for v in x.mean(axis=axes)[:32]],
            batch_std=[_short(v) for v in x.std(axis=axes)[:32]],
        )
        if module.running_mean is not None:
            self._put(
                columns,
                running_mean=[_short(v) for v in module.running_mean.data[:32]],
                running_std=[_short(v) for v in np.sqrt(module.running_var.data[:32])],
            )

    def _put(self, columns: dict[str, list], **values) -> None:
        at = len(self.steps) - 1
        for key, value in values.items():
            column = columns.setdefault(key, [])
            column.extend([None] * (at - len(column)))
            if len(column) == at:
                column.append(value)
            else:
                column[at] = value  # a module used twice in a step: the last use counts

    # ------------------------------------------------------------------------------------------------------- telling

    def line(self) -> str:
        """The last sample in a line of plain words."""
        if not self.steps:
            return "nothing sampled yet"
        parts = [f"step {self.steps[-1]}"]
        if self.losses[-1] is not None:
            parts.append(f"loss {self.losses[-1]:.3g}")
        sizes = [c["gradient_rms"][-1] for c in self.layers.values() if c.get("gradient_rms")]
        sizes = [size for size in sizes if size is not None]
        if sizes:
            parts.append(f"gradient {sizes[0]:.1e} first layer, {sizes[-1]:.1e} last")
        worst = max(
            ((c["saturated"][-1] or 0, n) for n, c in self.layers.items() if c.get("saturated")), default=(0, "")
        )
        if worst[0] > 0.5:
            parts.append(f"{worst[0]:.0%} of {worst[1]} hardly passes a gradient")
        ratios = [
            c["update_ratio"][-1] for c in self.parameters.values() if len(c.get("update_ratio", ())) == len(self.steps)
        ]
        ratios = [r for r in ratios if r is not None]
        if ratios:
            parts.append(f"a step moves weights by 10^{np.median(ratios):.1f} of their spread")
        bad = sum((c.get("nonfinite") or [0])[-1] or 0 for c in self.layers.values())
        if bad:
            parts.append(f"{bad:.0f} NaN or infinite outputs")
        return " | ".join(parts)

    def _tell(self) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{self.line()[:160]}", end="", file=sys.stderr, flush=True)
        else:
            print(self.line(), file=sys.stderr)

    def __repr__(self) -> str:
        return f"<Record of {len(self.layers)} layers, {len(self.steps)} samples: {self.line()}>"

    # --------------------------------------------------------------------------------------------------------- views

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {
            "version": VERSION, "steps": self.steps, "losses": self.losses, "kinds": self.kinds, "shapes": self.shapes, "layers": self.layers,
            "parameters": self.parameters, "norms": self.norms, "bins": {"span": SPAN, "decades": DECADES, "count": BINS},
        }  # fmt: skip

    def to_json(self, path: str | Path | None = None) -> str:
        """All samples as JSON text, written to ``path`` if there is one. What is not a number is null."""
        text = json.dumps(_plain(self.as_dict()), allow_nan=False, separators=(",", ":"))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | Path) -> Record:
        """A record to look at, from a file that ``to_json`` wrote."""
        found = json.loads(Path(source).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ArgumentError(f"Record.from_json: got {source}; expected what to_json of version {VERSION} wrote.")
        made = cls.__new__(cls)
        made.__dict__.update(
            {key: found[key] for key in ("steps", "losses", "kinds", "shapes", "layers", "parameters", "norms")}
        )
        made.cost, made._live = 0.0, False
        return made

    def plot(self):
        """A matplotlib figure: gradients per layer over time, ridgelines, update ratios, spectra, BatchNorm."""
        self._need_samples("plot")
        from .record_plot import plot

        return plot(self)

    def to_html(self):
        """A ``Page`` to step through with the arrow keys."""
        self._need_samples("to_html")
        from .record_page import page

        return page(self)

    def _need_samples(self, what: str) -> None:
        if not any(columns.get("rms") for columns in self.layers.values()):
            raise ArgumentError(
                f"record: {what}: got no sample; expected one at least. Train inside `with scope.record(model):`, in training mode."
            )


def _remove(handles: list) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()


def saturated_share(kind: type, y: np.ndarray) -> float:
    """Share of an activation's outputs at which its slope is below a tenth of the steepest."""
    return float(np.mean(SLOPES[kind](y.astype(np.float64)) < 0.1))


def dead_share(y: np.ndarray) -> float:
    """Share of units (of images: channels) that a ReLU turns off for every sample."""
    axes = tuple(i for i in range(y.ndim) if i != (1 if y.ndim == 4 else y.ndim - 1))
    return float(np.mean(~(y > 0).any(axis=axes)))


def _some(a: np.ndarray, most: int = MOST) -> np.ndarray:
    """Every k-th number, flat: ``most`` of them or fewer. k shares no factor with the size, so that no column is always left out."""
    flat = a.reshape(-1)
    k = max(-(-flat.size // most), 1)
    while math.gcd(k, flat.size) > 1:
        k += 1
    return flat[::k]


def _statistics(a: np.ndarray, bins) -> dict[str, Any]:
    if a.dtype.kind != "f":
        return {}
    some = _some(a)
    with np.errstate(over="ignore", invalid="ignore"):
        clean = math.isfinite(a.sum())  # a tenth of the time of looking at each
    bad = 0 if clean else a.size - int(np.count_nonzero(np.isfinite(a)))
    good = some[np.isfinite(some)] if bad else some
    if not good.size:
        return {
            "rms": None,
            "mean": None,
            "std": None,
            "nonfinite": bad,
            "denormal": 0,
            "histogram": [0] * BINS,
        }
    wide = good.astype(np.float64)
    mean, square = float(wide.mean()), float(np.dot(wide, wide)) / wide.size
    magnitude = np.abs(good)
    tiny = int(np.count_nonzero((magnitude > 0) & (magnitude < np.finfo(good.dtype).tiny)))
    return {
        "rms": _short(math.sqrt(square)), "mean": _short(mean), "std": _short(math.sqrt(max(square - mean * mean, 0.0))),
        "nonfinite": bad, "denormal": tiny * a.size // some.size, "histogram": bins(_some(good, IN_BINS)),
    }  # fmt: skip


def _spectrum(w: np.ndarray) -> np.ndarray:
    """Singular values, the largest first: roots of the eigenvalues of w wT, which cost less. Below 1e-7 of the first they are rounding."""
    wide = w.astype(np.float64)
    if not np.isfinite(wide).all():
        return np.empty(0)
    square = wide @ wide.T if wide.shape[0] < wide.shape[1] else wide.T @ wide
    return np.sqrt(np.maximum(np.linalg.eigvalsh(square)[::-1], 0))


def _linear_bins(a: np.ndarray) -> list[int]:
    a = a[np.isfinite(a)]
    at = np.clip((a + SPAN) * (BINS / (2 * SPAN)), 0, BINS - 1).astype(np.intp)
    return np.bincount(at, minlength=BINS).tolist()


def _log_bins(a: np.ndarray) -> list[int]:
    low, high = DECADES
    with np.errstate(divide="ignore"):
        decade = np.log10(np.abs(a))
    at = np.clip((decade - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.intp)
    return np.bincount(at, minlength=BINS).tolist()


def _terms(module, x: np.ndarray, dy: np.ndarray) -> dict[str, float | None]:
    """Sizes of the three terms of dx = weight / sigma * (dy - mean(dy) - xhat * mean(dy * xhat)) (Ioffe & Szegedy 2015)."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    centred = x - x.mean(axis=axes, keepdims=True)
    var, dy_mean = np.square(centred).mean(axis=axes), dy.mean(axis=axes)
    sigma = np.sqrt(var + module.eps)
    dy_xhat_mean = (dy * centred).mean(axis=axes) / sigma
    scale = (1.0 if module.weight is None else module.weight.data) / sigma
    # Per channel the second term is one number, and the third is one number times xhat, whose mean square is var / sigma^2:
    # no more than three arrays of x's size are made.
    return {
        "term_dy": _short(rms(scale * np.sqrt(np.square(dy).mean(axis=axes)))),
        "term_mean": _short(rms(scale * dy_mean)),
        "term_xhat": _short(rms(scale * dy_xhat_mean * np.sqrt(var) / sigma)),
    }


def _short(x: float) -> float | None:
    """Six digits, or None for what JSON can't hold."""
    return float(f"{float(x):.6g}") if math.isfinite(x) else None


def _plain(x):
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    if isinstance(x, (float, np.floating)):
        return _short(float(x))
    return x


def finite(values: Iterable) -> np.ndarray:
    """A column as numbers, NaN where there was none."""
    return np.array([math.nan if v is None else v for v in values], dtype=float)


def rms(x: np.ndarray) -> float:
    # float64: squares of float32 gradients underflow below 1e-23, where deep sigmoid nets live.
    wide = x.reshape(-1).astype(np.float64)
    return math.sqrt(float(wide @ wide) / wide.size) if wide.size else 0.0
