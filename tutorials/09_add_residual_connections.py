r"""
Add residual connections
========================

**Why do deeper networks train worse, and why does one plus sign mend it?**

More layers can do all that fewer can: the ones too many need only pass on what they get. Yet He et al. (2016) found that
plain networks of 56 layers end with a *higher* training loss than ones of 20, batch norm and all. What mended it is in
nearly every large network since. A layer no longer replaces its input but adds to it:

.. math:: x_{l+1} = x_l + f_l(x_l)

The layer f is called the *branch*, the way around it the *skip*, both together a residual block.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope import theory
from glassgrad.scope.thermometer import COLD, GOOD, HOT, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)


class Residual(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return x + self.branch(x)


def layer(width, batchnorm=True):
    """Batch norm, ReLU, then weights of variance 2 / width, which make up for what ReLU takes (He et al. 2015)."""
    linear = nn.Linear(width, width, bias=False)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    return nn.Sequential(*[nn.BatchNorm1d(width)] * batchnorm, nn.ReLU(), linear)


# %%
# The deeper the worse, and the cure
# ----------------------------------
# Three networks learn handwritten digits: plain with 20 layers, plain with 56, residual with 56. The two deep ones have
# the same number of weights, the same batches and the same learning rate. They differ by the plus sign.

images, labels = load_digits(return_X_y=True)
images = gg.tensor((images - images.mean(axis=0)) / images.std(), dtype=gg.float32)
labels = gg.tensor(labels)


def losses(depth, wrap, width=96, steps=300):
    """Training losses; ``wrap`` makes a block of a layer."""
    blocks = [wrap(layer(width)) for _ in range(depth)]
    model = nn.Sequential(nn.Linear(64, width), *blocks, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        batch = gg.randint(len(images), (64,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def plain(layer):
    return layer


runs = {
    "plain, 20 layers": losses(20, plain),
    "plain, 56 layers": losses(56, plain),
    "residual, 56 layers": losses(56, Residual),
}
plain_20, plain_56, residual_56 = (float(np.median(run[-30:])) for run in runs.values())
lesson.predict(
    f"After 300 steps the plain network of 20 layers is at a loss of {plain_20:.2f}, that of 56 at {plain_56:.2f}; guessing costs "
    "2.30. And the residual network of 56 layers?",
    ["between the two", "about as good as 20 plain layers", "far better than 20 plain layers"],
    answer=int(np.digitize(-residual_56 / plain_20, [-1.5, -0.5])),
    because=f"{residual_56:.3f}. With the skips all its depth can be used; without, it is in the way.",
)

# %%


def name(ax, x, y, text, colour):
    ax.annotate(text, (x, y), (7, 0), textcoords="offset points", color=colour, va="center", size=8.5)


source = "He et al. 2016"
lesson.claim("training loss, plain 56 over plain 20", plain_56 / plain_20, 5, compare=">", row=6, source=source)
lesson.claim("training loss, plain 56 over residual 56", plain_56 / residual_56, 5, compare=">", row=6, source=source)

figure, ax = plt.subplots(figsize=(7.2, 3.7), layout="constrained")
for (text, run), colour in zip(runs.items(), (COLD, HOT, GOOD), strict=True):
    blocks = run.reshape(-1, 10).mean(axis=1)
    ax.plot(run, color=colour, lw=0.5, alpha=0.35)
    ax.plot(5 + 10 * np.arange(len(blocks)), blocks, color=colour)
    name(ax, 300, np.median(run[-30:]), f"{text}: {np.median(run[-30:]):.3f}", colour)
ax.axhline(math.log(10), color="#1b1f24", lw=1, ls="--")
name(ax, 300, math.log(10) + 0.1, "guessing: ln 10", "#1b1f24")
ax.set(xlim=(0, 300), ylim=(0, 2.8), xlabel="training step", ylabel="training loss (cross-entropy)")
ax.set_title("A plus sign makes 56 layers trainable")
lesson.picture(
    figure, "deeper", "Loss over steps: 56 plain layers stay near guessing, 20 fall, 56 residual fall furthest."
)

# %%
# On the way out: twice or one more
# ---------------------------------
# Look at the signal first, the mean square of x behind each block. A layer as above hands on as much as it gets. So
# without batch norm the branch adds to x as much again: the signal doubles with every block (Zhang et al. 2019), 2^l. With
# batch norm in the branch it adds 1, whatever comes in: block by block 1, 2, 3, ..., l + 1 (De and Smith 2020).


def flow(wrap, batchnorm=True, depth=50, draws=3, width=512, batch=128):
    """Mean squares of x and of its gradient, before the first block and behind each; the mean of several networks."""
    logs = []
    for _ in range(draws):
        xs = [gg.randn(batch, width, requires_grad=True)]
        for _ in range(depth):
            xs.append(wrap(layer(width, batchnorm))(xs[-1]))
            xs[-1].retain_grad()
        xs[-1].backward(gg.randn(batch, width))  # as if a loss had sent back noise
        logs.append([[math.log(t.square().mean().item()) for t in (x.detach(), x.grad)] for x in xs])
    return np.exp(np.mean(logs, axis=0).T)


l = np.arange(51)  # noqa: E741 the papers' name for the number of a block
doubling, _ = flow(Residual, batchnorm=False)
adding, residual = flow(Residual)
_, exploding = flow(plain)

source = "Zhang et al. 2019"
growth = math.log2(doubling[50] / doubling[0]) / 50
lesson.claim("log2 growth per block without batch norm", growth, 1, tolerance=0.05, row=7, source=source)
lesson.claim(
    "signal behind block 50 with it", adding[50], 51, tolerance=0.05, formula="l + 1", row=8, source="De & Smith 2020"
)

# %%
# On the way back: multiplied or added
# ------------------------------------
# The gradient of a block is that of the skip, 1, plus that of the branch. The branch's batch norm divides by the spread
# of x, and so the branch counts less and less, 1/s_l, where s_l = 1 + l (1 - 1/π) is the variance of x over the batch: the
# signal less the part that all examples have in common. One block multiplies the *squared* gradient by
#
# .. math:: 1 + \frac{1}{s_l}
#
# instead of r(B) = 1.48 in the plain network (lesson 08). A product of 50 equal factors explodes. In this one the factors
# fall towards 1 as l grows, and the product grows no faster than a power of l.

s = 1 + l * (1 - 1 / math.pi)
expected = np.cumprod(np.append(1, 1 + 1 / s[-2::-1]))  # from the last block back to the first
r = theory.batchnorm_growth(128)
per_layer = (exploding[10] / exploding[50]) ** (1 / 40)
lesson.claim("squared gradient per plain layer", per_layer, r, tolerance=0.025, source="Yang et al. 2019")
says, first_over_last = "squared gradient, first residual block over last", residual[0] / residual[50]
lesson.claim(says, first_over_last, expected[50], tolerance=0.1, formula="product of 1 + 1/s")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 3.8), layout="constrained")
for ax, line, dots, text, colour, marker in (
    (left, 2.0**l, doubling, "no batch norm\ntheory: 2$^l$", HOT, "^"),
    (left, l + 1, adding, "batch norm in\nthe branch: l + 1", GOOD, "o"),
    (right, r**l, exploding[::-1] / exploding[-1], f"plain, theory:\n× {r:.3f} per layer", HOT, "^"),
    (right, expected, residual[::-1] / residual[-1], "residual, theory:\nΠ (1 + 1/s$_l$)", GOOD, "o"),
):
    ax.plot(l, line, "--", color=colour, lw=1.2)
    ax.plot(l[::2], dots[::2], marker, color=colour, ms=4, mec="white", mew=0.3)
    name(ax, 50, line[-1], text, colour)
    ax.set(yscale="log", xlim=(-0.5, 50.5))
    powers_of_ten(ax)
left.set(xlabel="l, block", ylabel="mean square of the signal")
left.set_title("On the way out")
right.set(xlabel="blocks back from the loss", ylabel="mean squared gradient, the last = 1")
right.set_title("On the way back")
lesson.picture(
    figure, "both_ways", "Signal and gradient over 50 blocks: two straight lines rise, two bend and stay low."
)

# %%
# Where this lives
# ----------------
# Every transformer is built of such blocks. With ``norm_first`` each of its layers is two: norm, branch, plus sign.

lesson.lives(nn.TransformerEncoderLayer.forward, lines=14)

# %%
# Exercise: without batch norm
# ----------------------------
# Zhang et al. trained residual networks of 10,000 layers without any normalisation. Part of their recipe: make every
# branch smaller, so that all of them together do what one did before.


@lesson.exercise(
    "scale(L) returns the number that every branch is multiplied by, so that L blocks without batch norm, which would "
    "multiply the mean square by 2^L, together just double it.",
    check=lambda scale: all(abs((1 + scale(L) ** 2) ** L - 2) < 1e-6 for L in (1, 10, 1000)),
    solution=lambda L: math.sqrt(2 ** (1 / L) - 1),
)
def scale(L): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: at the start each block adds little to a sum that is already large, so a deep residual network
    starts out as a shallow one. And it still needs a batch: layer norm, which looks at one example at a time, is what
    transformers put in the place of batch norm."""
)
