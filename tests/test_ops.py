"""Every op on its own samples: reference in two dtypes, first and second derivative, inputs unchanged."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.op import REGISTRY, apply
from glassgrad.tensor import Tensor

CASES = [
    pytest.param(op, sample, id=f"{op.name}-{i}")
    for op in REGISTRY.values()
    for i, sample in enumerate(op.samples(np.random.default_rng(0)))
]


def tensors(sample, dtype, requires_grad=False):
    made = []
    for x in sample.inputs:
        t = gg.tensor(x, dtype=dtype if np.asarray(x).dtype.kind == "f" else None)
        made.append(t.requires_grad_() if requires_grad and t.is_floating_point() else t)
    return made


@pytest.mark.parametrize(("op", "sample"), CASES)
@pytest.mark.parametrize("dtype", [gg.float32, gg.float64], ids=str)
def test_forward(op, sample, dtype):
    inputs = tensors(sample, dtype)
    before = [t.data.copy() for t in inputs]
    y = apply(op, *inputs, **sample.static)
    assert isinstance(y, Tensor)
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in before]
        expected = np.asarray(op.reference(*wide, **sample.static))
        expected = expected.astype(y.dtype)
    assert y.shape == expected.shape
    if sample.name != "edges":
        np.testing.assert_allclose(y.data, expected, rtol=16 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).eps)
    for t, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(t.data, kept)


@pytest.mark.parametrize(("op", "sample"), [c for c in CASES if c.values[0].differentiable and c.values[1].differentiable])
def test_derivatives(op, sample):
    inputs = tensors(sample, gg.float64, requires_grad=True)
    assert gg.gradcheck(lambda *xs: apply(op, *xs, **sample.static), inputs)
    y = apply(op, *inputs, **sample.static)
    if y.requires_grad:
        first = gg.autograd.grad(
            y, [t for t in inputs if t.requires_grad], gg.ones_like(y), create_graph=True, allow_unused=True
        )
        if any(g is not None and g.requires_grad for g in first):
            assert gg.gradgradcheck(lambda *xs: apply(op, *xs, **sample.static), inputs, atol=1e-4)
