"""How do you know that a gradient is right?
=========================================

A wrong forward pass gives wrong numbers that someone notices. A wrong gradient still goes downhill, only slower or to a
worse place, and raises no error. How can a program check a derivative rule that it did not write?

By the definition of a derivative: change the input a little, and see. The catch is in *a little*: there is a best step, it
is far larger than most people think, and theory says where.
"""

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import gradcheck, lesson, nn
from glassgrad.gradcheck import GradcheckError

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# Two errors that pull apart
# --------------------------
#
# Step ``h`` to both sides and divide: :math:`f'(x) \approx (f(x+h) - f(x-h)) / 2h`. Two things are wrong with it:
#
# * *truncation*: the curve is not straight. What is left over is :math:`h^2 f'''(x) / 6`: it falls with ``h``.
# * *rounding*: the computer keeps 16 digits of ``f`` in float64, 7 in float32. An error of ``eps`` in each value becomes
#   about ``eps / h`` after the division: it grows as ``h`` falls.


def slope(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def error(dtype, h):
    """Typical error of the slope of tanh, over 2000 places."""
    x = gg.linspace(0.1, 2.0, 2000, dtype=dtype)
    exact = 1 - x.double().tanh().square()
    return (slope(gg.tanh, x, h).double() - exact).square().mean().sqrt().item()


steps = 10.0 ** np.arange(-14, 0.1, 0.25)
measured = {dtype: np.array([error(dtype, h) for h in steps]) for dtype in (gg.float64, gg.float32)}
best = {dtype: steps[errors.argmin()] for dtype, errors in measured.items()}

choices = [1e-15, 1e-8, 1e-5, 1e-2]
lesson.predict(
    "In float64, which step gives the most exact slope?",
    [f"{h:g}" for h in choices],
    answer=int(np.argmin([abs(np.log10(h / best[gg.float64])) for h in choices])),
    because=f"the smallest error is at {best[gg.float64]:.0e}. Below it rounding takes over: at 1e-14 hardly two digits are left.",
)

# %%
# Theory on the same axes
# -----------------------
#
# Truncation: for tanh, ``f''' = (6 tanh² - 2)(1 - tanh²)``. Rounding: every number is off by up to half of the gap to its
# neighbour, which is an error of ``gap / sqrt(12)`` on average. That happens to both values of tanh, and to ``x + h``
# and ``x - h``, where the slope of tanh passes it on. Where ``x + h`` rounds to ``x``, the slope comes out as 0.

x = np.linspace(0.1, 2.0, 2000)
third = (6 * np.tanh(x) ** 2 - 2) * (1 - np.tanh(x) ** 2)
curve = np.sqrt(np.mean(third**2)) / 6
eps = {dtype: float(np.finfo(dtype).eps) for dtype in measured}


def rounding(dtype):
    """Typical error of the slope, times h."""
    of_tanh = np.spacing(np.tanh(x).astype(dtype)).astype(float)
    of_x = (1 - np.tanh(x) ** 2) * np.spacing(x.astype(dtype))
    return np.sqrt(np.mean(of_tanh**2 + of_x**2) / 24)


def log_slope(h, errors):
    """Power of h that the errors follow."""
    return np.polyfit(np.log(h), np.log(errors), 1)[0]


tail = (steps > 1e-4) & (steps < 0.3)
noise = (steps > 1e-13) & (steps < 1e-7)
double, single = measured[gg.float64], measured[gg.float32]
lesson.claim("truncation grows as h to the power", log_slope(steps[tail], double[tail]), 2, tolerance=0.03)
lesson.claim("rounding grows as h to the power", log_slope(steps[noise], double[noise]), -1, tolerance=0.08)
lesson.claim("error at h = 0.01", error(gg.float64, 0.01), curve * 0.01**2, tolerance=0.01, formula="h² f''' / 6")
noisy = error(gg.float64, 1e-9) / (rounding(gg.float64) / 1e-9)
lesson.claim("error at h = 1e-9 over that of a perfectly rounded tanh", noisy, 2, compare="<")
lesson.claim("best step in float64 over eps^(1/3)", best[gg.float64] / eps[gg.float64] ** (1 / 3), 10, compare="<")
lesson.claim("best float32 error over best float64 error", single.min() / double.min(), 1e4, compare=">")

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
looks = ((gg.float64, "float64", "#0072b2", "v"), (gg.float32, "float32", "#d55e00", "^"))
for dtype, name, colour, marker in looks:
    ax.plot(steps, np.maximum(measured[dtype], 1e-13), marker, color=colour, ms=4, label=f"{name}, measured")
    ax.plot(steps, rounding(dtype) / steps, "--", color=colour, lw=1, label=f"{name}, theory of rounding: ~ eps / h")
ax.plot(steps, curve * steps**2, "--", color="#1b1f24", lw=1, label="theory of truncation: h² f''' / 6")
ax.axvline(1e-6, color="#5d6673", lw=0.8, ls=":")
ax.text(1.2e-6, 3, "gradcheck's step", color="#5d6673", size=8)
ax.set(xscale="log", yscale="log", ylim=(1e-13, 10), xlabel="step h", ylabel="typical error of the slope of tanh")
ax.legend(loc="lower left", fontsize=8)
lesson.picture(
    figure, "u_curve", alt="Error against step: one U per precision, along the lines of rounding and truncation."
)

# %%
# Can it tell a right rule from a wrong one?
# ------------------------------------------
#
# ``gradcheck`` compares every entry of every gradient with such a difference, in float64, where an error of 1e-9 is left.
# Here is tanh with the mistake of a beginner: the slope is ``1 - y²``, and the rule forgets the square.


class Tanh(gg.autograd.Function):
    power = 2

    @staticmethod
    def forward(ctx, x):
        y = gg.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return dy * (1 - y**Tanh.power)


x = gg.randn(3, 4, dtype=gg.float64, requires_grad=True)
assert gradcheck(Tanh.apply, x)
Tanh.power = 1
try:
    gradcheck(Tanh.apply, x)
except GradcheckError as wrong:
    print(f"  {wrong}")
assert not gradcheck(Tanh.apply, x, raise_exception=False)

# %%
# A whole network at once
# -----------------------
#
# Entry by entry costs two forward passes each: a million weights, two million passes. One direction through all weights
# costs two passes in all: the slope along ``v`` must be the sum of gradient times ``v``. A single wrong rule anywhere shows.

model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 4)).double()
inputs, targets = gg.randn(32, 8, dtype=gg.float64), gg.randint(0, 4, (32,))
weights = list(model.parameters())
directions = [gg.randn(*w.shape, dtype=gg.float64) for w in weights]


