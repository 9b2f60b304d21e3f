r"""
Stop overfitting
================

**Why does a network that gets every training example right do worse on new ones, and what holds it back?**

A network that is large enough can learn its training examples by heart, mistakes in them included. That is called
*overfitting*: it is ever surer of what it has seen, and wrong about what it has not. What holds it back makes fitting cost
something. Three ways to do so are in every toolbox: L2, L1 and dropout. Put side by side on a problem whose answer is
known, they are three ways to shrink a weight.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.ops import dropout as dropout_op
from glassgrad.ops import optim as optim_step
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Learning by heart
# -----------------
# 300 handwritten digits, a third of which get a label drawn at random: no rule explains those, they can only be learnt by
# heart. The other 1,497 digits have their right labels, and are for testing. 256 hidden units, 18,000 weights.

images, labels = load_digits(return_X_y=True)
images = gg.tensor((images - images.mean(axis=0)) / images.std(), dtype=gg.float32)
labels = gg.tensor(labels)

order = gg.randperm(len(images))
x, x_test = images[order[:300]], images[order[300:]]
y, y_test = labels[order[:300]], labels[order[300:]]
y = gg.where(gg.rand(300) < 1 / 3, gg.randint(10, (300,)), y)


def train(dropout=0.0, l2=0.0, steps=400):
    """Loss in training, loss in the test and share of the test that is right, every tenth step."""
    model = nn.Sequential(
        nn.Dropout(dropout / 2), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(dropout), nn.Linear(256, 10)
    )
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=l2)
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            with gg.no_grad():
                model.eval()  # without dropout
                train, test = model(x), model(x_test)
                model.train()
            losses = [nn.functional.cross_entropy(*pair).item() for pair in ((train, y), (test, y_test))]
            seen.append([*losses, (test.argmax(1) == y_test).float().mean().item()])
    return np.array(seen).T


free = train()
best, end = free[1].min(), free[1][-1]
lesson.predict(
    f"After 400 steps the training loss is {free[0, -1]:.3f}: it knows all 300 by heart. The test loss was {best:.2f} at its best. "
    "What is it at the end?",
    ["lower", "about the same", "more than a quarter higher"],
    answer=int(np.digitize(end / best, [0.95, 1.25])),
    because=f"{end:.2f}. It gives wrong answers with ever more confidence.",
)

# %%
# Two remedies
# ------------
# *L2* adds α/2 Σ w² to the loss: a large weight must be worth what it costs. Its gradient is α w, so each step makes each
# weight a little smaller; the optimizers call it weight decay. *Dropout* sets each unit to 0 with probability p, others at
# each step, so that no unit can count on another one. In use all units take part.


def name(ax, x, y, text, colour):
    ax.annotate(text, (x, y), (7, 0), textcoords="offset points", color=colour, va="center", size=8.5)


runs = {"nothing": free, "L2, α = 0.03": train(l2=0.03), "dropout, p = 0.8": train(dropout=0.8)}
wrong = {text: 1 - run[2, -1] for text, run in runs.items()}
for text in ("L2, α = 0.03", "dropout, p = 0.8"):
    lesson.claim(f"wrong in the test, {text}, over nothing", wrong[text] / wrong["nothing"], 0.75, compare="<")

figure, axes = plt.subplots(1, 2, figsize=(9.8, 3.7), layout="constrained", sharex=True)
for i, ax in enumerate(axes):
    for (text, run), colour in zip(runs.items(), (HOT, COLD, GOOD), strict=True):
        ax.plot(10 * np.arange(40), run[i], color=colour)
        name(ax, 390, run[i, -1], text if i == 0 else f"{text.split(',')[0]}: {wrong[text]:.0%} wrong", colour)
    ax.set(xlabel="training step", ylabel="loss (cross-entropy)", ylim=(0, 2.4), xlim=(0, 390))
axes[0].set_title("What it has seen")
axes[1].set_title("What it has not")
lowest = free[1].argmin()
axes[1].plot(10 * lowest, free[1, lowest], "v", color=HOT, mec="white", ms=9)
axes[1].text(10 * lowest + 8, free[1, lowest] - 0.2, "stop here?", color=HOT, size=8.5)
lesson.picture(figure, "by_heart", "Losses over steps: without a remedy it falls in training and rises in the test.")

# %%
# What they do to one weight
# --------------------------
# Now a problem with a known answer: a straight-line fit, y = X w, of 40 inputs that do not depend on one another and have
# mean square 1. Without a remedy the fit gives some w*. What becomes of it?
#
# * L2: minimising ½ (w - w*)² + ½ α w² gives **w* / (1 + α)**: every weight is made smaller by the same factor.
# * L1 adds ``α |w|``: its pull does not weaken near 0. It moves w by α and leaves at **exactly 0** what is smaller than α.
# * Dropout of the inputs adds noise, in the mean ½ p / (1 - p) w². That is L2 in disguise, α = p / (1 - p), so the weight
#   becomes **(1 - p) w*** (Srivastava et al. 2014).

N, D, ALPHA = 200, 40, 0.4
X = gg.tensor(np.linalg.qr(gg.randn(N, D, dtype=gg.float64).numpy())[0] * math.sqrt(N), dtype=gg.float32)
t = X @ gg.randn(D, 1) + 0.5 * gg.randn(N, 1)
w_star = (X.T @ t / N).numpy()[:, 0]  # least squares, as the columns of X are orthogonal


def fit(X, t, dropout=0.0, l1=0.0, l2=0.0, lr=0.05, steps=2000, last=1500):
    """Weights after so many steps downhill from 0; the mean of the ``last`` ones, since dropout keeps them moving."""
    model = nn.Sequential(nn.Dropout(dropout), nn.Linear(X.shape[1], 1, bias=False))
    optimizer = optim.SGD(model.parameters(), lr=lr, weight_decay=l2)
    w, total = nn.init.zeros_(model[1].weight), 0.0
    for step in range(steps):
        optimizer.zero_grad()
        (0.5 * (model(X) - t).square().mean()).backward()
        optimizer.step()
        with gg.no_grad():
            w.copy_(w.sign() * (w.abs() - lr * l1).clamp(min=0))  # L1 pulls towards 0, but not past it
        if step >= steps - last:
            total += w.data[0]
    return total / last


# p / (1 - p) = α makes dropout as strong as L2.
p = ALPHA / (1 + ALPHA)
fits = {"L2": fit(X, t, l2=ALPHA), "L1": fit(X, t, l1=ALPHA), "dropout": fit(X, t, dropout=p)}
zeros, small = (fits["L1"] == 0).sum(), (abs(w_star) < ALPHA).sum()

slope = {text: (w @ w_star) / (w_star @ w_star) for text, w in fits.items()}
lesson.claim("L2: w over w*", slope["L2"], 1 / (1 + ALPHA), tolerance=1e-3, formula="1 / (1 + α)")
lesson.claim(
    "dropout: w over w*", slope["dropout"], 1 - p, tolerance=0.03, formula="1 - p", source="Srivastava et al. 2014"
)
lesson.claim("L1: weights that are exactly 0", zeros, small, formula="|w*| < α")

figure, ax = plt.subplots(figsize=(7.4, 4), layout="constrained")
grid = np.linspace(-2.6, 2.6, 201)
ax.plot(grid, grid, color="#5d6673", lw=0.8)
name(ax, 2.6, 2.6, "no remedy: w*", "#5d6673")
shrunk, cut = grid / (1 + ALPHA), np.sign(grid) * np.maximum(abs(grid) - ALPHA, 0)
for line, colour in ((shrunk, COLD), (cut, HOT)):
    ax.plot(grid, line, "--", color=colour, lw=1.2)
for text, marker, colour, size in (("L2", "o", COLD, 4), ("dropout", "s", COLD, 7), ("L1", "^", HOT, 6)):
    fill = "none" if text == "dropout" else colour
    ax.plot(w_star, fits[text], marker, color=colour, mfc=fill, ms=size, label=text)
name(ax, 2.6, shrunk[-1] - 0.1, "L2, dropout: w* / (1 + α)", COLD)
name(ax, 2.6, cut[-1] + 0.1, "L1: w* ± α, or 0", HOT)
ax.legend(frameon=False, loc="upper left")
ax.set(xlabel="w*, the weight without a remedy", ylabel="the weight with it", xlim=(-2.6, 2.6))
ax.set_title(f"Three ways to shrink a weight (α = {ALPHA})")
lesson.picture(
    figure, "one_weight", "Weights with a remedy over weights without: two straight lines and one with a step."
)

# %%
# What they do to many weights: stop where it is flat
# ---------------------------------------------------
# Inputs mostly do depend on one another, as neighbouring pixels do. Then the loss is a bowl that is steep in some directions
# and flat in others. These directions are the eigenvectors of H = Xᵀ X / N, its eigenvalues λ say how steep the bowl is. A
# steep direction is one in which the images differ much; in a flat one they hardly differ, and noise decides. In each,
# L2 leaves the part **λ / (λ + α)** of w* (Goodfellow et al. 2016, ch. 7). There is a remedy that needs no penalty: *stop
# early*. After τ steps of size ε from 0, gradient descent is at the part **1 - (1 - ε λ)^τ**: with τ = 1 / (ε α) much alike.

odd = (labels % 2 * 2 - 1).float().reshape(-1, 1)  # is the digit odd (1) or even (-1)?
eigenvalues, V = np.linalg.eigh((images.T @ images / len(images)).double().numpy())
b = V.T @ (images.T @ odd / len(images)).double().numpy()[:, 0]  # in each direction, w* = b / λ
used = (eigenvalues > 1e-3) & (abs(b) > 1e-3)  # w* is known there in float32
lam = eigenvalues[used]

ALPHA, EPSILON = 0.1, 0.1
TAU = round(1 / (EPSILON * ALPHA))
part = {
    "L2": V.T @ fit(images, odd, l2=ALPHA, lr=EPSILON),
    "early stop": V.T @ fit(images, odd, lr=EPSILON, steps=TAU, last=1),
}
part = {text: w[used] * lam / b[used] for text, w in part.items()}
theories = {"L2": lambda lam: lam / (lam + ALPHA), "early stop": lambda lam: 1 - (1 - EPSILON * lam) ** TAU}

figure, ax = plt.subplots(figsize=(7.4, 3.9), layout="constrained")
curve = np.logspace(math.log10(lam.min() / 1.5), math.log10(lam.max() * 1.2), 200)
styles = {"L2": (COLD, "o", "theory: λ / (λ + α)"), "early stop": (GOOD, "s", "theory: 1 - (1 - ε λ)$^τ$")}
for text, (colour, marker, formula) in styles.items():
    off = abs(part[text] - theories[text](lam)).max()
    says = f"{text}: the largest distance from theory in {used.sum()} directions"
    lesson.claim(says, off, 0.01, compare="<", source="Goodfellow et al. 2016")
    ax.plot(curve, theories[text](curve), "--", color=colour, lw=1.2, label=formula)
    ax.plot(lam, part[text], marker, color=colour, mfc="none", ms=6, label=f"measured: {text}")
ax.axvline(ALPHA, color="#5d6673", lw=0.8)
ax.text(ALPHA * 1.1, 0.03, f"λ = α = {ALPHA}", color="#5d6673", size=8.5)
ax.set(xscale="log", ylim=(0, 1.05), xlabel="λ, steepness of the direction", ylabel="part of w* that is left")
ax.set_title("Steep directions stay, flat ones go")
ax.legend(frameon=False, loc="upper left")
lesson.picture(
    figure, "directions", "Part of w* over steepness: two S-shaped curves rise from 0 to 1, dots on the lines."
)

# %%
# Where this lives
# ----------------
# L2 is one line of each optimizer's step, in front of all else; dropout is a product with a mask.

lesson.lives(optim_step._effective)
lesson.lives(dropout_op._dropped)

# %%
# Exercise: as strong as dropout
# ------------------------------


@lesson.exercise(
    "alpha(p) returns the α with which L2 shrinks the weights of independent inputs just as dropout of rate p does.",
    check=lambda alpha: all(abs(1 / (1 + alpha(p)) - (1 - p)) < 1e-9 for p in (0.1, 0.5, 0.9)),
    solution=lambda p: p / (1 - p),
)
def alpha(p): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: nothing here says how large α or p should be, nor when to stop. That takes examples set aside, which
    the network is not trained on, and a run for each value. And the theory is one of straight lines: why a network with
    more weights than examples so often does well without any remedy is not explained by it."""
)
