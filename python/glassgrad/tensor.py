"""Tensor: an array, its gradient and the node that made it. Operators are one-line calls into ``ops``."""

from __future__ import annotations

import builtins
import copy
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd, dtypes
from .errors import ArgumentError, DTypeError, GraphError, ShapeError, message


class Tensor:
    """An n-dimensional array that can remember how it was computed. Make one with ``glassgrad.tensor``.

    Attributes:
        data: the NumPy array itself; sharing memory, not a copy.
        grad: the gradient after ``backward()``, or None.
        requires_grad: whether operations on it are remembered.
        grad_fn: the node that made it, None for a leaf.
    """

    # Class-level defaults: a new Tensor sets `data` alone, which is most of what a small op costs.
    grad: Tensor | None = None
    requires_grad: builtins.bool = False
    grad_fn: Any = None
    output_nr: builtins.int = 0
    _version: Any = None  # None, or [changes in place, changes of the graph]; shared by a base and its views
    _base: Any = None  # the Tensor whose memory this is a view of
    _steps: tuple = ()  # how a view is made of its base: ((op, static, output), ...)
    _graph_version = 0  # of the base when this view's grad_fn was made
    _inference = False
    _hooks: list | None = None
    _retains_grad = False
    __array_ufunc__ = None  # np.sin(t) must fail instead of dropping the gradient

    if TYPE_CHECKING:  # what _attach gives

        def __getattr__(self, name: str) -> Any: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...

    def __init__(self, data, requires_grad: builtins.bool = False):
        self.data = np.asarray(data)
        if requires_grad:
            self.requires_grad_()

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def shape(self) -> tuple[builtins.int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> builtins.int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def is_leaf(self) -> builtins.bool:
        return self.grad_fn is None

    @property
    def version(self) -> builtins.int:
        """How often its memory was changed in place."""
        return self._version[0] if self._version else 0

    @property
    def nbytes(self) -> builtins.int:
        return self.data.nbytes

    def dim(self) -> builtins.int:
        return self.data.ndim

    def numel(self) -> builtins.int:
        return self.data.size

    def element_size(self) -> builtins.int:
        return self.data.itemsize

    def size(self, dim: builtins.int | None = None):
        return self.data.shape if dim is None else self.data.shape[dim]

    def stride(self, dim: builtins.int | None = None):
        strides = tuple(s // self.data.itemsize for s in self.data.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> builtins.bool:
        return self.data.flags.c_contiguous

    def is_floating_point(self) -> builtins.bool:
        return self.data.dtype.kind == "f"

    def __len__(self):
        if not self.data.ndim:
            raise DTypeError("len: got a 0-d tensor; expected at least one dimension.")
        return self.data.shape[0]

    def __bool__(self):
        if self.data.size != 1:
            raise ArgumentError(
                f"bool: got {self.data.size} values; expected one. Use .any() or .all() to make them one."
            )
        return bool(self.data.reshape(()))

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.data.dtype.kind not in "iub":
            raise DTypeError(f"index: got dtype {self.dtype}; expected an integer tensor.")
        return int(self.item())

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])

    __hash__ = object.__hash__

    def __contains__(self, x):
        return bool((self == x).any())

    def __repr__(self):
        body = np.array2string(self.data, separator=", ", precision=4, threshold=1000, prefix="tensor(")
        if self.data.size == 0:
            body = f"[], size={self.shape}"
        notes = ""
        if self.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_):
            notes += f", dtype={self.dtype}"
        if self.grad_fn is not None:
            notes += f", grad_fn=<{self.grad_fn.name}>"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        if self.data.size > 16:
            notes += f", shape={self.shape}"
        return f"tensor({body}{notes})"

    def describe(self) -> str:
        """One line of statistics: shape, dtype, min, max, mean, std, zeros, NaN count.

        >>> import glassgrad as gg
        >>> gg.tensor([0.0, 1.0, float("nan")]).describe()
        'shape (3,)  float32  min 0  max 1  mean 0.5  std 0.7071  zeros 1  nan 1'
        """
        x = self.data.astype(np.float64).ravel()
        finite = x[~np.isnan(x)]
        head = f"shape {self.shape}  {self.dtype}"
        if not finite.size:
            return f"{head}  no numbers  nan {x.size}"
        std = finite.std(ddof=1) if finite.size > 1 else 0.0
        return (
            f"{head}  min {finite.min():.4g}  max {finite.max():.4g}  mean {finite.mean():.4g}  std {std:.4g}"
            f"  zeros {int((finite == 0).sum())}  nan {x.size - finite.size}"
        )

    # ---------------------------------------------------------------------------------------------- to and from NumPy

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def numpy(self) -> np.ndarray:
        """The array itself, sharing memory. A tensor that wants a gradient must be detached first."""
        if self.requires_grad and autograd.mode.grad:
            raise GraphError(
                "numpy: got a tensor that requires grad; expected one that does not. Use .detach().numpy()."
            )
        return self.data

    def __dlpack__(self, **kwargs):
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()

    def item(self):
        if self.data.size != 1:
            raise ArgumentError(f"item: got {self.data.size} values; expected one. Index the tensor, or use tolist().")
        return self.data.item()

    def tolist(self):
        return self.data.tolist()

    # ------------------------------------------------------------------------------------------------- other dtypes

    def to(self, *args, dtype=None, device=None, copy: builtins.bool = False) -> Tensor:
        """This tensor with another dtype (or that of another tensor); itself when nothing changes.

        >>> import glassgrad as gg
        >>> gg.tensor([1, 2]).to(gg.float32)
        tensor([1., 2.])
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda", "mps", "sim"):
                device = arg
            else:
                dtype = arg
        if device not in (None, "cpu"):
            raise ArgumentError(message("to", "unknown device", repr(device), "'cpu'"))
        from .ops.elementwise import cast_op

        y = self if dtype is None else cast_op(self, dtype)
        return y.clone() if copy and y is self else y

    def type(self, dtype=None):
        """The dtype's name, or this tensor in another dtype."""
        return str(self.dtype) if dtype is None else self.to(dtype)

    def float(self) -> Tensor:
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        return self.to(dtypes.float64)

    def half(self) -> Tensor:
        return self.to(dtypes.float16)

    def long(self) -> Tensor:
        return self.to(dtypes.int64)

    def int(self) -> Tensor:
        return self.to(dtypes.int32)

    def bool(self) -> Tensor:
        return self.to(dtypes.bool_)

    def cpu(self) -> Tensor:
        return self

    def data_ptr(self):
        """The address of the first element."""
        return self.data.ctypes.data

    def __reduce__(self):
        return _rebuild, (type(self), self.detach().data.copy(), self.requires_grad and self.is_leaf)

    def __deepcopy__(self, memo):
        if not self.is_leaf:
            raise GraphError("deepcopy: got a tensor made by an op; expected a leaf. Use .detach() or .clone().")
        again = _rebuild(type(self), self.data.copy(), self.requires_grad)
        again.grad = copy.deepcopy(self.grad, memo)
        memo[id(self)] = again
        return again

    # ---------------------------------------------------------------------------------------------------- gradients

    def requires_grad_(self, requires_grad: builtins.bool = True) -> Tensor:
        if requires_grad and self._inference:
            raise GraphError(
                "requires_grad_: got a tensor made in inference_mode; expected another. Use .clone() outside it."
            )
        if requires_grad and self.data.dtype.kind != "f":
            raise DTypeError(f"requires_grad_: got dtype {self.dtype}; expected a floating one. Use .to(gg.float32).")
        if not requires_grad and not self.is_leaf:
            raise GraphError("requires_grad_(False): got a tensor made by an op; expected a leaf. Use .detach().")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same memory without a history."""
        y = wrap(self.data)
        self._version = y._version = self._version or [0, 0]
        return y

    def edge(self):
        """Where a gradient of this tensor goes: (the node that made it or itself, output index)."""
        if self._base is not None and self._version[1] != self._graph_version:
            self._refresh()
        return (self, 0) if self.grad_fn is None else (self.grad_fn, self.output_nr)

    def backward(self, gradient=None, retain_graph=None, create_graph: builtins.bool = False) -> None:
        """Add d(self)/d(leaf) into ``.grad`` of every leaf that wants a gradient.

        Args:
            gradient: dL/dself, same shape; may be left out for a tensor of one element, where it is 1.
            retain_graph: keep what backward needs, for a second backward; default ``create_graph``.
            create_graph: make the gradients differentiable themselves.
        """
        autograd.run_backward(
            [self._root("backward")],
            [_seed("backward", self, gradient)],
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
        )

    def _root(self, op):
        if not self._wants_grad():
            raise GraphError(
                f"{op}: got a tensor without a graph; expected one that requires grad. Call requires_grad_() on an "
                "input before computing, and not inside no_grad()."
            )
        return self.edge()

    def _owns_memory(self) -> builtins.bool:
        """Whether no other array reaches this memory: large native results belong to a capsule of the allocator."""
        return not isinstance(self.data.base, np.ndarray)

    def _plus(self, dx: Tensor) -> Tensor:
        """self + dx, two gradients that meet. Small ones skip the op: recording nothing, it would cost 4 times the sum."""
        if autograd.mode.grad or self.data.size > 1024:
            return self + dx
        total = self.data + dx.data
        return wrap(total if self.data.ndim else np.asarray(total))  # NumPy adds 0-d arrays to a scalar

    def _accumulate_grad(self, dx, fresh: builtins.bool = False):
        """Add dx into ``.grad``. ``fresh``: no one else holds dx, whose memory may otherwise be another gradient's too."""
        if self.grad is None:
            self.grad = dx if fresh or dx.requires_grad else wrap(dx.data.copy())
        elif dx.requires_grad or self.grad.requires_grad:
            self.grad = self.grad + dx
        else:
            np.add(self.grad.data, dx.data, out=self.grad.data)

    def retain_grad(self) -> None:
        """Keep ``.grad`` although this is not a leaf."""
        if self.grad_fn is not None and not self._retains_grad:
            me = weakref.ref(self)  # this tensor -> node -> hook -> this tensor would be a cycle

            def keep(dy):
                if (tensor := me()) is not None:
                    tensor._accumulate_grad(dy)

            self.register_hook(keep)
            self._retains_grad = True

    def register_hook(self, hook):
        """``hook(grad) -> grad or None`` runs when this tensor's gradient is complete. Returns a handle to remove it."""
        if not self.requires_grad:
            raise GraphError("register_hook: got a tensor without grad; expected one that requires grad.")
        if self.grad_fn is None:
            self._hooks = hooks = [] if self._hooks is None else self._hooks
        else:
            self.grad_fn.hooks = self.grad_fn.hooks or {}
            hooks = self.grad_fn.hooks.setdefault(self.output_nr, [])
        hooks.insert(len(hooks) - self._retains_grad, hook)  # retain_grad sees what all other hooks made of it
        return autograd.RemovableHandle(hooks, hook)

    # ------------------------------------------------------------------------------------------- memory and in place

    def _view_of(self, base: Tensor, op, static, output: builtins.int) -> None:
        """Note that ``op`` made this of ``base`` without moving data."""
        if not np.may_share_memory(self.data, base.data):
            return  # the op had to copy after all
        self._version = base._version = base._version or [0, 0]
        self._graph_version = self._version[1]
        if base._base is None:
            self._base, self._steps = base, ((op, static, output),)
        else:
            self._base, self._steps = base._base, (*base._steps, (op, static, output))

    def _refresh(self) -> None:
        """The base's history was changed through another view: take it over."""
        again = through(self._steps, self._base)
        self.requires_grad, self.grad_fn, self.output_nr = again.requires_grad, again.grad_fn, again.output_nr
        self._graph_version = self._version[1]

    def _wants_grad(self) -> builtins.bool:
        """``requires_grad``, after a look whether another view has brought a graph into the memory they share."""
        if self._base is not None and self._version[1] != self._graph_version:
            self._refresh()
        return self.requires_grad

    def bump_version(self) -> None:
        if self._version:
            self._version[0] += 1
        else:
            self._version = [1, 0]

    def _check_writable(self, op: str, y: Tensor) -> None:
        if y.shape != self.shape:
            raise ShapeError(message(op, "result does not fit in place", y.shape, self.shape))
        if dtypes.category(y.dtype) > dtypes.category(self.dtype):
            raise DTypeError(
                message(op, "result cannot be stored in place", y.dtype, self.dtype, "Use the out-of-place form.")
            )
        if not self.data.flags.writeable:
            raise ArgumentError(
                message(op, "memory is read-only", "a read-only array", "a writable one", "Use clone() first.")
            )

    def _become(self, op: str, y: Tensor) -> Tensor:
        """Take over the value and history of ``y``, in this tensor's memory: the in-place form of what made y."""
        self._check_writable(op, y)
        in_graph = autograd.mode.grad and (self.requires_grad or y.requires_grad)
        if in_graph and y.requires_grad and y.grad_fn is None:
            y = y.clone()  # the gradient goes to the leaf y; this tensor is not it
        owner = self if self._base is None else self._base
        if in_graph and owner.requires_grad and owner.grad_fn is None:
            raise GraphError(
                f"{op}: got a leaf that requires grad{'' if owner is self else ' (through a view of it)'}; expected "
                "another tensor. Wrap the update in gg.no_grad(), or use the out-of-place form."
            )
        self.data[...] = y.data
        self.bump_version()
        if not in_graph:
            return self
        self._version[1] += 1
        if self._base is None:
            self.requires_grad, self.grad_fn, self.output_nr = y.requires_grad, y.grad_fn, y.output_nr
        else:
            node = _ViewWrite(
                [owner.edge() if owner.requires_grad else None, y.edge() if y.requires_grad else None], self
            )
            owner.requires_grad, owner.grad_fn, owner.output_nr = True, node, 0
            self._refresh()
        return self


