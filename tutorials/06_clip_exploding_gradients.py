"""Watch gradients explode, and clip them
======================================

How can one training step undo all the good ones before it?

In lesson 05 every layer, or every step of a loop, multiplied the gradient by a slope below 1. Slopes above 1 do the
opposite: 1.16 to the power of 50 is 1671. Pascanu, Mikolov and Bengio (2013) drew what that does to a loss: a *wall*,
flat ground on both sides and a gradient of thousands in between. A training that steps on the wall is thrown out of the
picture. Their remedy is one line, and most training loops have it today.
"""

import math

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import lesson, nn, optim
from glassgrad.scope.thermometer import COLD, GOOD, HOT, powers_of_ten

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# A network with one unit and two parameters
# ------------------------------------------
# The smallest recurrent network (one that is fed back to itself): one unit, a weight w and a bias b, 50 steps. Its
# error has two parameters, so we can see all of it. σ is the sigmoid, σ(x) = 1 / (1 + exp(-x)).


def error(w, b):
    x = gg.full(w.shape, 0.5, dtype=gg.float64)
    for _ in range(50):
        x = w * gg.sigmoid(x) + b
    return (gg.sigmoid(x) - 0.7).square()


# 151 x 81 networks at once. None depends on another, so the gradient of the sum holds the gradient of each.
w, b = np.meshgrid(np.linspace(4, 7, 151), np.linspace(-3, -1, 81))
w, b = gg.tensor(w, requires_grad=True), gg.tensor(b, requires_grad=True)
E = error(w, b)
E.sum().backward()

slope = abs(w.grad.numpy())  # |dE/dw|
steepest, median = slope.argmax(), np.median(slope)

lesson.predict(
    f"Half of these networks have |dE/dw| below {median:.3f}. How large is it at the steepest?",
    ["about 1", "about 30", "above 1000"],
    answer=int(np.digitize(slope.max(), [5, 200])),
    because=f"{slope.max():.0f}, a hundred thousand times the median.",
)

# %%
# Where the wall stands
# ---------------------
# The wall is where x rests at its start: ½ = w σ(½) + b. There, one step multiplies a small change of x by the slope w
# σ'(½). If that is above 1, the resting place is unstable: a hair above it x runs up, a hair below it runs down, and E
# makes a jump. So theory puts the wall on the straight line b = ½ - w σ(½), for w > 1 / σ'(½) = 4.255.

sigma = 1 / (1 + math.exp(-0.5))  # σ(½)
sigma_slope = sigma * (1 - sigma)  # σ'(½)

paper = {"row": 10, "source": "Pascanu et al. 2013"}
at_w, at_b = w.data.flat[steepest], b.data.flat[steepest]
lesson.claim("the largest |dE/dw|", slope.max(), 1754, tolerance=0.05, **paper)
lesson.claim("it is at w", at_w, 4.94, tolerance=0.05, **paper)
lesson.claim("and at b", at_b, -2.575, tolerance=0.05, **paper)
lesson.claim("the median |dE/dw|", median, 0.017, tolerance=0.05, **paper)
lesson.claim("b, by ½ - w σ(½)", at_b, 0.5 - at_w * sigma, tolerance=1e-3)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
figure.colorbar(left.pcolormesh(w.data, b.data, E.data, cmap="cividis", shading="gouraud"), ax=left, label="E")
on_wall = np.array([1 / sigma_slope, 3.5 / sigma])
left.plot(on_wall, 0.5 - on_wall * sigma, "--", color="white", lw=1.5)
left.plot(at_w, at_b, "^", color=HOT, mec="white", ms=9)
left.text(5.1, -2.42, "theory:\nb = ½ - w σ(½)", color="white", weight="bold")
left.set(
    title="The error: two plains and a wall", xlabel="w", ylabel="b", xlim=(4, 7), ylim=(-3, -1), xticks=range(4, 8)
)
left.grid(False)
cut = w.data == at_w
right.plot(b.data[cut], slope[cut], "-o", color=HOT, ms=2.5, lw=0.8)
right.plot(at_b, slope.max(), "^", color=HOT, ms=9)
right.axvline(0.5 - at_w * sigma, color=HOT, lw=1, ls="--")
right.text(at_b + 0.1, slope.max(), f"{slope.max():.0f}", color=HOT, va="center", weight="bold")
right.set(title=f"A cut through it, at w = {at_w:.2f}", xlabel="b", ylabel="|dE/dw|", xlim=(-3, -1), ylim=(1e-3, 1e4))
right.set(yscale="log", xticks=[-3, -2.5, -2, -1.5, -1])
powers_of_ten(right)
lesson.picture(figure, "wall", "Left: the error over w and b, a wall along a line. Right: the gradient along a cut.")

