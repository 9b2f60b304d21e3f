"""Function: a user's own op, with a forward and a backward of their making."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import autograd
from .errors import DTypeError, GraphError, changed_in_place, graph_freed
from .tensor import Tensor, wrap


class FunctionContext(autograd.Node):
    """What ``forward`` leaves for ``backward``: saved tensors, and any attribute that is set on it."""

    def __init__(self, function, needs):
        super().__init__([])
        self.function, self.needs_input_grad = function, needs
        self._saved: tuple | None = ()
        self._shapes: list = []
        self._no_grad_outputs: tuple = ()
        self._materialize = True

    @property
    def name(self) -> str:
        return self.function.__name__

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors; a change in place between now and backward will be noticed."""
        self._saved = tuple((t, 0 if t is None else t.version) for t in tensors)

    @property
    def saved_tensors(self) -> tuple:
        if self._saved is None:
            raise graph_freed(self.name)
        for t, version in self._saved:
            if t is not None and t.version != version:
                raise changed_in_place(self.name, str(t.shape), t.version, version)
        return tuple(t for t, _ in self._saved)

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs get no gradient."""
        self._no_grad_outputs = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """False: an output without a gradient gives ``backward`` None instead of zeros."""
        self._materialize = value

    def backward(self, dys):
        if self._materialize:
            dys = [
                wrap(np.zeros(shape, dtype)) if dy is None else dy
                for dy, (shape, dtype) in zip(dys, self._shapes, strict=True)
            ]
        dxs = self.function.backward(self, *dys)
        dxs = dxs if isinstance(dxs, tuple) else (dxs,)
        if len(dxs) != len(self.edges):
            raise GraphError(
                f"{self.name}: backward: got {len(dxs)} gradients; expected one per forward argument: {len(self.edges)}."
            )
        for i, (dx, edge) in enumerate(zip(dxs, self.edges, strict=True)):
            if edge is not None and dx is not None and not isinstance(dx, Tensor):
                raise DTypeError(
                    f"{self.name}: backward: gradient {i}: got {type(dx).__name__}; expected a Tensor or None."
                )
        return dxs

    def release(self):
        if self._saved:
            self._saved = None


class Function:
    """Subclass it with two static methods; call the subclass's ``apply``.

    Example:
        >>> import glassgrad as gg
        >>> class Cube(gg.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x * x
        ...     @staticmethod
        ...     def backward(ctx, dy):
        ...         (x,) = ctx.saved_tensors
        ...         return dy * 3 * x * x
        >>> x = gg.tensor(2.0, requires_grad=True)
        >>> Cube.apply(x).backward()
        >>> x.grad
        tensor(12.)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError("Function: forward is not defined. Write it as a static method of the subclass.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("Function: backward is not defined. Write it as a static method of the subclass.")

    @classmethod
    def apply(cls, *args):
        needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        ctx = FunctionContext(cls, needs)
        with autograd.no_grad():
            result = cls.forward(ctx, *args)
        outputs = result if isinstance(result, tuple) else (result,)
        for y in outputs:
            if not isinstance(y, Tensor):
                raise DTypeError(
                    f"{cls.__name__}: forward: got {type(y).__name__}; expected a Tensor or a tuple of them."
                )
        if not autograd.mode.grad or not any(needs):
            return result
        ctx.edges = [a.edge() if need else None for a, need in zip(args, needs, strict=True)]
        ctx.n_outputs = len(outputs)
        ctx._shapes = [(y.shape, y.dtype) for y in outputs]
        # An input that is returned as it stands must not become its own ancestor.
        outputs = tuple(wrap(y.data) if any(y is a for a in args) else y for y in outputs)
        for index, y in enumerate(outputs):
            if y.is_floating_point() and not any(y is n for n in ctx._no_grad_outputs):
                y.requires_grad, y.grad_fn, y.output_nr = True, ctx, index
        return outputs if isinstance(result, tuple) else outputs[0]


class _OnceDifferentiable(Function):
    @staticmethod
    def forward(ctx, dx):
        return wrap(dx.data)

    @staticmethod
    def backward(ctx, dy):
        raise GraphError(
            "backward: got a second derivative of a Function marked once_differentiable; expected the first only."
        )


def once_differentiable(backward):
    """Decorator of a ``backward`` that computes with arrays: asking for its derivative raises instead of being wrong."""

    def inner(ctx, *dys):
        with autograd.no_grad():
            dxs = backward(ctx, *dys)
        if not autograd.mode.grad:
            return dxs
        many = dxs if isinstance(dxs, tuple) else (dxs,)
        marked = tuple(d if d is None else _OnceDifferentiable.apply(wrap(d.data).requires_grad_()) for d in many)
        return marked if isinstance(dxs, tuple) else marked[0]

    return inner


autograd.Function = Function  # type: ignore[attr-defined]  # its public home; it needs Tensor, which autograd.py must not know
autograd.once_differentiable = once_differentiable  # type: ignore[attr-defined]
