r"""
Dissect batch norm
==================

**What does batch normalisation cure, and what does it cause?**

Lesson 05 watched gradients vanish; lesson 07 chose first weights that keep their size. Batch normalisation (Ioffe and
Szegedy 2015) leaves nothing to choice: it measures. Behind each layer, every unit looks at its values x over the *batch*,
the examples of one training step, and takes off their mean μ and divides by their spread σ, the standard deviation:

.. math:: \hat x = \frac{x - \mu}{\sigma}, \qquad y = \gamma \hat x + \beta

γ and β are learnt; they start as 1 and 0. Few ideas have made more networks trainable. It has a price, as we shall see.
"""

import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.ops import norm
from glassgrad.scope import Recorder, per_layer, theory, thermometer
from glassgrad.scope.thermometer import COLD, GOOD, HOT, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

images, labels = load_digits(return_X_y=True)  # 1,797 handwritten digits of 8x8 pixels
images = gg.tensor((images - images.mean(axis=0)) / images.std(), dtype=gg.float32)
labels = gg.tensor(labels)


def one_batch(size=64):
    batch = gg.randint(len(images), (size,))
    return images[batch], labels[batch]


def network(depth, width, activation, sigma_w=1.0, batchnorm=True):
    """``depth`` hidden layers with weights of variance σ_w² / inputs. No biases: batch norm would take them off again."""
    layers = []
    for i in range(depth):
        linear = nn.Linear(64 if i == 0 else width, width, bias=False)
        nn.init.normal_(linear.weight, std=sigma_w / math.sqrt(linear.in_features))
        layers += [linear, nn.BatchNorm1d(width), activation()] if batchnorm else [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def training(model, steps, **settings):
    """Train; pause at each step, when the gradient is known and the step not yet made."""
    optimizer = optim.SGD(model.parameters(), **settings)
    for _ in range(steps):
        x, y = one_batch()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        yield loss.item(), x, y
        optimizer.step()


# %%
# What it cures: gradients that vanish
# ------------------------------------
# Eight layers of sigmoids φ are a network that does not learn. On its way back, each layer multiplies the squared gradient
# by χ₁ = E[φ'(z)²] = 0.056, z standard normal (lesson 05). With batch norm theory has
# E[φ'(z)²] / Var[φ(z)] = 1.03: what the small slope takes away, the division by a small spread gives back.


def first_gradients(size, depth, width, activation, batchnorm=True, draws=6):
    """Typical gradient behind each activation before the first step: several networks, each with its own batch."""
    logs = []
    for _ in range(draws):
        model, (x, y) = network(depth, width, activation, batchnorm=batchnorm), one_batch(size)
        with Recorder(model, (activation,)) as record:
            nn.functional.cross_entropy(model(x), y).backward()
        logs.append([math.log(layer.gradient_rms) for layer in record.layers])
    return np.exp(np.mean(logs, axis=0))


def sigmoids(batchnorm, steps=1000):
    gradients = first_gradients(64, 8, 64, nn.Sigmoid, batchnorm=batchnorm)
    model = network(8, 64, nn.Sigmoid, batchnorm=batchnorm)
    return gradients, np.array([loss for loss, _, _ in training(model, steps, lr=0.1, momentum=0.9)])


plain, normed = sigmoids(batchnorm=False), sigmoids(batchnorm=True)
stuck, learnt = (float(np.median(losses[-100:])) for _, losses in (plain, normed))
lesson.predict(
    f"Guessing among ten digits costs a loss of ln 10 = 2.303. After 1000 steps without batch norm it is {stuck:.3f}. And with?",
    ["about 1.5", "about 0.5", "less than 0.05"],
    answer=int(np.digitize(-learnt, [-1, -0.05])),
    because=f"{learnt:.3f}. Without it the first layer's gradient is a twenty-thousandth of the last's.",
)

# %%


def name(ax, x, y, text, colour):
    ax.annotate(text, (x, y), (7, 0), textcoords="offset points", color=colour, va="center", size=8.5)


figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 3.7), layout="constrained")
ioffe = partial(lesson.claim, source="Ioffe & Szegedy 2015", row=5)
for (gradients, losses), squared, word, colour in (
    (plain, theory.chi_1(1.0, "sigmoid"), "without", COLD),
    (normed, theory.batchnorm_limit("sigmoid"), "with", GOOD),
):
    ioffe(f"gradient per layer, sigmoids {word} batch norm", per_layer(gradients), math.sqrt(squared), tolerance=0.05)
    thermometer(gradients, math.sqrt(squared), left)
    name(left, 7, gradients[0] / gradients[-1], f"{word} batch norm\ntheory: {squared**3.5:.2g}", colour)
    blocks = losses.reshape(-1, 20).mean(axis=1)
    right.plot(losses, color=colour, lw=0.5, alpha=0.35)
    right.plot(10 + 20 * np.arange(len(blocks)), blocks, color=colour)
    name(right, len(losses), blocks[-1], f"{word}\n{blocks[-1]:.3f}", colour)
