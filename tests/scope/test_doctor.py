"""The doctor names the cause of every broken run of the dojo, says nothing of the healthy ones, and touches nothing."""

import collections
import copy
import warnings

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import dojo, nn, optim, scope
from glassgrad.errors import ArgumentError, ShapeError
from glassgrad.scope.doctor import REMEDIES

pytest.importorskip("sklearn")


def examine(run, seed=0):
    gg.manual_seed(seed)
    model, loss_fn, x, y, optimizer, train_step = run.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a loss that broadcasts: the doctor says it better
        return scope.doctor(model, loss_fn, x, y, optimizer, train_step=train_step)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("run", [pytest.param(run, id=run.name) for run in dojo.BROKEN])
def test_the_doctor_names_the_cause_and_nothing_else(run, seed):
    report = examine(run, seed)
    assert report.codes == [run.code], str(report)
    (finding,) = report.findings
    assert finding.evidence.endswith(".") and finding.remedy and finding.lesson.startswith("glassgrad tutorial ")
    assert finding.code in str(report) and finding.evidence in str(report)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("run", [pytest.param(run, id=run.name) for run in dojo.HEALTHY])
def test_the_doctor_leaves_healthy_trainings_alone(run, seed):
    report = examine(run, seed)
    assert report.findings == [], str(report)
    assert report.losses[-1] < report.losses[0]


def test_the_dojo_has_thirty_broken_runs_of_every_kind_and_ten_healthy_ones():
    assert len(dojo.BROKEN) == 30 and len(dojo.HEALTHY) == 10
    assert {run.code for run in dojo.BROKEN} == set(scope.CODES)
    names = [run.name for run in dojo.BROKEN + dojo.HEALTHY]
    assert len(set(names)) == len(names)
    for run in dojo.BROKEN:  # a story tells symptoms
        assert run.code.replace("-", " ") not in run.story.lower()


CURED = {run.code: run for run in reversed(dojo.BROKEN) if run.code in REMEDIES} | {
    "nan-source": dojo.find("broken_pixel"), "double-softmax": dojo.find("softmax_at_the_end"),
    "missing-zero-grad": dojo.find("cleared_in_part"),  # without momentum, old gradients are some: it may even win for a while
}  # fmt: skip


@pytest.mark.parametrize("code", [c for c in REMEDIES if c != "bn-batch-of-one"])
def test_a_remedy_is_proved_from_the_same_state(code):
    proof = examine(CURED[code]).prove(code)
    assert len(proof.after) == 50 and not proof.failure_after
    assert proof.failure_before or np.mean(proof.after[-10:]) < np.mean(proof.before[-10:]), str(proof)
    again = examine(CURED[code]).prove(code)
    assert np.array_equal(again.before, proof.before, equal_nan=True) and again.after == proof.after
    assert "with the remedy" in str(proof)


@pytest.mark.parametrize(
    "name", ["forgotten_path", "cut_in_the_middle", "labels_of_others", "log_of_relu", "softmax_in_the_loss"]
)
def test_what_only_the_user_can_change_is_said(name):
    run = dojo.find(name)
    with pytest.raises(ArgumentError, match="prove: got"):
        examine(run).prove(run.code)


def test_only_what_was_found_can_be_proved():
    with pytest.raises(ArgumentError, match="expected one of the findings: nothing"):
        examine(dojo.find("plain")).prove("dead-relu")


@pytest.mark.parametrize("name", ["plain", "dropout", "never_cleared", "left_in_eval", "adam_of_one"])
def test_the_users_objects_stay_as_they_are(name):
    gg.manual_seed(3)
    model, loss_fn, x, y, optimizer, train_step = dojo.find(name).make()
    loss_fn(model(x), y).backward()
    grads = [p.grad.numpy().copy() for p in model.parameters()]
    state, optimizer_state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    data, rng, training = x.numpy().copy(), gg.get_rng_state(), model.training
    report = scope.doctor(model, loss_fn, x, y, optimizer, train_step=train_step)
    for code in report.codes:
        report.prove(code)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), state[key].numpy())
    assert str(optimizer.state_dict()) == str(optimizer_state)
    for p, g in zip(model.parameters(), grads, strict=True):
        assert np.array_equal(p.grad.numpy(), g)
    assert np.array_equal(x.numpy(), data) and model.training == training
    assert np.array_equal(np.asarray(gg.get_rng_state()), np.asarray(rng))
    assert "step" not in vars(optimizer)


def test_a_loop_of_ones_own_is_what_runs():
    calls = collections.Counter()

    def step(model, loss_fn, optimizer, x, y):
        calls["step"] += 1
        optimizer.zero_grad()
        loss = 2 * loss_fn(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    gg.manual_seed(0)
    model, loss_fn, x, y, optimizer, _ = dojo.find("plain").make()
    assert scope.doctor(model, loss_fn, x, y, optimizer, train_step=step, steps=12).codes == []
    assert calls["step"] >= 12


def test_without_an_optimizer_a_usual_one_is_taken():
    gg.manual_seed(0)
    model, loss_fn, x, y, *_ = dojo.find("plain").make()
    assert scope.doctor(model, loss_fn, x, y).codes == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "net"}, "model: got str; expected a Module"),
        ({"loss_fn": 3}, "loss_fn: got int"),
        ({"x": np.zeros(3)}, "x: got ndarray; expected a Tensor"),
        ({"model": nn.ReLU()}, "model: got one without parameters"),
        ({"steps": 1}, "steps: got 1; expected at least 2"),
    ],
)
def test_bad_arguments_are_named(change, says):
    arguments = {
        "model": nn.Linear(2, 1),
        "loss_fn": nn.functional.mse_loss,
        "x": gg.ones(4, 2),
        "y": gg.ones(4, 1),
    } | change
    with pytest.raises(ArgumentError, match=says):
        scope.doctor(**arguments)


