"""Random programs: hypothesis writes them, PyTorch says what they should give."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, basic_indices, mutually_broadcastable_shapes

import glassgrad as gg

torch = pytest.importorskip("torch")

SETTINGS = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

UNARY = ["tanh", "sigmoid", "exp", "sin", "cos", "square", "neg", "relu", "erf", "log1p_abs", "sqrt_abs"]
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]
SHAPE = ["sum", "mean", "amax", "cumsum", "softmax", "transpose", "unsqueeze", "flip", "logsumexp", "index"]


def unary(lib, name, x):
    if name.endswith("_abs"):
        return getattr(lib, name.removesuffix("_abs"))(lib.abs(x) + 0.5)
    return getattr(lib, name)(x)


def reshaping(lib, name, x, dim):
    if not x.ndim:
        return x
    if name in ("sum", "mean", "amax", "logsumexp"):
        return getattr(lib, name)(x, dim)
    if name == "cumsum":
        return lib.cumsum(x, dim)
    if name == "softmax":
        return lib.softmax(x, dim=dim)
    if name == "transpose":
        return x.transpose(dim, -1)
    if name == "unsqueeze":
        return x.unsqueeze(dim)
    if name == "flip":
        return lib.flip(x, (dim,))
    return x[..., :1] if dim else x[-1]


@st.composite
def programs(draw):
    """Two inputs whose shapes broadcast, and up to six steps; each step uses what the last one made."""
    shapes = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=1, max_side=4)).input_shapes
    elements = st.floats(-2, 2, width=32).map(lambda v: round(v, 3))
    inputs = [draw(arrays(np.float64, shape, elements=elements)) for shape in shapes]
    steps = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("unary"), st.sampled_from(UNARY)),
                st.tuples(st.just("binary"), st.sampled_from(BINARY)),
                st.tuples(st.just("shape"), st.sampled_from(SHAPE), st.integers(0, 2)),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return inputs, steps


def run(lib, make, inputs, steps):
    leaves = [make(x).requires_grad_() for x in inputs]
    x, other = leaves
    for kind, name, *rest in steps:
        if kind == "unary":
            x = unary(lib, name, x)
        elif kind == "binary":
            try:
                x = getattr(lib, name)(x, other + 3 if name == "div" else other)
            except (RuntimeError, ValueError):
                continue  # a shape step came before: both libraries refuse alike, or the gradients below differ
        else:
            x = reshaping(lib, name, x, min(rest[0], max(x.ndim - 1, 0)))
    x.sum().backward()
    return x, [leaf.grad for leaf in leaves]


@SETTINGS
@given(programs())
def test_a_program_gives_pytorchs_values_and_gradients(backend, program):
    inputs, steps = program
    y, grads = run(gg, lambda x: gg.from_numpy(x.copy()), inputs, steps)
    expected, wanted = run(torch, lambda x: torch.from_numpy(x.copy()), inputs, steps)
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(grads, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-7, atol=1e-9)


@SETTINGS
@given(st.data())
def test_basic_indexing_reads_writes_and_differentiates_as_numpy_does(backend, data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    index = data.draw(basic_indices(shape, allow_newaxis=True, max_dims=6))
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = gg.from_numpy(array.copy()).requires_grad_()
    y = x[index]
    np.testing.assert_array_equal(y.detach().numpy(), array[index])
    y.sum().backward()
    expected = np.zeros(shape)
    expected[index] = 1
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    written, wanted = gg.from_numpy(array.copy()), array.copy()
    written[index] = -1.0
    wanted[index] = -1.0
    np.testing.assert_array_equal(written.numpy(), wanted)


@SETTINGS
@given(
    st.lists(st.sampled_from(["bool", "uint8", "int32", "int64", "float32", "float64"]), min_size=2, max_size=2),
    st.data(),
)
def test_promotion_is_pytorchs(names, data):
    dims = [data.draw(st.integers(0, 1)) for _ in names]
    ours = [gg.ones(*([2] * d), dtype=n) if d else gg.tensor(1, dtype=n) for n, d in zip(names, dims, strict=True)]
    theirs = [torch.ones([2] * d, dtype=getattr(torch, n)) for n, d in zip(names, dims, strict=True)]
    assert str(gg.add(*ours).dtype) == str(torch.add(*theirs).dtype).removeprefix("torch.")
    assert str(gg.div(*ours).dtype) == str(torch.div(*theirs).dtype).removeprefix("torch.")
    for number in (2, 2.5):
        assert str((ours[0] * number).dtype) == str((theirs[0] * number).dtype).removeprefix("torch.")
