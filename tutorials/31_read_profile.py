"""Read a profile
==============

Training feels slow. Where does the time of one step go, and what could be faster at all?

A step is a list of kernels, the C++ functions that compute, with a little Python between them. A *profile* reads the clock
round each of them. Beside each time it sets two limits of this machine: how many multiply-adds it can do in a second, and
how many bytes its memory can move. A kernel near one of them is as fast as it can be; only fewer of them would help.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import glassgrad as gg
from glassgrad import lesson, nn, optim, scope
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Two networks, one step
# ----------------------

images, labels = load_digits(return_X_y=True)
x, y = gg.tensor(images[:256] / 16, dtype=gg.float32), gg.tensor(labels[:256])

mlp = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
cnn = nn.Sequential(
    nn.Unflatten(1, (1, 8, 8)),
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip


def profiled(model, batch, steps=20):
    """A profile of ``steps`` training steps, and the seconds that they take without it."""
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[:batch]), y[:batch]).backward()
            optimizer.step()
        return time.perf_counter() - start

    run(5)  # warms caches and clocks
    plain = min(run(steps) for _ in range(3))
    with scope.profile(model) as prof:
        run(steps)
    return prof, plain


profiles = {
    "MLP, batch 16": profiled(mlp, 16),
    "MLP, batch 256": profiled(mlp, 256),
    "CNN, batch 256": profiled(cnn, 256, steps=5),
}
# The profile's own work is not the training's: what Python takes is what a plain step takes beyond its kernels.
python = {name: max(0.0, 1 - prof.kernel_seconds / plain) for name, (prof, plain) in profiles.items()}

lesson.predict(
    "A small MLP on 16 images at a time. How much of the step is spent outside the kernels, in Python?",
    ["less than a tenth", "up to a half", "more than half"],
    answer=int(np.digitize(python["MLP, batch 16"], [0.1, 0.5])),
    because=f"{python['MLP, batch 16']:.0%}. Each op costs Python some microseconds, however small its arrays are; 256 images cost "
    f"hardly more calls, so there it is {python['MLP, batch 256']:.0%}, and in the CNN {python['CNN, batch 256']:.0%}.",
)

# %%
# Work that can be computed beforehand
# ------------------------------------
# A linear layer multiplies each of ``batch`` rows with a (128, 64) matrix: 2 x 128 x 64 operations a row. The gradients of
# its input and of its weight take as many each, so training costs three times what predicting does.

rows = {(row.op, row.phase): row for row in profiles["MLP, batch 256"][0].rows()}
forward = sum(row.flops for (op, phase), row in rows.items() if op in ("linear", "linear_relu") and phase == "forward")
backward = sum(
    row.flops for (op, phase), row in rows.items() if op.endswith(("linear_backward", "linear_relu_backward"))
)
lesson.claim(
    "operations of linear layers, forward",
    forward,
    20 * 256 * 2 * (64 * 128 + 128 * 10),
    tolerance=1e-12,
    formula="2 batch (64 x 128 + 128 x 10)",
)
# The first layer's input wants no gradient: of its two products only one is needed.
lesson.claim(
    "backward over forward",
    backward / forward,
    1 + 128 * 10 / (64 * 128 + 128 * 10),
    tolerance=1e-12,
    formula="less the first layer's dx",
)
lesson.claim(
    "Python's share, batch 16 over batch 256", python["MLP, batch 16"] / python["MLP, batch 256"], 1, compare=">"
)

# %%
# The picture
# -----------

colours = {"forward": COLD, "backward": HOT, "update": GOOD, "Python": "#c9ced6"}
figure, ax = plt.subplots(figsize=(7.4, 2.6), layout="constrained")
for place, (prof, plain) in enumerate(profiles.values()):
    left = 0.0
    parts = {
        phase: sum(e.seconds for e in prof.events if e.phase == phase) for phase in ("forward", "backward", "update")
    }
    parts["Python"] = max(0.0, plain - prof.kernel_seconds)
    for phase, seconds in parts.items():
        width = 100 * seconds / sum(parts.values())
        ax.barh(place, width, left=left, color=colours[phase], height=0.62, label=phase if place == 0 else None)
        if width > 6:
            ax.text(
                left + width / 2,
                place,
                f"{width:.0f}",
                ha="center",
                va="center",
                size=8.5,
                color="white" if phase != "Python" else "#1b1f24",
            )
        left += width
ax.set(
    yticks=range(len(profiles)),
    yticklabels=profiles,
    ylim=(len(profiles) - 0.5, -0.5),
    xlim=(0, 100),
    xlabel="% of a training step",
)
ax.set_title("Small arrays pay for Python, large ones for arithmetic")
ax.legend(frameon=False, ncols=4, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.28))
ax.grid(visible=False)
lesson.picture(
    figure, "shares", "Bars: shares of forward, backward, update and Python in the steps of three trainings."
)

figure = profiles["CNN, batch 256"][0].plot()
lesson.picture(
    figure,
    "cnn",
    "Profile of a CNN: time per kernel, kernels under the roofline, and memory that rises in forward and falls in backward.",
)

# %%
# Read the middle picture like this: on the slope a kernel waits for memory, under the flat part for arithmetic. The convolutions
# are near the flat roof, batch norm and ReLU on the slope: to speed those up one has to move fewer bytes, not compute less.

print(profiles["CNN, batch 256"][0].table(8))

# %%
# Where this lives
# ----------------
# ``prof.trace("trace.json")`` writes a file that Chrome and Perfetto open, with every call on a time line.

lesson.lives(scope.profile, lines=20)


# %%
# Exercise: which limit?
# ----------------------


@lesson.exercise(
    "A machine does `peak` operations and moves `copy` bytes a second. least_seconds(flops, moved, peak, copy) returns the least "
    "time a kernel can take: it can compute and move at the same time.",
    check=lambda f: f(8e9, 1e9, 1e9, 1e9) == 8 and f(1e9, 8e9, 1e9, 2e9) == 4,
    solution=lambda flops, moved, peak, copy: max(flops / peak, moved / copy),
)
def least_seconds(flops, moved, peak, copy): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: the clock itself costs some microseconds a call; in the table they are counted as Python's. Arrays that stay in the
    cache seem to beat the memory's limit. And a profile says where time goes, not whether the step was worth taking."""
)
