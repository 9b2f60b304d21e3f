"""Build backprop for one number
=============================

A network is a long formula with many numbers in it, and learning is turning each of them a little in the direction that
lowers the error. How can a program find the slope of any formula you write, in every number of it, at once?

The *slope* of ``L`` in ``w``, written :math:`dL/dw`, says how much ``L`` changes when ``w`` changes a little, per unit of
change. The answer is forty lines long, and the rest of this library is the same forty lines, made fast.
"""

import math

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import autograd, lesson, scope

plt.style.use("glassgrad.demo.glassgrad")

# %%
# A number that remembers
# -----------------------
#
# The trick is to compute with numbers that remember where they came from. A sum knows its two terms, a product its two
# factors; and each knows its *local* slopes: how much the result changes when one input does. Those are school calculus,
# one line per operation.
#
# ``backward`` then walks from the end to the beginning. It uses one rule, the *chain rule*: if ``L`` changes by 3 per
# unit of ``y``, and ``y`` by 2 per unit of ``x``, then ``L`` changes by 3 × 2 per unit of ``x`` along that path.


class Value:
    """A number, the values it was made from, and the slope of the result in each: ``((value, slope), ...)``."""

    def __init__(self, data, inputs=()):
        self.data, self.inputs, self.grad = data, inputs, 0.0

    def __add__(self, other):
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __sub__(self, other):
        return Value(self.data - other.data, ((self, 1.0), (other, -1.0)))

    def __mul__(self, other):
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def tanh(self):
        y = math.tanh(self.data)
        return Value(y, ((self, 1 - y * y),))

    def order(self):
        """Every value behind this one, inputs before results."""
        found, seen = [], set()

        def visit(value):
            if value not in seen:
                seen.add(value)
                for source, _ in value.inputs:
                    visit(source)
                found.append(value)

        visit(self)
        return found

    def backward(self):
        """Add to every ``grad`` the slope of this value in that one."""
        self.grad = 1.0
        for value in reversed(self.order()):
            for source, slope in value.inputs:
                source.grad += slope * value.grad


# %%
# One neuron
# ----------
#
# A *neuron* multiplies its input ``x`` by a weight ``w``, adds a bias ``b``, and bends the result with tanh. It should
# have said ``t``. The *loss* ``L`` is the square of how far off it is. Note that ``d`` is used twice in the last line.


def neuron(w, x, b, t):
    y = (w * x + b).tanh()
    d = y - t
    return d * d


def slopes(kind, *numbers):
    """The loss, and its slope in each of the four numbers."""
    inputs = [kind(n) for n in numbers]
    L = neuron(*inputs)
    L.backward()
    return L, inputs


at = (0.8, 1.5, -0.2, 0.25)
L, (w, x, b, t) = slopes(Value, *at)
d = L.inputs[0][0]

lesson.predict(
    f"L = d × d, with d = {d.data:.3f}. Each of the two factors has the local slope d. What does backward find for dL/dd?",
    [f"d = {d.data:.3f}: the two are the same number", f"2d = {2 * d.data:.3f}", f"d² = {d.data**2:.3f}"],
    answer=int(np.argmin([abs(d.grad - guess) for guess in (d.data, 2 * d.data, d.data**2)])),
    because="a change in d reaches L by two paths, and changes add up. This is why backward says += and not =.",
)

# %%
# Is it right?
# ------------
#
# Three witnesses. Calculus on paper: :math:`dL/dw = 2 (y - t)(1 - y^2) x`. A nudge: change ``w`` by a hair and see what
# ``L`` does. And glassgrad, whose tensors hold a single number here.