# %%
# When it can not explode
# -----------------------
# With many units w becomes a matrix W, and the largest factor by which W can stretch a vector is its first *singular
# value* λ₁. No slope of σ is above γ = 1/4. So a step multiplies a gradient by λ₁ γ at most: with λ₁ < 1 / γ it must
# vanish, and only with λ₁ > 1 / γ it may explode. To see the edge of the theorem, take a W that stretches all
# directions alike (λ₁ times an orthogonal matrix), and a b with which x = 0 rests, where σ has the slope γ. Then the
# bound is reached.


def gradients(lambda_1, x, steps=50, n=64):
    """Size of the gradient after 0, 1, ... steps back through x = σ(x) W + b."""
    W = nn.init.orthogonal_(gg.empty(n, n, dtype=gg.float64), gain=lambda_1)
    b = -0.5 * W.sum(dim=0)  # σ(0) = ½: x = 0 rests
    xs = [x.requires_grad_()]
    for _ in range(steps):
        xs.append(gg.sigmoid(xs[-1]) @ W + b)
        xs[-1].retain_grad()
    xs[-1].backward(gg.full((1, n), n**-0.5, dtype=gg.float64))
    return np.array([nn.utils.get_total_norm(x.grad).item() for x in reversed(xs)])


figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
back = np.arange(51)
for lambda_1, colour, marker in ((3.6, COLD, "v"), (4.4, HOT, "^")):
    bound = lambda_1 / 4
    resting = gradients(lambda_1, gg.zeros(1, 64, dtype=gg.float64))
    moving = gradients(lambda_1, 2 * gg.randn(1, 64, dtype=gg.float64))
    lesson.claim(f"gradient after 50 steps, λ₁γ = {bound}, at rest", resting[50], bound**50, tolerance=0.01, **paper)
    lesson.claim("and elsewhere", moving[50], bound**50, compare="<", **paper)
    ax.plot(back, bound**back, "--", color=colour, lw=1)
    ax.plot(back[::2], resting[::2], marker, color=colour, ms=4)
    ax.plot(back[::2], moving[::2], marker, color=colour, ms=4, mfc="white")
    ax.text(51, bound**50, f"λ₁ = {lambda_1}\n(λ₁γ)$^t$ = {bound}$^t$", color=colour, va="center")
ax.set(yscale="log", xlim=(-0.5, 50.5), xlabel="t, steps back", ylabel="size of the gradient")
ax.set_title("λ₁γ is a bound: reached at rest (filled), not elsewhere (hollow)")
powers_of_ten(ax)
lesson.picture(figure, "bound", "Gradient over steps back: on the line of the bound at rest, below it elsewhere.")

# %%
# Two walks to the wall
# ---------------------
# The same start, the same step size. One walk limits the length of the gradient to 0.2 and keeps its direction.


def walk(max_norm, steps=60, lr=0.3):
    w, b = (gg.tensor(v, dtype=gg.float64, requires_grad=True) for v in (4.6, -2.0))
    optimizer = optim.SGD([w, b], lr=lr)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        E = error(w, b)
        E.backward()
        norm = nn.utils.clip_grad_norm_([w, b], max_norm)
        path.append((w.item(), b.item(), E.item(), norm.item()))
        optimizer.step()
    return np.array(path).T


