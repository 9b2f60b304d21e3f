"""Initialisation: Xavier, He, orthogonal
======================================

How large should the first weights be, and does their direction matter?

Before its first step a network is nothing but random numbers, and yet they decide whether it will learn. Three papers,
three answers, each right for its own network: Glorot and Bengio (2010), known as *Xavier*, for layers that are nearly
straight lines; He et al. (2015) for ReLUs; Saxe, McClelland and Ganguli (2013) for what the other two overlook.
"""

import math

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope import Recorder, theory
from glassgrad.scope.thermometer import COLD, GOOD, MARKERS, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)


def draw(ax, x, measured, expected, colour):
    ax.plot(x, expected, "--", color=colour, lw=1)
    ax.plot(x, measured, MARKERS[colour], color=colour, ms=5)


# %%
# Xavier: keep the variance
# -------------------------
# A unit adds up n products, so the variance of its output is n Var[w] times that of its inputs. The same holds for the
# gradient on its way back. The standard of 2010, U(-1/√n, 1/√n), still ``nn.Linear``'s own, has n Var[w] = 1/3: *a
# third per layer*. Glorot and Bengio's *normalised* one, U(-√(3/n), √(3/n)), has n Var[w] = 1. With tanh they found
# about 0.5 of the gradient's size to be left per layer with the first, 0.8 with the second.

N, LAYERS = 500, 5


def mean_squares(phi, init=lambda weight: weight):
    """Mean squares of the gradients of every z and of every W, from the last layer back to the first."""
    weights = [init(nn.Linear(N, N).weight) for _ in range(LAYERS)]
    h, zs = gg.randn(N, N), []
    for W in weights:
        zs.append(h @ W.T)
        zs[-1].retain_grad()
        h = phi(zs[-1])
    zs[-1].backward(gg.randn(N, N))  # as if a loss had sent back noise of variance 1
    return [np.array([x.grad.square().mean().item() for x in reversed(xs)]) for xs in (zs, weights)]


of_z, of_w = mean_squares(nn.Identity())
standard = np.sqrt(mean_squares(gg.tanh)[0])
normalised = np.sqrt(mean_squares(gg.tanh, nn.init.xavier_uniform_)[0])

lesson.predict(
    "Without tanh, 1/81 of the squared gradient of z is left after four standard layers. And of that of W?",
    ["all of it", "a ninth", "1/81 as well"],
    answer=int(np.digitize(math.log(of_w[0] / of_w[-1], 3), [1, 3])),
    because="It is what comes back times what came forward: the smallest gradient meets the largest input.",
)

paper = {"row": 3, "source": "Glorot & Bengio 2010"}
back = np.arange(LAYERS)
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
panels = [(left, "standard", standard, 0.5, COLD), (left, "normalised", normalised, 0.8, GOOD)]
panels += [(right, "of z", of_z, 1 / 3, COLD), (right, "of W", of_w, 1.0, GOOD)]
for ax, name, measured, factor, colour in panels:
    measured = measured / measured[0]
    lesson.claim(f"gradient per layer, {name}", measured[-1] ** 0.25, factor, tolerance=0.05 / factor, **paper)
    draw(ax, back, measured, factor**back, colour)
    ax.text(4.2, factor**4, f"{name}:\n× {factor:.2g} per layer", color=colour, va="center")
    ax.set(yscale="log", ylim=(7e-3, 1.6), xlim=(-0.1, 4.1), xticks=back, xlabel="layers back from the last")
    powers_of_ten(ax)
left.set(title="With tanh", ylabel="size of the gradient of z, last layer = 1")
right.set(title="Without: what shrinks hides from W", ylabel="mean squared gradient, last layer = 1")
lesson.claim("squared gradient of W, first layer over last", of_w[-1] / of_w[0], 1, tolerance=0.05, **paper)
lesson.picture(figure, "xavier", "Left: gradients fall by 0.5 or 0.8 per layer. Right: those of z fall, of W do not.")

# %%
# He: make up for the ReLU
# ------------------------
# ReLU sets half of the values to 0 and with them half of the mean square. So He et al. double the variance of the
# weights, to 2/n. A factor of √2 per layer sounds like little. The same draws with both scales, 30 layers of 64 units:

images, labels = load_digits(return_X_y=True)
images, labels = gg.tensor((images - images.mean(0)) / 16, dtype=gg.float32), gg.tensor(labels)


