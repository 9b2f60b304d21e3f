r"""
Initialise weights
==================

**How large should the first weights be, and does their direction matter?**

Before its first step a network is nothing but random numbers, and yet they decide whether it will learn. Three papers,
three answers, each right for its own network: Glorot and Bengio (2010), known as *Xavier*, for layers that are nearly
straight lines; He et al. (2015) for ReLUs; Saxe, McClelland and Ganguli (2013) for what the other two overlook.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope import Recorder, theory
from glassgrad.scope.thermometer import COLD, GOOD, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

images, labels = load_digits(return_X_y=True)
images = gg.tensor((images - images.mean(axis=0)) / 16, dtype=gg.float32)  # brightness 0 to 1, the mean taken off
labels = gg.tensor(labels)

# %%
# Xavier: keep the variance
# -------------------------
# A unit adds up n products, so the variance of its output is n Var[w] times that of its inputs. The same holds for the
# gradient on its way back. The standard of 2010, U(-1/√n, 1/√n), has n Var[w] = 1/3: *a third per layer*. Glorot and Bengio's
# *normalised* one, U(-√(3/n), √(3/n)), has n Var[w] = 1. With tanh, whose slope is below 1 nearly everywhere, they found the
# size of the gradient to change by about 0.5 per layer with the first, and by 0.8 with the second.

N, LAYERS = 500, 5


def standard(layer):
    nn.init.uniform_(layer.weight, -1 / math.sqrt(N), 1 / math.sqrt(N))


def normalised(layer):
    nn.init.xavier_uniform_(layer.weight)


def mean_squares(init, phi):
    """Of the gradients of every z and of every W, from the last layer back to the first."""
    layers = [nn.Linear(N, N, bias=False) for _ in range(LAYERS)]
    h, zs = gg.randn(N, N), []
    for layer in layers:
        init(layer)
        zs.append(layer(h))
        zs[-1].retain_grad()
        h = phi(zs[-1])
    zs[-1].backward(gg.randn(N, N))
    back = reversed(list(zip(zs, layers, strict=True)))
    return np.array([[z.grad.square().mean().item(), layer.weight.grad.square().mean().item()] for z, layer in back]).T


of_z, of_w = mean_squares(standard, nn.Identity())
with_tanh = {init: np.sqrt(mean_squares(init, nn.Tanh())[0]) for init in (standard, normalised)}

differ = abs(of_w / of_w[0] - 1).max()
lesson.predict(
    "With the standard weights and no tanh, the squared gradient of z falls to a third per layer, to 1/81 over four. How far "
    "apart are the squared gradients of the *weights* of the first and the last layer?",
    ["a few percent", "a factor of 9", "a factor of 81"],
    answer=int(np.digitize(differ, [0.1, 20])),
    because="The gradient of a weight is what comes back times what came forward. The first layer gets the smallest "
    "gradient and the largest input, the last one the other way round. Whoever looks at weights only sees nothing vanish.",
)

# %%


def per_layer(x):
    return (x[-1] / x[0]) ** (1 / (len(x) - 1))


paper = dict(row=3, source="Glorot & Bengio 2010")  # its tolerance is 0.05, here as a part of the expected
lesson.claim("tanh, standard: gradient per layer", per_layer(with_tanh[standard]), 0.5, tolerance=0.1, **paper)
lesson.claim("tanh, normalised: gradient per layer", per_layer(with_tanh[normalised]), 0.8, tolerance=0.0625, **paper)
lesson.claim("no tanh: squared gradient of z per layer", per_layer(of_z), 1 / 3, tolerance=0.05, **paper)
lesson.claim("squared gradient of W, first over last layer", of_w[-1] / of_w[0], 1, tolerance=0.05, **paper)

back = np.arange(LAYERS)
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
for ax, measured, factor, colour, text in (
    (left, with_tanh[standard], 0.5, COLD, "standard: 0.5"),
    (left, with_tanh[normalised], 0.8, GOOD, "normalised: 0.8"),
    (right, of_z, 1 / 3, COLD, "of z: a third"),
    (right, of_w, 1.0, GOOD, "of W: 1"),
):
    ax.plot(back, factor**back, "--", color=colour, lw=1)
    ax.plot(back, measured / measured[0], "o" if colour == GOOD else "v", color=colour)
    end = (back[-1], factor ** back[-1])
    ax.annotate(text, end, (10, 0), textcoords="offset points", color=colour, va="center", annotation_clip=False)
    ax.set(yscale="log", ylim=(7e-3, 1.6), xlim=(-0.2, LAYERS - 1), xticks=back, xlabel="layers back from the last")
    powers_of_ten(ax)
left.set_ylabel("size of the gradient of z, last layer = 1")
left.set_title("tanh: paper (dashed) and measured")
right.set_ylabel("mean squared gradient, last layer = 1")
right.set_title("No tanh: what shrinks hides from W")
lesson.picture(
    figure, "xavier", "Left: gradients fall by 0.5 or 0.8 per layer. Right: those of z fall, those of W do not."
)

# %%
# He: make up for the ReLU
# ------------------------
# ReLU sets half of the values to 0 and with them half of the mean square. So He et al. double the variance of the weights:
# 2 / n. A factor of √2 per layer sounds like little. The same draws with both scales, through 30 layers of 64 units:


def relu_net(init, depth=30, n=64):
    gg.manual_seed(0)  # the same draws for both
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(n, n), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(n, 10))
    for layer in model[::2]:
        init(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def signals(model):
    with Recorder(model) as record:
        model(images[:64])
    return np.array([layer.rms for layer in record.layers])


def train(model, steps=500):
    optimizer = optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    losses = []
    for _ in range(steps):
        batch = gg.randint(len(images), (64,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def he(weight):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


xavier_net, he_net = relu_net(nn.init.xavier_normal_), relu_net(he)
ratio = signals(xavier_net) / signals(he_net)
xavier_loss, he_loss = train(xavier_net), train(he_net)

lesson.predict(
    "After 30 ReLU layers, how large is the signal with Xavier's weights, as a part of that with He's?",
    ["a half", "a thirtieth", "a thirty-thousandth"],
    answer=int(np.digitize(-math.log10(ratio[-1]), [1, 2])),
    because=f"1/√2 per layer is {ratio[-1]:.1e} after 30. The network sees nearly nothing, so it can only guess.",
)

# %%
LN10 = math.log(10)  # the loss of guessing among ten
paper = dict(row=4, source="He et al. 2015")
lesson.claim("signal after 30 layers, Xavier over He", ratio[-1], theory.xavier_over_he(30), tolerance=1e-3, **paper)
lesson.claim("loss with Xavier", np.median(xavier_loss[-50:]), LN10, tolerance=0.005 / LN10, formula="ln 10", **paper)
lesson.claim("loss with He", np.median(he_loss[-50:]), 1.5, compare="<", **paper)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
L = np.arange(1, 31)
left.plot(L, [theory.xavier_over_he(layers) for layers in L], "--", color=COLD, lw=1)
left.plot(L, ratio, "v", color=COLD)
left.text(17, 2.0**-7.3, "theory: $2^{-L/2}$", color=COLD)
left.set(yscale="log", xlabel="L, ReLU layers", ylabel="signal, Xavier over He", xlim=(0, 30.5))
left.set_title("A factor of √½ per layer")
powers_of_ten(left)
steps = np.arange(len(he_loss))
for loss, colour, marker, name in ((xavier_loss, COLD, "v", "Xavier"), (he_loss, GOOD, "o", "He")):
    right.plot(steps, loss, color=colour, lw=0.6, alpha=0.5)
    right.plot(steps[25::50], np.median(loss.reshape(-1, 50), axis=1), marker, color=colour, label=name)
right.axhline(LN10, color=COLD, lw=1, ls="--")
right.text(500, 2.36, "theory: ln 10, guessing", color=COLD, ha="right", va="bottom")
right.set(xlabel="step", ylabel="loss", ylim=(0, 2.7), xlim=(0, 505))
right.legend(frameon=False, loc="lower left")
right.set_title("30 layers on digits")
lesson.picture(
    figure, "he", "Left: the signal falls by the root of a half per layer. Right: He's network learns, Xavier's not."
)

# %%
# Orthogonal: keep every direction
# --------------------------------
# Xavier keeps the *mean* of the squares. But a random matrix stretches some directions and squashes others; the factors are
# its *singular values*. 100 such matrices in a row squash nearly all directions: order them by their factor, then the k-th
# of n keeps at each matrix only what stands upright on the k before it, (n - k) / n of its square. For the middle one that is a
# half, so the median singular value of a product of L matrices is 2^(-L/2). An *orthogonal* matrix turns and stretches nothing;
# a product of them neither.


def medians(init, depth=100, n=200):
    """The median singular value of a product of 10, 20, ... random layers: what the unit vectors become."""
    h, found = gg.eye(n, dtype=gg.float64), []
    for i in range(1, depth + 1):
        layer = nn.Linear(n, n, bias=False, dtype=gg.float64)
        init(layer.weight)
        h = layer(h).detach()
        if i % 10 == 0:
            found.append(np.median(np.linalg.svd(h.numpy(), compute_uv=False)))
    return np.array(found)


gaussian, orthogonal = medians(nn.init.xavier_normal_), medians(nn.init.orthogonal_)

# %%
# Their second question: how fast does a deep network without any φ learn? Such a network, ``W2 W1``, learns a matrix, and a
# matrix is a sum of *modes*: one input direction to one output direction, with a strength s. Along the modes' own directions
# it is diagonal, here diag(4, 3, 2, 1). Gradient descent with a small step, at time t = steps * lr, then gives each mode an
# S-shaped curve of its own. From a start at u₀:
#
# .. math:: u(t) = \frac{s e^{2st}}{e^{2st} - 1 + s / u_0}

s, u_0, lr, times = np.array([4.0, 3.0, 2.0, 1.0]), 0.01, 0.001, 5000
target = gg.tensor(np.diag(s))
W1, W2 = ((gg.eye(4, dtype=gg.float64) * math.sqrt(u_0)).requires_grad_() for _ in range(2))
optimizer = optim.SGD([W1, W2], lr=lr)
u = np.empty((times, 4))
for step in range(times):
    optimizer.zero_grad()
    product = W2 @ W1
    ((target - product).square().sum() / 2).backward()
    optimizer.step()
    u[step] = np.diag(product.data)
t = np.arange(times)[:, None] * lr
growth = np.exp(2 * s * t)
u_theory = s * growth / (growth - 1 + s / u_0)

paper = dict(row=9, source="Saxe et al. 2013")
lesson.claim("100 Gaussian layers: median, per layer", gaussian[-1] ** 0.01, math.sqrt(0.5), tolerance=0.02, **paper)
lesson.claim("100 orthogonal layers: median", orthogonal[-1], 1, tolerance=1e-9, **paper)
lesson.claim("largest distance of a mode from its curve", abs(u - u_theory).max(), 0.02, compare="<", **paper)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
L = np.arange(10, 101, 10)
left.plot(L, 2.0 ** (-L / 2), "--", color=COLD, lw=1)
left.plot(L, gaussian, "v", color=COLD)
left.plot(L, orthogonal, "o", color=GOOD)
left.text(96, 0.03, "orthogonal: 1", color=GOOD, ha="right", va="top")
left.text(52, 2e-6, "Gaussian, theory: $2^{-L/2}$", color=COLD)
left.set(yscale="log", xlabel="L, layers of 200 units", ylabel="median singular value of the product", xlim=(0, 103))
left.set_title("A right mean, and most directions lost")
powers_of_ten(left)
right.plot(t, u_theory, "--", color=GOOD, lw=1)
right.plot(t[::150], u[::150], "o", color=GOOD, ms=3.5)
for strength in s:
    right.text(5.05, strength, f"s = {strength:.0f}", color=GOOD, va="center")
right.set(xlabel="time: steps × lr", ylabel="u, what is learnt of a mode", xlim=(0, 5), ylim=(0, 4.3))
right.set_title("Strong modes first, each along its curve")
lesson.picture(
    figure, "orthogonal", "Left: median singular value over depth. Right: four S-shaped curves, dots on theory."
)

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
    check=lambda std: all(
        math.isclose(std(n, a), nn.init.calculate_gain("leaky_relu", a) / math.sqrt(n), rel_tol=1e-6)
        for n, a in ((64, 0.0), (100, 1.0), (300, 0.2))
    ),
    solution=lambda n, a: math.sqrt(2 / ((1 + a * a) * n)),
)
def std(n, a): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: an initialisation is a promise about the first step; training moves the weights and may break it.
    Each rule knows one φ, and through ReLUs even an orthogonal matrix loses directions. Lesson 08 holds the sizes right
    during training, whatever the weights do. scope.forecast applies the theory of this lesson to a model of your own."""
)
