"""From numbers to arrays
======================

A layer of 64 neurons with 64 inputs multiplies 4096 times for every example it sees. Must backprop keep 4096 small rules,
or does one short rule give all those slopes at once?

An *array* is numbers in rows and columns; its *shape* says how many of each. Here the rules of the last tutorial are added
up over whole arrays, until what is left is two lines that hold for every layer of every network.
"""

import time

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import lesson
from glassgrad.op import REGISTRY

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# A layer is sums of products
# ---------------------------
#
# The *matrix product* ``y = a @ b`` takes a row of ``a`` and a column of ``b``, multiplies them entry by entry, and adds up:
#
# .. math:: y_{ij} = \sum_k a_{ik} b_{kj}
#
# In ``a`` a row may be an example, in ``b`` a column the weights of a neuron. Backward gets ``dy``: the slope of the loss
# in every entry of ``y``. Each product gives each of its factors *the other factor*, times the ``dy`` of the sum it went
# into. A factor that is used many times collects many such shares: hence ``+=``.


def matmul(a, b):
    y = np.zeros((a.shape[0], b.shape[1]))
    for i, j, k in np.ndindex(*y.shape, len(b)):
        y[i, j] += a[i, k] * b[k, j]
    return y


def matmul_backward(dy, a, b):
    da, db = np.zeros_like(a), np.zeros_like(b)
    for i, j, k in np.ndindex(*dy.shape, len(b)):
        da[i, k] += dy[i, j] * b[k, j]
        db[k, j] += a[i, k] * dy[i, j]
    return da, db


# %%
# Both lines of the backward loop are sums of products again: they are matrix products themselves, with one factor lying on
# its side. ``b.T``, the *transpose* of ``b``, is ``b`` with rows and columns exchanged. Shapes alone tell which product it is.

a, b = (gg.randn(*shape, dtype=gg.float64, requires_grad=True) for shape in ((2, 3), (3, 4)))
y = a @ b
dy = gg.randn(2, 4, dtype=gg.float64)
y.backward(dy)
da, db = matmul_backward(dy.numpy(), a.detach().numpy(), b.detach().numpy())

guesses = {"dy @ b": (dy, b), "b.T @ dy": (b.T, dy), "dy @ b.T": (dy, b.T)}
fits = [p.shape[1] == q.shape[0] and (p.shape[0], q.shape[1]) == a.shape for p, q in guesses.values()]
lesson.predict(
    "a is (2, 3), b is (3, 4), so y and dy are (2, 4). Which product is the gradient of a, which has the shape of a?",
    list(guesses),
    answer=fits.index(True),
    because="a gradient always has the shape of its array, and (2, 4) @ (4, 3) is the only one of these that is (2, 3).",
)


def largest_gap(p, q):
    return float(np.abs(np.asarray(p) - np.asarray(q)).max())


with gg.no_grad():
    lesson.claim(
        "y: loops against glassgrad, largest gap", largest_gap(matmul(a.numpy(), b.numpy()), y), 1e-12, compare="<"
    )
    lesson.claim("da: dy @ b.T against the loops", largest_gap(dy @ b.T, da), 1e-12, compare="<")
    lesson.claim("db: a.T @ dy against the loops", largest_gap(a.T @ dy, db), 1e-12, compare="<")
lesson.claim("a.grad of glassgrad against the loops", largest_gap(a.grad, da), 1e-12, compare="<")

# %%
# The table that nobody builds
# ----------------------------
#
# Every entry of ``y`` has a slope in every entry of ``a``: together a table, the *Jacobian*. One backward pass from a single
# entry of ``y`` gives one row of it. Most of it is zero, since an entry of ``y`` sees one row of ``a`` only; the rest is
# ``b.T``, again and again. ``dy @ b.T`` does its work without it.


def jacobian(m, k, n):
    """d y / d a, one row per entry of y, for y = a @ b of shapes (m, k) and (k, n)."""
    a, b = gg.randn(m, k, requires_grad=True), gg.randn(k, n)
    rows = [gg.autograd.grad(entry, a, retain_graph=True)[0].flatten() for entry in (a @ b).flatten()]
    return gg.stack(rows).numpy()


