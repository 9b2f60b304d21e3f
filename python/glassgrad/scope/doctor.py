"""Doctor: runs a few steps of a training on a copy, watches everything, and says in plain words what is wrong.

Each code has a check of its own below. What a check measures is stated in its docstring; where a number decides, it is one
that a healthy training stays far away from, or the question is asked of a second run that differs in that one thing.
A finding that another explains is left out: a sigmoid that saturates because the input is in the hundreds is the input's fault.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import autograd, nn, optim
from .. import random as random_
from ..errors import ArgumentError, GlassgradError
from ..op import OpNode, run
from ..tensor import Tensor, wrap
from .plotting import COLD, GOOD, pyplot_for

TrainStep = Callable[[Any, Callable, Any, Tensor, Tensor], Tensor]
PROOF_STEPS = 50
LARGER = (1e2, 1e4, 1e6)  # learning rates to try where one seems too low


def usual_step(model, loss_fn, optimizer, x, y) -> Tensor:
    """The loop body that a training should have: forget old gradients, predict, compare, work back, move."""
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


# ------------------------------------------------------------------------------------------------------------- findings


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: such as "dead-relu".
        layer: the module or parameter it is about; empty if it is about the whole.
        evidence: what was measured.
        remedy: what to change.
        lesson: the command that teaches it.
    """

    code: str
    layer: str
    evidence: str
    remedy: str
    lesson: str

    def __str__(self) -> str:
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.code}{where}\n    seen:   {self.evidence}\n    do:     {self.remedy}\n    learn:  {self.lesson}"


# code: (remedy, number of the tutorial)
CODES: dict[str, tuple[str, int]] = {
    "nan-source": ("keep that op's input where it is defined: clamp it, add a small eps, or clean the data", 4),
    "detached-graph": ("remove .detach(), .data, .item() or no_grad() between that layer and the loss", 1),
    "unused-parameter": ("use the layer in forward(), or delete it", 1),
    "frozen-parameter": ("requires_grad_(True), and give the parameter to the optimizer", 10),
    "missing-zero-grad": ("call optimizer.zero_grad() in every step, before backward()", 10),
    "broadcast-loss": ("give prediction and target one shape: y.reshape(prediction.shape)", 3),
    "double-softmax": ("drop the softmax: cross_entropy applies it, so give it the raw scores", 33),
    "bn-eval-in-training": ("call model.train() before training; model.eval() only to test", 8),
    "bn-batch-of-one": ("use batches of 8 or more, or LayerNorm, which needs no batch", 8),
    "unnormalised-input": ("x = (x - x.mean(0)) / x.std(0), with the training set's mean and std", 7),
    "symmetric-init": ("draw the first weights at random (nn.init.kaiming_normal_, xavier_normal_), not all alike", 7),
    "shuffled-labels": ("check that x and y were shuffled together and loaded in the same order", 11),
    "exploding-gradient": ("smaller first weights (He for ReLU, Xavier for tanh), batch norm, or clip_grad_norm_", 6),
    "saturated-activation": ("smaller first weights (Xavier), or normalise what goes in", 5),
    "dead-relu": ("start biases at 0 and weights with He's; a lower learning rate; LeakyReLU", 7),
    "vanishing-gradient": ("ReLU with He's weights instead of sigmoid, batch norm, or residual connections", 5),
    "lr-too-high": ("a lower learning rate: lr / 10", 12),
    "lr-too-low": ("a higher learning rate, tenfold until the loss moves", 12),
}

_FLOW = {"exploding-gradient", "saturated-activation", "dead-relu", "vanishing-gradient", "lr-too-high", "lr-too-low"}
# What a finding explains, so that it is not reported beside it.
EXPLAINS: dict[str, set[str]] = {
    "nan-source": set(CODES) - {"nan-source"},
    "detached-graph": {"unused-parameter", "lr-too-low", "vanishing-gradient"},
    "unused-parameter": {"lr-too-low"},
    "frozen-parameter": {"lr-too-low", "lr-too-high"},
    "missing-zero-grad": _FLOW,
    "broadcast-loss": {"lr-too-low", "lr-too-high", "shuffled-labels"},
    "double-softmax": {"lr-too-low", "lr-too-high", "vanishing-gradient"},
    "bn-eval-in-training": _FLOW,
    "bn-batch-of-one": set(CODES) - {"bn-batch-of-one"},
    "unnormalised-input": _FLOW,
    "symmetric-init": _FLOW,
    "shuffled-labels": {"lr-too-low"},
    "exploding-gradient": {"lr-too-high", "saturated-activation", "lr-too-low"},
    "saturated-activation": {"vanishing-gradient", "lr-too-low", "lr-too-high"},
    "dead-relu": {"vanishing-gradient", "lr-too-low"},
    "vanishing-gradient": {"lr-too-low", "dead-relu", "saturated-activation"},
    "lr-too-high": {"dead-relu", "saturated-activation", "lr-too-low"},
}


