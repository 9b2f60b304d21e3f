"""Optimizers and schedules: against PyTorch step by step, and what they say to nonsense."""

import copy
import math
import pickle

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import optim
from glassgrad.errors import ArgumentError, DTypeError, GraphError, MissingKernel, ShapeError
from glassgrad.ops import optim as steps

SHAPES = [(4, 3), (3,), (), (2, 2, 2), (0,), (1, 17)]

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "amsgrad": True, "betas": (0.5, 0.7)}),
    ("Adam", {"maximize": True, "eps": 1e-3}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "alpha": 0.5, "maximize": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-3}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2, "maximize": True}),
]
IDS = [f"{name}-{'-'.join(options) or 'plain'}" for name, options in CASES]


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [gg.tensor(np.asarray(rng.standard_normal(s), dtype), requires_grad=True) for s in SHAPES]


def give_gradients(params, rng, skip=()):
    for i, p in enumerate(params):
        g = np.asarray(rng.standard_normal(p.shape), p.dtype)
        p.grad = None if i in skip else gg.tensor(g)


# ------------------------------------------------------------------------------------------------------ against PyTorch


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_twenty_steps_agree_with_pytorch_and_state_moves_both_ways(name, options):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in ours]
    optimizer = getattr(optim, name)([{"params": ours[:2], "lr": 0.05}, {"params": ours[2:]}], lr=0.02, **options)
    oracle = getattr(torch.optim, name)(
        [{"params": theirs[:2], "lr": 0.05}, {"params": theirs[2:]}], lr=0.02, **options
    )
    rng = np.random.default_rng(1)
    for step in range(20):
        give_gradients(ours, rng, skip=(1,) if step % 3 == 1 else ())
        for p, t in zip(ours, theirs, strict=True):
            t.grad = None if p.grad is None else torch.tensor(p.grad.data)
        optimizer.step()
        oracle.step()
        for p, t in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-12, atol=1e-12)
        if step == 10:  # each goes on from the other's state
            state, oracle_state = optimizer.state_dict(), oracle.state_dict()
            assert {i: set(s) for i, s in state["state"].items()} == {
                i: set(s) for i, s in oracle_state["state"].items()
            }
            assert set(state["param_groups"][0]) <= set(oracle_state["param_groups"][0])
            assert [g["params"] for g in state["param_groups"]] == [g["params"] for g in oracle_state["param_groups"]]
            state["state"] = {
                i: {k: torch.tensor(v.data) if isinstance(v, gg.Tensor) else v for k, v in s.items()}
                for i, s in state["state"].items()
            }
            optimizer.load_state_dict(copy.deepcopy(oracle_state))
            oracle.load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("StepLR", {"step_size": 3, "gamma": 0.5}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
        ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (epoch + 1)}),
        ("LinearLR", {"total_iters": 6}),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 6}),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 24}),
        (
            "OneCycleLR",
            {"max_lr": 1.0, "epochs": 4, "steps_per_epoch": 6, "three_phase": True, "anneal_strategy": "linear"},
        ),
        ("OneCycleLR", {"max_lr": [1.0, 0.5], "total_steps": 23, "pct_start": 0.5, "cycle_momentum": False}),
    ],
)
@pytest.mark.parametrize("base", ["SGD", "Adam"])
def test_schedules_agree_with_pytorch(name, options, base):
    torch = pytest.importorskip("torch")
    made = []
    for package, tensor in ((optim, gg.ones), (torch.optim, torch.ones)):
        groups = [{"params": [tensor(1, requires_grad=True)]}, {"params": [tensor(1, requires_grad=True)], "lr": 0.3}]
        optimizer = getattr(package, base)(groups, lr=0.1, **({"momentum": 0.9} if base == "SGD" else {}))
        made.append((optimizer, getattr(package.lr_scheduler, name)(optimizer, **options)))
    (optimizer, schedule), (oracle, oracle_schedule) = made
    for _ in range(22):
        oracle.step()
        for group, expected in zip(optimizer.param_groups, oracle.param_groups, strict=True):
            for key in ("lr", "momentum", "betas"):
                if key in expected:
                    assert group[key] == pytest.approx(expected[key], rel=1e-12)
        assert schedule.get_last_lr() == pytest.approx(oracle_schedule.get_last_lr(), rel=1e-12)
        schedule.step()
        oracle_schedule.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_agrees_with_pytorch(mode, threshold_mode):
    torch = pytest.importorskip("torch")
    rates = []
    for package, tensor in ((optim, gg.ones), (torch.optim, torch.ones)):
        optimizer = package.SGD([tensor(1, requires_grad=True)], lr=1.0)
        schedule = package.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode,
            factor=0.3,
            patience=2,
            threshold=0.05,
            threshold_mode=threshold_mode,
            cooldown=1,
            min_lr=1e-3,
        )
        metrics = np.random.default_rng(2).standard_normal(60) * np.linspace(1, 0.1, 60)
        rates.append([])
        for metric in metrics:
            schedule.step(metric)
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1])
    assert rates[0][-1] == 1e-3


