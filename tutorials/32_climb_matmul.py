r"""
Climb the matmul ladder
=======================

**Why does one way of writing the three loops of a matrix product run so much faster than another?**

Nearly all the time of a network goes into ``c = a @ b``. The formula leaves no choice: every number of c is a sum of k
products. What is left to choose is the order, and what is kept near. This lesson climbs six versions of the same formula,
each with one more idea, from three plain loops to what every ``Linear`` of this library calls.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import glassgrad as gg
from glassgrad import lesson
from glassgrad.backends import cpp, rungs
from glassgrad.scope.thermometer import COLD, GOOD

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# The formula, once
# -----------------
# For (m, k) times (k, n): a multiplication and an addition for each i, j and p, so 2 m n k operations.

m, k, n = 3, 4, 5
a, b = gg.randn(m, k), gg.randn(k, n)
c = np.zeros((m, n))
for i in range(m):
    for j in range(n):
        for p in range(k):
            c[i, j] += a[i, p].item() * b[p, j].item()
assert np.allclose(c, (a @ b).numpy(), atol=1e-5)

# %%
# How often is a number used?
# ---------------------------
# A core multiplies much faster than memory delivers. In a product of two N x N matrices there are 2 N^3 operations on
# 3 N^2 numbers of 4 bytes: N / 6 operations for each byte, if a number that is fetched is used for all it is worth. The
# more work a byte does, the less memory matters. The three plain loops waste that: they fetch all of b again for every
# row of a.

N = 384
flops, least_bytes = 2 * N**3, 3 * N**2 * 4
intensity = flops / least_bytes

# %%
# Six rungs
# ---------
# ``with gg.kernel("matmul", rung):`` puts every product on one rung of the ladder, in a whole training if you like.

A, B = gg.randn(N, N), gg.randn(N, N)
right = A.numpy().astype(np.float64) @ B.numpy().astype(np.float64)
# What rounding may do to a sum of N products, at most: N eps times the same sum without signs.
bound = N * np.finfo(np.float32).eps * (np.abs(A.numpy()) @ np.abs(B.numpy()))


def gflops(rung):
    """The fastest of three runs: whatever else the machine does can only make a run slower."""
    best = np.inf
    with gg.kernel("matmul", rung):
        for _ in range(3):
            start = time.perf_counter()
            product = A @ B
            best = min(best, time.perf_counter() - start)
    assert (np.abs(product.numpy() - right) <= bound).all()  # every rung computes the same
    return flops / best / 1e9


threads = cpp.BACKEND.module.num_threads()
cpp.BACKEND.module.set_num_threads(1)
names = rungs.LADDERS["matmul"].names()
speeds = {rung: gflops(rung) for rung in names}
ceiling = max(cpp.BACKEND.module.fma_ceiling(0.005) for _ in range(5))
cpp.BACKEND.module.set_num_threads(threads)

gain = speeds["production"] / speeds["naive"]
lesson.predict(
    "The same formula, one core, the same numbers. How many times as fast is the last rung as the first?",
    ["up to 5 times", "5 to 50 times", "more than 50 times"],
    answer=int(np.digitize(gain, [5, 50])),
    because=f"about {gain:.0f} times: {speeds['naive']:.1f} against {speeds['production']:.0f} GFLOP/s (billions of operations a second).",
)

# %%
# What each rung adds, and the line none can cross: as many multiply-adds as the core can do when it has nothing else to
# do, measured a moment ago on this machine.

IDEAS = {
    "naive": "three loops",
    "reordered": "walk along rows: neighbours arrive together",
    "tiled": "work on blocks that fit in the cache",
    "vectorised": "keep a tile of c in registers",
    "packed": "copy blocks into the order they are read",
    "production": "and treat small, thin and odd shapes well",
}
figure, ax = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
rows = np.arange(len(names))
ax.barh(rows, speeds.values(), color=[GOOD if name == "production" else COLD for name in names], height=0.62)
ax.axvline(ceiling, color="#1b1f24", lw=1.4, ls="--")
ax.text(ceiling * 0.94, -0.6, f"ceiling {ceiling:.0f}", ha="right", size=8.5)
for row, speed in zip(rows, speeds.values(), strict=True):
    ax.annotate(f"{speed:.3g}", (speed, row), (4, 0), textcoords="offset points", va="center", size=8.5)
labels = [f"{name}\n{IDEAS[name]}" for name in names]
ax.set(xscale="log", yticks=rows, yticklabels=labels, ylim=(len(names) - 0.5, -0.9), xlim=(0.5, ceiling * 1.5))
ax.set_xlabel("GFLOP/s on one core, on an axis of powers of ten")
ax.set_title("One formula, six ways")
ax.grid(axis="y", visible=False)
lesson.picture(
    figure, "six_rungs", "Bars of GFLOP/s for six matrix products, the last near a ceiling and far above the first."
)

lesson.claim("operations per byte of a 384 x 384 product", intensity, N / 6, tolerance=1e-12, formula="N / 6")
lesson.claim("production over naive", gain, 4, compare=">", formula="csrc/cpu/matmul")
lesson.claim(
    "production, as a part of the ceiling",
    speeds["production"] / ceiling,
    1.05,
    compare="<",
    formula="multiply-adds in registers",
)

# %%
# Where this lives
# ----------------
# ``csrc/cpu/matmul/0_naive.cpp`` to ``5_production.cpp``: one file per rung, with the arithmetic of why it is faster at its top.
# ``glassgrad ladder matmul`` times them more carefully and checks each in units of rounding.

lesson.lives(gg.matmul, lines=14)


# %%
# Exercise: how large must a tile be?
# -----------------------------------


@lesson.exercise(
    "A tile of c, mr x nr numbers, stays in registers while k goes by. For each step of k it loads mr numbers of a and "
    "nr of b, and does mr nr multiply-adds. loads_per_multiply_add(mr, nr) returns how many loads there are for each.",
    check=lambda f: abs(f(14, 32) - 46 / 448) < 1e-12 and f(1, 1) == 2,
    solution=lambda mr, nr: (mr + nr) / (mr * nr),
)
def loads_per_multiply_add(mr, nr): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: the last rung reaches about seven tenths of the ceiling, not all of it. A core that multiplies and
    loads at once lowers its clock, and copying blocks into order costs a few percent. Thin products, with few rows, stay
    bound by memory whatever one does: each number of b is used once."""
)
