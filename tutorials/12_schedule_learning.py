r"""
Schedules, batch size, stopping in time
=======================================

**Why does the largest learning rate that works not lead to the lowest loss?**

Three knobs of every training: the learning rate (how far a step goes), the batch size (how many examples a step looks at)
and the number of steps. Each step follows the gradient of a few examples, not of all of them, so it is partly chance. This
lesson shows what the chance costs, computes it, and then takes it away: with a schedule, and by stopping in time.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# The smallest training there is
# ------------------------------
# Find the mean of numbers x drawn from N(0, 1). The loss ``(w - x)^2 / 2`` has it as its minimum, w = 0. A step looks at a
# batch of B numbers and moves w towards their mean. To see averages, 4000 such trainings run side by side.

RUNS, STEPS = 4000, 200


def train(batch, schedule, steps=STEPS):
    """Mean of w^2 / 2 over all runs, after each step: how far the loss is above its minimum."""
    w = gg.full((RUNS,), 3.0).requires_grad_()
    optimizer = optim.SGD([w], lr=1.0)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, schedule)
    excess = []
    for _ in range(steps):
        x = gg.randn(RUNS) / batch**0.5  # the mean of B numbers is one with variance 1/B
        optimizer.zero_grad()
        ((w - x).square() / 2).sum().backward()
        optimizer.step()
        scheduler.step()
        excess.append(w.detach().square().mean().item() / 2)
    return np.array(excess)


settings = [(0.5, 1), (0.5, 8), (0.1, 1), (0.1, 8)]
curves = {(lr, batch): train(batch, lambda step, lr=lr: lr) for lr, batch in settings}

# %%
# The floor
# ---------
# A step takes w to (1 - lr) w + lr x. If its variance is v before and after, then v = (1 - lr)^2 v + lr^2 / B, so
#
# .. math:: v = \frac{lr}{B\,(2 - lr)}
#
# The loss does not go to 0: it stays at v / 2, half of which is the learning rate's fault and half the batch's.


def floor(lr, batch):
    return lr / (batch * (2 - lr)) / 2


lesson.predict(
    "The loss has settled at its floor. You make batches 8 times as large. What happens to the floor, at the same learning rate?",
    ["it falls to 1/8", "it falls to 1/64", "it stays: only the learning rate matters"],
    answer=int(
        np.argmin(np.abs([1 / 8 - (r := curves[0.5, 8][-50:].mean() / curves[0.5, 1][-50:].mean()), 1 / 64 - r, 1 - r]))
    ),
    because=f"measured {r:.3f}. The chance in a mean of B numbers has the variance 1/B.",
)

# %%

figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
colours = {(0.5, 1): HOT, (0.5, 8): COLD, (0.1, 1): HOT, (0.1, 8): COLD}
above = {(0.5, 1): 0, (0.5, 8): -6, (0.1, 1): 6, (0.1, 8): 6}  # points: two floors lie close together
for (lr, batch), excess in curves.items():
    measured = excess[-50:].mean()
    lesson.claim(
        f"floor of the loss, lr = {lr}, B = {batch}",
        measured,
        floor(lr, batch),
        tolerance=0.05,
        formula="lr / (2 B (2 - lr))",
    )
    colour = colours[lr, batch]
    ax.plot(excess, color=colour, lw=1, alpha=1 if lr == 0.5 else 0.55)
    ax.axhline(floor(lr, batch), color=colour, ls="--", lw=1)
    end = STEPS, floor(lr, batch)
    ax.annotate(
        f"lr {lr}, B {batch}",
        end,
        (5, above[lr, batch]),
        textcoords="offset points",
        color=colour,
        va="center",
        size=8.5,
    )
best = train(1, lambda step: 1 / (step + 1))
ax.plot(best, color=GOOD, lw=1.4)
ax.plot(0.5 / np.arange(1, STEPS + 1), color=GOOD, lw=1, ls="--")
ax.annotate("lr 1/t, B 1", (STEPS, best[-1]), (5, -5), textcoords="offset points", color=GOOD, va="center", size=8.5)
ax.set(yscale="log", xlim=(0, STEPS), xlabel="step", ylabel="loss above its minimum")
ax.set_title("A constant learning rate ends on a floor; a falling one does not")
lesson.picture(
    figure,
    "floors",
    "Loss over steps: four curves settle on dashed floors that theory gives; a fifth, with a falling rate, keeps falling.",
)

# %%
# The green line lets the learning rate fall as 1/t (Robbins and Monro 1951). Then w is the mean of all that was seen, and
# the loss is 1 / (2 t): no method does better with t numbers. Real losses change their shape on the way, so what is used is
# gentler: constant for a while, then down, often along a cosine.

lesson.claim(
    "loss after 200 steps, lr = 1/t",
    best[-1],
    0.5 / STEPS,
    tolerance=0.08,
    formula="1 / (2 t)",
    source="Robbins & Monro 1951",
)

# %%
# How long
# --------
# 300 digits for training, every fifth with a wrong label, as in real data. The network first learns what digits have in
# common, later the wrong labels by heart. Only images it does not train on can tell: the validation set.

images, labels = load_digits(return_X_y=True)
x = gg.tensor((images - images.mean(axis=0)) / images.std(), dtype=gg.float32)
y = gg.tensor(labels)
noisy = labels.copy()
noisy[:300:5] = (noisy[:300:5] + 1 + np.arange(60) % 9) % 10
train_x, train_y, held_x, held_y = x[:300], gg.tensor(noisy[:300]), x[300:900], y[300:900]

gg.manual_seed(1)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = optim.Adam(model.parameters(), lr=4e-3)
EPOCHS = 60
history = []
for _ in range(EPOCHS):
    for rows in gg.randperm(300).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train_x[rows]), train_y[rows]).backward()
        optimizer.step()
    with gg.no_grad():
        history.append(
            [nn.functional.cross_entropy(model(a), b).item() for a, b in ((train_x, train_y), (held_x, held_y))]
        )
training, held_out = np.array(history).T


def early_stop(losses, patience):
    """The epoch to keep: the best one before ``patience`` epochs went by without a better."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