@dataclass
class Report:
    """What the doctor found, the root of each illness first; ``print`` it, or read ``findings``."""

    findings: list[Finding]
    losses: list[float]
    _patient: _Patient = field(repr=False)

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings]

    def __str__(self) -> str:
        if not self.findings:
            return f"Nothing found in {len(self.losses)} steps: loss {self.losses[0]:.3g} to {self.losses[-1]:.3g}."
        return "\n".join(f"{i}. {finding}" for i, finding in enumerate(self.findings, 1))

    def prove(self, code: str) -> Proof:
        """Train two copies from the same state, one with the remedy for ``code`` applied, 50 steps each.

        Raises:
            ArgumentError: ``code`` was not found, or its remedy is a change of your code that can't be made from outside.
        """
        finding = next((f for f in self.findings if f.code == code), None)
        if finding is None:
            found = ", ".join(self.codes) or "nothing"
            raise ArgumentError(f"prove: code: got {code!r}; expected one of the findings: {found}.")
        if code not in REMEDIES:
            raise ArgumentError(
                f"prove: got {code!r}, whose remedy is a change in your code: {finding.remedy}. Make it and call doctor again."
            )
        before = _watch(self._patient.copy(), PROOF_STEPS, look=False)
        cured = self._patient.copy()
        REMEDIES[code](cured, finding)
        after = _watch(cured, PROOF_STEPS, look=False)
        return Proof(code, before.losses, after.losses, before.failure, after.failure)


@dataclass
class Proof:
    """Losses of two trainings that differ in the remedy alone; ``plot()`` draws both."""

    code: str
    before: list[float]
    after: list[float]
    failure_before: str = ""
    failure_after: str = ""

    def __str__(self) -> str:
        def told(losses, failure):
            if failure:
                return f"stops after {len(losses)} steps: {failure}"
            return f"loss {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} steps"

        return f"{self.code}\n    as it was:       {told(self.before, self.failure_before)}\n    with the remedy: {told(self.after, self.failure_after)}"

    def plot(self, ax=None):
        """Both losses over steps, on a matplotlib ``Axes``, which is returned."""
        ax = pyplot_for("doctor").subplots()[1] if ax is None else ax
        ax.plot(self.before, color=COLD, label="as it was")
        ax.plot(self.after, color=GOOD, label=f"with the remedy for {self.code}")
        ax.set(xlabel="step", ylabel="loss")
        ax.legend(frameon=False)
        return ax


# -------------------------------------------------------------------------------------------------------------- patient


@dataclass
class _Patient:
    """All that a training step needs, owned by the doctor: the user's objects are never run."""

    model: nn.Module
    loss_fn: Callable
    optimizer: Any
    train_step: TrainStep
    x: Tensor
    y: Tensor
    rng: Any = field(default_factory=random_.get_rng_state)
    better_lr: float = 0.1  # times the one it has

    def copy(self) -> _Patient:
        # Together, so that the copied optimizer holds the copied parameters.
        model, loss_fn, optimizer = copy.deepcopy((self.model, self.loss_fn, self.optimizer))
        return _Patient(model, loss_fn, optimizer, self.train_step, self.x, self.y, self.rng, self.better_lr)

    def scale_lr(self, factor: float) -> _Patient:
        for group in self.optimizer.param_groups:
            group["lr"] *= factor
        return self


@dataclass
class _Activation:
    """What an activation gave for the batch: ``op`` is relu, tanh or sigmoid."""

    layer: str
    op: str
    y: np.ndarray


@dataclass
class _Look:
    """What was seen under the loss of one step."""

    nodes: list = field(default_factory=list)
    activations: list[_Activation] = field(default_factory=list)
    shapes: list[tuple] = field(
        default_factory=list
    )  # (op, input shapes) of what broadcasts between prediction and loss
    softmax: str = ""  # the layer of a softmax that goes straight into cross_entropy
    sizes: dict[str, float] = field(default_factory=dict)  # module -> rms of the gradient of its output
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)  # parameter -> of this batch alone
    nan: tuple[str, str] | None = None  # (layer, what)
    bn_eval: list[str] = field(default_factory=list)
    bn_single: list[str] = field(default_factory=list)


