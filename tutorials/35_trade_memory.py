r"""
What backward keeps
===================

**A network of a few megabytes fills gigabytes while it trains: what is in them, and can one do with less?**

The gradient of a layer needs what went into the layer. So forward keeps it until backward comes by: all layers' outputs, for
every sample of the batch, at the same time. This lesson counts those bytes, and then keeps fewer, at the price of computing
some things twice.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import glassgrad as gg
from glassgrad import lesson, nn, scope
from glassgrad.scope.thermometer import COLD, GOOD, HOT
from glassgrad.utils.checkpoint import checkpoint_sequential

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Byte by byte
# ------------
# ``scope.kept(loss)`` lists what each op keeps; an array that two of them share counts once. tanh keeps its output, since
# its slope is 1 - y^2; the linear layer that follows needs the same array.

LAYERS, WIDTH, BATCH = 36, 64, 1024
model = nn.Sequential(*[nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)])
x = gg.randn(BATCH, WIDTH)
one = BATCH * WIDTH * 4  # bytes of one layer's output, in float32

kept = scope.kept(model(x).square().mean())
per_op = {}
for k in kept:
    per_op[k.op] = per_op.get(k.op, 0) + k.bytes
total = sum(per_op.values())
weights = sum(p.data.nbytes for p in model.parameters())
lesson.predict(
    f"{LAYERS} layers of {WIDTH} units, {BATCH} samples. The weights take {weights / 2**20:.1f} MiB. What does forward keep beside them?",
    ["about as much", "about four times as much", "more than ten times as much"],
    answer=int(np.digitize(total / weights, [2, 10])),
    because=f"{total / 2**20:.1f} MiB, {total / weights:.1f} times the weights: one array of batch x width for every layer.",
)
lesson.claim(
    "arrays kept, in layers' outputs", total / one, LAYERS + 1, tolerance=1e-9, formula="the input and n outputs"
)

# %%
# Keep less, compute again
# ------------------------
# Cut the chain into k segments. Keep the input of each, throw away what happens inside, and when backward reaches a segment,
# run it once more (Chen et al. 2016). Kept at the same time: k inputs, and the n / k layers of the segment in work.


def most_kept(segments):
    """The most layers' outputs that are alive at once, from what the graph keeps and what one segment needs."""
    loss = checkpoint_sequential(model, segments, x).square().mean()
    between = sum(k.bytes for k in scope.kept(loss))
    last = LAYERS - (segments - 1) * (LAYERS // segments)
    inside = LAYERS // segments if segments > 1 else 0
    # The last segment is kept from the start, the others come back one at a time once it is gone.
    return max(between, between - last * one + inside * one) / one


def peak(segments):
    """The same, seen from outside: bytes of results alive at the worst moment of forward and backward."""
    with scope.profile() as prof:
        checkpoint_sequential(model, segments, x).square().mean().backward()
    model.zero_grad()
    return prof.peak / one


counts = [k for k in range(1, LAYERS + 1) if LAYERS % k == 0]
measured = np.array([most_kept(k) for k in counts])
theory = np.array([k + LAYERS / k for k in counts])
seen = np.array([peak(k) for k in counts])
best = counts[int(measured.argmin())]
lesson.claim(
    "segments that keep least", best, LAYERS**0.5, tolerance=1e-9, formula="sqrt(n)", source="Chen et al. 2016"
)
lesson.claim(
    "kept with sqrt(n) segments, over 2 sqrt(n)",
    measured.min() / (2 * LAYERS**0.5),
    1,
    tolerance=0.1,
    source="Chen et al. 2016",
)
lesson.claim("the worst moment, all kept over sqrt(n) segments", seen[0] / seen[counts.index(best)], 1.7, compare=">")

# %%
# What it costs: one more forward of all segments but the last. A step is a forward and a backward of twice its work, so a
# third more.


def seconds(segments):
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        checkpoint_sequential(model, segments, x).square().mean().backward()
        best = min(best, time.perf_counter() - start)
    model.zero_grad()
    return best


slower = seconds(best) / seconds(1)
lesson.claim("time of a step with segments, over without", slower, 2.5, compare="<", formula="about 4/3")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", width_ratios=(1, 1.3))
names = sorted(per_op, key=per_op.get, reverse=True)[:4]
left.barh(range(len(names)), [per_op[n] / 2**20 for n in names], color=COLD, height=0.6)
left.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="MiB kept for backward")
left.set_title("Who keeps what")
left.grid(axis="y", visible=False)
k = np.geomspace(1, LAYERS, 100)
right.plot(k, k + LAYERS / k, "--", color=GOOD, lw=1.4, label="theory: k + n / k")
right.plot(counts, measured, "o", color=GOOD, ms=6, label="kept at once")
right.plot(counts, seen, "^", color=HOT, ms=6, label="all results alive, at the worst moment")
right.axvline(LAYERS**0.5, color="#c9ced6", lw=1)
right.annotate("√n", (LAYERS**0.5, 3), (4, 0), textcoords="offset points", size=9)
right.set(
    xscale="log",
    xticks=counts,
    xticklabels=counts,
    xlabel="segments k",
    ylabel="layers' outputs",
    ylim=(0, max(seen.max(), LAYERS) * 1.1),
)
right.minorticks_off()
right.set_title(f"{LAYERS} layers: keep √n, compute the rest again")
right.legend(frameon=False, fontsize=8.5)
lesson.picture(
    figure,
    "segments",
    "Left: bytes kept per op. Right: layers' outputs kept over the number of segments, lowest at the square root of n.",
)

# %%
# Where this lives
# ----------------

lesson.lives(checkpoint_sequential, lines=22)


# %%
# Exercise: the best number of segments
# -------------------------------------


@lesson.exercise(
    "segments(n) returns the whole number k from 1 to n for which k + n / k is smallest.",
    check=lambda f: [f(n) for n in (1, 16, 36, 50)] == [1, 4, 6, 7],
    solution=lambda n: min(range(1, n + 1), key=lambda k: k + n / k),
)
def segments(n): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: all layers here are alike. In a real network some keep much and cost little to compute again (activations,
    normalisation), others the reverse, and choosing among them well is a puzzle of its own. Batch norm sees its batch twice."""
)
