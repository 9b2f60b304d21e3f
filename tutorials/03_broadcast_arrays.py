"""Broadcasting, and why its derivative is a sum
=============================================

A layer adds its bias, ten numbers, to sixty-four rows of ten. The shapes differ and it works all the same: the smaller
array is copied as often as needed, and nobody writes the copying down. What is the gradient of something that was copied?

This copying is called *broadcasting*. It is the one place where array code is shorter than it should be, and the home of a
mistake that raises no error.
"""

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import Tensor, lesson

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# A copy is a number used many times
# ----------------------------------
#
# In the first tutorial a number that was used twice collected two slopes, and added them. A bias that is copied to 64 rows
# is used 64 times. So its gradient is the sum over the rows.

x = gg.randn(64, 10)
b = gg.zeros(10, requires_grad=True)
(x + b).sum().backward()

lesson.predict(
    "y = x + b, with x of shape (64, 10) and b of shape (10,). The loss is y.sum(). What is each entry of b.grad?",
    ["1", "64", "1/64"],
    answer=[1, 64, 1 / 64].index(b.grad[0].item()),
    because="each entry of b is in 64 entries of y, and every one of those raises the loss by 1 per unit.",
)

# %%
# The rule
# --------
#
# Shapes are compared from the right. An axis that is missing on the left, or has length 1 where the other has more, is
# copied along. Backward sums over exactly these axes. That is all:


def sum_back(dy: Tensor, shape: tuple) -> Tensor:
    """The gradient of an array of this shape, whose copies together got the gradient dy."""
    missing = dy.ndim - len(shape)
    stretched = [missing + i for i, n in enumerate(shape) if n == 1]
    dims = (*range(missing), *stretched)
    return dy.sum(dims).reshape(shape) if dims else dy


# %%
# Any pair of shapes must agree with glassgrad. Here are all 6 shapes that a (2, 3, 4) array can be copied from, and more.

shapes = [(), (4,), (1,), (3, 1), (3, 4), (1, 3, 1), (2, 1, 4), (2, 3, 4), (1, 1, 1)]
gaps = []
for shape in shapes:
    small = gg.randn(shape, dtype=gg.float64, requires_grad=True)
    large, dy = gg.randn(2, 3, 4, dtype=gg.float64), gg.randn(2, 3, 4, dtype=gg.float64)
    (small * large).backward(dy)
    gaps.append((small.grad - sum_back(dy * large, shape)).abs().max().item())
lesson.claim(f"largest gap between sum_back and glassgrad, over {len(shapes)} shapes", max(gaps), 1e-12, compare="<")

# %%
# Copying and summing are mirror images: ``<copies of b, dy> = <b, sums of dy>`` for any ``b`` and ``dy``, where
# ``<p, q>`` multiplies entry by entry and adds up. Backward of any linear step is its mirror image in this sense.

b, dy = gg.randn(10, dtype=gg.float64), gg.randn(64, 10, dtype=gg.float64)
lesson.claim(
    "<copies of b, dy>, against <b, sums of dy>",
    (b.expand(64, 10) * dy).sum().item(),
    (b * sum_back(dy, (10,))).sum().item(),
    tolerance=1e-10,
)

# %%
# How large is a sum of many?
# ---------------------------
#
# Slopes of different examples point different ways, so they partly cancel. Of ``n`` independent numbers of size 1 the sum
# has size :math:`\sqrt{n}`, not ``n``. A bias therefore hears a batch of 64 only 8 times as loud as one example; if all
# examples agree, 64 times. Losses take the mean over examples, which divides both by ``n``.

rows = 2 ** np.arange(0, 11)
disagree, agree = [], []
for n in map(int, rows):
    b = gg.zeros(4000, requires_grad=True)
    (gg.zeros(n, 4000) + b).backward(gg.randn(n, 4000))
    disagree.append(b.grad.square().mean().sqrt().item())
    b.grad = None
    (gg.zeros(n, 4000) + b).backward(gg.ones(n, 4000))
    agree.append(b.grad.square().mean().sqrt().item())