@dataclass
class _Course:
    """A few steps of a training: the losses, the looks (first and last), and what ended it early."""

    patient: _Patient
    losses: list[float] = field(default_factory=list)
    looks: list[_Look] = field(default_factory=list)
    kept: list[tuple[str, float]] = field(default_factory=list)  # (parameter, part of an old gradient still in .grad)
    failure: str = ""
    error: Exception | None = None

    @property
    def finite(self) -> bool:
        return not self.failure and all(map(math.isfinite, self.losses))

    @property
    def end(self) -> float:
        """Mean of the last quarter; infinite if it ended badly."""
        return (
            float(np.mean(self.losses[-max(1, len(self.losses) // 4) :])) if self.finite and self.losses else math.inf
        )


def _watch(patient: _Patient, steps: int, look: bool = True) -> _Course:
    course = _Course(patient)
    before = random_.get_rng_state()
    random_.set_rng_state(patient.rng)
    try:
        for step in range(steps):
            watcher = _Watcher(patient, course) if look and step in (0, steps - 1) else None
            try:
                with np.errstate(all="ignore"):
                    loss = (
                        watcher.step()
                        if watcher
                        else patient.train_step(patient.model, patient.loss_fn, patient.optimizer, patient.x, patient.y)
                    )
            except (GlassgradError, ArithmeticError) as error:
                course.failure, course.error = str(error), error
                break
            value = float(loss.item() if isinstance(loss, Tensor) else loss)
            course.losses.append(value)
            if not math.isfinite(value):
                course.failure = f"the loss is {value}"
                break
    finally:
        random_.set_rng_state(before)
    return course


class _Watcher:
    """Hooks round one step."""

    def __init__(self, patient: _Patient, course: _Course):
        self.patient, self.course, self.look = patient, course, _Look()
        self.modules: dict[int, str] = {}  # node -> the module whose output it made
        self.order: list[str] = []

    def step(self):
        patient, look = self.patient, self.look
        self.course.looks.append(look)
        parameters = dict(patient.model.named_parameters())
        old = {name: None if p.grad is None else p.grad.data.copy() for name, p in parameters.items()}
        handles = []
        for name, p in parameters.items():
            look.gradients[name] = None
            if p.requires_grad:
                handles.append(p.register_hook(self._add(name)))
        for name, module in patient.model.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(name)))
            handles.append(module.register_forward_hook(self._after(name)))
        optimizer_step = patient.optimizer.step
        held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}

        def spied(*args, **kwargs):
            for name, p in parameters.items():
                fresh, was = look.gradients[name], old[name]
                if id(p) not in held or p.grad is None or fresh is None or was is None or not np.any(was):
                    continue
                rest = p.grad.data.astype(np.float64) - fresh
                part = float(np.vdot(rest, was) / np.vdot(was, was))
                if part > 0.5 and np.linalg.norm(rest - part * was) < 0.1 * np.linalg.norm(was):
                    self.course.kept.append((name, part))
            return optimizer_step(*args, **kwargs)

        patient.optimizer.step = spied
        try:
            with autograd.detect_anomaly(False):
                return patient.train_step(patient.model, self._loss_fn, patient.optimizer, patient.x, patient.y)
        finally:
            del patient.optimizer.step
            for handle in handles:
                handle.remove()

    def _add(self, name):
        def hook(dp):
            have = self.look.gradients[name]
            self.look.gradients[name] = dp.data.astype(np.float64) if have is None else have + dp.data

        return hook

    def _before(self, name):
        def hook(module, args):
            if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) or not autograd.is_grad_enabled():
                return
            if not module.training:
                self.look.bn_eval.append(name)
            elif args[0].shape[0] == 1:
                self.look.bn_single.append(name)

        return hook

    def _after(self, name):
        def hook(module, args, output):
            if not isinstance(output, Tensor) or output.grad_fn is None:
                return
            self.modules.setdefault(id(output.grad_fn), name)
            if any(True for _ in module.children()):
                return
            key = name or type(module).__name__
            self.order.append(key)
            output.register_hook(lambda dy: self.look.sizes.__setitem__(key, _rms(dy.data)))

        return hook

    def _loss_fn(self, *args, **kwargs):
        loss = self.patient.loss_fn(*args, **kwargs)
        if isinstance(loss, Tensor) and loss.grad_fn is not None:
            self._read(loss, args[0] if args else None)
        return loss

    def _read(self, loss: Tensor, prediction) -> None:
        look = self.look
        names = {id(p): name for name, p in self.patient.model.named_parameters()}
        look.nodes = _nodes(loss.grad_fn)
        layers = {id(node): self._layer(node, names) for node in look.nodes}
        above = (
            {id(n) for n in _nodes(prediction.grad_fn)}
            if isinstance(prediction, Tensor) and prediction.grad_fn
            else set()
        )
        for node in look.nodes:
            saved = _saved(node)
            if node.name in ("relu", "linear_relu", "tanh", "sigmoid") and "y" in saved:
                kind = "relu" if node.name == "linear_relu" else node.name
                look.activations.append(_Activation(layers[id(node)], kind, np.asarray(saved["y"].data)))
            if id(node) not in above and isinstance(node, OpNode) and node.op.broadcasts and "shapes" in saved:
                look.shapes.append((node.name, [s for s in saved["shapes"] if s is not None]))
            if node.name in ("cross_entropy", "log_softmax"):
                below = _below(node)
                if below is not None and below.name == "softmax":
                    look.softmax = layers[id(below)]

    def _layer(self, node, names) -> str:
        """The module that made it, or else the nearest before it."""
        seen, queue = set(), [node]
        while queue:
            here = queue.pop(0)
            if id(here) in self.modules:
                return self.modules[id(here)]
            for edge in getattr(here, "edges", ()):
                if edge is None or id(edge[0]) in seen:
                    continue
                seen.add(id(edge[0]))
                if id(edge[0]) in names:
                    return names[id(edge[0])].rpartition(".")[0]
                if hasattr(edge[0], "edges"):
                    queue.append(edge[0])
        return ""