sizes = np.arange(2, 8)
tables = [jacobian(n, n, n) for n in sizes]
lesson.claim(
    "share of the table that is not zero, 7 x 7 arrays",
    (tables[-1] != 0).mean(),
    1 / 7,
    tolerance=1e-12,
    formula="1 / n",
)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(1, 1.35))
table = jacobian(2, 3, 4)
reach = np.abs(table).max()
image = left.imshow(np.where(table == 0, np.nan, table), cmap="PuOr", vmin=-reach, vmax=reach)
left.set_xticks(range(6), [f"a[{i},{k}]" for i in range(2) for k in range(3)], rotation=60)
left.set_yticks(range(8), [f"y[{i},{j}]" for i in range(2) for j in range(4)])
left.set_title("slope of each y in each a (blank: always 0)", size=9)
left.grid(False)
figure.colorbar(image, ax=left, shrink=0.8)
every = 2.0 ** np.arange(1, 11)
for power, colour, text in ((4, "#d55e00", "the table: n⁴"), (3, "#0072b2", "not zero in it: n³")):
    right.plot(every, every**power, "--", color=colour, lw=1, label=f"{text}")
right.plot(sizes, [t.size for t in tables], "^", color="#d55e00", ms=6, label="its entries, counted")
right.plot(sizes, [np.count_nonzero(t) for t in tables], "v", color="#0072b2", ms=6, label="not zero, counted")
right.plot(every, 2 * every**2, color="#009e73", lw=1.5, label="what backward returns: 2 n²")
right.set(xscale="log", yscale="log", xlabel="n, for arrays of n rows and n columns", ylabel="how many numbers")
right.set_xticks([2, 8, 32, 128, 512], ["2", "8", "32", "128", "512"])
right.legend()
lesson.picture(
    figure, "jacobian", alt="The table of slopes, two blocks and the rest empty, and its size, n to the fourth power."
)

# %%
# What arrays buy
# ---------------
#
# The loop above is Python, about a tenth of a microsecond and more for each product. One call of a kernel does them all.
# (A *kernel* is the compiled function behind an operation.) The dashed line grows as :math:`n^3`, the number of products.


def seconds(f, *arguments):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        f(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


sizes = np.array([4, 8, 16, 32])
pairs = [(gg.randn(n, n), gg.randn(n, n)) for n in sizes]
loops = np.array([seconds(matmul, p.numpy(), q.numpy()) for p, q in pairs])
kernel = np.array([seconds(gg.matmul, p, q) for p, q in pairs])
lesson.claim("32 x 32: time of the loops over time of the kernel", loops[-1] / kernel[-1], 50, compare=">")

figure, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
ax.plot(sizes, loops * 1e6, "^", color="#d55e00", label="loops in Python")
ax.plot(sizes, loops[-1] * 1e6 * (sizes / 32.0) ** 3, "--", color="#d55e00", lw=1, label="n³")
ax.plot(sizes, kernel * 1e6, "v-", color="#0072b2", label="one kernel")
ax.set(
    xscale="log",
    yscale="log",
    xlabel="n, for arrays of n rows and n columns",
    ylabel="time of one product, µs",
    ylim=(0.3, None),
)
ax.set_xticks(sizes, map(str, sizes))
ax.minorticks_off()
ax.legend()
lesson.picture(figure, "time", alt="Loops take n cubed time; the time of the kernel hardly grows up to n = 32.")

# %%
# Where this lives
# ----------------
#
# The two rules, as glassgrad writes them: one per input, and each says what it wants to be kept.

for rule in REGISTRY["matmul"].rules:
    lesson.lives(rule.f, lines=5)

# %%
# Exercise
# --------


def check(f):
    x, w = (gg.randn(*shape, requires_grad=True) for shape in ((5, 3), (4, 3)))
    dy = gg.randn(5, 4)
    (x @ w.T).backward(dy)
    dx, dw = f(dy, x.detach(), w.detach())
    return np.allclose(dx, x.grad, atol=1e-5) and np.allclose(dw, w.grad, atol=1e-5)


@lesson.exercise(
    "A linear layer stores its weights as (out, in): y = x @ w.T. Return its two gradients (dx, dw) from dy, x and w.",
    check=check,
    solution=lambda dy, x, w: (dy @ w, dy.T @ x),
)
def linear_backward(dy, x, w): ...


# %%
lesson.say(
    """What still hurts: a layer also adds a bias, one number per neuron, to every example. The shapes (64, 10) and (10,) are
    not the same, and still the sum works. What is its gradient? The next tutorial."""
)