lesson.claim("size of a sum of 64 independent slopes", disagree[6], 8, tolerance=0.05, formula="sqrt(n)")
lesson.claim("growth from n = 1 to 1024", disagree[-1] / disagree[0], 32, tolerance=0.07, formula="sqrt(1024)")
lesson.claim("of 64 slopes that agree", agree[6], 64, tolerance=1e-6, formula="n")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
dy = gg.randn(8, 5)
shown = np.vstack([dy.numpy(), np.full((1, 5), np.nan), sum_back(dy, (5,)).numpy()[None]])
left.imshow(shown, cmap="PuOr", vmin=-9, vmax=9, aspect="auto")
for (i, j), value in np.ndenumerate(shown):
    if np.isfinite(value):
        left.text(j, i, f"{value:+.1f}", ha="center", va="center", size=8, weight="bold" if i == 9 else "normal")
left.set_yticks([3.5, 9], ["dy of\n8 rows", "their sum:\ngradient of b"])
left.set_xticks(range(5), [f"b[{j}]" for j in range(5)])
left.grid(False)
left.set_title("backward sums over what was copied", size=9)
right.plot(rows, agree, "^", color="#d55e00", label="slopes that agree")
right.plot(rows, rows, "--", color="#d55e00", lw=1, label="n")
right.plot(rows, disagree, "v", color="#0072b2", label="independent slopes")
right.plot(rows, np.sqrt(rows), "--", color="#0072b2", lw=1, label="√n")
right.set(
    xscale="log", yscale="log", xlabel="n: rows that share the bias", ylabel="typical size of the bias's gradient"
)
right.set_xticks(rows[::2], map(str, rows[::2]))
right.minorticks_off()
right.legend()
lesson.picture(figure, "sums", alt="Rows of dy and their sum; sums grow as n where slopes agree, else as its root.")

# %%
# The mistake without an error
# ----------------------------
#
# A network that predicts one number per example returns shape (n, 1); labels often come as (n,). Their difference has shape
# (n, n): every prediction against *every* label. With perfect predictions the loss should be 0. Instead it is the mean of
# :math:`(y_i - y_j)^2` over all pairs, which is twice the labels' variance, and training drives all outputs to the mean.

labels = gg.randn(200, dtype=gg.float64)
perfect = labels.reshape(200, 1)
difference = perfect - labels
lesson.predict(
    "Predictions (200, 1) equal the labels (200,) exactly. How large is the mean of the squared difference?",
    ["0", "twice the variance of the labels"],
    answer=int(difference.square().mean().item() > 1e-9),
    because=f"the difference has shape {tuple(difference.shape)}: all pairs.",
)
variance = labels.var(correction=0).item()
lesson.claim(
    "loss of perfect predictions", difference.square().mean().item(), 2 * variance, tolerance=1e-9, formula="2 Var(y)"
)
assert (perfect.squeeze(1) - labels).square().mean() == 0

# %%
# Where this lives
# ----------------
#
# ``apply`` notes the inputs' shapes; after a rule has run, a gradient of another shape is summed back by this method.

lesson.lives(Tensor.sum_to_size, lines=30)

# %%
# Exercise
# --------


def check(f):
    x, s = gg.randn(6, 4), gg.randn(1, 4, requires_grad=True)
    dy = gg.randn(6, 4)
    (s * x).backward(dy)
    found = f(dy, x)
    return found.shape == (1, 4) and np.allclose(found, s.grad, atol=1e-5)


@lesson.exercise(
    "y = s * x, where s has shape (1, 4) and x shape (6, 4). Return the gradient of s from dy and x.",
    check=check,
    solution=lambda dy, x: (dy * x).sum(0, keepdim=True),
)
def scale_backward(dy, x): ...


# %%
lesson.say(
    """What still hurts: every rule so far was found by thinking, and thinking goes wrong: a transpose too few, a sum over the
    wrong axis. All of these run without an error. How do you know that a gradient is right? The next tutorial."""
)