def _nodes(end) -> list:
    """The graph below ``end``, first made first."""
    seen, stack, found = {id(end)}, [end], []
    while stack:
        node = stack.pop()
        found.append(node)
        for edge in node.edges:
            if edge is not None and hasattr(edge[0], "edges") and id(edge[0]) not in seen:
                seen.add(id(edge[0]))
                stack.append(edge[0])
    return sorted(found, key=lambda node: node.number)


def _below(node):
    """Where its first input was made, through views."""
    while True:
        edge = node.edges[0] if node.edges else None
        if edge is None or not hasattr(edge[0], "edges"):
            return None
        node = edge[0]
        if not (isinstance(node, OpNode) and (node.op.is_view or node.name in ("clone", "cast"))):
            return node


def _saved(node) -> dict[str, Any]:
    if not isinstance(node, OpNode):
        return {}
    try:
        return dict(zip(node.plan.names, node.saved_values(), strict=True))
    except GlassgradError:
        return {}


def _rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) if a.size else 0.0


# --------------------------------------------------------------------------------------------------------------- doctor


def doctor(
    model: nn.Module,
    loss_fn: Callable,
    x: Tensor,
    y: Tensor,
    optimizer=None,
    *,
    train_step: TrainStep | None = None,
    steps: int = 20,
) -> Report:
    """Train a copy for a few steps and say what is wrong; your model, optimizer and random numbers stay as they are.

    Args:
        model: what is trained.
        loss_fn: ``loss_fn(model(x), y)`` is one number.
        x, y: a batch; 64 samples or more tell most.
        optimizer: as you use it; SGD with lr 0.01 otherwise.
        train_step: your own loop body, ``train_step(model, loss_fn, optimizer, x, y) -> loss``, so that its mistakes are seen
            too. Use its arguments inside, not names from outside: they are copies.
        steps: of training.

    Returns:
        A ``Report``: print it, read its ``findings``, or ``prove`` one.

    Raises:
        ArgumentError: no module, no tensors, or fewer than two steps.

    >>> import glassgrad as gg
    >>> from glassgrad import nn, optim, scope
    >>> _ = gg.manual_seed(0)
    >>> x = gg.randn(64, 8)
    >>> y = (x[:, 0] > 0).long()
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(1))
    >>> report = scope.doctor(model, nn.functional.cross_entropy, x, y, optim.SGD(model.parameters(), lr=0.5))
    >>> report.codes
    ['double-softmax']
    """
    _check(model, loss_fn, x, y, steps)
    if optimizer is None:
        optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    patient = _Patient(model, loss_fn, optimizer, train_step or usual_step, x, y)
    patient = patient.copy()
    course = _watch(patient.copy(), steps)
    sick = _Case(patient, course, steps)
    findings: dict[str, Finding] = {}
    hidden: set[str] = set()
    for code, check in CHECKS:
        if code in hidden or code in findings:
            continue
        for layer, evidence in check(sick):
            remedy, number = CODES[code]
            findings[code] = Finding(code, layer, evidence, remedy, f"glassgrad tutorial {number}")
            hidden |= EXPLAINS.get(code, set())
            break
    if course.error is not None and "bn-batch-of-one" not in findings:
        raise ArgumentError(f"doctor: the training step fails: {course.error}") from course.error
    return Report(list(findings.values()), course.losses, patient)


def _check(model, loss_fn, x, y, steps) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"doctor: model: got {type(model).__name__}; expected a Module.")
    if not callable(loss_fn):
        raise ArgumentError(f"doctor: loss_fn: got {type(loss_fn).__name__}; expected a function of (prediction, y).")
    for name, t in (("x", x), ("y", y)):
        if not isinstance(t, Tensor):
            raise ArgumentError(f"doctor: {name}: got {type(t).__name__}; expected a Tensor.")
    if not any(True for _ in model.parameters()):
        raise ArgumentError("doctor: model: got one without parameters; expected something to train.")
    if not isinstance(steps, int) or steps < 2:
        raise ArgumentError(f"doctor: steps: got {steps!r}; expected at least 2.")


@dataclass
class _Case:
    patient: _Patient
    course: _Course
    steps: int
    _others: dict[float, _Course] = field(default_factory=dict)

    @property
    def first(self) -> _Look:
        return self.course.looks[0]

    @property
    def last(self) -> _Look:
        return self.course.looks[-1]

    def with_lr(self, factor: float) -> _Course:
        """The same training at another learning rate."""
        if factor not in self._others:
            self._others[factor] = _watch(self.patient.copy().scale_lr(factor), self.steps, look=False)
        return self._others[factor]