y = math.tanh(0.8 * 1.5 - 0.2)
nudge = 1e-6
higher, lower = (neuron(*map(Value, (0.8 + h, *at[1:]))).data for h in (nudge, -nudge))
paper = "2 (y - t)(1 - y²) x"
lesson.claim(
    "dL/dw by backprop, against paper", w.grad, 2 * (y - 0.25) * (1 - y * y) * 1.5, tolerance=1e-12, formula=paper
)
lesson.claim("dL/dw by backprop, against a nudge of 1e-6", w.grad, (higher - lower) / (2 * nudge), tolerance=1e-6)

big, tensors = slopes(lambda n: gg.tensor(n, dtype=gg.float64, requires_grad=True), *at)
for name, ours, theirs in zip("wxbt", (w, x, b, t), tensors, strict=True):
    lesson.claim(f"dL/d{name} by these 40 lines, against glassgrad", ours.grad, theirs.grad.item(), tolerance=1e-12)

# %%
# The whole computation as a picture. Blue: values, from left to right. Orange: slopes of ``L``, from right to left. Each
# arrow carries its local slope, so every orange number is the sum, over the arrows that leave its box, of the arrow's
# number times the orange number where it leads.
#
# The page shows the same one step at a time: the arrow keys walk forward and back, any input can be changed, and a button
# runs backward in a wrong order, to show why ``order`` is needed.

names = dict(zip("wxbt", tensors, strict=True))
loss = neuron(*tensors)
ax = scope.draw(loss, names).plot()
lesson.picture(
    ax.figure, "neuron", alt="The graph of the neuron, inputs left and loss right, with every value and slope."
)
lesson.page(scope.step_through(loss, names), "step_through")

# %%
# A slope is a tangent
# --------------------
#
# Now for many ``w``. Left: the loss, and the straight line that backprop promises at three places. Right: the slope by
# backprop at every ``w``, over the formula from paper.

ws = np.linspace(-2.0, 3.0, 101)
runs = [slopes(Value, value, *at[1:]) for value in ws]
losses = np.array([loss.data for loss, _ in runs])
grads = np.array([inputs[0].grad for _, inputs in runs])
ys = np.tanh(ws * 1.5 - 0.2)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(ws, losses, color="#1b1f24", label="the loss")
for i, label in ((25, "what backprop promises"), (56, None), (80, None)):
    reach = ws[i] + np.array([-0.45, 0.45])
    left.plot(reach, losses[i] + grads[i] * (reach - ws[i]), color="#d55e00", lw=2, label=label)
    left.plot(ws[i], losses[i], "o", color="#d55e00", ms=5)
left.set(xlabel="weight w", ylabel="loss L")
left.legend()
right.plot(ws[::4], grads[::4], "o", color="#0072b2", ms=4, label="backprop")
right.plot(ws, 2 * (ys - 0.25) * (1 - ys**2) * 1.5, "--", color="#1b1f24", lw=1, label="paper: " + paper)
right.set(xlabel="weight w", ylabel="slope dL/dw")
right.legend()
lesson.picture(
    figure, "tangents", alt="The loss over w with three tangents; slopes by backprop lie on the formula's curve."
)

# %%
# Where this lives
# ----------------
#
# The walk backwards of the library: no recursion, so that a graph may be 100,000 operations deep, but the same ``for``.

lesson.lives(autograd.run_backward, lines=46)

# %%
# Exercise
# --------


@lesson.exercise(
    "Return a / b as a Value that remembers a and b and the slope of a / b in each.",
    check=lambda f: (
        [(round(v.data, 9), round(slope, 9)) for v, slope in f(Value(3.0), Value(4.0)).inputs]
        == [(3, 0.25), (4, -0.1875)]
        and f(Value(3.0), Value(4.0)).data == 0.75
    ),
    solution=lambda a, b: Value(a.data / b.data, ((a, 1 / b.data), (b, -a.data / b.data**2))),
)
def divide(a, b): ...


# %%
lesson.say(
    """What still hurts: one number at a time. A layer of 64 neurons with 64 inputs is 4096 products, and each would be a
    Python object of its own. The next tutorial makes the numbers arrays, and then one object holds them all."""
)