def run(gain, steps=500, depth=30, n=64):
    """The signal behind each layer before the first step, and the losses of a training."""
    gg.manual_seed(0)  # the same draws for every gain
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(n, n), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(n, 10))
    for layer in model[::2]:
        nn.init.xavier_normal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    with Recorder(model) as record:
        model(images[:64])
    optimizer = optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    losses = []
    for batch in gg.randint(len(images), (steps, 64)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array([layer.rms for layer in record.layers]), np.median(np.reshape(losses, (-1, 50)), axis=1)


xavier, xavier_losses = run(gain=1.0)
he, he_losses = run(gain=math.sqrt(2))  # kaiming_normal_, where as many units come in as go out

lesson.predict(
    "Behind 30 ReLU layers, how large is the signal with Xavier's weights, as a part of that with He's?",
    ["a half", "a thirtieth", "a thirty-thousandth"],
    answer=int(np.digitize(he[-1] / xavier[-1], [10, 1000])),
    because=f"√½ per layer is 1/{he[-1] / xavier[-1]:.0f} after 30. What sees nothing can only guess.",
)

LN10, paper = math.log(10), {"row": 4, "source": "He et al. 2015"}  # ln 10 is the loss of guessing among ten
lesson.claim("signal, Xavier over He", xavier[-1] / he[-1], theory.xavier_over_he(30), tolerance=1e-3, **paper)
lesson.claim("loss with Xavier: guessing", xavier_losses[-1], LN10, tolerance=0.005 / LN10, **paper)
lesson.claim("loss with He", he_losses[-1], 1.5, compare="<", **paper)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
L = np.arange(1, 31)
draw(left, L, xavier / he, 2.0 ** (-L / 2), COLD)
left.text(17, 5e-3, "theory: $2^{-L/2}$", color=COLD)
left.set(title="Half of the square per layer", xlabel="L, ReLU layers", ylabel="signal, Xavier over He", yscale="log")
powers_of_ten(left)
draw(right, range(25, 500, 50), xavier_losses, np.full(10, LN10), COLD)
right.plot(range(25, 500, 50), he_losses, "o-", color=GOOD, lw=0.8)
right.text(480, 2.38, "Xavier, theory: ln 10, guessing", color=COLD, ha="right")
right.text(480, he_losses[-1] + 0.15, "He", color=GOOD, ha="right")
right.set(title="30 layers learn, or do not", xlabel="step", ylabel="loss, median of 50 steps", ylim=(0, 2.6))
lesson.picture(figure, "he", "Left: the signal falls by √½ per layer. Right: He's loss falls, Xavier's does not.")

# %%
# Orthogonal: keep every direction
# --------------------------------
# Xavier keeps the *mean* square. But a random matrix stretches some directions and squashes others, by factors that are
# called its *singular values*, and many in a row squash nearly all: the k-th largest of n keeps at each matrix only
# what is perpendicular to the k before it, (n - k) / n of its square. For the middle one that is a half, so the median
# singular value of a product of L matrices is 2^(-L/2). An *orthogonal* matrix turns, and stretches nothing.


def medians(init, depth=100, n=200):
    """The median singular value of a product of 10, 20, ... matrices."""
    product, found = gg.eye(n, dtype=gg.float64), []
    for i in range(1, depth + 1):
        product = product @ init(gg.empty(n, n, dtype=gg.float64))
        if i % 10 == 0:
            found.append(np.median(np.linalg.svd(product.numpy(), compute_uv=False)))
    return np.array(found)


gaussian, orthogonal = medians(nn.init.xavier_normal_), medians(nn.init.orthogonal_)

# %%
# Their second question: how does a deep network without any φ learn? ``W2 W1`` learns a matrix, and a matrix is a sum
# of *modes*: one input direction to one output direction, with a strength s. Along these it is diagonal, here diag(4,
# 3, 2, 1). Small steps of gradient descent take each mode from u₀ along an S-shaped curve of its own, with t = steps *
# lr:
#
# .. math:: u(t) = \frac{s e^{2st}}{e^{2st} - 1 + s / u_0}

s, u_0, lr, steps = np.array([4.0, 3.0, 2.0, 1.0]), 0.01, 0.001, 5000
W1, W2 = ((gg.eye(4, dtype=gg.float64) * math.sqrt(u_0)).requires_grad_() for _ in range(2))
optimizer = optim.SGD([W1, W2], lr=lr)
u = np.empty((steps, 4))
for step in range(steps):
    optimizer.zero_grad()
    product = W2 @ W1
    ((product - gg.tensor(np.diag(s))).square().sum() / 2).backward()
    optimizer.step()
    u[step] = np.diag(product.data)
t = np.arange(steps)[:, None] * lr
u_theory = s * np.exp(2 * s * t) / (np.exp(2 * s * t) - 1 + s / u_0)

paper = {"row": 9, "source": "Saxe et al. 2013"}
lesson.claim("largest distance of a mode from its curve", abs(u - u_theory).max(), 0.02, compare="<", **paper)
lesson.claim("100 orthogonal matrices: median", orthogonal[-1], 1, tolerance=1e-9, **paper)
lesson.claim("100 Gaussian ones: median, per matrix", gaussian[-1] ** 0.01, math.sqrt(0.5), tolerance=0.02, **paper)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
L = np.arange(10, 101, 10)
draw(left, L, gaussian, 2.0 ** (-L / 2), COLD)
draw(left, L, orthogonal, np.ones(10), GOOD)
left.text(100, 3e-3, "orthogonal, theory: 1", color=GOOD, ha="right")
left.text(54, 1e-6, "Gaussian, theory: $2^{-L/2}$", color=COLD)
left.set(title="Most directions get lost", xlabel="L, matrices", ylabel="median singular value", yscale="log")
powers_of_ten(left)
draw(right, t[::150], u[::150], u_theory[::150], GOOD)
right.set(title="Strong modes first: s = 4, 3, 2, 1", xlabel="t = steps × lr", ylabel="u, what is learnt of a mode")
lesson.picture(figure, "orthogonal", "Left: median singular value over depth. Right: four S-shaped curves.")

# %%
# Where this lives
# ----------------

lesson.lives(nn.init.orthogonal_, lines=18)

# %%
# Exercise: a leak
# ----------------


@lesson.exercise(
    "std(n, a) returns the standard deviation of the weights of a layer of n inputs that keeps the mean square of the "
    "signal, if a leaky ReLU follows: x for x > 0, a x otherwise. ReLU is a = 0, a straight line is a = 1.",
    check=lambda std: np.allclose([std(50, 0), std(100, 1), std(300, 0.2)], [0.2, 0.1, math.sqrt(2 / (1.04 * 300))]),
    solution=lambda n, a: math.sqrt(2 / ((1 + a * a) * n)),
)
def std(n, a): ...


# %%
# What still hurts
# ----------------

lesson.say("""What still hurts: each rule knows one φ, and only the first step; training moves the weights. Lesson 08
    holds the sizes right during training. scope.forecast applies this theory to a model of your own.""")