# ------------------------------------------------------------------------------------------------------ without PyTorch


def test_sgd_by_hand():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5, momentum=0.5)
    for _ in range(2):
        w.grad = gg.tensor([1.0, -1.0])
        optimizer.step()
    # m = g, then m = 0.5 g + g: w -= 0.5 (1 + 1.5) g
    assert w.tolist() == [1 - 1.25, 2 + 1.25]


def test_first_step_of_adam_is_lr_times_the_sign():
    w = gg.tensor([1.0, 2.0, 3.0], dtype=gg.float64, requires_grad=True)
    w.grad = gg.tensor([1e-3, -5.0, 1e3], dtype=gg.float64)
    optim.Adam([w], lr=0.1).step()
    np.testing.assert_allclose(w.data, [0.9, 2.1, 2.9], rtol=1e-5)  # eps shows where g is small


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_quadratic_gets_smaller(name):
    w = gg.tensor([3.0, -2.0], requires_grad=True)
    optimizer = getattr(optim, name)([w], lr=0.05)
    before = float((w * w).data.sum())
    for _ in range(30):
        optimizer.zero_grad()
        (w * w).backward(gg.ones(2))
        optimizer.step()
    assert float((w * w).data.sum()) < before


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_saving_and_loading_changes_nothing(name, options):
    results = []
    for interrupted in (False, True):
        params, rng = parameters(), np.random.default_rng(3)
        optimizer = getattr(optim, name)(params, lr=0.02, **options)
        for step in range(6):
            if interrupted and step == 3:
                saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer = getattr(optim, name)(params, lr=1.0)
                optimizer.load_state_dict(saved)
            give_gradients(params, rng)
            optimizer.step()
        results.append(params)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_state_has_the_parameters_dtype(dtype):
    params = parameters(dtype)
    optimizer = optim.Adam(params)
    give_gradients(params, np.random.default_rng(0))
    with gg.use_backend("reference"):  # GLASSGRAD_STRICT=1 forbids the cpp backend to fall back for float16
        optimizer.step()
    assert all(p.dtype == dtype and optimizer.state[p]["exp_avg"].dtype == dtype for p in params)
    again = optim.Adam(parameters(np.float64))
    again.load_state_dict(optimizer.state_dict())
    assert all(values["exp_avg"].dtype == np.float64 for values in again.state.values())


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_parameters_of_any_memory_layout(name, options):
    rng = np.random.default_rng(4)
    memory = [rng.standard_normal((5, 4)) for _ in range(2)]
    strided = [gg.from_numpy(memory[0].T).requires_grad_(), gg.from_numpy(memory[1][::2, ::-1]).requires_grad_()]
    untouched = memory[1][1::2].copy()
    plain = [gg.tensor(p.data).requires_grad_() for p in strided]
    optimizers = [getattr(optim, name)(params, lr=0.1, **options) for params in (strided, plain)]
    for _ in range(3):
        for a, b in zip(strided, plain, strict=True):
            g = rng.standard_normal(a.shape[::-1]).T
            a.grad, b.grad = gg.from_numpy(g), gg.tensor(g)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(strided, plain, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)
    np.testing.assert_array_equal(memory[1][1::2], untouched)


def test_parameters_without_gradient_are_left_alone():
    a, b, frozen = gg.ones(2, requires_grad=True), gg.ones(2, requires_grad=True), gg.ones(2)
    optimizer = optim.AdamW([a, b, frozen], lr=0.1)
    a.grad = gg.ones(2)
    optimizer.step()
    assert b.tolist() == frozen.tolist() == [1.0, 1.0]
    assert list(optimizer.state_dict()["state"]) == [0]
    b.grad = gg.ones(2)
    optimizer.step()
    assert [optimizer.state[p]["step"] for p in (a, b)] == [2, 1]