kept = early_stop(held_out, patience=5)
figure, ax = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
epochs = np.arange(1, EPOCHS + 1)
ax.plot(epochs, training, color=COLD, label="training, with wrong labels")
ax.plot(epochs, held_out, color=HOT, label="validation")
ax.axvline(kept + 1, color=GOOD, ls="--", lw=1.2)
ax.annotate(f"stop here: epoch {kept + 1}", (kept + 1, 0.08), (6, 0), textcoords="offset points", color=GOOD, size=9)
ax.set(xlabel="epoch (once through the training images)", ylabel="loss", ylim=(0, None), xlim=(1, EPOCHS))
ax.set_title("After some time it learns the wrong labels by heart")
ax.legend(frameon=False, loc="upper right", fontsize=8.5)
lesson.picture(
    figure,
    "early_stopping",
    "Training loss falls to the end; validation loss falls, then rises; a line marks where to stop.",
)
lesson.claim("validation loss at the end, over the one kept", held_out[-1] / held_out[kept], 1.1, compare=">")

# %%
# Where this lives
# ----------------

lesson.lives(optim.lr_scheduler.CosineAnnealingLR, lines=20)


# %%
# Exercise: warm up
# -----------------


@lesson.exercise(
    "Large models start gently: the learning rate rises for the first `warm` steps, from 1/warm to 1 in equal parts, and "
    "then falls along half a cosine to 0 at `total`. factor(step, warm, total) returns it, for steps from 0.",
    check=lambda f: np.allclose(
        [f(0, 4, 12), f(3, 4, 12), f(4, 4, 12), f(8, 4, 12), f(12, 4, 12)], [0.25, 1, 1, 0.5, 0]
    ),
    solution=lambda step, warm, total: (
        (step + 1) / warm if step < warm else (1 + np.cos(np.pi * (step - warm) / (total - warm))) / 2
    ),
)
def factor(step, warm, total): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: the floor was computed for one round bowl. A real loss is steep in some directions and flat in others,
    and the noise is not the same everywhere: which schedule is best is still found by trying."""
)
