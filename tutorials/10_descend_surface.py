"""Losses, gradient descent, momentum, RMSprop, Adam on a surface one can see
==========================================================================

Why does gradient descent crawl, and what do momentum, RMSprop and Adam do about it?

Training walks downhill: the loss is the height, the weights are the place, and the gradient points uphill. Here the
place has two coordinates, so that every walk can be drawn, and the surface is so simple that the speed of a walk is
known beforehand. First, though, a look at the height itself: two losses that agree on where the bottom is can differ
much in how they lead there.
"""

import math

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope.thermometer import COLD, GOOD, HOT, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")

# %%
# Two losses
# ----------
# A classifier says with which probability something is a cat: p = σ(z), the sigmoid of a number z. It is a cat, so p
# should be 1. The *squared error* is (1 - p)², the *cross-entropy* -ln p. Their slopes in z are 2 (p - 1) p (1 - p) and
# p - 1: the first has one more slope of a sigmoid in it, which is nearly 0 where the classifier is sure of itself.

z = gg.linspace(-8, 8, 65, dtype=gg.float64, requires_grad=True)
cat = gg.ones_like(z)
squared = nn.functional.mse_loss(z.sigmoid(), cat, reduction="sum")
entropy = nn.functional.binary_cross_entropy_with_logits(z, cat, reduction="sum")
slopes = {name: gg.autograd.grad(loss, z)[0].numpy() for name, loss in (("squared", squared), ("entropy", entropy))}

lesson.predict(
    "At z = -8 the classifier is sure that the cat is none. By which loss does it learn its mistake faster?",
    ["squared error", "cross-entropy", "no difference"],
    answer=int(abs(slopes["entropy"][0]) > abs(slopes["squared"][0])),
    because=f"Its slope is {slopes['entropy'][0]:.2f}, the squared error's {slopes['squared'][0]:.4f}: very wrong, "
    "very sure, and no gradient.",
)

p = 1 / (1 + np.exp(-z.data))
in_theory = {"squared": 2 * (p - 1) * p * (1 - p), "entropy": p - 1}
for name, measured in slopes.items():
    lesson.claim(f"{name}: slope at z = -8", measured[0], in_theory[name][0], tolerance=1e-6)

figure, ax = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
for name, colour, marker in (("squared", COLD, "v"), ("entropy", GOOD, "o")):
    ax.plot(z.data, in_theory[name], "--", color=colour, lw=1)
    ax.plot(z.data[::2], slopes[name][::2], marker, color=colour, ms=4)
ax.text(-7.9, -0.16, "squared error", color=COLD)
ax.text(-7.9, -0.9, "cross-entropy", color=GOOD)
ax.set(title="Sure and wrong, on the left", xlabel="z", ylabel="slope of the loss in z", ylim=(-1.1, 0.1))
lesson.picture(
    figure, "losses", "Slope over z: the squared error's is flat on the left, the cross-entropy's is -1 there."
)

# %%
# A valley
# --------
# Near its bottom every smooth surface is a bowl, f(w) = ½ (λ₁ w₁² + λ₂ w₂²), and the bowls of real networks are long
# valleys: κ = λ₂ / λ₁, the *condition number*, is large. A step multiplies w by 1 - lr λ, so lr may be 2 / λ₂ at most,
# or the steep direction grows; and with such a step the flat one shrinks slowly. The best lr leaves (κ - 1) / (κ + 1)
# per step. *Momentum* steps along m, where m <- β m + gradient: zigzags cancel, and what all gradients agree on adds
# up. At its best it leaves (√κ - 1) / (√κ + 1) (Polyak 1964; Goh 2017 tells it with pictures).

LAMBDA = np.array([1.0, 25.0])
KAPPA = LAMBDA[1] / LAMBDA[0]
STEPS = 120
START = [-10.0, 2.0]