Seen = Iterator[tuple[str, str]]


def _nan_source(case: _Case) -> Seen:
    """A NaN or infinity in the data, or before any update: found by running the first step op by op."""
    for name, t in (("x", case.patient.x), ("y", case.patient.y)):
        if t.data.dtype.kind == "f" and (bad := int((~np.isfinite(t.data)).sum())):
            yield name, f"{bad} of {t.data.size} numbers of {name} are NaN or infinite."
            return
    grads = [g for g in case.first.gradients.values() if g is not None]
    if case.course.losses[:1] and math.isfinite(case.course.losses[0]) and all(np.isfinite(g).all() for g in grads):
        return
    if not case.course.losses and not case.first.nodes:
        return
    yield _first_bad(case.patient.copy())


def _first_bad(patient: _Patient) -> tuple[str, str]:
    """The first op, forward or backward, whose inputs are finite and whose result is not."""
    watcher = _Watcher(patient, _Course(patient))
    handles = [m.register_forward_hook(watcher._after(n)) for n, m in patient.model.named_modules()]
    names = {id(p): name for name, p in patient.model.named_parameters()}
    random_.set_rng_state(patient.rng)
    with np.errstate(all="ignore"), autograd.detect_anomaly():
        loss = patient.loss_fn(patient.model(patient.x), patient.y)
        for handle in handles:
            handle.remove()
        if loss.grad_fn is None:
            return "", f"the loss is {loss.item()}."
        nodes = [n for n in _nodes(loss.grad_fn) if isinstance(n, OpNode) and n.given]
        for node in nodes:
            arrays = [t if t is None else t.data for t in node.given or ()]
            y = run(node.op, *arrays, **node.static)
            if _bad(y) and not any(map(_bad, arrays)):
                lowest = min(
                    float(np.min(a)) for a in arrays if isinstance(a, np.ndarray) and a.size and a.dtype.kind == "f"
                )
                return watcher._layer(
                    node, names
                ), f"{node.name} gives {_kind(y)} in the forward pass; its smallest input is {lowest:.3g}."
        try:
            loss.backward()
        except GlassgradError as error:
            return "", f"backward: {error}"
    return "", f"the loss is {loss.item():.3g} and its gradient is not finite."


def _bad(a) -> bool:
    if isinstance(a, tuple):
        return any(map(_bad, a))
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and not np.isfinite(a).all()


def _kind(a) -> str:
    a = a[0] if isinstance(a, tuple) else a
    return "NaN" if np.isnan(a).any() else "infinity"


def _matters(case: _Case, name: str) -> bool:
    """Whether the loss changes when the parameter does."""

    def loss(shift: float) -> float:
        patient = case.patient.copy()
        parameter = dict(patient.model.named_parameters())[name]
        random_.set_rng_state(patient.rng)
        with autograd.no_grad(), np.errstate(all="ignore"):
            noise = np.random.default_rng(0).standard_normal(parameter.shape).astype(parameter.data.dtype)
            parameter.data[...] += shift * (0.1 + _rms(parameter.data)) * noise
            return patient.loss_fn(patient.model(patient.x), patient.y).item()

    before = random_.get_rng_state()
    try:
        return loss(1.0) != loss(0.0)
    except GlassgradError:
        return True
    finally:
        random_.set_rng_state(before)


def _without_gradient(case: _Case) -> list[str]:
    wanted = {name for name, p in case.patient.model.named_parameters() if p.requires_grad}
    return [name for name, g in case.first.gradients.items() if g is None and name in wanted]


def _detached(case: _Case) -> Seen:
    """A parameter that the loss depends on, by trying, and that gets no gradient."""
    for name in _without_gradient(case):
        if _matters(case, name):
            yield name, f"{name} changes the loss, but backward() brings it no gradient: the graph is cut between them."
            return


def _unused(case: _Case) -> Seen:
    """A parameter without gradient, whose change leaves the loss as it is."""
    names = [name for name in _without_gradient(case) if not _matters(case, name)]
    if names:
        yield (
            names[0],
            f"{len(names)} parameters ({', '.join(names[:3])}) get no gradient, and the loss does not depend on them.",
        )


def _frozen(case: _Case) -> Seen:
    """A parameter that nothing moves: it does not ask for a gradient, or the optimizer does not have it."""
    held = {id(p) for group in case.patient.optimizer.param_groups for p in group["params"]}
    still = [n for n, p in case.patient.model.named_parameters() if not p.requires_grad or id(p) not in held]
    if still:
        p = dict(case.patient.model.named_parameters())[still[0]]
        why = "the optimizer does not have it" if p.requires_grad else "requires_grad is False"
        yield still[0], f"{len(still)} parameters never move ({', '.join(still[:3])}): {why}."


def _missing_zero_grad(case: _Case) -> Seen:
    """At optimizer.step(), .grad is this batch's gradient plus what was there before."""
    if case.course.kept:
        name, part = case.course.kept[0]
        yield (
            name,
            f"at the update, {name}.grad is this batch's gradient plus {part:.0%} of the old one: old gradients are never cleared.",
        )


