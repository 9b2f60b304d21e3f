"""Watch gradients vanish
======================

Why do the first layers of a deep network hardly learn?

A layer learns from its gradient: how much the loss changes when the layer changes. The loss stands at the end of the
network, so the gradient of an early layer has to travel back through all the later ones, and each multiplies it by its
own slope. Twenty slopes of one half leave a millionth. This lesson watches that happen three times: in one number that
is fed back to itself, in a wide network before its first step, and in a training that does not get off the ground.
"""

import math

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope import theory
from glassgrad.scope.thermometer import COLD, GOOD, HOT, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# One number that remembers
# -------------------------
# Let a number be fed back to itself, ``x = tanh(w x)``. For w > 1 it settles at one of two places, one positive and one
# negative: it *remembers one bit*, and small knocks do not make it forget. Such a resting place is called an attractor.
# Bengio, Simard and Frasconi (1994) showed the price. A place that forgives knocks has a slope below 1: a knock of size
# d is slope * d a step later. But the slope is also what the gradient is multiplied by on its way back. One backward
# pass is enough to see all of it: ``retain_grad()`` keeps the gradient of every step on the way.

T = 20
PUBLISHED = {1.1: 0.822, 1.25: 0.619, 1.5: 0.394, 2.0: 0.166}  # w: the slope at its attractor

w = gg.tensor(list(PUBLISHED), dtype=gg.float64)
x = gg.ones(len(PUBLISHED), dtype=gg.float64)
for _ in range(1000):
    x = gg.tanh(w * x)  # settles: from now on x = tanh(w x)

xs = [x.requires_grad_()]
for _ in range(T):
    xs.append(gg.tanh(w * xs[-1]))
    xs[-1].retain_grad()
xs[-1].sum().backward()
gradient = np.stack([x.grad for x in reversed(xs)])  # (steps back, w)
assert (gradient[0] == 1).all()  # no step back: d(x)/d(x)

lesson.predict(
    "w = 2 holds its bit most firmly. How much of its gradient is left after 20 steps?",
    ["about a tenth", "about a thousandth", "below a billionth"],
    answer=int(np.digitize(-math.log10(gradient[T, -1]), [2, 9])),
    because=f"{gradient[T, -1]:.0e}. What holds firmly has a small slope. To remember and to learn are at odds.",
)

# %%
# Powers of a number are a straight line on an axis of powers of ten.


def draw_powers(ax, measured, factor, text, colour, marker):
    """Dots for what was measured, dashes for the powers of ``factor``, and the curve's name at its end."""
    back = np.arange(len(measured))
    ax.plot(back, factor**back, "--", color=colour, lw=1)
    ax.plot(back, measured, marker, color=colour, ms=4)
    ax.annotate(text, (back[-1], factor ** back[-1]), (8, 0), textcoords="offset points", color=colour, va="center")
    ax.set(yscale="log", xlim=(-0.3, back[-1] + 0.2), xticks=back[::5])


bengio = {"row": 11, "source": "Bengio et al. 1994"}
figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
for measured, (w_i, slope) in zip(gradient.T, PUBLISHED.items(), strict=True):
    lesson.claim(f"slope at the attractor, w = {w_i}", measured[1], slope, tolerance=0.01, **bengio)
    lesson.claim(f"gradient after {T} steps, w = {w_i}", measured[T], measured[1] ** T, tolerance=1e-6)
    draw_powers(ax, measured, slope, f"w = {w_i}: {slope}$^T$", COLD, "v")
ax.set(title="What remembers forgets its gradient", xlabel="T, steps back", ylabel="gradient, last step = 1")
powers_of_ten(ax)
lesson.picture(figure, "one_number", "Gradient over steps back, logarithmic: four straight lines fall, dots on theory.")