def test_a_step_that_fails_for_another_reason_says_so():
    with pytest.raises(ArgumentError, match="the training step fails") as caught:
        scope.doctor(
            nn.Linear(3, 1),
            nn.functional.mse_loss,
            gg.ones(4, 2),
            gg.ones(4, 1),
            optim.SGD([gg.ones(1).requires_grad_()], lr=1.0),
        )
    assert isinstance(caught.value.__cause__, ShapeError)


# ---------------------------------------------------------------------- trainings that look alike, and differ in what matters


def codes(model, loss_fn, x, y, optimizer=None, step=None):
    return scope.doctor(model, loss_fn, x, y, optimizer, train_step=step).codes


class SoftmaxInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = dojo.he(dojo.mlp(64, 32, 10))

    def forward(self, x):
        return nn.functional.softmax(self.body(x), dim=1)


def test_a_softmax_in_the_models_own_forward_is_found():
    gg.manual_seed(0)
    assert codes(SoftmaxInForward(), nn.functional.cross_entropy, *dojo.digits()) == ["double-softmax"]


def test_gradients_gathered_over_two_batches_are_not_forgotten_ones():
    gg.manual_seed(0)
    x, y = dojo.digits()
    model, calls = dojo.he(dojo.mlp(64, 32, 10)), collections.Counter()

    def step(model, loss_fn, optimizer, x, y):
        loss = loss_fn(model(x), y)
        (loss / 2).backward()
        calls["n"] += 1
        if calls["n"] % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    assert codes(model, nn.functional.cross_entropy, x, y, dojo.sgd(model, 0.1), step) == []


def test_distances_that_mean_to_broadcast_are_no_mistake():
    gg.manual_seed(0)
    x, y = dojo.moons()
    centres = gg.tensor([[1.0, 0.0], [0.0, 1.0]])
    model = dojo.mlp(2, 16, 2, activation=nn.Tanh)

    def to_centres(p, y):
        return nn.functional.cross_entropy(-(p.reshape(-1, 1, 2) - centres).square().sum(2), y)

    def between(p, y):
        far = (p.reshape(-1, 1, 2) - p.reshape(1, -1, 2)).square().sum(2)
        alike = (y.reshape(-1, 1) == y.reshape(1, -1)).float()
        return (alike * far + (1 - alike) * (2 - far).clamp(min=0)).mean()

    for loss_fn in (to_centres, between):
        assert codes(model, loss_fn, x, y, optim.Adam(model.parameters(), lr=1e-2)) == []


def test_an_answer_may_be_sure_of_itself():
    gg.manual_seed(0)
    x, y = dojo.digits()
    targets = nn.functional.one_hot(y, 10).float()
    model = dojo.he(dojo.mlp(64, 64, 10)).append(nn.Sigmoid())
    assert codes(model, nn.functional.binary_cross_entropy, x, targets, optim.Adam(model.parameters(), lr=1e-2)) == []


class Drifting(nn.Module):
    """Takes the root of a number that falls below 0 as soon as a bias has moved."""

    def __init__(self):
        super().__init__()
        self.body = dojo.he(dojo.mlp(64, 32, 10))
        self.register_buffer("start", self.body[2].bias.detach().clone())

    def forward(self, x):
        return self.body(x) + (1e-12 - (self.body[2].bias - self.start).square().sum()).sqrt()


def test_a_nan_that_comes_later_is_traced_to_its_op():
    gg.manual_seed(0)
    model = Drifting()
    report = scope.doctor(model, nn.functional.cross_entropy, *dojo.digits(), dojo.sgd(model, 0.05))
    assert report.codes == ["nan-source"]
    assert "updates" in report.findings[0].evidence


def test_nothing_that_moves_at_all_is_a_finding_not_an_error():
    gg.manual_seed(0)
    x, y = dojo.digits()
    frozen = dojo.he(dojo.mlp(64, 32, 10))
    frozen.requires_grad_(False)
    assert codes(frozen, nn.functional.cross_entropy, x, y) == ["frozen-parameter"]
    cut = dojo.he(dojo.mlp(64, 32, 10))
    assert codes(cut, lambda p, y: nn.functional.cross_entropy(p.detach(), y), x, y) == ["detached-graph"]


def test_high_dimensions_and_words_are_not_called_shuffled():
    gg.manual_seed(0)
    x = gg.randn(400, 50)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long()
    model = dojo.he(dojo.mlp(50, 32, 2))
    assert codes(model, nn.functional.cross_entropy, x, y, optim.Adam(model.parameters(), lr=3e-3)) == []
    words = gg.randint(20, (128, 6))
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 2))
    target = (words[:, 0] > 9).long()
    assert codes(model, nn.functional.cross_entropy, words, target, optim.Adam(model.parameters(), lr=1e-2)) == []


def test_a_large_batch_costs_no_square_of_its_size():
    gg.manual_seed(0)
    x = gg.randn(30_000, 8)  # a table of samples by samples would need 7 GB
    y = (x[:, 0] > 0).long()
    model = dojo.he(dojo.mlp(8, 16, 2))
    assert codes(model, nn.functional.cross_entropy, x, y, dojo.sgd(model, 0.1)) == []