ioffe("loss of 8 sigmoid layers without batch norm", stuck, 2.25, compare=">")
ioffe("the same with batch norm", learnt, 0.05, compare="<")
left.set(xlim=(-0.3, 7.2), ylim=(1e-5, 10), xlabel="layers back from the loss", ylabel="gradient, last layer's = 1")
left.set_title("Before the first step")
powers_of_ten(left)
right.axhline(math.log(10), color="#1b1f24", lw=1, ls="--")
right.text(120, 2.1, "guessing: ln 10", size=8.5)
right.set(xlim=(0, 1000), ylim=(0, 2.6), xlabel="training step", ylabel="loss (cross-entropy)")
right.set_title("Eight sigmoid layers learn")
lesson.picture(figure, "cure", "Without batch norm the gradient falls and the loss stays; with it both behave.")

# %%
# How it does that: the size of the weights no longer matters
# -----------------------------------------------------------
# Make the weights a times as large: x, μ and σ grow by a, and x̂ stays, BN(aW) = BN(W). The same loss from weights a times
# as large means a gradient 1/a as large. Weights that a too large step has blown up then move less: batch norm brakes.

W, dy = gg.randn(64, 32), gg.randn(64, 32)


def normalised(a):
    """BN(aW) of 64 images, and the gradient of aW."""
    aW = (a * W).requires_grad_()
    y = nn.functional.batch_norm(images[:64] @ aW, None, None, training=True)
    y.backward(dy)
    return y.detach().numpy(), aW.grad.norm().item()


(y_1, gradient_1), (y_10, gradient_10) = normalised(1), normalised(10)
np.testing.assert_allclose(y_10, y_1, atol=1e-3)
ioffe("gradient of weights 10 times as large", gradient_10 / gradient_1, 1 / 10, tolerance=1e-3, formula="1/a")

# %%
# Its backward pass, in three terms
# ---------------------------------
# An example reaches the loss on three ways: by itself, through μ and through σ. The chain rule adds them up:
#
# .. math:: dx = \frac{1}{\sigma} \left( dy - \mathrm{mean}(dy) - \hat x \; \mathrm{mean}(dy \; \hat x) \right)
#
# To see what that means, let a loss ask for what batch norm will undo, a shift and a stretch: its targets are 2 x̂ + 1, and
# some noise.

x = gg.randn(40, 1, dtype=gg.float64, requires_grad=True)
x_hat = nn.functional.batch_norm(x, None, None, training=True, eps=0)
x_hat.retain_grad()
target = 2 * x_hat.detach() + 1 + 0.4 * gg.randn(40, 1, dtype=gg.float64)
(0.5 * (x_hat - target).square()).sum().backward()

dy, x_hat, sigma = x_hat.grad, x_hat.detach(), x.detach().std(0, correction=0)
itself = dy / sigma
through_mean = -dy.mean() / sigma * gg.ones_like(dy)
through_spread = -x_hat * (dy * x_hat).mean() / sigma
dx = itself + through_mean + through_spread
np.testing.assert_allclose(dx.numpy(), x.grad.numpy(), atol=1e-12)  # what autograd has

lesson.predict(
    "Almost all of dy asks for the shift and the stretch. How much of them is in dx, what arrives at x?",
    ["all", "half", "nothing"],
    answer=int(np.digitize(-abs((dx * x_hat).sum().item() / (itself * x_hat).sum().item()), [-0.75, -0.01])),
    because="Shift x or stretch it, and batch norm undoes it: the loss stays as it is. So dx has neither. It is what is "
    "left of dy / σ when its best straight line is taken off.",
)