# %%
# A wide network before its first step
# ------------------------------------
# Now layers: ``z = W φ(z) + b`` with φ = tanh and weights drawn at random. σ_w² / n is the variance of a weight, where
# n is the width (the number of units in a layer); σ_b² is that of a bias. Poole et al. (2016) and Schoenholz et al.
# (2017) computed the factor by which one layer multiplies the *squared* gradient:
#
# .. math:: \chi_1 = \sigma_w^2 \; E[\varphi'(\sqrt{q^*} z)^2], \qquad z \sim N(0, 1)
#
# where q* is the variance at which z settles. σ_w² is what the weights amplify, E[...] what the slopes of φ take away.
# Below 1 the gradient vanishes, above 1 it explodes. Glorot and Bengio (2010) had met the simplest case: U(-1/√n,
# 1/√n), ``nn.Linear``'s own, has the variance 1/(3n), so without any φ a third is left per layer.

WIDTH, DEPTH, BATCH, SIGMA_B = 800, 20, 32, 0.3


def gaussian(n, sigma_w):
    layer = nn.Linear(n, n)
    nn.init.normal_(layer.weight, std=sigma_w / math.sqrt(n))
    nn.init.normal_(layer.bias, std=SIGMA_B)
    return layer


def squared_gradients(layers, phi, q):
    """Mean squared gradient of z, from behind the last layer to before the first; z starts with variance q."""
    zs = [(gg.randn(BATCH, WIDTH) * math.sqrt(q)).requires_grad_()]
    for layer in layers:
        zs.append(layer(phi(zs[-1])))
        zs[-1].retain_grad()
    zs[-1].backward(gg.randn(BATCH, WIDTH))  # as if a loss had sent back noise of variance 1
    return np.array([z.grad.square().mean().item() for z in reversed(zs)])


glorot, schoenholz = {"row": 3, "source": "Glorot & Bengio 2010"}, {"row": 12, "source": "Schoenholz et al. 2017"}
layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)]
networks = [("no φ, U(±1/√n)", squared_gradients(layers, nn.Identity(), q=1.0), 1 / 3, glorot)]
for sigma_w in (0.8, 2.0, 3.0):
    layers = [gaussian(WIDTH, sigma_w) for _ in range(DEPTH)]
    measured = squared_gradients(layers, gg.tanh, theory.q_star(sigma_w, "tanh", SIGMA_B))
    networks.append((f"tanh, $σ_w$ = {sigma_w}", measured, theory.chi_1(sigma_w, "tanh", SIGMA_B), schoenholz))

figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
for name, measured, factor, paper in networks:
    per_layer = (measured[DEPTH] / measured[0]) ** (1 / DEPTH)
    lesson.claim("squared gradient per layer, " + name.replace("$", ""), per_layer, factor, tolerance=0.02, **paper)
    colour, marker = (COLD, "v") if factor < 1 else (HOT, "^")
    draw_powers(ax, measured, factor, f"{name}\n{factor:.3f} per layer", colour, marker)
draw_powers(ax, np.ones(DEPTH + 1), 1.0, "1 per layer:\nthe edge of chaos", GOOD, " ")
ax.set(title="The size of the weights decides", xlabel="layers back from the loss", ylabel="mean squared gradient")
powers_of_ten(ax)
lesson.picture(figure, "wide_network", "Squared gradient over layers back: two lines fall, two rise, as theory says.")

# %%
# A training that does not get off the ground
# -------------------------------------------
# How deep may a network be, then? If one layer leaves χ₁, then L layers leave χ₁^L = exp(-L / ξ), with the *depth
# scale* ξ = -1 / ln χ₁: after ξ layers a third is left. Schoenholz et al. found that networks learn up to a depth of
# about 6 ξ. So networks of different weights should fail at different depths, at the same L / ξ.

images, labels = load_digits(return_X_y=True)
images, labels = gg.tensor((images - images.mean(0)) / images.std(), dtype=gg.float32), gg.tensor(labels)


