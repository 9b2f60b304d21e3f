r"""
Convolution four ways
=====================

**How can a convolution take fewer multiplications than its own formula has?**

A convolution slides a small window of weights over an image: each output is the sum of what lies under the window, times
the weights. There are four ways to compute it. Three do the same multiplications in a better order; the fourth does
fewer, and pays for it with a little exactness.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import glassgrad as gg
from glassgrad import lesson
from glassgrad.backends import cpp, rungs
from glassgrad.nn import functional as F
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# 1. Direct: slide and add
# ------------------------
# c input channels, k output channels, a 3 x 3 window, the image padded by one pixel. For each of the nine places of the
# window: a shifted image, multiplied by a (k, c) matrix and added.

c, k, size = 8, 16, 12
x = gg.randn(1, c, size, size, dtype=gg.float64)
w = gg.randn(k, c, 3, 3, dtype=gg.float64)
right = F.conv2d(x, w, padding=1)

padded = F.pad(x, (1, 1, 1, 1))
direct = gg.zeros(1, k, size, size, dtype=gg.float64)
for r in range(3):
    for s in range(3):
        shifted = padded[0, :, r : r + size, s : s + size].reshape(c, -1)
        direct = direct + (w[:, :, r, s] @ shifted).reshape(1, k, size, size)
assert np.allclose(direct.numpy(), right.numpy())

# %%
# 2. im2col: one matrix product
# -----------------------------
# Write what lies under each position of the window as a column. Then the convolution is one product, and products are
# what the library is best at. The price: every pixel is copied nine times.

columns = F.unfold(x, 3, padding=1)
product = (w.reshape(k, -1) @ columns).reshape(1, k, size, size)
assert np.allclose(product.numpy(), right.numpy())

# %%
# 3. Implicit: the same product, without the columns
# --------------------------------------------------
# A fast matrix product copies its operand into small blocks anyway. Let that copy read the image: the columns never
# exist. That is no other formula, so there is nothing to show but the time, below.
#
# 4. Winograd: fewer multiplications
# ----------------------------------
# Two neighbouring outputs of a window of three, in one dimension: :math:`y_0 = x_0 w_0 + x_1 w_1 + x_2 w_2` and
# :math:`y_1 = x_1 w_0 + x_2 w_1 + x_3 w_2`, six multiplications. Winograd (1980; Lavin and Gray 2016 for networks) does it
# in four, because the two share numbers. The weights' side, G w, is computed once for the whole image.

G = gg.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=gg.float64)
B_t = gg.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=gg.float64)
A_t = gg.tensor([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=gg.float64)

signal, taps = gg.randn(4, dtype=gg.float64), gg.randn(3, dtype=gg.float64)
y = A_t @ ((G @ taps) * (B_t @ signal))  # four multiplications: the "*"
assert np.allclose(y.numpy(), np.correlate(signal.numpy(), taps.numpy(), "valid"))

# %%
# In two dimensions the trick is used along both: 16 instead of 36 multiplications for 2 x 2 outputs, and with larger
# tiles, 4 x 4 outputs, 36 instead of 144.


def saved(outputs, window=3):
    """How many times fewer multiplications: outputs^2 window^2 over (outputs + window - 1)^2."""
    return (outputs * window) ** 2 / (outputs + window - 1) ** 2


lesson.predict(
    "F(2 x 2, 3 x 3) saves a factor of 36/16 = 2.25. What does F(4 x 4, 3 x 3) save?",
    ["3", "4", "4.5"],
    answer=[3, 4, 4.5].index(saved(4)),
    because="144 / 36. But its matrices hold larger numbers, 4, 5 and 8: what is added and taken off again leaves rounding errors behind.",
)

# %%
# What it costs, and what it brings
# ---------------------------------
# glassgrad keeps all four as rungs of one ladder. Same image, one core.

image, weight = gg.randn(2, 64, 28, 28), gg.randn(64, 64, 3, 3)
exact = F.conv2d(image.double(), weight.double(), padding=1).numpy()
flops = 2 * exact.size * 64 * 9


def run(rung):
    """(GFLOP/s as the formula counts them, largest error as a part of the largest output)"""
    best = np.inf
    with gg.kernel("conv2d", rung):
        for _ in range(3):
            start = time.perf_counter()
            y = F.conv2d(image, weight, padding=1)
            best = min(best, time.perf_counter() - start)
    return flops / best / 1e9, np.abs(y.numpy() - exact).max() / np.abs(exact).max()


threads = cpp.BACKEND.module.num_threads()
cpp.BACKEND.module.set_num_threads(1)
names = rungs.LADDERS["conv2d"].names()
speed, error = (dict(zip(names, values, strict=True)) for values in zip(*map(run, names), strict=True))
ceiling = max(cpp.BACKEND.module.fma_ceiling(0.005) for _ in range(5))
cpp.BACKEND.module.set_num_threads(threads)

figure, (left, right_) = plt.subplots(1, 2, figsize=(8.4, 3.2), sharey=True, layout="constrained")
rows = np.arange(len(names))
left.barh(rows, speed.values(), color=[GOOD if n in ("winograd", "production") else COLD for n in names], height=0.62)
left.axvline(ceiling, color="#1b1f24", lw=1.4, ls="--")
left.annotate(
    "all the multiply-adds\nof a core",
    (ceiling, 0),
    (-6, 0),
    textcoords="offset points",
    ha="right",
    va="center",
    size=8.5,
)
left.set(xlabel="GFLOP/s, as the formula counts", yticks=rows, yticklabels=names, ylim=(len(names) - 0.5, -0.5))
right_.plot(list(error.values()), rows, "o", color=HOT, ms=7)
right_.set(xscale="log", xlim=(1e-8, 1e-4), xlabel="largest error, as a part of the largest output")
for ax in (left, right_):
    ax.grid(axis="y", visible=False)
figure.suptitle("Fewer multiplications pass the ceiling, and cost some exactness", x=0.01, ha="left", weight="bold")
lesson.picture(
    figure,
    "four_ways",
    "Left: speed of five convolutions, Winograd's beyond the ceiling line. Right: their errors, Winograd's larger.",
)

lesson.claim("memory of the columns, over the image", columns.numel() / x.numel(), 9, tolerance=1e-12, formula="3 x 3")
lesson.claim("Winograd's error", error["winograd"], 1e-4, compare="<", source="Lavin & Gray 2016")
lesson.claim("production over naive", speed["production"] / speed["naive"], 10, compare=">", formula="csrc/cpu/conv")

# %%
# Where this lives
# ----------------
# ``csrc/cpu/conv/0_naive.cpp`` to ``4_production.cpp``. Which way is taken is one small table in the last of them.

lesson.lives(F.conv2d, lines=14)


# %%
# Exercise: how many multiplications
# ----------------------------------


@lesson.exercise(
    "multiplications(outputs, window) returns how many F(outputs x outputs, window x window) takes for a tile.",
    check=lambda f: [f(2, 3), f(4, 3), f(2, 5)] == [16, 36, 36],
    solution=lambda outputs, window: (outputs + window - 1) ** 2,
)
def multiplications(outputs, window): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: Winograd helps 3 x 3 windows that move by one pixel, with enough channels that the transforms do
    not cost more than they save. Inputs near the largest float overflow in the transforms, where the direct way does not."""
)
