"""Doctor: runs a few steps of a training on a copy, watches everything, and says in plain words what is wrong.

``watch`` trains and looks, ``checks`` has a function for each code, ``findings`` what they mean, ``remedies`` what helps. A finding that
another explains is left out: a sigmoid that saturates because the input is in the hundreds is the input's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ... import nn, optim
from ...errors import ArgumentError, GraphError
from ...tensor import Tensor
from ..plotting import COLD, GOOD, pyplot_for
from .checks import CHECKS, Case
from .findings import CODES, EXPLAINS, Finding
from .remedies import REMEDIES
from .watch import Patient, TrainStep, usual_step, watch

PROOF_STEPS = 50


@dataclass
class Report:
    """What the doctor found, the root of each illness first; ``print`` it, or read ``findings``."""

    findings: list[Finding]
    losses: list[float]
    _patient: Patient = field(repr=False)

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
        before = watch(self._patient.copy(), PROOF_STEPS, look=False)
        cured = self._patient.copy()
        REMEDIES[code](cured, finding)
        after = watch(cured, PROOF_STEPS, look=False)
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
        optimizer = optim.SGD(model.parameters(), lr=0.01)
    patient = Patient(model, loss_fn, optimizer, train_step or usual_step, x, y)
    patient = patient.copy()
    course = watch(patient.copy(), steps)
    sick = Case(patient, course, steps)
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
    # A backward without a graph, or a batch norm without a batch, is a finding; any other failure is the user's to mend first.
    told = {"detached-graph", "frozen-parameter"} if isinstance(course.error, GraphError) else {"bn-batch-of-one"}
    if course.error is not None and not told & findings.keys():
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


__all__ = ["CODES", "REMEDIES", "Finding", "Proof", "Report", "TrainStep", "doctor", "usual_step"]