free, clipped = walk(max_norm=math.inf), walk(max_norm=0.2)
hit = int(np.argmax(free[3] > 1))  # the first step on the wall
assert (free[:, : hit + 1] == clipped[:, : hit + 1]).all()  # so far they were one walk
thrown = math.dist(free[:2, hit], free[:2, hit + 1])

lesson.predict(
    f"At step {hit} the gradient is {free[3, hit]:.0f} long. Where does the walk without clipping end?",
    ["at the bottom, a little later", "far away, where it can never come back", "on the other side of the wall"],
    answer=1 if abs(free[:2, -1]).max() > 7 else 0,
    because=f"The step is {thrown:.0f} long and ends where σ is 1 and has no slope: E stays at (1 - 0.7)² = 0.09.",
)

# %%
lesson.claim("E at the end without clipping", free[2, -1], 0.09, tolerance=1e-3, formula="(1 - 0.7)²")
lesson.claim("E of the last 20 steps with it", np.median(clipped[2, -20:]), 0.01, compare="<", **paper)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
w, b = np.meshgrid(np.linspace(4.2, 4.7, 201), np.linspace(-2.4, -1.9, 201))
E = error(gg.tensor(w), gg.tensor(b)).data
figure.colorbar(left.pcolormesh(w, b, E, cmap="cividis", shading="gouraud"), ax=left, label="E")
left.plot(w[0], 0.5 - w[0] * sigma, "--", color="white", lw=1)
left.plot(*free[:2, hit : hit + 2], "-", color=HOT, lw=2)
left.text(4.5, -1.98, f"thrown out of the picture,\n{thrown:.0f} in one step", color=HOT, ha="right", weight="bold")
left.plot(*clipped[:2, hit:], "o-", color=GOOD, ms=3.5, lw=0.8)
left.plot(*clipped[:2, : hit + 1], "s-", color="white", ms=4, lw=1)
left.text(4.61, -2.01, "start", color="white", va="top")
left.set(title="One walk, until it hits the wall", xlabel="w", ylabel="b", xlim=(4.2, 4.7), ylim=(-2.4, -1.9))
left.grid(False)
right.plot(free[2], "^-", color=HOT, ms=3.5, lw=0.8)
right.plot(clipped[2], "o-", color=GOOD, ms=3.5, lw=0.8)
right.axhline(0.09, color=HOT, lw=1, ls="--")
right.text(59, 0.095, "without clipping: (1 - 0.7)² for ever", color=HOT, ha="right", va="bottom", size=8.5)
right.text(59, 0.025, "with clipping", color=GOOD, ha="right", va="bottom", size=8.5)
right.set(title="The error on the way", xlabel="step", ylabel="E", xlim=(0, 60), ylim=(0, 0.25))
lesson.picture(figure, "two_walks", "Left: the clipped walk stays at the wall, the other leaves. Right: their errors.")

# %%
# Where this lives
# ----------------

lesson.lives(nn.utils.clip_grad_norm_, lines=18)

# %%
# Exercise: clip
# --------------


def check(clip):
    long = [gg.tensor([3.0, 0.0]), gg.tensor([4.0])]  # 5 long together
    clipped, same = clip(long, 1.0), clip(long, 10.0)
    return np.allclose([*clipped[0], *clipped[1], *same[0], *same[1]], [0.6, 0, 0.8, 3, 0, 4])


@lesson.exercise(
    "clip(gradients, max_norm) takes a list of tensors and returns it scaled by one factor, so that together, as one "
    "vector, they are max_norm long. A list that is shorter already stays as it is.",
    check=check,
    solution=lambda gs, max_norm: [g * min(1, max_norm / nn.utils.get_total_norm(gs).item()) for g in gs],
)
def clip(gradients, max_norm): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: max_norm is one more number to choose, and the clipped walk bounces at the foot of the wall
    until the step size shrinks. Clipping treats the symptom: lesson 07 looks for weights that do not explode."""
)
