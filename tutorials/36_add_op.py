r"""Add an op in every layer
========================

An *op* is one step of a computation that knows its own slope: ``tanh``, ``softmax``, a matrix product. This library has more
than a hundred. What must be written for one more, before it is right everywhere, checked, and fast?

We add *squareplus* (Barron 2021), a smooth ReLU without any exponential: :math:`y = (x + \sqrt{x^2 + 4}) / 2`. The recipe for
the library itself is in ``CONTRIBUTING.md``; here its steps are taken one by one, with a look at what each brings.
"""

import time

import numpy as np
from matplotlib import pyplot as plt

import glassgrad as gg
from glassgrad import backends, gradcheck, gradgradcheck, lesson, nn
from glassgrad.compare import compare_op
from glassgrad.locate import places
from glassgrad.op import REGISTRY, Op, Sample, apply

plt.style.use("glassgrad.demo.glassgrad")
gg.manual_seed(0)

# %%
# First the maths: what does the formula fear?
# --------------------------------------------
#
# Typed as it stands the formula has a weak place. Far to the left the answer is about ``1 / |x|``, and it is computed as the
# difference of two numbers of size ``|x|``, which cancel. In float32 such numbers are known to ``eps |x|`` only.


def typed_as_it_stands(x):
    return (x + np.sqrt(x * x + 4)) / 2


far = typed_as_it_stands(np.float32([-10_000])).item()
lesson.predict(
    "In float32, at x = -10000, where squareplus is 0.0001: what does the formula give?",
    ["0.0001", "0.000122, a fifth too much", "0"],
    answer=int(np.argmin([abs(far - guess) for guess in (1e-4, 1.22e-4, 0)])),
    because="x² + 4 rounds to x², for 4 is less than the spacing of numbers near 10⁸. The root is 10000, and nothing is left.",
)

# %%
# Layer 1: the reference, a derivative, samples
# ---------------------------------------------
#
# With :math:`r = \sqrt{x^2 + 4}`, the product of ``(r + |x|) / 2`` and ``(r - |x|) / 2`` is 1. So the small one is one over the large
# one, and nothing cancels. The derivative is ``y / r``: a rule says by its argument names what it wants to be kept, here
# ``x`` and ``y``. Samples are the values that tests, comparisons and benchmarks will use: plain ones, and the weak places.


def reference(x):
    large = (np.hypot(x, 2) + np.abs(x)) / 2
    return np.where(x > 0, large, 1 / large).astype(x.dtype)


def rule(dy, x, y):
    return dy * y / (x * x + 4).sqrt()


def samples(rng):
    yield Sample((3 * rng.standard_normal(17),))
    yield Sample((np.array([-1e3, -40.0, 0.0, 40.0, 1e3]),), name="far out")
    yield Sample((np.array([-np.inf, np.inf, np.nan, -1e30, 1e30]),), differentiable=False)
    yield Sample((np.zeros((0, 3)),), name="empty")


op = Op(
    "squareplus", reference, vjps=(rule,), samples=samples, pointwise=True, doc="squareplus: (x + sqrt(x^2 + 4)) / 2."
)

# %%
# Layer 2: a function
# -------------------
#
# ``apply`` runs the op on the backend in use, and remembers how, if an input wants a gradient. That is enough to train with.


def squareplus(x):
    return apply(op, x)


x = gg.linspace(-6, 6, 49, dtype=gg.float64).requires_grad_()
y = squareplus(x)
(slope,) = gg.autograd.grad(y.sum(), x, create_graph=True)
(bend,) = gg.autograd.grad(slope.sum(), x)
lesson.claim("squareplus(0)", y[24].item(), 1.0, tolerance=1e-12, source="Barron 2021")
lesson.claim("its slope at 0", slope[24].item(), 0.5, tolerance=1e-12, formula="(1 + x / r) / 2")
lesson.claim("the slope of the slope at 0", bend[24].item(), 0.25, tolerance=1e-12, formula="2 / r³")

inputs = gg.randn(256, 2)
labels = (inputs.square().sum(1) < 1.4).long()  # inside a circle, or not
w1, w2 = (gg.randn(*shape, requires_grad=True) for shape in ((2, 16), (16, 2)))
optimizer = gg.optim.Adam([w1, w2], lr=0.05)
for _ in range(150):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(squareplus(inputs @ w1) @ w2, labels)
    loss.backward()
    optimizer.step()
lesson.claim("loss of a net that uses it; guessing would be 0.69", loss.item(), 0.35, compare="<")

# %%
# Layer 3: the checks, which nobody had to write
# ----------------------------------------------
#
# They run on the samples: first and second derivative against differences, and each backend against the reference, in
# *ulps*: units of the last binary digit.

