"""What the demo measures: eight networks before their first step, three trainings on real digits, one small expression.

Every function returns plain numbers (what goes into ``results.json``) and the claims they are held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import glassgrad as gg
from glassgrad import nn, optim
from glassgrad.data import DataLoader, TensorDataset
from glassgrad.lesson import Claim
from glassgrad.scope import Layer, Recorder, Step, per_layer, theory, trace

LN10 = math.log(10)  # the loss of guessing among ten digits
BATCH = 64
INPUTS, CLASSES = 64, 10


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    fast: bool = False

    @property
    def draws(self) -> int:
        """Initialisations per network of the thermometer; their mean squares are averaged."""
        return 1 if self.fast else 3

    def steps(self, full: int) -> int:
        return min(full, 40) if self.fast else full


class Digits:
    """scikit-learn's 1,797 images of 8x8 pixels: brightness 0 to 1, each pixel's mean taken off."""

    def __init__(self):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = (pixels / 16).astype(np.float32)
        self.mean = images.mean(axis=0)
        self.images, self.labels = images - self.mean, labels.astype(np.int64)

    def batches(self, seed: int) -> Iterator[tuple[gg.Tensor, gg.Tensor]]:
        """Shuffled batches without end."""
        data = TensorDataset(gg.tensor(self.images), gg.tensor(self.labels))
        loader = DataLoader(
            data, batch_size=BATCH, shuffle=True, drop_last=True, generator=gg.Generator().manual_seed(seed)
        )
        while True:
            yield from loader

    def one_batch(self, seed: int) -> tuple[gg.Tensor, gg.Tensor]:
        """One batch of mean square 1, as the theories assume of their input."""
        x, y = next(self.batches(seed))
        return x / x.square().mean().sqrt(), y


# ----------------------------------------------------------------------------------------------------- building blocks

Init = Callable[[nn.Linear], object]


def xavier(layer: nn.Linear) -> None:
    """Glorot & Bengio 2010: variance 2 / (inputs + outputs)."""
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)


def he(layer: nn.Linear) -> None:
    """He et al. 2015: variance 2 / inputs."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def scaled(sigma_w: float) -> Init:
    """Variance sigma_w^2 / inputs."""

    def init(layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight, 0.0, sigma_w / math.sqrt(layer.weight.shape[1]))
        nn.init.zeros_(layer.bias)

    return init


def default(layer: nn.Linear) -> None:
    """nn.Linear's own: uniform between -1/sqrt(inputs) and 1/sqrt(inputs), biases as well."""
    layer.reset_parameters()