def test_replaced_data_and_state_are_seen():
    w = gg.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0, momentum=0.5)
    w.grad = gg.ones(2)
    optimizer.step()
    w.data = np.full(2, 10.0, np.float32)
    optimizer.state[w]["momentum_buffer"] = gg.zeros(2)
    optimizer.step()
    assert w.tolist() == [9.0, 9.0]
    optimizer.state.clear()
    optimizer.step()
    assert w.tolist() == [8.0, 8.0]
    extra = gg.ones(2, requires_grad=True)
    optimizer.param_groups[0]["params"].append(extra)
    extra.grad = gg.ones(2)
    optimizer.step()
    assert extra.tolist() == [0.0, 0.0]
    optimizer.param_groups[0]["params"][1] = other = gg.ones(2, requires_grad=True)
    other.grad = gg.ones(2)
    optimizer.step()
    assert extra.tolist() == other.tolist() == [0.0, 0.0]


def test_a_step_is_a_change_in_place():
    w = gg.ones(2, requires_grad=True)
    y = w * w
    w.grad = gg.ones(2)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(GraphError, match="modified in place"):
        y.backward(gg.ones(2))


def test_closure_runs_with_gradients_and_gives_the_loss():
    w = gg.tensor([2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = w * w
        loss.backward()
        return loss

    with gg.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert w.tolist() == [1.0]


def test_zero_grad():
    w = gg.ones(2, requires_grad=True)
    optimizer = optim.SGD([w])
    w.grad = grad = gg.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0] and w.grad.data is grad.data
    optimizer.zero_grad()
    assert w.grad is None


def test_groups_and_names():
    a, b = gg.ones(1, requires_grad=True), gg.ones(1, requires_grad=True)
    optimizer = optim.SGD([("a", a)], lr=0.1)
    optimizer.add_param_group({"params": b, "lr": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a"]
    assert "Parameter Group 1" in repr(optimizer)


def test_non_finite_gradients_are_the_users():
    w = gg.ones(2, requires_grad=True)
    w.grad = gg.tensor([float("nan"), float("inf")])
    optim.Adam([w]).step()
    assert np.isnan(w.data).all()


def test_a_users_own_optimizer():
    class SignDescent(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self):
            with gg.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad.sign() * group["lr"])

    w = gg.ones(2, requires_grad=True)
    w.grad = gg.tensor([3.0, -4.0])
    SignDescent([w], lr=0.5).step()
    assert w.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda w: optim.SGD([]), ArgumentError, "at least one"),
        (lambda w: optim.SGD(w), DTypeError, "iterable"),
        (lambda w: optim.SGD({w}), DTypeError, "no order"),
        (lambda w: optim.SGD([w], lr=-1), ArgumentError, "lr: got -1"),
        (lambda w: optim.SGD([w], lr=math.nan), ArgumentError, "lr: got nan"),
        (lambda w: optim.SGD([w], lr="0.1"), DTypeError, "lr: got '0.1'"),
        (lambda w: optim.SGD([w], momentum=-0.1), ArgumentError, "momentum"),
        (lambda w: optim.SGD([w], weight_decay=-0.1), ArgumentError, "weight_decay"),
        (lambda w: optim.SGD([w], nesterov=True), ArgumentError, "nesterov.*momentum > 0"),
        (lambda w: optim.SGD([{"params": [w], "lr": -1}]), ArgumentError, "lr: got -1"),
        (lambda w: optim.SGD([w, w]), ArgumentError, r"params\[1\].*already has"),
        (lambda w: optim.SGD([{"params": [w]}, {"params": [w]}]), ArgumentError, "already has"),
        (lambda w: optim.SGD([w * 2]), ArgumentError, "leaf"),
        (lambda w: optim.SGD([w, 3.0]), DTypeError, r"params\[1\]: got float"),
        (lambda w: optim.SGD([gg.tensor([1])]), DTypeError, "int64"),
        (lambda w: optim.SGD([{"lr": 0.1}]), DTypeError, "'params'"),
        (lambda w: optim.Adam([w], betas=(0.9, 1.0)), ArgumentError, r"betas\[1\]: got 1.0"),
        (lambda w: optim.Adam([w], betas=0.9), DTypeError, "two numbers"),
        (lambda w: optim.AdamW([w], eps=-1), ArgumentError, "AdamW: eps"),
        (lambda w: optim.RMSprop([w], alpha=-1), ArgumentError, "alpha"),
        (lambda w: optim.Adagrad([w], lr_decay=-1), ArgumentError, "lr_decay"),
        (lambda w: optim.lr_scheduler.StepLR(optim.SGD([w]), 0), ArgumentError, "step_size"),
        (lambda w: optim.lr_scheduler.StepLR(w, 1), DTypeError, "Optimizer"),
        (lambda w: optim.lr_scheduler.OneCycleLR(w, 1.0, 9), DTypeError, "Optimizer"),
        (lambda w: optim.lr_scheduler.OneCycleLR(optim.SGD([w]), 1.0), ArgumentError, "total_steps"),
        (lambda w: optim.lr_scheduler.OneCycleLR(optim.Adagrad([w]), 1.0, 9), ArgumentError, "cycle_momentum=False"),
        (lambda w: optim.lr_scheduler.ExponentialLR(optim.SGD([w]), 0.5, last_epoch=3), ArgumentError, "initial_lr"),
        (lambda w: optim.lr_scheduler.ReduceLROnPlateau(optim.SGD([w]), factor=1.0), ArgumentError, "factor"),
    ],
)
def test_nonsense_says_so(make, error, match):
    with pytest.raises(error, match=match):
        make(gg.ones(2, requires_grad=True))