def loss_after(steps, depth, sigma_w, width=64):
    """The mean loss of the last 20 steps of training."""
    hidden = [layer for _ in range(depth) for layer in (gaussian(width, sigma_w), nn.Tanh())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for batch in gg.randint(len(images), (steps, 64)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses[-20:])


GUESSING = math.log(10)  # the loss of ten equal probabilities
xi = {sigma_w: -1 / math.log(theory.chi_1(sigma_w, "tanh", SIGMA_B)) for sigma_w in (0.7, 0.8, 0.9)}
depths = {sigma_w: np.array([round(k * xi[sigma_w]) for k in (2, 4, 6, 8, 10, 12)]) for sigma_w in xi}
losses = {sigma_w: np.array([loss_after(150, L, sigma_w) for L in depths[sigma_w]]) for sigma_w in xi}

stuck = min(depths[0.8][losses[0.8] > 0.98 * GUESSING])
lesson.predict(
    f"With σ_w = 0.8, ξ is {xi[0.8]:.1f} layers. From which depth on did 150 steps of training teach nothing at all?",
    ["10 to 20 layers", "20 to 60 layers", "more than 60"],
    answer=int(np.digitize(stuck, [20, 60])),
    because=f"{stuck}, which is {stuck / xi[0.8]:.0f} ξ. More units do not help: ξ does not depend on the width.",
)

# %%
half = [np.interp(GUESSING / 2, losses[sigma_w], depths[sigma_w] / xi[sigma_w]) for sigma_w in xi]
lesson.claim("depth at which half is learnt, in ξ", np.mean(half), 6, tolerance=0.25, source="Schoenholz et al. 2017")
lesson.claim("the highest loss at 2 ξ", max(loss[0] for loss in losses.values()), 0.5, compare="<")
lesson.claim("the lowest loss at 12 ξ", min(loss[-1] for loss in losses.values()), 2.25, compare=">")

figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
for sigma_w, marker in zip(xi, "vos", strict=True):
    label = f"$σ_w$ = {sigma_w}, ξ = {xi[sigma_w]:.2f} layers"
    ax.plot(depths[sigma_w] / xi[sigma_w], losses[sigma_w], marker + "-", color=COLD, lw=0.8, mfc="white", label=label)
ax.axhline(GUESSING, color=COLD, lw=1, ls="--")
ax.axvline(6, color=GOOD, lw=1.2, ls="--")
ax.text(1.8, 2.35, "ln 10: guessing", color=COLD)
ax.text(5.9, 1.95, "paper: 6 ξ", color=GOOD, ha="right")
ax.set(xlim=(1.7, 12.6), ylim=(0, 2.6), xlabel="depth, in units of ξ", ylabel="loss after 150 steps")
ax.set_title("Three networks, one curve")
ax.legend(frameon=False, loc="lower right")
lesson.picture(figure, "depth_scale", "Loss over depth in units of ξ: three curves rise together and end at ln 10.")

# %%
# Where this lives
# ----------------
# The theory is in ``glassgrad.scope.theory``. The slope that eats the gradient is one row of the table of ops:
# ``glassgrad where tanh`` finds it, ``dy * (1 - y * y)``.

lesson.lives(theory.chi_1, lines=14)

# %%
# Exercise: the edge of chaos
# ---------------------------


@lesson.exercise(
    "edge(sigma_b) returns the σ_w at which a tanh network neither loses its gradient nor lets it explode: χ₁ = 1. "
    "theory.chi_1(sigma_w, 'tanh', sigma_b) grows with sigma_w.",
    check=lambda edge: all(abs(theory.chi_1(edge(s), "tanh", s) - 1) < 1e-3 for s in (0.1, 0.3)),
    solution=lambda s_b: min(np.arange(1, 2, 5e-4), key=lambda s_w: abs(theory.chi_1(s_w, "tanh", s_b) - 1)),
)
def edge(sigma_b): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: theory knows the first step only, and training soon moves the weights off the edge. Lesson 07
    chooses the first weights, 08 normalises what passes through, 09 gives the gradient a way around."""
)