def _broadcast(case: _Case) -> Seen:
    """Between prediction and loss, two shapes meet and give one that is larger than both."""
    for op, shapes in case.first.shapes:
        whole = np.broadcast_shapes(*shapes)
        if math.prod(whole) > max(math.prod(s) for s in shapes):
            a, b = shapes[:2]
            yield (
                "",
                f"{op} in the loss takes {tuple(a)} and {tuple(b)}, which broadcast to {tuple(whole)}: each prediction is compared with every target.",
            )
            return


def _double_softmax(case: _Case) -> Seen:
    """A softmax whose result goes straight into cross_entropy or log_softmax."""
    if case.first.softmax:
        yield (
            case.first.softmax,
            "a softmax's probabilities go into cross_entropy, which applies softmax again: its gradient is at most a fraction of what it should be.",
        )


def _bn_eval(case: _Case) -> Seen:
    """BatchNorm runs in eval mode while gradients are recorded."""
    if case.first.bn_eval:
        yield (
            case.first.bn_eval[0],
            f"{len(case.first.bn_eval)} BatchNorm layers run in eval mode during a training step: they use running statistics, not the batch's.",
        )


def _bn_single(case: _Case) -> Seen:
    """BatchNorm in training sees a batch of one sample."""
    if case.first.bn_single:
        yield (
            case.first.bn_single[0],
            f"BatchNorm normalises over a batch of {case.patient.x.shape[0]}: with one sample, what is left of it is its own noise.",
        )


def _unnormalised(case: _Case) -> Seen:
    """Features of the input whose size is far from 1, or far from each other."""
    x = case.patient.x.data
    if x.dtype.kind != "f" or x.ndim < 2 or len(x) < 2:
        return
    flat = x.reshape(len(x), -1).astype(np.float64)
    mean, std = flat.mean(axis=0), flat.std(axis=0)
    alive = std > 1e-12 * (1 + np.abs(mean))
    if not alive.any():
        return
    size, typical = _rms(flat), float(np.median(std[alive]))
    spread = float(std[alive].max() / max(np.median(std[alive]), 1e-300))
    if size > 10:
        yield (
            "x",
            f"the input's numbers are {size:.3g} in size (mean {mean.mean():.3g}, std {typical:.3g}), where layers expect about 1.",
        )
    elif size < 0.01:
        yield "x", f"the input's numbers are {size:.3g} in size, where layers expect about 1."
    elif spread > 100 or std[alive].max() / std[alive].min() > 1000 and x.ndim == 2:
        yield (
            "x",
            f"features differ in spread by a factor of {std[alive].max() / std[alive].min():.3g}: no learning rate suits them all.",
        )


def _symmetric(case: _Case) -> Seen:
    """All units of a hidden layer have the same weights and the same gradient: they will stay alike for ever."""
    parameters = [(n, p) for n, p in case.patient.model.named_parameters() if p.ndim >= 2 and p.shape[0] > 1]
    for name, p in parameters[:-1] or parameters[:0]:
        rows, g = p.data.reshape(p.shape[0], -1), case.first.gradients.get(name)
        if g is None or rows.shape[0] < 2:
            continue
        g = g.reshape(rows.shape)
        if np.ptp(rows, axis=0).max() == 0 and np.ptp(g, axis=0).max() <= 1e-6 * np.abs(g).max(initial=0):
            yield (
                name,
                f"all {rows.shape[0]} units of {name} start alike and get the same gradient: they count as one unit.",
            )
            return


def _shuffled(case: _Case) -> Seen:
    """Neighbours in x agree in y no more often than samples drawn at random: y is not about x."""
    x, y = case.patient.x.data, case.patient.y.data
    if len(x) < 40 or len(y) != len(x):
        return
    flat = x.reshape(len(x), -1).astype(np.float64)
    flat = (flat - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-12)
    square = (flat * flat).sum(axis=1)
    distance = square[:, None] + square - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :3]
    target = y.reshape(len(y), -1).astype(np.float64)
    if target.std() == 0:
        return
    rng = np.random.default_rng(0)

    def disagreement(t) -> float:
        if y.dtype.kind in "iub":
            return float(np.mean(t[near] != t[:, None]))
        return float(np.mean((t[near] - t[:, None]) ** 2))

    here = disagreement(target)
    chance = np.array([disagreement(target[rng.permutation(len(target))]) for _ in range(40)])
    if here > chance.mean() - 3 * chance.std():
        word = "classes differ" if y.dtype.kind in "iub" else "squared difference of targets"
        yield (
            "y",
            f"between a sample and its nearest neighbours the {word} by {here:.3g}, among targets drawn at random by {chance.mean():.3g}: y tells nothing of x.",
        )


def _profile(look: _Look) -> list[float]:
    return [size for size in look.sizes.values() if size > 0]


