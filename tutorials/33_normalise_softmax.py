r"""
Softmax in one pass
===================

**Softmax needs the largest number of a row before it can add anything up: can it read the row only once?**

Softmax turns a row of numbers into probabilities: :math:`y_i = e^{x_i} / \sum_j e^{x_j}`. On a computer e^1000 is infinite,
so the largest number m is taken off first; it cancels. That makes three passes: find m, add up e^(x - m), divide. A long row
does not fit into the cache, so each pass fetches it from memory again, and memory is what softmax waits for.
"""

import math
import time

import matplotlib.pyplot as plt
import numpy as np

import glassgrad as gg
from glassgrad import lesson
from glassgrad.backends import cpp, rungs
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Why m is taken off
# ------------------

x = gg.tensor([1000.0, 1001.0, 1002.0])
naive = gg.exp(x) / gg.exp(x).sum()
assert np.isnan(naive.numpy()).all()  # inf / inf
assert np.allclose(gg.softmax(x, dim=0).numpy(), gg.softmax(x - 1002.0, dim=0).numpy())

# %%
# One pass
# --------
# Milakov and Gimelshein (2018) keep two numbers while they walk along the row: m, the largest so far, and s, the sum of
# e^(x - m) so far. When a larger number comes, the sum so far was taken with the wrong m. One factor puts that right:
#
# .. math:: s \leftarrow s\, e^{m_{old} - m_{new}} + e^{x - m_{new}}


def online(row):
    """(m, s) after each number of the row."""
    m, s, seen = -math.inf, 0.0, []
    for x in row:
        m_new = max(m, x)
        s = s * math.exp(m - m_new) + math.exp(x - m_new)
        m = m_new
        seen.append((m, s))
    return np.array(seen)


row = (3 * gg.randn(60, dtype=gg.float64)).numpy()
m, s = online(row).T
corrections = int((np.diff(m) > 0).sum())
lesson.predict(
    "60 random numbers go by. How often does a new largest one come, so that the sum has to be put right?",
    ["about 5 times", "about 15 times", "about 30 times"],
    answer=int(np.digitize(corrections, [10, 22])),
    because=f"{corrections} times here. The i-th number is the largest so far with probability 1/i, and 1/2 + 1/3 + ... + 1/60 is 3.7: "
    "the correction costs next to nothing.",
)

# %%
# At each point s is the sum over what has gone by, as if the largest had been known from the start.

exact = np.array([np.exp(row[: i + 1] - row[: i + 1].max()).sum() for i in range(len(row))])
lesson.claim(
    "largest s, online over two passes", (s / exact).max(), 1.0, tolerance=1e-12, source="Milakov & Gimelshein 2018"
)
y = np.exp(row - m[-1]) / s[-1]
assert np.allclose(y, gg.softmax(gg.tensor(row), dim=0).numpy(), atol=1e-15)

figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 4.2), sharex=True, layout="constrained")
above.vlines(np.arange(60), row.min() - 1, row, color="#c9ced6", lw=3)
above.step(np.arange(60), m, where="post", color=HOT, lw=1.6)
above.annotate(
    "m, the largest so far", (59, m[-1]), (0, -13), textcoords="offset points", color=HOT, size=9, ha="right"
)
above.set(ylabel="x", ylim=(row.min() - 1, row.max() + 1))
above.set_title("One walk along the row keeps the largest number and the sum")
below.plot(exact, color=GOOD, lw=4, alpha=0.35, label="sum with the m of all that has gone by")
below.plot(s, "o", color=COLD, ms=3, label="s, online")
below.set(ylabel="s", xlabel="position in the row")
below.legend(frameon=False, loc="upper left", fontsize=8.5)
lesson.picture(
    figure,
    "online",
    "Above: a row of numbers and the largest so far. Below: the running sum, which falls whenever a larger number comes.",
)

# %%
# What it saves
# -------------
# Three passes read a float three times and write it once, 16 bytes; the online rung reads twice and writes once, 12. In
# glassgrad these are rungs of a ladder, so that both can be timed on rows too long for the cache.

rows, cols = 16, 1 << 18
long = gg.randn(rows, cols)


def seconds(rung):
    best = math.inf
    with gg.kernel("softmax", rung):
        for _ in range(2):
            start = time.perf_counter()
            y = gg.softmax(long, dim=1)
            best = min(best, time.perf_counter() - start)
    assert abs(y.numpy().sum(axis=1) - 1).max() < 1e-4
    return best


threads = cpp.BACKEND.module.num_threads()
cpp.BACKEND.module.set_num_threads(1)
names = rungs.LADDERS["softmax"].names()
per_float = {rung: seconds(rung) / (rows * cols) * 1e9 for rung in names}
cpp.BACKEND.module.set_num_threads(threads)

figure, ax = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
positions = np.arange(len(names))
ax.barh(positions, per_float.values(), color=[GOOD if name == "production" else COLD for name in names], height=0.62)
for position, name in zip(positions, names, strict=True):
    ax.annotate(
        f"{per_float[name]:.2f}", (per_float[name], position), (4, 0), textcoords="offset points", va="center", size=9
    )
ax.set(yticks=positions, yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="nanoseconds per number, one core")
ax.set_title("Reading less helps once computing is cheap")
ax.grid(axis="y", visible=False)
lesson.picture(figure, "rungs", "Bars: nanoseconds per number of four softmax kernels, the last the shortest.")
lesson.claim(
    "naive over production", per_float["naive"] / per_float["production"], 2, compare=">", formula="csrc/cpu/softmax"
)

# %%
# Where this lives
# ----------------
# ``csrc/cpu/softmax/1_online.cpp`` is the loop above in C++. The same trick lets attention walk along the keys without ever
# holding all of its scores: ``csrc/cpu/attention.cpp``.

lesson.lives(gg.softmax, lines=18)

# %%
# Exercise: join two halves
# -------------------------


def joined(m1, s1, m2, s2):
    m = max(m1, m2)
    return m, s1 * math.exp(m1 - m) + s2 * math.exp(m2 - m)


def is_right(join):
    half = [online(row[:25])[-1], online(row[25:])[-1]]
    return np.allclose(join(*half[0], *half[1]), (m[-1], s[-1]))


@lesson.exercise(
    "Two cores each walk along one half of a row and end with (m1, s1) and (m2, s2). join(m1, s1, m2, s2) returns the "
    "(m, s) of the whole row.",
    check=is_right,
    solution=joined,
)
def join(m1, s1, m2, s2): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: the result still has to be written, and the row read a second time to divide it. Only who uses the
    probabilities at once, as attention and cross-entropy do, never writes them at all."""
)
