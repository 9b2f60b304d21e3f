"""Watch: a few steps of a training on copies, and what was seen under the loss of the first and the last."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import autograd, nn
from ... import random as random_
from ...errors import GlassgradError
from ...op import OpNode
from ...tensor import Tensor
from ..record import rms

TrainStep = Callable[[Any, Callable, Any, Tensor, Tensor], Tensor]


def usual_step(model, loss_fn, optimizer, x, y) -> Tensor:
    """The loop body that a training should have: forget old gradients, predict, compare, work back, move."""
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


@dataclass
class Patient:
    """All that a training step needs, owned by the doctor: the user's objects are never run."""

    model: nn.Module
    loss_fn: Callable
    optimizer: Any
    train_step: TrainStep
    x: Tensor
    y: Tensor
    rng: Any = field(default_factory=random_.get_rng_state)
    better_lr: float = 0.1  # times the one it has

    def copy(self) -> Patient:
        # Together, so that the copied optimizer holds the copied parameters.
        model, loss_fn, optimizer = copy.deepcopy((self.model, self.loss_fn, self.optimizer))
        return Patient(model, loss_fn, optimizer, self.train_step, self.x, self.y, self.rng, self.better_lr)

    def scale_lr(self, factor: float) -> Patient:
        for group in self.optimizer.param_groups:
            group["lr"] *= factor
        return self


@dataclass
class Activation:
    """What an activation gave for the batch: ``op`` is relu, tanh or sigmoid."""

    layer: str
    op: str
    y: np.ndarray
    is_answer: bool = False  # whether it is the model's own output


@dataclass
class Look:
    """What was seen under the loss of one step."""

    nodes: list = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    # (op, two shapes): in the loss, a prediction and what needs no gradient
    met: list[tuple] = field(default_factory=list)
    softmax: str | None = None  # the layer of a softmax that goes straight into cross_entropy; "" is the model itself
    sizes: dict[str, float] = field(default_factory=dict)  # module -> rms of the gradient of its output
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)  # parameter -> of this batch alone
    nan: tuple[str, str] | None = None  # (layer, what)
    bn_eval: list[str] = field(default_factory=list)
    bn_single: list[str] = field(default_factory=list)


@dataclass
class Course:
    """A few steps of a training: the losses, the looks (first and last), and what ended it early."""

    patient: Patient
    losses: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    kept: list[tuple[str, float]] = field(default_factory=list)  # (parameter, part of a used gradient still in .grad)
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


def watch(patient: Patient, steps: int, look: bool = True) -> Course:
    course = Course(patient)
    before = random_.get_rng_state()
    random_.set_rng_state(patient.rng)
    update = patient.optimizer.step
    updates = [0, 0]  # before the previous call of the loop body, and now

    def counted(*args, **kwargs):
        updates[1] += 1
        return update(*args, **kwargs)

    patient.optimizer.step = counted
    try:
        for step in range(steps):
            # The second, too: an old gradient shows there first, and a training may not live to see its last step.
            watcher = Watcher(patient, course, updates[1] > updates[0]) if look and step in (0, 1, steps - 1) else None
            updates[0] = updates[1]
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
        del patient.optimizer.step
        random_.set_rng_state(before)
    return course


class Watcher:
    """Hooks round one step. ``used`` says that the step before it made an update of the gradients it left."""

    def __init__(self, patient: Patient, course: Course, used: bool = False):
        self.patient, self.course, self.used, self.look = patient, course, used, Look()
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
            handles.append(module.register_forward_hook(self.after(name)))
        optimizer_step = patient.optimizer.step
        held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}

        def spied(*args, **kwargs):
            for name, p in parameters.items() if self.used else ():  # what waits for its first use is no leftover
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
            patient.optimizer.step = optimizer_step
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

    def after(self, name):
        def hook(module, args, output):
            if not isinstance(output, Tensor) or output.grad_fn is None:
                return
            self.modules.setdefault(id(output.grad_fn), name)
            if any(True for _ in module.children()):
                return
            key = name or type(module).__name__
            self.order.append(key)
            output.register_hook(lambda dy: self.look.sizes.__setitem__(key, rms(dy.data)))

        return hook

    def _loss_fn(self, *args, **kwargs):
        loss = self.patient.loss_fn(*args, **kwargs)
        if isinstance(loss, Tensor) and loss.grad_fn is not None:
            self._read(loss, args[0] if args else None)
        return loss

    def _read(self, loss: Tensor, prediction) -> None:
        look = self.look
        names = {id(p): name for name, p in self.patient.model.named_parameters()}
        look.nodes = nodes_under(loss.grad_fn)
        layers = {id(node): self.layer_of(node, names) for node in look.nodes}
        above = (
            {id(n) for n in nodes_under(prediction.grad_fn)}
            if isinstance(prediction, Tensor) and prediction.grad_fn
            else set()
        )
        answer = _maker(prediction.grad_fn) if isinstance(prediction, Tensor) else None
        for node in look.nodes:
            saved = _saved(node)
            if node.name in ("relu", "linear_relu", "tanh", "sigmoid") and "y" in saved:
                kind = "relu" if node.name == "linear_relu" else node.name
                look.activations.append(Activation(layers[id(node)], kind, np.asarray(saved["y"].data), node is answer))
            if id(node) not in above and isinstance(node, OpNode) and node.op.broadcasts and "shapes" in saved:
                if len(node.edges) == 2 and None in node.edges:
                    look.met.append((node.name, *saved["shapes"]))
            if node.name in ("cross_entropy", "log_softmax"):
                below = _below(node)
                if below is not None and below.name == "softmax":
                    look.softmax = layers[id(below)]

    def layer_of(self, node, names) -> str:
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


def nodes_under(end) -> list:
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
    edge = node.edges[0] if node.edges else None
    return _maker(edge[0]) if edge is not None and hasattr(edge[0], "edges") else None


def _maker(node):
    """The node that computed what ``node`` hands on: itself, unless it is a view or a copy."""
    while isinstance(node, OpNode) and (node.op.is_view or node.name in ("clone", "cast")):
        edge = node.edges[0]
        node = edge[0] if edge is not None and hasattr(edge[0], "edges") else None
    return node


def _saved(node) -> dict[str, Any]:
    if not isinstance(node, OpNode):
        return {}
    try:
        return dict(zip(node.plan.names, node.saved_values(), strict=True))
    except GlassgradError:
        return {}