# %%
line = np.polyval(np.polyfit(x_hat.numpy()[:, 0], itself.numpy()[:, 0], 1), x_hat.numpy())  # least squares
np.testing.assert_allclose(dx.numpy(), itself.numpy() - line, atol=1e-9)

figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), sharey=True, layout="constrained")
terms = {
    "by itself: dy / σ": itself,
    "through μ: -mean(dy) / σ": through_mean,
    "through σ: -x̂ mean(dy x̂) / σ": through_spread,
    "the sum (rings: autograd)": dx,
}
for ax, (title, values) in zip(axes, terms.items(), strict=True):
    ax.axhline(0, color="#5d6673", lw=0.8)
    ax.plot(x_hat.data, values.data, "o", color=GOOD if values is dx else COLD, ms=4, mec="white", mew=0.4)
    ax.set(xlabel="x̂", xlim=(-3.3, 3.3))
    ax.set_title(title, size=9.5)
order = x_hat.data[:, 0].argsort()
axes[0].plot(x_hat.data[order], line[order], "--", color=HOT, lw=1.2)
axes[0].text(-3.1, -3.2, "its best\nstraight line", color=HOT, size=8.5)
axes[3].plot(x_hat.data, x.grad.data, "o", color=GOOD, mfc="none", ms=7.5, mew=0.7)
axes[0].set_ylabel("gradient of each of 40 examples")
lesson.picture(figure, "three_terms", "A cloud about a falling line, a level line, a rising line; their sum is flat.")

# %%
# What it causes: gradients that explode
# --------------------------------------
# The same division that lifts a sigmoid's gradient lifts every other one too. Yang et al. (2019) computed by how much,
# for any weights at all: with ReLU the *squared* gradient grows per layer by r(B), B the size of the batch, 1.79 for
# B = 8 and 1.49 for B = 64, and by π / (π - 1) = 1.47 at the least. Even without any φ it is (B - 2) / (B - 3).

depths = np.array([8, 20, 32, 44, 56])
logs = np.zeros((8, len(depths)))
for draw, i in np.ndindex(logs.shape):
    model, (x, y) = network(depths[i], 256, nn.ReLU), one_batch()
    nn.functional.cross_entropy(model(x), y).backward()
    first, last = model[3].weight, model[-4].weight  # hidden to hidden
    logs[draw, i] = math.log(first.grad.norm().item() / last.grad.norm().item())
first_over_last = np.exp(logs.mean(axis=0))

lesson.predict(
    "A network of 56 ReLU layers with batch norm, before its first step. How large is the gradient of the first layer's "
    "weights, compared with the last layer's?",
    ["about the same", "about 100 times", "more than 10,000 times"],
    answer=int(np.digitize(first_over_last[4], [10, 10_000])),
    because=f"{first_over_last[4]:.0f} times. No learning rate is right for both of them.",
)

# %%
yang = partial(lesson.claim, source="Yang et al. 2019")
figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 3.7), layout="constrained")
for B, phi, activation in ((8, "relu", nn.ReLU), (64, "relu", nn.ReLU), (8, "linear", nn.Identity)):
    gradients = first_gradients(B, 40, 512, activation) ** 2
    r = theory.batchnorm_growth(B, phi)
    text = f"{'ReLU' if phi == 'relu' else 'no φ'}, B = {B}"
    # Ten layers are left out: in them digits still resemble one another more than the examples that theory assumes.
    yang(f"squared gradient per layer, {text}", per_layer(gradients[10:]), r, tolerance=0.025, formula="r(B)", row=1)
    thermometer(gradients, r, left, size=3.5)
    name(left, 39, r**39, f"{text}\n{r:.3f} per layer", HOT)

growth, root_r = (first_over_last[4] / first_over_last[1]) ** (1 / (56 - 20)), math.sqrt(theory.batchnorm_growth(64))
yang("weight gradient, first over last, per layer", growth, root_r, tolerance=0.01, formula="√r(64)", row=2)
right.plot(depths, first_over_last[1] * root_r ** (depths - 20), "--", color=HOT, lw=1.2)
right.plot(depths, first_over_last, "^", color=HOT, ms=7, mec="white")
right.text(25, first_over_last[1], f"theory: × {root_r:.4f} per layer\nmeasured: × {growth:.4f}", color=HOT, size=9)
left.set(xlim=(0, 39), xlabel="layers back from the loss", ylabel="squared gradient, last layer's = 1")
left.set_title("Explosion before the first step")
powers_of_ten(left)
right.set(yscale="log", xticks=depths, xlabel="depth, layers", ylabel="weight gradient, first layer over last")
right.set_title("The deeper, the worse")
powers_of_ten(right)
lesson.picture(figure, "cause", "Gradients rise with depth, straight on an axis of powers of ten, on theory's lines.")