def test_read_only_memory_says_so():
    array = np.ones(2, np.float32)
    array.flags.writeable = False
    w = gg.from_numpy(array).requires_grad_()
    w.grad = gg.ones(2)
    with pytest.raises(ArgumentError, match="read-only"):
        optim.SGD([w], lr=0.1).step()


def test_loading_what_does_not_fit_changes_nothing():
    w, v = gg.ones(2, requires_grad=True), gg.ones(3, requires_grad=True)
    w.grad = v.grad = None
    source, target = optim.Adam([w], lr=0.1), optim.Adam([v], lr=0.2)
    w.grad = gg.ones(2)
    source.step()
    with pytest.raises(ShapeError, match="exp_avg"):
        target.load_state_dict(source.state_dict())
    assert target.param_groups[0]["lr"] == 0.2 and not target.state
    with pytest.raises(ArgumentError, match=r"got \[1\]; expected \[2\]"):
        optim.Adam([w, v]).load_state_dict(source.state_dict())


def test_schedule_goes_on_from_its_state():
    def make():
        optimizer = optim.SGD([gg.ones(1, requires_grad=True)], lr=1.0)
        return optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    optimizer, schedule = make()
    for _ in range(4):
        schedule.step()
    other, other_schedule = make()
    other.load_state_dict(optimizer.state_dict())
    other_schedule.load_state_dict(schedule.state_dict())
    for s in (schedule, other_schedule):
        s.step()
    assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"] == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------ the native step, if any


class _Fake:
    """A backend whose native step declines, as the C++ one does for a dtype it has no kernel for."""

    name = "cpp"
    fallbacks: dict

    def __init__(self, strict):
        self.strict, self.fallbacks, self.calls = strict, {"sgd_step": 0}, []

    def fused(self, name):
        return lambda *lists, **hyper: self.calls.append(sorted(hyper)) or NotImplemented


def test_fall_back_is_counted_and_can_be_forbidden(monkeypatch):
    backend = _Fake(strict=False)
    monkeypatch.setattr(steps.backends, "current", lambda: backend)
    w = gg.ones(2, requires_grad=True)
    w.grad = gg.ones(2)
    optimizer = optim.SGD([w], lr=1.0)
    optimizer.step()
    assert w.tolist() == [0.0, 0.0] and backend.fallbacks["sgd_step"] == 1
    assert backend.calls == [["dampening", "first", "lr", "maximize", "momentum", "nesterov", "weight_decay"]]
    backend.strict = True
    with pytest.raises(MissingKernel, match="sgd_step"):
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_step_agrees_with_the_reference(name, options, dtype):
    if "cpp" not in gg.backends.BACKENDS:
        pytest.skip("no native module")
    results = []
    for backend in ("cpp", "reference"):
        params, rng = parameters(dtype), np.random.default_rng(5)
        optimizer = getattr(optim, name)(params, lr=0.02, **options)
        with gg.use_backend(backend):
            for _ in range(4):
                give_gradients(params, rng)
                optimizer.step()
        results.append(params)
    for a, b in zip(*results, strict=True):
        # Four steps of about ten roundings each; rmsprop's centered variance cancels.
        tolerance = (2000 if options.get("centered") else 100) * np.finfo(dtype).eps
        np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)
