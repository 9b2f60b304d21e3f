"""Twin: train two models side by side that differ in one thing, and find the first number that comes out different.

Both see the same batches and draw the same random numbers. Each step is compared in the order in which it is computed: the
modules' outputs and the loss, buffers, gradients from the last layer to the first, the optimizer's state, the parameters.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import nn, optim, random
from ..compare import ulps
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..tensor import Tensor
from .plotting import COLD, HOT, pyplot_for
from .thermometer import powers_of_ten

Build = Callable[[], nn.Module]
Batch = tuple[Tensor, Tensor]
Entry = tuple[str, str, np.ndarray]  # stage, name, values
F = nn.functional


@dataclass(frozen=True)
class Divergence:
    """The first tensor that differs.

    Attributes:
        step: 0 before the first step, then counted from 1.
        stage: "output", "loss", "buffer", "gradient", "optimizer state" or "parameter".
        name: of the module or parameter.
        ulps: the largest difference, in units of the last digit of the largest entry.
        relative: the largest difference as a part of the largest entry.
        absolute: the largest difference.
    """

    step: int
    stage: str
    name: str
    ulps: float
    relative: float
    absolute: float

    @property
    def words(self) -> str:
        when = "before the first step" if self.step == 0 else f"in step {self.step}"
        what = "the loss" if self.stage == "loss" else f"the {self.stage} of {self.name}"
        if not math.isfinite(self.absolute):
            return f"{when}, at {what}: only one of them is a number there"
        return f"{when}, at {what}: {_count(self.ulps)} apart, {self.relative:.2g} of its largest entry"


@dataclass(repr=False)
class Twin:
    """What happened in a lockstep run.

    Attributes:
        first: where the two parted; None if they never did.
        settings: what the modules themselves say that differs: name, of a, of b.
        distance: |a - b| / |a| over all parameters: before the first step, then after each.
        losses: of a and of b, step by step.
        atol: differences up to this did not count.
    """

    first: Divergence | None
    settings: list[tuple[str, str, str]]
    distance: list[float]
    losses: tuple[list[float], list[float]]
    atol: float = 0.0

    @property
    def same(self) -> bool:
        """Whether nothing differed by more than ``atol``."""
        return self.first is None

    @property
    def words(self) -> str:
        """The run in sentences."""
        steps = len(self.losses[0])
        says = []
        if self.first is None:
            how = f"within {self.atol:g}" if self.atol else "to the last bit"
            says.append(
                f"The twins are the same {how}: {steps} steps of outputs, gradients, optimizer state and parameters."
            )
        else:
            says.append(f"The twins part {self.first.words}.")
        says += [f"Set differently: {name or 'the model'}: {a} against {b}." for name, a, b in self.settings]
        start = next((i for i, d in enumerate(self.distance) if d > 0), steps)
        if self.first is not None:
            early = f"{self.distance[start]:.2g} apart after step {start} and " if 0 < start < steps else ""
            a, b = (losses[-1] for losses in self.losses)
            says.append(
                f"Their parameters, of size 1, are {early}{self.distance[-1]:.2g} apart after step {steps}; the losses then are "
                f"{a:.4g} and {b:.4g}."
            )
        return " ".join(says)

    def __repr__(self) -> str:
        return self.words

    def plot(self, axes=None):
        """Distance and losses over the steps, and where the twins parted. Returns the figure.

        Args:
            axes: two matplotlib ``Axes`` to draw on; a new figure without.
        """
        pyplot = pyplot_for("plot")
        if axes is None:
            axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")[1]
        left, right = axes
        steps = np.arange(len(self.distance))
        distance = np.array(self.distance)
        apart = np.isfinite(distance) & (distance > 0)
        left.set(
            title="how far apart the parameters are", xlabel="steps done", ylabel="distance, as a part of their size"
        )
        if apart.any():
            left.plot(steps[apart], distance[apart], "o-", color=HOT, ms=4, lw=1.4)
            left.set_yscale("log")
            low, high = distance[apart].min(), distance[apart].max()
            left.set_ylim(low / 10, high * 10)
            powers_of_ten(left)
            same = f"the same for {steps[apart][0] - 1} steps" if steps[apart][0] > 1 else ""
            left.text(0.02, 0.03, same, transform=left.transAxes, color="#5d6673", size=8.5)
        else:
            left.plot(steps, distance, "o-", color=COLD, ms=4, lw=1.4)
            left.set_ylim(-0.1, 1)
            left.text(0.5, 0.5, "no difference", transform=left.transAxes, ha="center", color="#5d6673")
        left.set_xlim(-0.5, len(steps) - 0.5)
        for losses, colour, style, name in zip(self.losses, (COLD, HOT), ("v-", "^--"), "ab", strict=True):
            right.plot(np.arange(1, len(losses) + 1), losses, style, color=colour, ms=4, lw=1.4, label=name)
        if self.first is not None:
            right.axvline(max(self.first.step, 0.5), color="#5d6673", lw=0.9, ls=":", label="they part")
        right.set(title="their losses", xlabel="step", ylabel="loss", xlim=(-0.5, len(steps) - 0.5))
        right.legend(frameon=False, fontsize=8.5)
        for ax in axes:
            ax.xaxis.get_major_locator().set_params(integer=True)
        return left.figure


def _count(n: float) -> str:
    return f"{n:.3g} ulps" if n != 1 else "1 ulp"


# ------------------------------------------------------------------------------------------------------------- one side


@dataclass
class _Side:
    """One of the two: its model, its optimizer and what it runs inside of."""

    model: nn.Module
    optimizer: optim.Optimizer
    around: Callable[[], Any]
    losses: list[float] = field(default_factory=list)

    def state(self) -> Iterator[Entry]:
        for name, buffer in self.model.named_buffers():
            yield "buffer", name, buffer.data.copy()
        for name, p in self.model.named_parameters():
            yield "parameter", name, p.data.copy()

    def step(self, batch: Batch, loss_fn) -> list[Entry]:
        """One step of training: what was computed, in order, as (stage, name, array)."""
        seen: list[Entry] = []
        x, y = batch
        params = {id(p): name for name, p in self.model.named_parameters()}
        handles = [module.register_forward_hook(self._watch(name, seen)) for name, module in self.model.named_modules()]
        try:
            with self.around():
                loss = loss_fn(self.model(x), y)
                seen.append(("loss", "", np.array(loss.data)))
                self.losses.append(float(loss.item()))
                seen += [entry for entry in self.state() if entry[0] == "buffer"]
                self.optimizer.zero_grad()
                loss.backward()
                seen += _own_gradients(self.model, seen)
                self.optimizer.step()
        finally:
            for handle in handles:
                handle.remove()
        for p, values in self.optimizer.state.items():
            for key, value in values.items():
                array = np.array(value.data if isinstance(value, Tensor) else value)
                seen.append(("optimizer state", f"{params.get(id(p), 'a parameter')} ({key})", array))
        seen += [entry for entry in self.state() if entry[0] == "parameter"]
        return _in_order(seen, self.model)

    @staticmethod
    def _watch(name, seen):
        def hook(module, args, output):
            title = name or f"the whole {type(module).__name__}"
            for y in output if isinstance(output, (tuple, list)) else (output,):
                if isinstance(y, Tensor):
                    seen.append(("output", title, y.data.copy()))
                    if y.requires_grad:
                        y.register_hook(lambda dy, title=title: seen.append(("gradient", title, dy.data.copy())))

        return hook


def _own_gradients(model, seen):
    return [("gradient", name, p.grad.data.copy()) for name, p in model.named_parameters() if p.grad is not None]


def _in_order(seen, model):
    """Parameters' gradients behind those of their module's output, from which they are computed."""
    params = {name for name, _ in model.named_parameters()}
    own: dict[str, list] = {}
    for entry in seen:
        if entry[0] == "gradient" and entry[1] in params:
            own.setdefault(entry[1].rpartition(".")[0], []).append(entry)
    ordered: list = []
    for i, entry in enumerate(seen):
        stage, name, _ = entry
        if stage == "gradient" and name in params:
            continue
        ordered.append(entry)
        last_gradient = stage == "gradient" and not any(s == "gradient" and n == name for s, n, _ in seen[i + 1 :])
        if last_gradient and name in own:
            ordered += own.pop(name)
    rest = [entry for entries in own.values() for entry in entries]
    behind = next((i for i, entry in enumerate(ordered) if entry[0] in ("optimizer state", "parameter")), len(ordered))
    return ordered[:behind] + rest[::-1] + ordered[behind:]


# ----------------------------------------------------------------------------------------------------------- comparison


def _compared(step: int, a: list[Entry], b: list[Entry], atol: float) -> Divergence | None:
    """The first entry of two lists that differs."""
    nothing: Entry = ("", "nothing", np.zeros(0))
    for (stage, name, x), (other_stage, other_name, y) in itertools.zip_longest(a, b, fillvalue=nothing):
        if (stage, name) != (other_stage, other_name):
            got, expected = f"{other_stage} {other_name}".strip(), f"{stage} {name}".strip()
            raise ArgumentError(message("twin", f"step {step}, of model_b", got, f"{expected}, as model_a"))
        if x.shape != y.shape:
            raise ShapeError(message("twin", f"{stage} {name} in step {step}", y.shape, f"{x.shape}, as of model_a"))
        if np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            continue
        if x.dtype.kind != "f":
            return Divergence(step, stage, name, math.inf, math.inf, math.inf)
        with np.errstate(all="ignore"):
            gap = np.abs(x.astype(np.float64) - y)
            gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, gap)
            absolute = float(np.max(np.where(np.isnan(gap), np.inf, gap)))
            if absolute > atol:
                largest = float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0))
                relative = absolute / largest if largest else math.inf
                return Divergence(step, stage, name, ulps(y, x, x.dtype, pointwise=False), relative, absolute)
    return None


def _distance(a: nn.Module, b: nn.Module) -> float:
    apart = size = 0.0
    with np.errstate(all="ignore"):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            x = p.data.astype(np.float64)
            apart += float(np.sum((x - q.data) ** 2))
            size += float(np.sum(x * x))
    return math.sqrt(apart / size) if size else math.sqrt(apart)


def _check_structure(a: nn.Module, b: nn.Module) -> None:
    for what, members in (
        ("module", lambda m: [(name, "") for name, _ in m.named_modules()]),
        ("parameter", lambda m: [(name, f" of shape {p.shape}, {p.dtype}") for name, p in m.named_parameters()]),
        ("buffer", lambda m: [(name, f" of shape {p.shape}, {p.dtype}") for name, p in m.named_buffers()]),
    ):
        for x, y in itertools.zip_longest(members(a), members(b)):
            if x != y:
                expected, got = (f"{what} {repr(z[0])}{z[1]}" if z else f"no further {what}" for z in (x, y))
                hint = "Twins have the same modules and parameters; their settings and values may differ."
                raise ArgumentError(message("twin", "model_b", got, f"{expected}, as in model_a", hint))


def _settings(a: _Side, b: _Side) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for (name, x), (_, y) in zip(a.model.named_modules(), b.model.named_modules(), strict=True):
        one, other = [f"{type(m).__name__}({m.extra_repr()})" for m in (x, y)]
        if one != other:
            found.append((name, one, other))
    first, second = [" ".join(repr(side.optimizer).split()) for side in (a, b)]
    return [*found, ("optimizer", first, second)] if first != second else found


def _batches(data, steps: int) -> Iterator[Batch]:
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        data = [data]
    if not isinstance(data, Iterable):
        raise DTypeError(message("twin", "data", type(data).__name__, "a pair (x, y), or batches of them"))
    for batch in itertools.islice(itertools.cycle(data), steps):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise DTypeError(message("twin", "a batch", type(batch).__name__, "a pair (x, y)"))
        yield batch[0], batch[1]


def _made(which: str, model: nn.Module | Build, seed: int, around) -> nn.Module:
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    random.manual_seed(seed)
    with around():
        made = model() if callable(model) else model
    if not isinstance(made, nn.Module):
        raise DTypeError(message("twin", which, type(made).__name__, "a Module, or a function that returns one"))
    return made


def _default_loss(output, y):
    return F.mse_loss(output, y) if y.is_floating_point() else F.cross_entropy(output, y)


def twin(
    model_a: nn.Module | Build,
    model_b: nn.Module | Build,
    data: Batch | Iterable[Batch],
    *,
    optimizer: Callable[..., optim.Optimizer] | tuple | None = None,
    loss_fn: Callable[[Any, Tensor], Tensor] | None = None,
    steps: int = 20,
    atol: float = 0.0,
    around_a: Callable[[], Any] = contextlib.nullcontext,
    around_b: Callable[[], Any] = contextlib.nullcontext,
    seed: int = 0,
) -> Twin:
    """Train two models in lockstep and name the first tensor and step at which they differ.

    Args:
        model_a, model_b: modules, which are copied, or functions that build one, called with the same seed.
        data: one batch (x, y), or an iterable of them that is gone through again and again.
        optimizer: ``optimizer(parameters)`` makes one; two of them in a tuple, for a and b. By default SGD, lr 0.01.
        loss_fn: ``loss_fn(output, y)``; by default cross entropy for integer y, else the mean squared error.
        steps: how many to train, also after the twins have parted.
        atol: absolute differences up to this do not count.
        around_a, around_b: functions that return a context to run one side in: another kernel, backend or mode.
        seed: of the random numbers that each step draws.

    Raises:
        ArgumentError: the models differ in structure; the first difference is named.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.scope import twin
    >>> build = lambda p: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(p), nn.Linear(8, 3))
    >>> found = twin(lambda: build(0.1), lambda: build(0.5), (gg.ones(5, 4), gg.tensor([0, 1, 2, 0, 1])), steps=2)
    >>> found.first.step, found.first.stage, found.first.name
    (1, 'output', '2')
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError(message("twin", "steps", repr(steps), "an int of 1 or more"))
    makers = optimizer if isinstance(optimizer, tuple) else (optimizer, optimizer)
    if len(makers) != 2:
        raise ArgumentError(message("twin", "optimizer", f"{len(makers)} of them", "one for both, or a pair"))
    before = random.get_rng_state()
    try:
        sides = []
        parts = (("model_a", model_a, around_a), ("model_b", model_b, around_b))
        for (which, model, around), make in zip(parts, makers, strict=True):
            made = _made(which, model, seed, around)
            sides.append(
                _Side(made, make(made.parameters()) if make else optim.SGD(made.parameters(), lr=0.01), around)
            )
        a, b = sides
        _check_structure(a.model, b.model)
        settings = _settings(a, b)
        first = _compared(0, list(a.state()), list(b.state()), atol)
        distance = [_distance(a.model, b.model)]
        random.manual_seed(seed)
        for number, batch in enumerate(_batches(data, steps), 1):
            state = random.get_rng_state()
            seen = []
            for side in sides:
                random.set_rng_state(state)
                seen.append(side.step(batch, loss_fn or _default_loss))
            first = first or _compared(number, seen[0], seen[1], atol)
            distance.append(_distance(a.model, b.model))
    finally:
        random.set_rng_state(before)
    if len(distance) == 1:
        raise ArgumentError(message("twin", "data", "no batches", "at least one"))
    return Twin(first, settings, distance, (a.losses, b.losses), atol)
