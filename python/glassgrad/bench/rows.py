"""What memory limits: element-wise ops, reductions, norms, losses, pooling, look-ups and optimizer steps.

Arrays are larger than the last private cache. Bytes are those the formula must move: every input read once, every result
written once, nothing for what a kernel reads twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import nn, optim
from .case import Case, Runs, tensor_libraries

_ROWS, _COLS = 4096, 2048  # 32 MiB of float32


@dataclass(frozen=True)
class _Form:
    """``f(functional, *tensors)``, timed forward, or forward and backward from a gradient of ones."""

    name: str
    f: Callable
    arrays: tuple[np.ndarray, ...]
    bytes: float
    numpy: Callable | None = None
    backward: bool = False


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for family in (_elementwise, _reductions, _short_rows, _softmaxes, _norms, _images, _look_ups):
        for form in family(rng):
            yield _case(form, libraries)
    yield from _optimizers(rng, libraries)


def _case(form: _Form, libraries: dict[str, Any]) -> Case:
    runs: Runs = {}
    for library, tensor, functional in tensor_libraries(libraries):
        tensors = [tensor(a) for a in form.arrays]
        if form.backward:
            leaves = [t.requires_grad_() for t, a in zip(tensors, form.arrays, strict=True) if a.dtype.kind == "f"]
            dy = tensor(np.ones(tuple(form.f(functional, *tensors).shape), np.float32))
            runs[library] = partial(_forward_backward, partial(form.f, functional, *tensors), leaves, dy)
        else:
            runs[library] = partial(form.f, functional, *tensors)
    if form.numpy and "numpy" in libraries:
        runs["numpy"] = partial(form.numpy, *form.arrays)
    suffix = " forward + backward" if form.backward else ""
    return Case("rows", form.name + suffix, runs, bytes=float(form.bytes))


def _forward_backward(f, leaves, dy):
    for leaf in leaves:
        leaf.grad = None
    f().backward(dy)


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def _elementwise(rng) -> Iterator[_Form]:
    x, other, row, column = (_normal(rng, *s) for s in ((_ROWS, _COLS), (_ROWS, _COLS), (_COLS,), (_ROWS, 1)))
    positive, mask, n = np.abs(x) + 0.1, x > 0, x.nbytes
    yield _Form("add", lambda f, a, b: a + b, (x, other), 3 * n, np.add)
    yield _Form("add a number", lambda f, a: a + 1.5, (x,), 2 * n, lambda a: a + np.float32(1.5))
    yield _Form("mul by a row", lambda f, a, b: a * b, (x, row), 2 * n, np.multiply)
    yield _Form("mul by a column", lambda f, a, b: a * b, (x, column), 2 * n, np.multiply)
    yield _Form("div", lambda f, a, b: a / b, (x, positive), 3 * n, np.divide)
    yield _Form("pow of two arrays", lambda f, a, b: a**b, (positive, x), 3 * n, np.power)
    yield _Form("pow 3", lambda f, a: a**3, (x,), 2 * n)
    yield _Form("compare", lambda f, a, b: a > b, (x, other), 2.25 * n, np.greater)
    yield _Form("where", lambda f, m, a, b: a.where(m, b), (mask, x, other), 3.25 * n, np.where)
    yield _Form("sqrt", lambda f, a: a.sqrt(), (positive,), 2 * n, np.sqrt)
    yield _Form("log", lambda f, a: a.log(), (positive,), 2 * n, np.log)
    for name, ufunc in (("exp", np.exp), ("sin", np.sin), ("tanh", np.tanh)):
        yield _Form(name, lambda f, a, name=name: getattr(a, name)(), (x,), 2 * n, ufunc)
    yield _Form("erf", lambda f, a: a.erf(), (x,), 2 * n)
    yield _Form("gelu tanh", lambda f, a: f.gelu(a, approximate="tanh"), (x,), 2 * n)
    for name in ("relu", "sigmoid", "silu", "gelu", "softplus"):
        form = partial(lambda name, f, a: getattr(f, name)(a), name)
        yield _Form(name, form, (x,), 2 * n)
        yield _Form(name, form, (x,), 5 * n, backward=True)
    yield _Form("dropout", lambda f, a: f.dropout(a, 0.5, training=True), (x,), 2 * n)


def _reductions(rng) -> Iterator[_Form]:
    x = _normal(rng, _ROWS, _COLS)
    line, near_one, n = x.reshape(-1), 1 + x / _ROWS, x.nbytes
    yield _Form("sum of all", lambda f, a: a.sum(), (x,), n, np.sum)
    for dim, of in ((1, "rows"), (0, "columns")):
        yield _Form(f"sum of {of}", partial(lambda d, f, a: a.sum(d), dim), (x,), n, partial(np.sum, axis=dim))
        yield _Form(f"mean of {of}", partial(lambda d, f, a: a.mean(d), dim), (x,), n, partial(np.mean, axis=dim))
        yield _Form(f"var of {of}", partial(lambda d, f, a: a.var(d), dim), (x,), n)
        yield _Form(f"amax of {of}", partial(lambda d, f, a: a.amax(d), dim), (x,), n, partial(np.max, axis=dim))
        yield _Form(f"max of {of}", partial(lambda d, f, a: a.max(d), dim), (x,), n)
        yield _Form(f"argmax of {of}", partial(lambda d, f, a: a.argmax(d), dim), (x,), n, partial(np.argmax, axis=dim))
        yield _Form(
            f"prod of {of}", partial(lambda d, f, a: a.prod(d), dim), (near_one,), n, partial(np.prod, axis=dim)
        )
        yield _Form(f"logsumexp of {of}", partial(lambda d, f, a: a.logsumexp(d), dim), (x,), n)
        yield _Form(
            f"cumsum of {of}", partial(lambda d, f, a: a.cumsum(d), dim), (x,), 2 * n, partial(np.cumsum, axis=dim)
        )
    yield _Form("cumsum of one line", lambda f, a: a.cumsum(0), (line,), 2 * n, np.cumsum)


def _short_rows(rng) -> Iterator[_Form]:
    x = _normal(rng, 1 << 19, 15)
    n = x.nbytes
    for dim, of in ((1, "rows"), (0, "columns")):
        yield _Form(
            f"sum of {of} (2^19, 15)", partial(lambda d, f, a: a.sum(d), dim), (x,), n, partial(np.sum, axis=dim)
        )
        yield _Form(
            f"amax of {of} (2^19, 15)", partial(lambda d, f, a: a.amax(d), dim), (x,), n, partial(np.max, axis=dim)
        )
        yield _Form(f"argmax of {of} (2^19, 15)", partial(lambda d, f, a: a.argmax(d), dim), (x,), n)
    yield _Form("var of rows (2^19, 15)", lambda f, a: a.var(1), (x,), n)
    yield _Form("cumsum of rows (2^19, 15)", lambda f, a: a.cumsum(1), (x,), 2 * n, partial(np.cumsum, axis=1))
    yield _Form("softmax (2^19, 15)", lambda f, a: f.softmax(a, dim=1), (x,), 2 * n)
    yield _Form("layer_norm (2^19, 15)", lambda f, a: f.layer_norm(a, (15,)), (x,), 2 * n)
    few = _normal(rng, 64, 10)
    yield _Form("sum of rows (64, 10)", lambda f, a: a.sum(1), (few,), few.nbytes, partial(np.sum, axis=1))
    yield _Form("softmax (64, 10)", lambda f, a: f.softmax(a, dim=1), (few,), 2 * few.nbytes)


def _softmaxes(rng) -> Iterator[_Form]:
    x = _normal(rng, _ROWS, _COLS)
    n = x.nbytes
    for name in ("softmax", "log_softmax"):
        form = partial(lambda name, f, a: getattr(f, name)(a, dim=1), name)
        yield _Form(name, form, (x,), 2 * n)
        yield _Form(name, form, (x,), 5 * n, backward=True)
    yield _Form("softmax of columns", lambda f, a: f.softmax(a, dim=0), (x,), 2 * n)
    for rows, classes in ((4096, 1000), (64, 10)):
        logits, target = _normal(rng, rows, classes), rng.integers(0, classes, rows)
        yield _Form(
            f"cross_entropy ({rows}, {classes})", lambda f, a, t: f.cross_entropy(a, t), (logits, target),
            3 * logits.nbytes, backward=True,
        )  # fmt: skip


def _norms(rng) -> Iterator[_Form]:
    x, weight, bias = _normal(rng, _ROWS, _COLS), _normal(rng, _COLS), _normal(rng, _COLS)
    n = x.nbytes
    for backward, bytes_ in ((False, 2 * n), (True, 5 * n)):
        yield _Form(
            "layer_norm", lambda f, a, w, b: f.layer_norm(a, (_COLS,), w, b), (x, weight, bias), bytes_,
            backward=backward,
        )  # fmt: skip
        yield _Form("rms_norm", lambda f, a, w: f.rms_norm(a, (_COLS,), w), (x, weight), bytes_, backward=backward)
    images, of_channel = _normal(rng, 64, 64, 56, 56), _normal(rng, 64)
    flat, of_feature = _normal(rng, 8192, 256), _normal(rng, 256)
    for name, a, w in (
        ("batch_norm (64, 64, 56, 56)", images, of_channel),
        ("batch_norm (8192, 256)", flat, of_feature),
    ):
        normalise = lambda f, a, w, b: f.batch_norm(a, None, None, w, b, training=True)  # noqa: E731
        yield _Form(name, normalise, (a, w, w), 2 * a.nbytes)
        yield _Form(name, normalise, (a, w, w), 5 * a.nbytes, backward=True)
    mean, var = np.zeros(64, np.float32), np.ones(64, np.float32)
    yield _Form(
        "batch_norm eval (64, 64, 56, 56)", lambda f, a, m, v, w: f.batch_norm(a, m, v, w, w), (images, mean, var, of_channel),
        2 * images.nbytes,
    )  # fmt: skip


def _images(rng) -> Iterator[_Form]:
    x = _normal(rng, 64, 64, 56, 56)
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1)):
        for name in ("max_pool2d", "avg_pool2d"):
            form = partial(
                lambda name, k, s, p, f, a: getattr(f, name)(a, k, stride=s, padding=p), name, kernel, stride, padding
            )
            yield _Form(f"{name} {kernel}x{kernel} s{stride}", form, (x,), 1.25 * x.nbytes)
            yield _Form(f"{name} {kernel}x{kernel} s{stride}", form, (x,), 2.5 * x.nbytes, backward=True)


def _look_ups(rng) -> Iterator[_Form]:
    table, index = _normal(rng, 50000, 128), rng.integers(0, 50000, 65536)
    n = 4.0 * len(index) * table.shape[1]
    yield _Form("embedding", lambda f, i, w: f.embedding(i, w), (index, table), 2 * n)
    yield _Form("embedding", lambda f, i, w: f.embedding(i, w), (index, table), 4 * n + table.nbytes, backward=True)
    x = _normal(rng, _ROWS, _COLS)
    rows, places = rng.permutation(_ROWS), rng.integers(0, _COLS, x.shape)
    yield _Form("index_select rows", lambda f, a, i: a.index_select(0, i), (x, rows), 2 * x.nbytes, lambda a, i: a[i])
    yield _Form("gather", lambda f, a, i: a.gather(1, i), (x, places), 4 * x.nbytes)


def _optimizers(rng, libraries) -> Iterator[Case]:
    """One step over 20 parameters of 2^19 numbers; PyTorch's fused step, and its foreach step."""
    values, size = _normal(rng, 20, 1 << 19), 4.0 * 20 * (1 << 19)
    steps: dict[str, tuple[str, dict, float]] = {
        "SGD momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}, 5),  # reads p, g, buffer; writes p, buffer
        "Adam": ("Adam", {"lr": 1e-3}, 7),
        "AdamW": ("AdamW", {"lr": 1e-3}, 7),
        "RMSprop": ("RMSprop", {"lr": 1e-3}, 5),
    }
    for name, (optimizer, options, passes) in steps.items():
        for way in ("fused", "foreach"):
            if optimizer == "RMSprop" and way == "fused":
                continue
            runs: Runs = {}
            for library, tensor, _ in tensor_libraries(libraries):
                ours = library == "glassgrad"
                parameters = [(nn if ours else libraries[library].nn).Parameter(tensor(v)) for v in values]
                for p in parameters:
                    p.grad = tensor(np.full(p.shape, 1e-3, np.float32))
                make = getattr(optim if ours else libraries[library].optim, optimizer)
                runs[library] = make(parameters, **options, **({} if ours else {way: True})).step
            yield Case("rows", f"{name} step, PyTorch {way}", runs, bytes=passes * size)
