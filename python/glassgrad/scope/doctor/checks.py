"""Checks: one for each code. What a check measures is its docstring.

Where a number decides, it is one that a healthy training stays far away from, or the question is asked of a second run that
differs in that one thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ... import autograd, nn
from ... import random as random_
from ...errors import GlassgradError
from ...op import OpNode, run
from ..record import dead_share, rms, saturated_share
from .watch import Course, Look, Patient, Watcher, nodes_under, watch

LARGER = (1e2, 1e4, 1e6)  # learning rates to try where one seems too low


@dataclass
class Case:
    patient: Patient
    course: Course
    steps: int
    _others: dict[float, Course] = field(default_factory=dict)

    @property
    def first(self) -> Look:
        return self.course.looks[0]

    @property
    def last(self) -> Look:
        return self.course.looks[-1]

    def with_lr(self, factor: float) -> Course:
        """The same training at another learning rate."""
        if factor not in self._others:
            self._others[factor] = watch(self.patient.copy().scale_lr(factor), self.steps, look=False)
        return self._others[factor]


Seen = Iterator[tuple[str, str]]


def _nan_source(case: Case) -> Seen:
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
    yield _first_bad(case.patient.copy()) or ("", "the loop body's loss is not finite; loss_fn(model(x), y) is.")


def _nan_later(case: Case) -> Seen:
    """The loss was finite and no longer is, and no earlier check says why: the first op that made it so, some updates on."""
    course = case.course
    if course.finite or course.error is not None:
        return
    for done in (len(course.losses) - 2, len(course.losses) - 1):  # the update before it may have brought the NaN
        patient = case.patient.copy()
        watch(patient, done, look=False)
        broken = [n for n, p in patient.model.named_parameters() if _bad(p.data)]
        found = (broken[0], f"{broken[0]} is not finite.") if broken else _first_bad(patient)
        if found:
            yield found[0], f"after {done} updates, {found[1]}"
            return
    yield "", f"in step {len(course.losses)} {course.failure}."


def _first_bad(patient: Patient) -> tuple[str, str] | None:
    """The first op, forward or backward, whose inputs are finite and whose result is not; None if all are."""
    watcher = Watcher(patient, Course(patient))
    handles = [m.register_forward_hook(watcher.after(n)) for n, m in patient.model.named_modules()]
    names = {id(p): name for name, p in patient.model.named_parameters()}
    random_.set_rng_state(patient.rng)
    with np.errstate(all="ignore"), autograd.detect_anomaly():
        loss = patient.loss_fn(patient.model(patient.x), patient.y)
        for handle in handles:
            handle.remove()
        if loss.grad_fn is None:
            return "", f"the loss is {loss.item()}."
        nodes = [n for n in nodes_under(loss.grad_fn) if isinstance(n, OpNode) and n.given]
        for node in nodes:
            arrays = [t if t is None else t.data for t in node.given or ()]
            y = run(node.op, *arrays, **node.static)
            if _bad(y) and not any(map(_bad, arrays)):
                lowest = min(
                    float(np.min(a)) for a in arrays if isinstance(a, np.ndarray) and a.size and a.dtype.kind == "f"
                )
                return watcher.layer_of(
                    node, names
                ), f"{node.name} gives {_kind(y)} in the forward pass; its smallest input is {lowest:.3g}."
        try:
            loss.backward()
        except GlassgradError as error:
            return "", f"backward: {error}"
    if math.isfinite(loss.item()) and not any(
        _bad(p.grad.data) for p in patient.model.parameters() if p.grad is not None
    ):
        return None
    return "", f"the loss is {loss.item():.3g} and its gradient is not finite."


def _bad(a) -> bool:
    if isinstance(a, tuple):
        return any(map(_bad, a))
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and not np.isfinite(a).all()


def _kind(a) -> str:
    a = a[0] if isinstance(a, tuple) else a
    return "NaN" if np.isnan(a).any() else "infinity"


def _matters(case: Case, name: str) -> bool:
    """Whether the loss changes when the parameter does."""

    def loss(shift: float) -> float:
        patient = case.patient.copy()
        parameter = dict(patient.model.named_parameters())[name]
        random_.set_rng_state(patient.rng)
        with autograd.no_grad(), np.errstate(all="ignore"):
            noise = np.random.default_rng(0).standard_normal(parameter.shape).astype(parameter.data.dtype)
            parameter.data[...] += shift * (0.1 + rms(parameter.data)) * noise
            return patient.loss_fn(patient.model(patient.x), patient.y).item()

    before = random_.get_rng_state()
    try:
        return loss(1.0) != loss(0.0)
    except GlassgradError:
        return True
    finally:
        random_.set_rng_state(before)


def _without_gradient(case: Case) -> list[str]:
    wanted = {name for name, p in case.patient.model.named_parameters() if p.requires_grad}
    return [name for name, g in case.first.gradients.items() if g is None and name in wanted]


def _detached(case: Case) -> Seen:
    """A parameter that the loss depends on, by trying, and that gets no gradient."""
    for name in _without_gradient(case):
        if _matters(case, name):
            yield name, f"{name} changes the loss, but backward() brings it no gradient: the graph is cut between them."
            return


def _unused(case: Case) -> Seen:
    """A parameter without gradient, whose change leaves the loss as it is."""
    names = [name for name in _without_gradient(case) if not _matters(case, name)]
    if names:
        yield (
            names[0],
            f"{len(names)} parameters ({', '.join(names[:3])}) get no gradient, and the loss does not depend on them.",
        )


def _frozen(case: Case) -> Seen:
    """A parameter that nothing moves: it does not ask for a gradient, or the optimizer does not have it."""
    held = {id(p) for group in case.patient.optimizer.param_groups for p in group["params"]}
    still = [n for n, p in case.patient.model.named_parameters() if not p.requires_grad or id(p) not in held]
    if still:
        p = dict(case.patient.model.named_parameters())[still[0]]
        why = "the optimizer does not have it" if p.requires_grad else "requires_grad is False"
        yield still[0], f"{len(still)} parameters never move ({', '.join(still[:3])}): {why}."


def _missing_zero_grad(case: Case) -> Seen:
    """At optimizer.step(), .grad is what came since the last one plus what that one has used already."""
    if case.course.kept:
        name, part = case.course.kept[0]
        yield (
            name,
            f"at the update, {name}.grad is this batch's gradient plus {part:.0%} of the old one: old gradients are never cleared.",
        )


def _broadcast(case: Case) -> Seen:
    """In the loss, a prediction meets as many numbers that need no gradient, and the two shapes give a larger one.

    As many: distances to a few fixed centres broadcast too, and mean it. No gradient: so do distances between predictions.
    """
    for op, a, b in case.first.met:
        whole = np.broadcast_shapes(a, b)
        if math.prod(whole) > math.prod(a) == math.prod(b):
            yield (
                "",
                f"{op} in the loss takes {tuple(a)} and {tuple(b)}, which broadcast to {tuple(whole)}: each prediction is compared with every target.",
            )
            return


def _double_softmax(case: Case) -> Seen:
    """A softmax whose result goes straight into cross_entropy or log_softmax."""
    if case.first.softmax is not None:
        yield (
            case.first.softmax,
            "a softmax's probabilities go into cross_entropy, which applies softmax again: its gradient is at most a fraction of what it should be.",
        )


def _bn_eval(case: Case) -> Seen:
    """BatchNorm runs in eval mode while gradients are recorded."""
    if case.first.bn_eval:
        yield (
            case.first.bn_eval[0],
            f"{len(case.first.bn_eval)} BatchNorm layers run in eval mode during a training step: they use running statistics, not the batch's.",
        )


def _bn_single(case: Case) -> Seen:
    """BatchNorm in training sees a batch of one sample."""
    if case.first.bn_single:
        yield (
            case.first.bn_single[0],
            f"BatchNorm normalises over a batch of {case.patient.x.shape[0]}: with one sample, what is left of it is its own noise.",
        )


def _unnormalised(case: Case) -> Seen:
    """Features of the input whose size is far from 1, or far from each other."""
    x = case.patient.x.data
    if x.dtype.kind != "f" or x.ndim < 2 or len(x) < 2:
        return
    flat = x.reshape(len(x), -1).astype(np.float64)
    mean, std = flat.mean(axis=0), flat.std(axis=0)
    alive = std > 1e-12 * (1 + np.abs(mean))
    if not alive.any():
        return
    size, typical = rms(flat), float(np.median(std[alive]))
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


def _symmetric(case: Case) -> Seen:
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


def _shuffled(case: Case) -> Seen:
    """Neither neighbours in x nor a linear fit foretell y better than they foretell targets drawn at random."""
    x, y = case.patient.x.data, case.patient.y.data
    if x.dtype.kind != "f" or len(x) < 40 or len(y) != len(x):  # numbers of words have no neighbours
        return
    rng = np.random.default_rng(0)
    some = rng.permutation(len(x))[:512]  # the tables below are of samples by samples
    t = y[some].reshape(len(some), -1).astype(np.float64)
    if y.dtype.kind in "iub" and t.shape[1] == 1:
        t = (t == np.unique(t)) * 1.0
    t = (t - t.mean(axis=0))[:, :64]
    if not t.any():
        return
    told = []
    for by, guess in _foretellers(x[some].reshape(len(some), -1).astype(np.float64)):
        here = float(np.mean((guess @ t - t) ** 2))
        chance = np.array([np.mean((guess @ s - s) ** 2) for s in (rng.permutation(t) for _ in range(40))])
        if here < chance.mean() - 2.5 * chance.std():
            return
        told.append(
            f"{by} errs by {here / np.mean(t * t):.3g} ({chance.mean() / np.mean(t * t):.3g} with targets at random)"
        )
    yield "y", f"y tells nothing of x: in units of its variance, {' and '.join(told)}."


def _foretellers(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Two matrices that, times the targets, guess each one from the others: the mean of three neighbours, and a ridge fit."""
    n = len(x)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-12)
    alike = x @ x.T / x.shape[1]
    size = np.diag(alike)
    distance = size[:, None] + size - 2 * alike
    np.fill_diagonal(distance, np.inf)
    neighbours = np.zeros((n, n))
    np.put_along_axis(neighbours, np.argsort(distance, axis=1)[:, :3], 1 / 3, axis=1)
    yield "the mean of three neighbours", neighbours
    hat = np.linalg.solve(alike + np.eye(n), alike)  # symmetric, since alike commutes with its own inverse
    own = np.diag(hat)[:, None]
    yield "a linear fit", (hat - own * np.eye(n)) / (1 - own)  # leaving each sample out of its own fit, in closed form