def walk(make_optimizer, scale=1.0):
    """The places on the way down scale * f, (STEPS + 1, 2)."""
    w = gg.tensor(START, dtype=gg.float64, requires_grad=True)
    optimizer, path = make_optimizer([w]), [w.tolist()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        (scale * 0.5 * (gg.tensor(LAMBDA) * w.square()).sum()).backward()
        optimizer.step()
        path.append(w.tolist())
    return np.array(path)


rho = (math.sqrt(KAPPA) - 1) / (math.sqrt(KAPPA) + 1)  # what momentum leaves per step; the best β is its square
OPTIMIZERS = {
    "gradient descent": lambda w: optim.SGD(w, lr=2 / LAMBDA.sum()),
    "momentum": lambda w: optim.SGD(w, lr=(2 / np.sqrt(LAMBDA).sum()) ** 2, momentum=rho**2),
    "RMSprop": lambda w: optim.RMSprop(w, lr=0.1),
    "Adam": lambda w: optim.Adam(w, lr=0.5),
}
paths = {name: walk(optimizer) for name, optimizer in OPTIMIZERS.items()}
distance = {name: np.hypot(*path.T) for name, path in paths.items()}
closer = {name: int(np.argmax(d < d[0] / 1000)) for name, d in distance.items()}

lesson.predict(
    f"κ = 25. Gradient descent at best comes 1000 times closer in {closer['gradient descent']} steps. And momentum?",
    ["in about 70", "in about 25", "in about 5"],
    answer=int(np.digitize(-closer["momentum"], [-45, -12])),
    because=f"In {closer['momentum']}: it leaves 4/6 per step, not 24/26. The root of κ is what counts.",
)

# %%
# What theory says of every step, not of the rate alone: at its best, momentum's two coordinates are t times a power.

t = np.arange(STEPS + 1)
shrinks = (KAPPA - 1) / (KAPPA + 1)
flat, steep = START[0] * (1 + (1 - rho) * t) * rho**t, START[1] * (1 + (1 + rho) * t) * (-rho) ** t
in_theory = {"gradient descent": distance["gradient descent"][0] * shrinks**t, "momentum": np.hypot(flat, steep)}

measured = (distance["gradient descent"][100] / distance["gradient descent"][0]) ** 0.01
lesson.claim("gradient descent leaves per step", measured, shrinks, tolerance=1e-6, formula="(κ - 1) / (κ + 1)")
measured = (paths["momentum"][100, 0] / START[0] / (1 + (1 - rho) * 100)) ** 0.01
lesson.claim("momentum leaves per step", measured, rho, tolerance=1e-6, source="Polyak 1964")
too_far = walk(lambda w: optim.SGD(w, lr=2.2 / LAMBDA[1]))[:, 1]
lesson.claim("the steep direction with lr = 2.2 / λ₂, per step", abs(too_far[9] / too_far[8]), 1.2, tolerance=1e-6)

LOOKS = dict(zip(OPTIMIZERS, ((COLD, "v"), (GOOD, "o"), (HOT, "^"), ("#aa4499", "s")), strict=True))
mosaic = [["gradient descent", "momentum", "fast"], ["RMSprop", "Adam", "fast"]]
figure, axes = plt.subplot_mosaic(mosaic, width_ratios=[1, 1, 1.4], figsize=(10.2, 4), layout="constrained")
x, y = np.meshgrid(np.linspace(-11, 4, 90), np.linspace(-4.5, 4.5, 60))
bowl = (LAMBDA[0] * x**2 + LAMBDA[1] * y**2) / 2
for name, (colour, marker) in LOOKS.items():
    ax = axes[name]
    ax.contour(x, y, bowl, levels=[0.5, 8, 32, 72, 128, 200], colors="#c9ced6", linewidths=0.7)
    ax.plot(*paths[name][:60].T, marker + "-", color=colour, ms=3, lw=0.9)
    ax.plot(0, 0, "+", color="black", ms=9)
    ax.set(xlim=(-11, 4), ylim=(-4.5, 4.5), xticks=[-10, -5, 0], xlabel="w₁", ylabel="w₂")
    ax.set_title(name, color=colour)
    axes["fast"].plot(t[::4], distance[name][::4], marker, color=colour, ms=4, label=name)
    axes["fast"].plot(t, in_theory.get(name, distance[name]), "--" if name in in_theory else "-", color=colour, lw=0.8)
axes["fast"].set(yscale="log", ylim=(1e-9, 30), xlabel="step", ylabel="distance to the bottom", title="dashed: theory")
axes["fast"].legend(frameon=False, loc="lower right")
powers_of_ten(axes["fast"])
lesson.picture(figure, "walks", "Four walks in a valley, and how far from its bottom each is after every step.")

# %%
# Steps that do not depend on the slope's size
# --------------------------------------------
# On this bowl momentum wins, because we told it λ₁ and λ₂. Nobody knows them for a network, and they change on the way.
# *RMSprop* (Tieleman and Hinton 2012) divides each coordinate of the gradient by the root of a running mean of its
# squares; *Adam* (Kingma and Ba 2015) does so with a gradient that has momentum. What is left is a step of about lr in
# each coordinate, whether the gradient is large or small. So multiply the loss by 10, as a sum over ten images does
# where a mean was meant, and see who notices.

far = {name: np.hypot(*walk(optimizer, 10)[-1]) for name, optimizer in OPTIMIZERS.items()}
unmoved = [name for name in OPTIMIZERS if math.isclose(far[name], distance[name][-1], rel_tol=0.01)]

lesson.predict(
    "The loss is multiplied by 10. Which walks stay as they were?",
    ["all of them", "RMSprop's and Adam's", "none"],
    answer={4: 0, 2: 1, 0: 2}[len(unmoved)],
    because=f"Gradient descent ends {far['gradient descent']:.0e} away from the bottom.",
)

first = abs(paths["Adam"][1] - START)
lesson.claim(
    "Adam's first step, flat direction", first[0], 0.5, tolerance=1e-6, formula="lr", source="Kingma & Ba 2015"
)
lesson.claim("Adam's first step, steep direction", first[1], 0.5, tolerance=1e-6, formula="lr")
first = abs(paths["RMSprop"][1] - START)
lesson.claim("RMSprop's first step, both", first.mean(), 0.1 / math.sqrt(1 - 0.99), tolerance=1e-6, formula="lr/√(1-α)")

figure, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
scales = np.logspace(-2, 2, 25)
for name, (colour, marker) in LOOKS.items():
    ends = [np.hypot(*walk(OPTIMIZERS[name], scale)[-1]) for scale in scales]
    ax.plot(scales, np.minimum(ends, 1e9), marker + "-", color=colour, ms=4, lw=0.8, label=name)
limit = LAMBDA.sum() / LAMBDA[1]  # where lr * scale * λ₂ = 2
ax.axvline(limit, color=COLD, lw=1, ls="--")
ax.text(limit * 1.15, 1e-13, "theory: lr λ₂ = 2", color=COLD)
ax.set(xscale="log", yscale="log", ylim=(1e-20, 1e8), xlabel="the loss is multiplied by", ylabel="distance at the end")
ax.legend(frameon=False, loc="lower left")
powers_of_ten(ax)
ax.set_title("Who has to know the scale")
lesson.picture(
    figure, "scale", "Distance after 120 steps over the loss's scale: RMSprop and Adam level, the others not."
)

# %%
# Where this lives
# ----------------
# The update of all parameters is one call of a kernel; ``glassgrad where adam_step`` finds it.

lesson.lives(optim.SGD, lines=15)

# %%
# Exercise: momentum
# ------------------


def check(step):
    w, m = step(w=1.0, m=0.0, gradient=2.0, lr=0.1, beta=0.5)
    return np.allclose([w, m, *step(w, m, 2.0, 0.1, 0.5)], [0.8, 2.0, 0.5, 3.0])


@lesson.exercise(
    "step(w, m, gradient, lr, beta) returns the new (w, m) after one step of gradient descent with momentum.",
    check=check,
    solution=lambda w, m, gradient, lr, beta: (w - lr * (beta * m + gradient), beta * m + gradient),
)
def step(w, m, gradient, lr, beta): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: a network's surface is no bowl, its gradient comes from a batch and is noisy, and with a
    constant lr RMSprop and Adam do not come to rest: lesson 12 lets lr fall. And the lowest place need not be the best
    one: lesson 11 asks what happens on images the network has not seen."""
)