def _exploding(case: _Case) -> Seen:
    """The gradient at the first layer's output is more than 1,000 times that at the last hidden one's, before any update."""
    sizes = list(case.first.sizes.items())
    if len(sizes) < 3:
        return
    largest = max(size for _, size in sizes)
    (last, _), *_ = sizes
    hidden = [s for s in sizes[1:] if s[1] > 0] or sizes
    end = hidden[0]
    if not math.isfinite(largest) or largest > 1e3 * max(end[1], 1e-300):
        name = max(sizes, key=lambda s: s[1] if math.isfinite(s[1]) else math.inf)[0]
        yield name, f"on its way back the gradient grows from {end[1]:.2g} at {end[0]} to {largest:.2g} at {name}."


def _vanishing(case: _Case) -> Seen:
    """The gradient at the first layer's output is less than a thousandth of that at the last hidden one's, before any update."""
    sizes = list(case.first.sizes.items())
    if len(sizes) < 3:
        return
    (first, small), (end, large) = sizes[-1], sizes[1]
    if small < 1e-3 * large:
        yield first, f"on its way back the gradient falls from {large:.2g} at {end} to {small:.2g} at {first}."


def _saturated(look: _Look, when: str) -> Seen:
    """More than two thirds of a tanh or sigmoid layer are so far out that their slope is below a tenth of the steepest."""
    for a in look.activations[:-1] if _ends_in_activation(look) else look.activations:
        if a.op == "relu":
            continue
        slope = 1 - np.square(a.y, dtype=np.float64) if a.op == "tanh" else 4 * a.y.astype(np.float64) * (1 - a.y)
        share = float(np.mean(slope < 0.1))
        if share > 2 / 3:
            yield (
                a.layer,
                f"{when}, {share:.0%} of the {a.op}'s outputs are at its flat ends, where hardly any gradient passes.",
            )
            return


def _ends_in_activation(look: _Look) -> bool:
    return bool(look.activations) and look.activations[-1].op == "sigmoid" and look.activations[-1].y.shape[-1:] == (1,)


def _dead(look: _Look, when: str) -> Seen:
    """More than two thirds of a ReLU layer's units are off for every sample."""
    for a in look.activations:
        if a.op != "relu" or a.y.ndim < 2 or len(a.y) < 8:
            continue
        axes = tuple(i for i in range(a.y.ndim) if i != (1 if a.y.ndim == 4 else a.y.ndim - 1))
        share = float(np.mean(~(a.y > 0).any(axis=axes)))
        if share > 2 / 3:
            yield a.layer, f"{when}, {share:.0%} of the ReLU's units give 0 for every sample: no gradient passes them."
            return


def _at_first(check: Callable[[_Look, str], Seen]) -> Callable[[_Case], Seen]:
    return lambda case: check(case.first, "before any update")


def _at_last(check: Callable[[_Look, str], Seen]) -> Callable[[_Case], Seen]:
    return lambda case: check(case.last, f"after {len(case.course.losses)} steps")


def _lr_too_high(case: _Case) -> Seen:
    """The loss did not halve, and a tenth or a hundredth of the learning rate gets to half of it in as many steps.

    Or it rose, and the smaller one lowers it by 5 % at least: a training that has converged only trembles.
    """
    course = case.course
    if course.finite and course.end < 0.5 * course.losses[0]:
        return
    for factor in (0.1, 0.01):
        other = case.with_lr(factor)
        if (
            other.finite
            and other.end < 0.95 * other.losses[0]
            and (other.end < 0.5 * course.end or (course.end > course.losses[0] and other.end < 0.9 * course.end))
        ):
            case.patient.better_lr = factor
            said = f"ends at {course.end:.3g}" if course.finite else f"ends: {course.failure}"
            yield (
                "",
                f"from a loss of {other.losses[0]:.3g}, {case.steps} steps {said}; with lr * {factor:g} at {other.end:.3g}.",
            )
            return


def _lr_too_low(case: _Case) -> Seen:
    """Less than 1 % of progress, and a learning rate a hundred times larger, or more, makes at least ten times as much."""
    course = case.course
    if not course.finite or course.losses[0] == 0:
        return
    progress = 1 - course.losses[-1] / course.losses[0]
    if progress > 0.01:
        return
    for factor in LARGER:
        other = case.with_lr(factor)
        gained = 1 - other.end / other.losses[0] if other.finite else -1.0
        if gained > max(0.03, 10 * progress):
            case.patient.better_lr = factor
            yield (
                "",
                f"the loss falls by {max(progress, 0):.2g} of itself in {case.steps} steps; with lr * {factor:g} by {gained:.0%}.",
            )
            return