def _exploding(case: Case) -> Seen:
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


def _vanishing(case: Case) -> Seen:
    """The gradient at the first layer's output is less than a thousandth of that at the last hidden one's, before any update."""
    sizes = list(case.first.sizes.items())
    if len(sizes) < 3:
        return
    (first, small), (end, large) = sizes[-1], sizes[1]
    if small < 1e-3 * large:
        yield first, f"on its way back the gradient falls from {large:.2g} at {end} to {small:.2g} at {first}."


def _saturated(look: Look, when: str) -> Seen:
    """More than two thirds of a tanh or sigmoid layer are so far out that their slope is below a tenth of the steepest."""
    for a in look.activations:
        if a.op == "relu" or a.is_answer:  # an answer may be sure of itself
            continue
        share = saturated_share(nn.Tanh if a.op == "tanh" else nn.Sigmoid, a.y)
        if share > 2 / 3:
            yield (
                a.layer,
                f"{when}, {share:.0%} of the {a.op}'s outputs are at its flat ends, where hardly any gradient passes.",
            )
            return


def _dead(look: Look, when: str) -> Seen:
    """More than two thirds of a ReLU layer's units are off for every sample."""
    for a in look.activations:
        if a.op != "relu" or a.y.ndim < 2 or len(a.y) < 8:
            continue
        share = dead_share(a.y)
        if share > 2 / 3:
            yield a.layer, f"{when}, {share:.0%} of the ReLU's units give 0 for every sample: no gradient passes them."
            return


def _at_first(check: Callable[[Look, str], Seen]) -> Callable[[Case], Seen]:
    return lambda case: check(case.first, "before any update")


def _at_last(check: Callable[[Look, str], Seen]) -> Callable[[Case], Seen]:
    return lambda case: check(case.last, f"after {len(case.course.losses)} steps")


def _lr_too_high(case: Case) -> Seen:
    """The loss did not halve, and a tenth or a hundredth of the learning rate gets to half of it in as many steps.

    Or it rose, and the smaller one lowers it by 5 % at least: a training that has converged only trembles.
    """
    course = case.course
    if course.finite and course.end < 0.5 * course.losses[0]:
        return
    for factor in (0.1, 0.01) if course.finite else (0.1, 0.01, 1e-4, 1e-6):
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


def _lr_too_low(case: Case) -> Seen:
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
CHECKS: list[tuple[str, Callable[[Case], Seen]]] = [
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
    ("nan-source", _nan_later),
]
