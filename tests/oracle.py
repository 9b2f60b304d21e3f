"""The same lines of code on glassgrad and on PyTorch: values, dtypes, shapes, gradients and refusals must agree."""

import numpy as np
import pytest

import glassgrad as gg
from glassgrad.errors import GlassgradError


def agree(f, *arrays, rtol=1e-6, gradients=True):
    """``f(lib, *tensors)`` gives the same results and gradients with gg and with torch as ``lib``."""
    torch = pytest.importorskip("torch")
    ours, theirs = [gg.tensor(np.array(a)) for a in arrays], [torch.tensor(np.array(a)) for a in arrays]
    wanted = [i for i, a in enumerate(ours) if a.is_floating_point() and gradients]
    for i in wanted:
        ours[i].requires_grad_()
        theirs[i].requires_grad_()
    got, expected = _flat(f(gg, *ours)), _flat(f(torch, *theirs))
    assert len(got) == len(expected)
    for y, t in zip(got, expected, strict=True):
        _compare(y, t, rtol)
    paths = [(y, t) for y, t in zip(got, expected, strict=True) if getattr(t, "requires_grad", False)]
    assert [y.requires_grad for y, _ in paths] == [True] * len(paths)
    if not paths:
        assert not any(getattr(y, "requires_grad", False) for y in got)
        return
    weights = [np.cos(1.0 + np.arange(y.numel())).reshape(y.shape).astype(y.dtype) for y, _ in paths]
    dxs = gg.autograd.grad(
        [y for y, _ in paths], [ours[i] for i in wanted], [gg.tensor(w) for w in weights], allow_unused=True
    )
    dts = torch.autograd.grad(
        [t for _, t in paths], [theirs[i] for i in wanted], [torch.tensor(w) for w in weights], allow_unused=True
    )
    for dx, dt in zip(dxs, dts, strict=True):
        if dx is None or dt is None:  # None and zeros mean the same
            assert not np.any([0.0 if g is None else g.detach().numpy().any() for g in (dx, dt)])
        else:
            _compare(dx, dt, rtol)


def both_refuse(f, *arrays):
    """PyTorch refuses, and glassgrad does so with an exception that code written for PyTorch catches. Returns it."""
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as theirs:
        f(torch, *[torch.tensor(np.array(a)) for a in arrays])
    with pytest.raises(GlassgradError) as ours:
        f(gg, *[gg.tensor(np.array(a)) for a in arrays])
    assert isinstance(ours.value, theirs.type), f"{ours.type} is no {theirs.type}"
    return str(ours.value)


def _flat(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _compare(y, t, rtol):
    if not isinstance(y, gg.Tensor):
        assert y == t
        return
    assert y.shape == tuple(t.shape)
    assert str(y.dtype) == str(t.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=rtol, atol=rtol)


TOLERANCE = {np.dtype("float32"): 2e-6, np.dtype("float64"): 1e-13}


def same_as_torch(torch, ours, theirs, *arrays, tolerance=1.0):
    """Whether ``ours`` and ``theirs`` give equal values, and equal gradients of every floating array.

    Errors are measured against the largest finite number of each result (or 1), in units of the dtype's TOLERANCE.
    """
    mine = [None if x is None else gg.from_numpy(x.copy()) for x in arrays]
    other = [None if x is None else torch.from_numpy(x.copy()) for x in arrays]
    wanted = [i for i, x in enumerate(arrays) if x is not None and x.dtype.kind == "f"]
    for i in wanted:
        mine[i].requires_grad_()
        other[i].requires_grad_()
    y, expected = ours(*mine), theirs(*other)
    assert y.dtype == expected.detach().numpy().dtype
    _close("the result", y.detach().numpy(), expected.detach().numpy(), tolerance)
    if not wanted:
        return
    dy = np.cos(1.0 + np.arange(y.numel())).reshape(y.shape).astype(y.dtype)
    y.backward(gg.from_numpy(dy.copy()))
    expected.backward(torch.from_numpy(dy))
    for i in wanted:
        dx, reference = mine[i].grad, other[i].grad
        if reference is None:
            assert dx is None, f"input {i} has a gradient here alone"
        else:
            _close(f"the gradient of input {i}", dx.numpy(), reference.numpy(), tolerance)


def _close(what, a, b, tolerance):
    assert a.shape == b.shape, what
    finite = np.abs(b[np.isfinite(b)])
    bound = tolerance * TOLERANCE[a.dtype]
    np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, finite.max(initial=0.0)), err_msg=what)