def through(steps, base: Tensor) -> Tensor:
    """The view of ``base`` that ``steps`` describe."""
    from .op import apply

    for op, static, output in steps:
        made = apply(op, base, **static)
        base = made[output] if isinstance(made, tuple) else made
    return base


class _ViewWrite(autograd.Node):
    """The base after a view of it was overwritten: elsewhere it is the old base, there the new value."""

    def __init__(self, edges, view):
        super().__init__(edges)
        self.steps, base = view._steps, view._base.data
        # Axes from the longest stride to the shortest: a mask laid out otherwise would be copied by a step, not viewed.
        self.order = sorted(range(base.ndim), key=lambda d: -abs(base.strides[d]))
        self.shape = base.shape

    def backward(self, dys):
        (dy,) = dys
        ordered = np.ones([self.shape[d] for d in self.order], dy.dtype)
        kept = wrap(ordered.transpose(np.argsort(self.order)) if self.order else ordered)
        with autograd.no_grad():
            through(self.steps, kept).data[...] = 0
        return [self.edges[0] and dy * kept, self.edges[1] and through(self.steps, dy)]


def wrap(array) -> Tensor:
    """A Tensor round an array that is known to be good; nothing is checked or copied."""
    t = Tensor.__new__(Tensor)
    t.data = array
    return t