# %%
# Why it helps all the same: smooth ground
# ----------------------------------------
# Few networks have 56 layers one behind the other. In ten the gradient grows fivefold, which a training can bear, and then
# batch norm makes the ground smooth (Santurkar et al. 2018). A gradient promises that a step along it lowers the loss. How
# far does that hold? At each step of a careful training, lr = 0.1, we also try larger steps and note where they would lead.

ETAS = (0.15, 0.3, 0.6, 1.2)  # a half, once, twice and four times 0.3


@gg.no_grad()
def along_gradient(model, x, y):
    """Loss of the same batch after a step of each size; the weights are put back."""
    start = [p.clone() for p in model.parameters()]
    losses = []
    for eta in ETAS:
        for p, p0 in zip(model.parameters(), start, strict=True):
            p.copy_(p0 - eta * p.grad)
        losses.append(nn.functional.cross_entropy(model(x), y).item())
    for p, p0 in zip(model.parameters(), start, strict=True):
        p.copy_(p0)
    return losses


bands = []
for batchnorm in (False, True):
    model = network(10, 64, nn.ReLU, math.sqrt(2), batchnorm)
    bands.append([along_gradient(model, x, y) for _, x, y in training(model, 100, lr=0.1)])
bands = np.array(bands)  # (without or with, step, eta)
rough, smooth = np.ptp(bands, axis=2).mean(axis=1)
says, source = "range of the loss along the gradient, without batch norm over with", "Santurkar et al. 2018"
lesson.claim(says, rough / smooth, 10, compare=">", row=13, source=source)

figure, ax = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
for band, width, word, colour in zip(bands, (rough, smooth), ("without", "with"), (HOT, GOOD), strict=True):
    ax.fill_between(np.arange(100), band.min(axis=1), band.max(axis=1), color=colour, alpha=0.75, lw=0)
    text = f"{word} batch norm:\n{width:.3g} from lowest to\nhighest, on average"
    name(ax, 99, 0.25 if word == "with" else 30, text, colour)
ax.axhline(math.log(10), color="#1b1f24", lw=1, ls="--")
name(ax, 99, math.log(10), "guessing: ln 10", "#1b1f24")
ax.set(yscale="log", xlim=(0, 99), xlabel="training step", ylabel="loss after one step of 0.15 to 1.2")
ax.set_title("Where a step along the gradient leads")
powers_of_ten(ax)
lesson.picture(figure, "smooth", "Losses over steps: a jagged band without batch norm, a narrow one near 0 with it.")

# %%
# Where this lives
# ----------------
# The three terms are one line of ``glassgrad.ops.norm``, for batch, layer and group norm alike.

lesson.lives(norm._vjp)

# %%
# Exercise: make it free
# ----------------------
# After training, μ and σ are no longer the batch's but two stored numbers per unit, ``running_mean`` and ``running_var``.
# Then batch norm is a scale and a shift, and the layer before it can do both.


def folded(linear, bn):
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return linear.weight * scale.reshape(-1, 1), (linear.bias - bn.running_mean) * scale + bn.bias


def does_both(fold):
    linear, bn = nn.Linear(5, 3), nn.BatchNorm1d(3)
    for _ in range(20):
        bn(linear(gg.randn(16, 5)))
    nn.init.uniform_(bn.weight, 0.5, 2.0)
    nn.init.normal_(bn.bias)
    x = gg.randn(4, 5)
    return np.allclose(nn.functional.linear(x, *fold(linear, bn)).detach(), bn.eval()(linear(x)).detach(), atol=1e-5)


@lesson.exercise(
    "fold(linear, bn) returns the weight and bias of a single linear layer that does what linear and then bn.eval() do.",
    check=does_both,
    solution=folded,
)
def fold(linear, bn): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: an example's output depends on its neighbours in the batch, in training but not in use; a batch
    of one has no spread at all. And the first of 56 layers starts with a gradient tens of thousands of times as large as
    the last one's. Lesson 09 cures that, and keeps batch norm."""
)
