"""Find training bugs
==================

A training that does not learn gives no error message. Can you tell from its curves which of eighteen things is wrong?

This is the dojo: thirty broken trainings, each with one bug of the kind that costs an afternoon, and ten that are healthy and
only look suspicious. ``glassgrad tutorial 50`` in a terminal lets you play all thirty for points. Here six are shown.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

import glassgrad as gg
from glassgrad import dojo, lesson, scope
from glassgrad.scope.doctor import usual_step
from glassgrad.scope.thermometer import COLD, GOOD, HOT

plt.style.use("glassgrad.demo.glassgrad")
warnings.simplefilter("ignore")  # of losses that broadcast: here they are the riddle


# %%
# What one can look at
# --------------------
# The loss over a few steps, and how large the gradient is at each layer's output before the first step: nearly every bug
# shows in one of the two.


def look(run, steps=30):
    """(losses, gradient sizes from the first layer to the last) of a broken training."""
    gg.manual_seed(0)
    model, loss_fn, x, y, optimizer, step = run.make()
    step = step or usual_step
    losses, sizes = [], []
    with scope.record(model, every=1, budget=None) as rec:
        for _ in range(steps):
            try:
                losses.append(step(model, loss_fn, optimizer, x, y).item())
            except gg.errors.GlassgradError:
                break
    for columns in rec.layers.values():
        sizes.append((columns.get("gradient_rms") or [None])[0] or np.nan)
    return np.array(losses), np.array(sizes, dtype=float)


SHOWN = [
    "deep_sigmoid",
    "rate_of_thirty",
    "softmax_at_the_end",
    "negative_bias",
    "column_against_row",
    "cleared_in_part",
]
seen = {name: look(dojo.find(name)) for name in SHOWN}

figure, axes = plt.subplots(2, 6, figsize=(14, 4.8), layout="constrained")
for (name, (losses, sizes)), (above, below) in zip(seen.items(), axes.T, strict=True):
    above.plot(losses, color=COLD, lw=1.6)
    above.set_title(f"run {SHOWN.index(name) + 1}", size=11)
    above.set(yscale="log" if np.nanmax(losses) > 50 * np.nanmin(losses) else "linear", xlabel="step")
    below.plot(np.arange(1, len(sizes) + 1), sizes, "o-", color=HOT, ms=3.5, lw=1)
    below.set(yscale="log", xlabel="layer")
    below.xaxis.get_major_locator().set_params(integer=True)
    below.yaxis.set_minor_formatter(NullFormatter())
    for ax in (above, below):
        ax.tick_params(labelsize=8)
axes[0, 0].set_ylabel("loss")
axes[1, 0].set_ylabel("gradient at its output")
lesson.picture(
    figure,
    "board",
    "Six broken trainings: above the loss over thirty steps, below the size of the gradient at each layer.",
)

# %%
# Your turn
# ---------


def examine(run):
    gg.manual_seed(0)
    model, loss_fn, x, y, optimizer, step = run.make()
    return scope.doctor(model, loss_fn, x, y, optimizer, train_step=step)


def choices_for(run, rng):
    """The right code and three others, in any order."""
    others = rng.permutation([code for code in scope.CODES if code != run.code])[:3]
    return [str(code) for code in rng.permutation([run.code, *others])]


def told(run):
    """What one would read off its curves, in a line."""
    losses, sizes = look(run)
    if not len(losses):
        return "the first step fails"
    course = " -> ".join(f"{loss:.3g}" for loss in losses[[0, len(losses) // 2, -1]])
    return (
        f"loss {course} in {len(losses)} steps; gradient {sizes[0]:.1e} at the first layer, {sizes[-1]:.1e} at the last"
    )


def play():
    """All thirty, for points."""
    score = asked = 0
    for number, run in enumerate(dojo.BROKEN, 1):
        options = choices_for(run, rng)
        lesson.say(f'{number} of {len(dojo.BROKEN)}: "{run.story}" {told(run)}.')
        print("\n".join(f"    {i}. {code}" for i, code in enumerate(options, 1)))
        try:
            guess = input("  which (Enter: I don't know, q: stop)? ").strip()
        except EOFError:
            break
        if guess == "q":
            break
        asked, score = number, score + (guess == str(options.index(run.code) + 1))
        lesson.say(f"{run.code}: {examine(run).findings[0].evidence}")
    lesson.say(f"Your score: {score} of {asked}.")


rng = np.random.default_rng(50)
if lesson.current().ask:
    play()
for number, name in enumerate(SHOWN, 1):
    run = dojo.find(name)
    options = choices_for(run, rng)
    (finding,) = examine(run).findings
    lesson.predict(
        f'Run {number}: "{run.story}"', options, options.index(run.code), f"{finding.evidence} Do: {finding.remedy}."
    )

# %%
# Is the remedy right?
# --------------------
# ``report.prove(code)`` trains two copies from the same state, with and without the remedy.

figure, axes = plt.subplots(1, 6, figsize=(14, 2.8), layout="constrained")
for name, ax in zip(SHOWN, axes, strict=True):
    run = dojo.find(name)
    proof = examine(run).prove(run.code)
    ax.plot(proof.before, color=COLD, lw=1.6, ls="--")
    ax.plot(proof.after, color=GOOD, lw=1.8)
    ax.set_title(run.code, size=10)
    ax.set_xlabel("step")
    ax.tick_params(labelsize=8)
    if not np.isfinite(proof.before).all() or np.nanmax(proof.before) > 100:
        ax.set_yscale("log")
axes[0].set_ylabel("loss")
axes[0].plot([], [], color=COLD, ls="--", label="as it was")
axes[0].plot([], [], color=GOOD, label="with the remedy")
axes[0].legend(frameon=False, fontsize=8, loc="lower left")
lesson.picture(figure, "proofs", "Six pairs of losses: as it was, dashed, and with the remedy, which falls.")

# %%
# All of them
# -----------

right = sum(examine(run).codes == [run.code] for run in dojo.BROKEN)
accused = sum(bool(examine(run).findings) for run in dojo.HEALTHY)
lesson.claim("broken runs whose cause the doctor names, and nothing else, of 30", right, 29.5, compare=">")
lesson.claim("healthy runs it accuses, of 10", accused, 0.5, compare="<")

# %%
# Where this lives
# ----------------
# Every code has a check of its own in ``scope/doctor/checks.py``. This one asks what ``.grad`` holds when the optimizer reads it.

lesson.lives(scope.doctor, lines=14)


# %%
# Exercise: a check of your own
# -----------------------------


def cleared(step):
    """Gradients of one weight in two steps on the same batch, as the optimizer sees them."""
    w, seen = gg.tensor([1.0], requires_grad=True), []
    for _ in range(2):
        step(w)
        seen.append(w.grad.item())
    return seen


def tidy(w):
    w.grad = None
    (3 * w).backward()


def untidy(w):
    (3 * w).backward()


@lesson.exercise(
    "forgets(grads) gets the gradient that the optimizer saw in two steps on the same batch, before w has moved. It returns True "
    "if the training forgot to clear old gradients.",
    check=lambda f: f(cleared(untidy)) is True and f(cleared(tidy)) is False,
    solution=lambda grads: bool(grads[1] == 2 * grads[0]),
)
def forgets(grads): ...


# %%
# What still hurts
# ----------------

lesson.say(
    """What still hurts: the doctor knows eighteen causes and looks at twenty steps. A bug that shows after a day, data that
    leak from the test set, or a metric that measures the wrong thing are beyond it."""
)