def _rebuild(cls, array, requires_grad):
    t = cls.__new__(cls)
    t.data = array
    t.requires_grad = requires_grad
    return t


def _seed(op, y, gradient):
    if gradient is None:
        if y.data.size != 1:
            raise GraphError(
                f"{op}: got a tensor of shape {y.shape}; expected one element, or gradient= of that shape. "
                "Reduce it first, for instance with .sum() or .mean()."
            )
        return wrap(np.array(1, y.dtype) if y.data.ndim == 0 else np.ones_like(y.data))
    gradient = gradient if isinstance(gradient, Tensor) else wrap(np.asarray(gradient, dtype=y.dtype))
    if gradient.shape != y.shape:
        raise ShapeError(message(op, "gradient has the wrong shape", gradient.shape, y.shape))
    return gradient if gradient.dtype == y.dtype else wrap(gradient.data.astype(y.dtype))


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph: bool = False,
    allow_unused: bool = False,
):
    """d(outputs)/d(inputs) as a tuple, leaving every ``.grad`` alone.

    >>> import glassgrad as gg
    >>> x = gg.tensor(3.0, requires_grad=True)
    >>> gg.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    given = (grad_outputs,) if grad_outputs is None or isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    given = given * len(outputs) if given == (None,) else given
    for x in inputs:
        if not x.requires_grad:
            raise GraphError("grad: got an input that does not require grad; expected requires_grad=True.")
    dxs = autograd.run_backward(
        [y._root("grad") for y in outputs],
        [_seed("grad", y, dy) for y, dy in zip(outputs, given, strict=True)],
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        inputs=[x.edge() for x in inputs],
    )
    if not allow_unused and any(dx is None for dx in dxs):
        raise GraphError(
            f"grad: got input {dxs.index(None)}, which the outputs do not depend on; expected all to be used. "
            "Pass allow_unused=True to get None for it."
        )
    return tuple(dxs)


autograd.grad = grad  # type: ignore[attr-defined]  # its public home; it needs Tensor, which autograd.py must not know


def _attach() -> None:
    """Functions of ``ops`` become methods, operators and in-place forms; the first argument is the tensor."""
    from . import ops
    from .ops import elementwise as e

    for function in ops.METHODS:
        setattr(Tensor, function.__name__, function)
    for function in ops.INPLACE:
        setattr(Tensor, f"{function.__name__}_", _in_place(function))
    operators = {"add": e._add, "sub": e._sub, "mul": e.mul, "truediv": e._div, "pow": e.pow, "mod": e.remainder}
    operators |= {"floordiv": e.floor_divide, **ops.OPERATORS}
    for name, function in operators.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", _reflected(function))
        if name != "matmul":
            setattr(Tensor, f"__i{name}__", _in_place(function))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _comparison(getattr(e, name)))
    for name in ("and", "or", "xor"):
        setattr(Tensor, f"__{name}__", getattr(e, f"logical_{name}"))
        setattr(Tensor, f"__r{name}__", _reflected(getattr(e, f"logical_{name}")))
    for name, function in {"neg": e.neg, "abs": e.abs, "invert": e.logical_not}.items():
        setattr(Tensor, f"__{name}__", function)
    for name, function in ops.DUNDERS.items():
        setattr(Tensor, name, function)
    for name, function in ops.PROPERTIES.items():
        setattr(Tensor, name, property(function))


def _reflected(function):
    return lambda a, b: function(b, a)


def _comparison(function):
    def compare(a, b):
        # None, strings and the like are never equal to a tensor: Python then answers == with False.
        return function(a, b) if isinstance(b, (Tensor, float, int, np.ndarray, np.generic)) else NotImplemented

    return compare


def _in_place(function):
    def in_place(self, *args, **keywords):
        # In a graph the derivative may need what stood here before: it is computed from a copy.
        recorded = autograd.mode.grad and any(isinstance(a, Tensor) and a.requires_grad for a in (self, *args))
        return self._become(f"{function.__name__}_", function(self.clone() if recorded else self, *args, **keywords))

    in_place.__name__ = in_place.__qualname__ = f"{function.__name__}_"
    in_place.__doc__ = f"``{function.__name__}``, in this tensor's memory."
    return in_place