def network(
    depth: int, width: int, activation: type[nn.Module], init: Init, seed: int, batchnorm: bool = False
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units on the digits' 64 pixels. One seed gives the same draws to every init."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers.append(nn.Linear(INPUTS if i == 0 else width, width))
        if batchnorm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(activation())
    model = nn.Sequential(*layers, nn.Linear(width, CLASSES))
    gg.manual_seed(seed)
    for layer in model:
        if isinstance(layer, nn.Linear):
            init(layer)
    return model


def probe(model: nn.Module, x: gg.Tensor, y: gg.Tensor) -> list[Layer]:
    """One forward and one backward pass, seen at every activation."""
    with Recorder(model) as record:
        nn.functional.cross_entropy(model(x), y).backward()
    return record.layers


@dataclass
class Run:
    """What one training left: loss per step, gradient norm per step before clipping and after, where it overflowed."""

    losses: list[float]
    norms: list[float]
    clipped: list[float]
    overflow_step: int | None = None

    @property
    def final(self) -> float:
        """The median loss of the last tenth: single steps of a deep net jump."""
        return float(np.median(self.losses[-max(len(self.losses) // 10, 1) :]))

    def as_dict(self) -> dict:
        return {name: value for name, value in asdict(self).items() if value != []} | {"final": self.final}


def train(
    model: nn.Module,
    digits: Digits,
    steps: int,
    *,
    lr: float,
    seed: int,
    tick: Callable[[], object],
    max_norm: float | None = None,
) -> Run:
    """SGD with momentum 0.9. Stops at the first loss that is no longer a number."""
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    run = Run([], [], [])
    for step, (x, y) in zip(range(steps), digits.batches(seed), strict=False):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        if not math.isfinite(loss.item()):
            run.overflow_step = step
            for _ in range(steps - step):
                tick()
            break
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if max_norm is None else max_norm)
        run.losses.append(loss.item())
        run.norms.append(norm.item())
        if max_norm is not None:
            run.clipped.append(
                nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
            )
        optimizer.step()
        tick()
    return run


def histogram(layer: Layer, limits: tuple[float, float], centred: bool = False, bins: int = 40) -> dict:
    """Shares of a layer's activations in equal bins, as a picture shows them.

    Of ReLU only the units that are on; ``centred`` takes each unit's mean over the images off.
    """
    values = layer.output - layer.output.mean(axis=0) if centred else layer.output
    relu = layer.kind == "ReLU"
    counts, _ = np.histogram(values[values > 0] if relu else values, bins=bins, range=limits)
    return {
        "shares": (counts / values.size).tolist(), "limits": list(limits), "word": "off" if relu else "saturated",
        "saturated": layer.saturated, "spread": layer.spread,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------- the thermometer


DEPTH, WIDTH = 30, 256


@dataclass(frozen=True)
class Network:
    name: str
    label: str
    activation: type[nn.Module]
    init: Init
    factor: float  # theory: of the gradient's norm, per layer
    formula: str
    source: str
    batchnorm: bool = False
    tolerance: float = 0.025


def networks() -> list[Network]:
    """Eight ways to start a deep network, from the coldest gradient to the hottest."""
    third = theory.glorot_backward_ratio(WIDTH, 1 / (3 * WIDTH))  # nn.Linear draws from U(-1/sqrt(n), 1/sqrt(n))
    half = theory.chi_1(1.0, "relu")  # what ReLU leaves of the mean square
    alike = 0.05  # the limit takes images as independent, but digits resemble one another: 2 % more growth was seen
    root = math.sqrt
    glorot, he2015 = "Glorot & Bengio 2010", "He et al. 2015"
    schoenholz, yang = "Schoenholz et al. 2017", "Yang et al. 2019"
    return [
        Network("sigmoid_xavier", "sigmoid, Xavier init", nn.Sigmoid, xavier, root(theory.chi_1(1.0, "sigmoid")), "√χ₁, σw = 1", schoenholz),
        Network("relu_default", "ReLU, nn.Linear's default", nn.ReLU, default, root(third * half), "√(⅓ · ½)", f"{glorot}, {he2015}"),
        Network("relu_xavier", "ReLU, Xavier init", nn.ReLU, xavier, root(half), "√½", he2015),
        Network("relu_he", "ReLU, He init", nn.ReLU, he, root(theory.chi_1(root(2), "relu")), "√(2 · ½)", he2015),
        Network("sigmoid_batchnorm", "sigmoid + batch norm", nn.Sigmoid, xavier, root(theory.batchnorm_limit("sigmoid")), "√(E[φ′²] / Var φ)", f"after {yang}", True, alike),
        Network("relu_batchnorm", "ReLU + batch norm", nn.ReLU, xavier, root(theory.batchnorm_growth(BATCH)), f"√r(B), B = {BATCH}", yang, True),
        Network("tanh_chaotic", "tanh, weights 3× Xavier", nn.Tanh, scaled(3.0), root(theory.chi_1(3.0, "tanh")), "√χ₁, σw = 3", schoenholz),
        Network("relu_double", "ReLU, weights 2× He", nn.ReLU, scaled(2 * root(2)), root(theory.chi_1(2 * root(2), "relu")), "√(8 · ½)", he2015),
    ]  # fmt: skip


def thermometer(digits: Digits, settings: Settings, tick: Callable[[], object]) -> tuple[dict, list[Claim]]:
    """Gradient at each of 30 layers of eight networks, before the first step of training."""
    rows, claims = [], []
    x, y = digits.one_batch(settings.seed)
    for network_ in networks():
        squares = np.zeros(DEPTH)
        for draw in range(settings.draws):
            seed = settings.seed + 1000 * draw
            model = network(DEPTH, WIDTH, network_.activation, network_.init, seed, network_.batchnorm)
            layers = probe(model, x, y)
            squares += np.square([layer.gradient_rms for layer in layers]) / settings.draws
            tick()
        gradients = np.sqrt(squares).tolist()
        measured = per_layer(gradients)
        middle = layers[DEPTH // 2 - 1]
        limits = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}.get(middle.kind) or (0.0, 4 * middle.rms)
        rows.append(
            {
                "name": network_.name,
                "label": network_.label,
                "formula": network_.formula,
                "theory": network_.factor,
                "measured": measured,
                "gradients": gradients,
                "histogram": histogram(middle, limits) | {"layer": DEPTH // 2},
            }
        )
        claims.append(
            Claim(
                f"gradient_{network_.name}", f"{network_.label}: gradient, per layer", measured, network_.factor,
                network_.formula, network_.source, tolerance=network_.tolerance,
            )
        )  # fmt: skip
    return {"depth": DEPTH, "width": WIDTH, "batch": BATCH, "draws": settings.draws, "networks": rows}, claims


# ------------------------------------------------------------------------------------------------------ the trainings


def _start(model: nn.Module, digits: Digits, seed: int) -> list[Layer]:
    return probe(model, *digits.one_batch(seed))


def _side(label: str, model: nn.Module, digits: Digits, settings: Settings, shown: tuple[int, ...], **of) -> dict:
    """How one of the two networks of a training looks before its first step."""
    layers = _start(model, digits, settings.seed)
    return {
        "label": label,
        "signals": [layer.rms for layer in layers],
        "gradients": [layer.gradient_rms for layer in layers],
        "histograms": [histogram(layers[i - 1], **of) | {"layer": i} for i in shown],
    }


def relu_depth(digits: Digits, settings: Settings, tick: Callable[[], object]) -> tuple[dict, list[Claim]]:
    """30 ReLU layers of 64 units: Xavier's initialisation stalls, He's learns (He et al. 2015)."""
    depth, steps = 30, settings.steps(1000)
    sides: list[dict] = []
    for label, init, factor in (
        ("Xavier init", xavier, theory.chi_1(1.0, "relu")),
        ("He init", he, theory.chi_1(math.sqrt(2), "relu")),
    ):
        model = network(depth, 64, nn.ReLU, init, settings.seed)
        side = _side(label, model, digits, settings, (1, 10, 20, 30), limits=(0.0, 2.0)) | {"theory": math.sqrt(factor)}
        side["run"] = train(model, digits, steps, lr=0.003, seed=settings.seed, tick=tick).as_dict()
        sides.append(side)
    stuck, learns = sides
    claims = [
        Claim(
            "signal_xavier_over_he", "signal after 30 ReLU layers, Xavier over He", stuck["signals"][-1] / learns["signals"][-1],
            theory.xavier_over_he(depth), "2^(−30/2)", "He et al. 2015", tolerance=1e-3,
        ),
        Claim(
            "loss_xavier", f"loss after {steps} steps, Xavier: stuck at guessing", stuck["run"]["final"], LN10, "ln 10", "He et al. 2015",
            tolerance=0.005 / LN10, trained=True,
        ),
        Claim(
            "loss_he", f"loss after {steps} steps, He: learns", learns["run"]["final"], 1.5, "< 1.5", "He et al. 2015", "<", trained=True,
        ),
    ]  # fmt: skip
    return {
        "depth": depth,
        "width": 64,
        "lr": 0.003,
        "momentum": 0.9,
        "batch": BATCH,
        "steps": steps,
        "sides": sides,
    }, claims


def sigmoid_batchnorm(digits: Digits, settings: Settings, tick: Callable[[], object]) -> tuple[dict, list[Claim]]:
    """8 sigmoid layers of 64 units, without and with batch normalisation (Ioffe & Szegedy 2015)."""
    depth, steps = 8, settings.steps(800)
    sides: list[dict] = []
    for label, batchnorm, factor in (
        ("no batch norm", False, theory.chi_1(1.0, "sigmoid")),
        ("with batch norm", True, theory.batchnorm_limit("sigmoid")),
    ):
        model = network(depth, 64, nn.Sigmoid, xavier, settings.seed, batchnorm)
        side = _side(label, model, digits, settings, (1, 4, 8), limits=(-0.5, 0.5), centred=True) | {
            "theory": math.sqrt(factor)
        }
        side["run"] = train(model, digits, steps, lr=0.1, seed=settings.seed, tick=tick).as_dict()
        sides.append(side)
    plain, normed = sides
    ratios = [side["gradients"][0] / side["gradients"][-1] for side in sides]
    source = "Ioffe & Szegedy 2015"
    claims = [
        Claim(
            "first_over_last_plain", "gradient, first layer over last, without batch norm", ratios[0], plain["theory"] ** (depth - 1),
            "χ₁^(7/2)", "Schoenholz et al. 2017", tolerance=0.5,
        ),
        Claim(
            "first_over_last_batchnorm", "the same with batch norm", ratios[1], normed["theory"] ** (depth - 1),
            "(E[φ′²] / Var φ)^(7/2)", "after Yang et al. 2019", tolerance=0.5,
        ),
        Claim(
            "loss_plain", f"loss after {steps} steps without batch norm: stuck", plain["run"]["final"], 2.25, "> 2.25", source, ">", trained=True,
        ),
        Claim(
            "loss_batchnorm", f"loss after {steps} steps with batch norm: learns", normed["run"]["final"], 0.05, "< 0.05", source, "<", trained=True,
        ),
    ]  # fmt: skip
    return {
        "depth": depth,
        "width": 64,
        "lr": 0.1,
        "momentum": 0.9,
        "batch": BATCH,
        "steps": steps,
        "sides": sides,
    }, claims


def exploding(digits: Digits, settings: Settings, tick: Callable[[], object]) -> tuple[dict, list[Claim]]:
    """20 ReLU layers with weights half as large again as He's: overflow, and clipping that holds it (Pascanu et al. 2013)."""
    depth, gain, max_norm, steps = 20, 1.5, 1.0, settings.steps(600)
    sides: list[dict] = []
    for label, limit in (("no clipping", None), (f"clipped to norm {max_norm:g}", max_norm)):
        model = network(depth, 64, nn.ReLU, scaled(gain * math.sqrt(2)), settings.seed)
        layers = _start(model, digits, settings.seed)
        run = train(model, digits, steps, lr=0.02, seed=settings.seed, tick=tick, max_norm=limit)
        sides.append(
            {
                "label": label,
                "gradients": [layer.gradient_rms for layer in layers],
                "theory": gain,
                "run": run.as_dict(),
            }
        )
    free, held = sides
    overflow = free["run"]["overflow_step"]
    longest = max(held["run"]["clipped"])
    source = "Pascanu et al. 2013"
    claims = [
        Claim(
            "overflow_step", "steps until the loss is no number, without clipping", math.inf if overflow is None else overflow + 1, 10,
            "< 10", source, "<",
        ),
        Claim("clipped_norm", "longest gradient after clipping", longest, max_norm, "max_norm", source, tolerance=1e-4),
        Claim(
            "loss_clipped", f"loss after {steps} steps with clipping: learns", held["run"]["final"], 1.0, "< 1", source, "<", trained=True,
        ),
    ]  # fmt: skip
    return {
        "depth": depth, "width": 64, "lr": 0.02, "momentum": 0.9, "batch": BATCH, "steps": steps, "gain": gain,
        "max_norm": max_norm, "sides": sides,
    }, claims  # fmt: skip


# ----------------------------------------------------------------------------------------------------- one expression

DECAY = 0.1


def neuron(w, x, b, target) -> dict[str, gg.Tensor]:
    """One neuron, its squared error and a penalty on a large weight; every step by name. w is used twice."""
    wx = w * x
    z = wx + b
    y = z.tanh()
    error = y - target
    squared = error.square()
    w2 = w.square()
    penalty = w2 * DECAY
    return {
        "w": w, "x": x, "b": b, "target": target, "w·x": wx, "z": z, "y": y, "error": error, "error²": squared, "w²": w2,
        f"{DECAY} w²": penalty, "L": squared + penalty,
    }  # fmt: skip


def expression(tick: Callable[[], object]) -> tuple[dict, list[Claim], list[Step]]:
    """Back-propagation through one neuron, checked against the derivative by hand, then 40 steps downhill."""
    at = {"w": 0.8, "x": 1.5, "b": -0.2, "target": 0.25}
    leaves: dict[str, Any] = {
        name: gg.tensor(value, dtype=gg.float64, requires_grad=True) for name, value in at.items()
    }
    named = neuron(**leaves)
    steps = trace(named["L"], named)
    named["L"].backward()
    y = math.tanh(at["w"] * at["x"] + at["b"])
    by_hand = 2 * (y - at["target"]) * (1 - y * y) * at["x"] + 2 * DECAY * at["w"]

    def loss_at(w: float, b: float) -> float:
        with gg.no_grad():
            values = at | {"w": w, "b": b}
            return neuron(**{name: gg.tensor(value, dtype=gg.float64) for name, value in values.items()})["L"].item()

    w, b = leaves["w"], leaves["b"]
    dw, db, small = w.grad.item(), b.grad.item(), 1e-3
    drop = loss_at(at["w"], at["b"]) - loss_at(at["w"] - small * dw, at["b"] - small * db)
    claims = [
        Claim(
            "expression_gradient", "dL/dw by back-propagation, against by hand", dw, by_hand, "2(y−t)(1−y²)x + 2·0.1·w",
            "the chain rule", tolerance=1e-9,
        ),
        Claim(
            "expression_drop", "fall of L in one step of 0.001 downhill", drop, small * (dw**2 + db**2), "step · |gradient|²",
            "Taylor's theorem", tolerance=0.01,
        ),
    ]  # fmt: skip
    optimizer, losses = optim.SGD([w, b], lr=0.1), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = neuron(**leaves)["L"]
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        tick()
    rows = [{"name": s.title, "op": s.op, "value": s.value, "gradient": s.gradient} for s in steps]
    return {"at": at, "steps": rows, "lr": 0.1, "losses": losses}, claims, steps