def loss():
    return nn.functional.cross_entropy(model(inputs), targets)


def loss_moved(h):
    """The loss with every weight moved by h along its direction; afterwards they are back."""
    with gg.no_grad():
        for w, v in zip(weights, directions, strict=True):
            w += h * v
        moved = loss().item()
        for w, v in zip(weights, directions, strict=True):
            w -= h * v
    return moved


loss().backward()
along = sum((w.grad * v).sum().item() for w, v in zip(weights, directions, strict=True))
numeric = (loss_moved(1e-6) - loss_moved(-1e-6)) / 2e-6
lesson.claim(
    f"slope along one direction through {sum(w.numel() for w in weights)} weights", along, numeric, tolerance=1e-6
)

# %%
# Where this lives
# ----------------

lesson.lives(gradcheck, lines=45)

# %%
# Exercise
# --------


def check(f):
    return abs(f(np.sin, 1.0, 1e-3) - np.cos(1.0)) < 1e-9 and abs(f(np.exp, 0.5, 1e-3) - np.exp(0.5)) < 1e-9


def five_points(f, x, h):
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


@lesson.exercise(
    "The truncation error of slope(f, x, 2h) is four times that of slope(f, x, h). Combine the two so that it cancels, and "
    "return a slope whose error falls as h to the fourth power.",
    check=check,
    solution=five_points,
)
def better_slope(f, x, h): ...


# %%
lesson.say(
    """What still hurts: a check says that forward and backward agree, not that forward is what you meant. At a kink, such as
    ReLU at 0, there is no slope to compare with. And a gradient may be right and still useless: so small that nothing is
    learned. The next tutorial watches that happen."""
)
