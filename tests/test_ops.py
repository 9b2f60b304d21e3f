"""Every op on its own samples, on every backend: values, memory layouts, first and second derivative, fused against composed."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import backends
from glassgrad.compare import compare_op, ulps
from glassgrad.op import REGISTRY, apply

CASES = [
    pytest.param(op, sample, id=f"{op.name}-{sample.name or i}")
    for op in REGISTRY.values()
    for i, sample in enumerate(op.samples(np.random.default_rng(0)))
]
DIFFERENTIABLE = [c for c in CASES if c.values[0].differentiable and c.values[1].differentiable]
FUSED = [c for c in DIFFERENTIABLE if c.values[0].fused_vjp]
DTYPES = [gg.float32, gg.float64]


def arrays_of(sample, dtype):
    """The sample's arrays with floats in ``dtype``."""
    with np.errstate(all="ignore"):
        return [
            x if x is None else np.asarray(x).astype(dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x)
            for x in sample.inputs
        ]


def tensors_of(arrays, requires_grad=False):
    tensors = [x if x is None else gg.from_numpy(x) for x in arrays]
    if requires_grad:
        for t in tensors:
            if t is not None and t.is_floating_point():
                t.requires_grad_()
    return tensors


def results_of(op, sample, tensors):
    result = apply(op, *tensors, **sample.static)
    return list(result) if isinstance(result, tuple) else [result]


def reversed_strides(x):
    return np.flip(np.flip(x).copy()) if x.ndim else x


def every_second(x):
    wide = np.empty((*x.shape[:-1], 2 * x.shape[-1]) if x.ndim else (2,), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2] if x.ndim else wide[0, ...]


def misaligned(x):
    copy = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def column_major(x):
    return x.copy(order="F")


@pytest.mark.parametrize(("op", "sample"), CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward(op, sample, dtype, backend):
    arrays = arrays_of(sample, dtype)
    kept = [None if x is None else x.copy() for x in arrays]
    results = results_of(op, sample, tensors_of(arrays))

    wide = [x if x is None or x.dtype.kind != "f" else x.astype(np.float64) for x in kept]
    with np.errstate(all="ignore"):
        truth = op.reference(*wide, **sample.static)
    truth = truth[0] if op.extras else truth
    truth = list(truth) if op.multi else [truth]
    for y, expected in zip(results, truth, strict=True):
        # The reference in float32 rounds at every step of its formula; the kernel keeps to the op's own bound.
        bound = op.ulps if backend != "reference" else 8 * op.ulps
        assert y.shape == np.shape(expected)
        assert ulps(y.data, np.asarray(expected), dtype, pointwise=op.pointwise) <= bound
    for x, before in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(x, before, err_msg="an input was changed")


@pytest.mark.parametrize("layout", [reversed_strides, every_second, misaligned, column_major], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("op", "sample"), CASES)
def test_any_memory_layout_gives_the_same_values(op, sample, layout, backend):
    arrays = arrays_of(sample, np.float32)
    plain = results_of(op, sample, tensors_of(arrays))
    laid_out = results_of(op, sample, tensors_of([x if x is None else layout(x) for x in arrays]))
    for a, b in zip(plain, laid_out, strict=True):
        assert (
            ulps(
                b.data,
                a.data.astype(np.float64) if a.is_floating_point() else a.data,
                np.float32,
                pointwise=op.pointwise,
            )
            <= 4
        )


@pytest.mark.parametrize(("op", "sample"), DIFFERENTIABLE)
def test_first_derivative(op, sample, backend):
    tensors = tensors_of(arrays_of(sample, np.float64), requires_grad=True)
    assert gg.gradcheck(lambda *xs: apply(op, *xs, **sample.static), tensors)


@pytest.mark.parametrize(("op", "sample"), DIFFERENTIABLE)
def test_second_derivative(op, sample, backend):
    tensors = tensors_of(arrays_of(sample, np.float64), requires_grad=True)
    assert gg.gradgradcheck(lambda *xs: apply(op, *xs, **sample.static), tensors, atol=1e-4)


@pytest.mark.parametrize(("op", "sample"), FUSED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fused_derivative_equals_the_composed_one(op, sample, dtype, backend):
    tensors = tensors_of(arrays_of(sample, dtype), requires_grad=True)
    wanted = [t for t in tensors if t is not None and t.requires_grad]
    ys = results_of(op, sample, tensors)
    dys = [gg.from_numpy(np.cos(1.0 + np.arange(y.numel())).reshape(y.shape).astype(dtype)) for y in ys]
    composed = gg.autograd.grad(ys, wanted, dys, create_graph=True)
    fused = gg.autograd.grad(ys, wanted, dys)
    for a, b in zip(fused, composed, strict=True):
        assert a.dtype == dtype
        assert ulps(a.data, b.data.astype(np.float64), dtype, pointwise=False) <= 6 * op.ulps


@pytest.mark.parametrize("op", REGISTRY.values(), ids=str)
@pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")
def test_compare_is_green(op):
    row = compare_op(op)
    assert row.ok, f"forward {row.forward}, backward {row.backward}, bound {op.ulps}"


@pytest.mark.parametrize("op", REGISTRY.values(), ids=str)
def test_an_op_says_what_it_computes(op):
    assert op.doc.startswith(f"{op.name}:"), "the doc begins with the op's name and its formula"
    assert next(iter(op.samples(np.random.default_rng(0))), None) is not None