for sample in op.samples(np.random.default_rng(0)):
    if sample.differentiable:
        point = gg.tensor(sample.inputs[0], requires_grad=True)
        assert gradcheck(squareplus, point) and gradgradcheck(squareplus, point)
backend = backends.current().name
found = compare_op(op, backend)
lesson.claim("float32 against the reference in float64, ulps", found.forward["float32"], op.ulps, compare="<")
print(f"  a kernel of its own on the backend {backend!r}: {found.native}")

far_left = -(10.0 ** np.linspace(0, 6, 61))
truth = reference(far_left)
naive, stable = (np.abs(f(far_left.astype(np.float32)) / truth - 1) for f in (typed_as_it_stands, reference))
eps = np.finfo(np.float32).eps
lesson.claim("largest relative error of the reference, in eps", stable.max() / eps, 4, compare="<")
lesson.claim(
    "of the formula as it stands, over eps x² / 4", (naive / (eps * far_left**2 / 4))[5:].max(), 2, compare="<"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
at, r = x.detach().numpy(), np.sqrt(x.detach().numpy() ** 2 + 4)
for value, theory, colour, marker, name in (
    (y, (at + r) / 2, "#1b1f24", "o", "y"),
    (slope, (1 + at / r) / 2, "#0072b2", "v", "first derivative"),
    (bend, 2 / r**3, "#d55e00", "^", "second"),
):
    left.plot(at, theory, "--", color=colour, lw=1)
    left.plot(at[::2], value.detach().numpy()[::2], marker, color=colour, ms=4, label=name)
left.set(xlabel="x", ylabel="squareplus, by the new op (dashes: paper)", ylim=(-0.3, 6.3))
left.legend()
right.plot(-far_left, naive, "^", color="#d55e00", ms=4, label="typed as it stands")
right.plot(-far_left, np.minimum(eps * far_left**2 / 4, 1), "--", color="#d55e00", lw=1, label="up to eps x² / 4")
right.plot(-far_left, stable, "v", color="#0072b2", ms=4, label="reference")
right.axhline(eps, color="#0072b2", ls="--", lw=1, label="eps of float32")
right.set(xscale="log", yscale="log", ylim=(1e-9, 3), xlabel="how far left: -x", ylabel="relative error in float32")
right.legend(fontsize=8)
lesson.picture(
    figure, "squareplus", alt="Value and slopes on their formulas; the plain formula's error grows as x squared."
)

# %%
# Layer 4: where its kernel would go
# ----------------------------------
#
# So far it runs on NumPy, which walks through memory once per operation. For speed: a C++ struct with the formula ``f`` and
# its derivative ``df``, and its name in one list; the vector loop, the threads and the binding come from the list. Its
# neighbour softplus has the whole column already:

for place in places("softplus"):
    print(f"  {place.what:24} {place.file}:{place.line}")


def nanoseconds(f, n):
    """Time per number."""
    x = gg.randn(n)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        f(x)
        times.append(time.perf_counter() - start)
    return 1e9 * min(times) / n


sizes = [4**k for k in range(3, 11)]
figure, ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
ax.plot(sizes, [nanoseconds(squareplus, n) for n in sizes], "^-", color="#d55e00", label="squareplus, NumPy reference")
ax.plot(
    sizes, [nanoseconds(gg.softplus, n) for n in sizes], "v-", color="#0072b2", label=f"softplus, backend {backend}"
)
ax.set(xscale="log", yscale="log", xlabel="numbers in the array", ylabel="time per number, ns")
ax.legend()
lesson.picture(figure, "speed", alt="Time per number by array size: softplus, with a kernel, is several times faster.")

# %%
# Where this lives
# ----------------
#
# The only place where the graph meets a backend.

lesson.lives(apply, lines=33)

# %%
# Exercise
# --------


def check(f):
    x = gg.linspace(-2, 2, 9, dtype=gg.float64).requires_grad_()
    y = x / (1 + x * x).sqrt()
    dy = gg.arange(9, dtype=gg.float64)
    y.backward(dy)
    return np.allclose(f(dy, y.detach()), x.grad)


@lesson.exercise(
    "y = x / sqrt(1 + x²) has the derivative (1 + x²)^(-3/2). Write its rule from dy and y alone, so that x need not be kept. "
    "Hint: 1 - y² = 1 / (1 + x²).",
    check=check,
    solution=lambda dy, y: dy * (1 - y * y) ** 1.5,
)
def rule_from_output(dy, y): ...


# %%
del REGISTRY["squareplus"]  # the lesson leaves the library as it was
lesson.say(
    """What still hurts: two truths. The formula stands in Python for everyone to read, and would stand in C++ again to be fast.
    Nothing but the comparison, sample by sample, holds the two together; so a sample that nobody thought of is a mistake
    that nobody sees."""
)