# In the order of causes: what an earlier one explains is not looked for.
CHECKS: list[tuple[str, Callable[[_Case], Seen]]] = [
    ("nan-source", _nan_source),
    ("detached-graph", _detached),
    ("unused-parameter", _unused),
    ("frozen-parameter", _frozen),
    ("missing-zero-grad", _missing_zero_grad),
    ("broadcast-loss", _broadcast),
    ("double-softmax", _double_softmax),
    ("bn-eval-in-training", _bn_eval),
    ("bn-batch-of-one", _bn_single),
    ("unnormalised-input", _unnormalised),
    ("symmetric-init", _symmetric),
    ("shuffled-labels", _shuffled),
    ("exploding-gradient", _exploding),
    ("saturated-activation", _at_first(_saturated)),
    ("dead-relu", _at_first(_dead)),
    ("vanishing-gradient", _vanishing),
    ("lr-too-high", _lr_too_high),
    ("saturated-activation", _at_last(_saturated)),
    ("dead-relu", _at_last(_dead)),
    ("lr-too-low", _lr_too_low),
]


# ------------------------------------------------------------------------------------------------------------- remedies


def _replace(model: nn.Module, kind: type | tuple[type, ...], make: Callable[[Any], nn.Module]) -> int:
    """Put another module in the place of each of a kind; how many there were."""
    count = 0
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
                count += 1
    return count


def _clear_gradients(patient: _Patient, finding: Finding) -> None:
    step = patient.train_step

    def cleared(model, loss_fn, optimizer, x, y):
        optimizer.zero_grad()
        return step(model, loss_fn, optimizer, x, y)

    patient.train_step = cleared


def _one_shape(patient: _Patient, finding: Finding) -> None:
    """Targets in the prediction's shape; flat, if the loss flattens the prediction itself."""
    loss_fn = patient.loss_fn

    def compared(prediction, y):
        return loss_fn(prediction, y.reshape(prediction.shape if y.shape != prediction.shape else -1))

    patient.loss_fn = compared


def _drop_softmax(patient: _Patient, finding: Finding) -> None:
    if not _replace(patient.model, nn.Softmax, lambda _: nn.Identity()):
        raise ArgumentError(
            f"prove: got a softmax that is not a module of its own; expected nn.Softmax. {finding.remedy}."
        )


def _train_mode(patient: _Patient, finding: Finding) -> None:
    patient.model.register_forward_pre_hook(lambda module, args: module.train() and None)


def _layer_norm(patient: _Patient, finding: Finding) -> None:
    _replace(patient.model, nn.BatchNorm1d, lambda bn: nn.LayerNorm(bn.num_features))
    _replace(patient.model, nn.BatchNorm2d, lambda bn: nn.GroupNorm(1, bn.num_features))
    _own_all(patient)


def _own_all(patient: _Patient, *_: Any) -> None:
    """Every parameter moves."""
    held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}
    for p in patient.model.parameters():
        p.requires_grad_(True)
        if id(p) not in held:
            patient.optimizer.add_param_group({"params": [p]})


def _normalise(patient: _Patient, finding: Finding) -> None:
    x = patient.x.data
    std = x.std(axis=0)
    patient.x = wrap(((x - x.mean(axis=0)) / np.where(std > 0, std, 1)).astype(x.dtype))


def _clean(patient: _Patient, finding: Finding) -> None:
    if finding.layer not in ("x", "y"):
        raise ArgumentError(f"prove: got a NaN that the model makes; expected one in the data. {finding.remedy}.")
    good = np.isfinite(patient.x.data.reshape(len(patient.x.data), -1)).all(axis=1)
    if patient.y.data.dtype.kind == "f":
        good &= np.isfinite(patient.y.data.reshape(len(good), -1)).all(axis=1)
    patient.x, patient.y = wrap(patient.x.data[good]), wrap(patient.y.data[good])


def _better_lr(patient: _Patient, finding: Finding) -> None:
    patient.scale_lr(patient.better_lr)


def _start_again(patient: _Patient, finding: Finding) -> None:
    """He's weights, biases at 0, and ReLU for sigmoids inside."""
    if finding.code == "vanishing-gradient":
        _replace(patient.model, nn.Sigmoid, lambda _: nn.ReLU())
    kinds = {type(m) for m in patient.model.modules()}
    gain = math.sqrt(2) if nn.ReLU in kinds else 1.0
    for module in patient.model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            fan_in = math.prod(module.weight.shape[1:])
            nn.init.normal_(module.weight, std=gain / math.sqrt(fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


REMEDIES: dict[str, Callable[[_Patient, Finding], None]] = {
    "nan-source": _clean,
    "frozen-parameter": _own_all,
    "missing-zero-grad": _clear_gradients,
    "broadcast-loss": _one_shape,
    "double-softmax": _drop_softmax,
    "bn-eval-in-training": _train_mode,
    "bn-batch-of-one": _layer_norm,
    "unnormalised-input": _normalise,
    "symmetric-init": _start_again,
    "exploding-gradient": _start_again,
    "saturated-activation": _start_again,
    "dead-relu": _start_again,
    "vanishing-gradient": _start_again,
    "lr-too-high": _better_lr,
    "lr-too-low": _better_lr,
}
