"""Module: a function with parameters, made of other modules.

Whatever is assigned to an attribute is filed by its type: a ``Parameter``, a ``Module``, or (by ``register_buffer``) a
tensor that is saved but not trained. The objects live where Python keeps every attribute, in ``__dict__``, so that
``self.weight`` costs no more than elsewhere; ``_kinds`` says which names are filed as what, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .. import autograd, dtypes
from ..autograd import RemovableHandle
from ..errors import ArgumentError, DTypeError, GlassgradError, ShapeError, message
from ..tensor import Tensor
from .parameter import Parameter


class ModuleAttributeError(GlassgradError, AttributeError):
    """A Module has no such attribute."""


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and models. Assign parameters and submodules in ``__init__``, compute in ``forward``.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> class Line(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = nn.Parameter(gg.tensor(2.0))
    ...     def forward(self, x):
    ...         return self.slope * x
    >>> Line()(gg.tensor(3.0)).item()
    6.0
    """

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _kinds={},  # attribute name -> "parameter", "buffer" or "module"
            _not_saved=set(),  # names of buffers that state_dict leaves out
            _forward_pre_hooks=[],
            _forward_hooks=[],
            _backward_hooks=[],
        )

    def forward(self, *args, **kwargs):
        raise NotImplementedError(
            f"{self._get_name()}: got no forward method; expected the class to define forward(self, ...)."
        )

    def __call__(self, *args, **kwargs):
        if self._forward_pre_hooks or self._forward_hooks or self._backward_hooks:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    # --------------------------------------------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value) -> None:
        kinds = self.__dict__.get("_kinds")
        if isinstance(value, Parameter):
            kind = "parameter"
        elif isinstance(value, Module):
            kind = "module"
        else:
            if kinds and name in kinds:
                self._check_kind(name, kinds[name], value)
            return object.__setattr__(self, name, value)
        if kinds is None:
            raise ModuleAttributeError(
                f"{self._get_name()}: got {kind} {name!r} before Module.__init__ ran; expected super().__init__() "
                "as the first line of __init__."
            )
        _check_name(self, name, kind)
        kinds[name] = kind
        self._not_saved.discard(name)
        self.__dict__[name] = value

    def _check_kind(self, name, kind, value):
        wanted = {"parameter": Parameter, "buffer": Tensor, "module": Module}[kind]
        if value is not None and not isinstance(value, wanted):
            hint = "Wrap it in nn.Parameter, or change its memory under gg.no_grad()." if kind == "parameter" else ""
            hint = hint or f"del self.{name} first, to make it a plain attribute."
            where = f"{self._get_name()}.{name}"
            expected = f"{wanted.__name__} or None, since it is a registered {kind}"
            raise DTypeError(message(where, "assignment", type(value).__name__, expected, hint))

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._kinds.pop(name, None)
        self._not_saved.discard(name)

    def __getattr__(self, name: str) -> Any:  # only called when there is no such attribute
        if "_kinds" not in self.__dict__:
            text = (
                f"{self._get_name()}: got {name!r} before Module.__init__ ran; expected super().__init__() in __init__."
            )
        else:
            known = ", ".join(self._kinds) or "nothing"
            text = f"{self._get_name()}: got no attribute {name!r}; expected one that was set. Registered are: {known}."
        raise ModuleAttributeError(text, name=name, obj=self)

    def _of_kind(self, kind: str) -> dict[str, Any]:
        values = self.__dict__
        return {name: values[name] for name, k in self._kinds.items() if k == kind}

    @property
    def _parameters(self) -> Mapping[str, Parameter | None]:
        return MappingProxyType(self._of_kind("parameter"))  # read-only: a change would reach nobody

    @property
    def _buffers(self) -> Mapping[str, Tensor | None]:
        return MappingProxyType(self._of_kind("buffer"))

    @property
    def _modules(self) -> Mapping[str, Module | None]:
        return MappingProxyType(self._of_kind("module"))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """File ``param`` under ``name``; None reserves the name (as ``bias=False`` does)."""
        self._register(name, param, "parameter", Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """File a tensor that is part of the state but not trained, such as a running mean.

        Args:
            persistent: False leaves it out of ``state_dict``.
        """
        self._register(name, tensor, "buffer", Tensor)
        (self._not_saved.discard if persistent else self._not_saved.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """File ``module`` under ``name``: for names that are computed."""
        self._register(name, module, "module", Module)

    add_module = register_module

    def _register(self, name, value, kind, wanted):
        if "_kinds" not in self.__dict__:
            raise ModuleAttributeError(
                f"{self._get_name()}: got register_{kind} before Module.__init__ ran; expected super().__init__()."
            )
        if value is not None and not isinstance(value, wanted):
            raise DTypeError(
                message(f"register_{kind}", repr(name), type(value).__name__, f"{wanted.__name__} or None")
            )
        _check_name(self, name, kind)
        taken = name in self.__dict__ or hasattr(type(self), name)
        if taken and self._kinds.get(name) != kind:
            raise ArgumentError(
                message(f"register_{kind}", "name is taken", repr(name), "one that is no attribute yet")
            )
        self._kinds[name] = kind
        self.__dict__[name] = value

    # ------------------------------------------------------------------------------------------------ walking the tree

    def _named_members(self, kind, prefix, recurse, remove_duplicate) -> Iterator[tuple[str, Any]]:
        seen = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in owners:
            for name, value in module._of_kind(kind).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and those below; a shared one once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) pairs; names join the attributes on the way with dots."""
        return self._named_members("parameter", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named_members("buffer", prefix, recurse, remove_duplicate)

    def children(self) -> Iterator[Module]:
        """The modules one level below; a shared one once."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first; a shared one once."""
        for _, module in self.named_modules():
            yield module

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, such as ``"encoder.0"``; ``""`` is this one."""
        found: Any = self
        for name in target.split(".") if target else []:
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise ModuleAttributeError(
                    f"get_submodule: got {target!r}, where {name!r} is a {type(found).__name__}; expected modules only."
                )
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path, such as ``"encoder.0.weight"``."""
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), name)
        if not isinstance(found, Parameter):
            raise ModuleAttributeError(
                f"get_parameter: got {target!r}, which is a {type(found).__name__}; expected the path of a Parameter."
            )
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call ``fn`` on every module below and then on this one, for instance to initialise."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ------------------------------------------------------------------------------------------- modes and conversions

    def train(self, mode: bool = True) -> Module:
        """Training mode (dropout drops, batch norm uses the batch's statistics), here and below."""
        if not isinstance(mode, bool):
            raise DTypeError(message("train", "mode", repr(mode), "True or False"))
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or thaw all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to 0 in their memory."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    def to(self, *args, dtype=None, device=None) -> Module:
        """Floating parameters, gradients and buffers in another floating dtype; the objects stay the same.

        Arguments are a dtype, a tensor whose dtype to take, or the device "cpu".

        >>> from glassgrad import nn
        >>> nn.Linear(2, 2).to("float64").weight.dtype
        dtype('float64')
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, str) and arg == "cpu":
                device = arg
            else:
                dtype = arg
        if device not in (None, "cpu"):
            raise ArgumentError(message(f"{self._get_name()}.to", "device", repr(device), "'cpu'"))
        if dtype is None:
            return self
        wanted = dtypes.as_dtype(dtype)
        if wanted.kind != "f":
            raise DTypeError(message(f"{self._get_name()}.to", "dtype", wanted, "a floating dtype"))
        for tensor in [*self.parameters(), *self.buffers()]:
            for t in (tensor, tensor.grad):
                if t is not None and t.data.dtype.kind == "f" and t.data.dtype != wanted:
                    t.data = t.data.astype(wanted)
                    t.bump_version()  # a graph that saved it must not go on with the new dtype
        return self

    def float(self) -> Module:
        return self.to(dtypes.float32)

    def double(self) -> Module:
        return self.to(dtypes.float64)

    def half(self) -> Module:
        return self.to(dtypes.float16)

    # ---------------------------------------------------------------------------------------------------------- state

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Name -> tensor of all parameters and persistent buffers, sharing their memory.

        Args:
            prefix: put before each name.
            keep_vars: give the parameters themselves instead of detached tensors.

        >>> from glassgrad import nn
        >>> list(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict())[:3]
        ['0.weight', '0.bias', '1.weight']
        """
        state = {}
        for kind in ("parameter", "buffer"):
            for name, value in self._of_kind(kind).items():
                if value is not None and name not in self._not_saved:
                    state[prefix + name] = value if keep_vars else value.detach()
        for name, module in self._modules.items():
            if module is not None:
                state |= module.state_dict(prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into this module's parameters and buffers, cast to their dtypes.

        Values may be tensors or anything NumPy reads, PyTorch's CPU tensors included. When something does not fit,
        nothing at all is changed.

        Args:
            strict: also refuse missing and unexpected names; without it they are returned.

        Raises:
            ShapeError: a value has another shape.
            ArgumentError: missing or unexpected names.
        """
        if not isinstance(state_dict, Mapping):
            raise DTypeError(
                message("load_state_dict", "state_dict", type(state_dict).__name__, "a dict of name -> tensor")
            )
        own = self.state_dict(keep_vars=True)
        keys = IncompatibleKeys([k for k in own if k not in state_dict], [k for k in state_dict if k not in own])
        arrays = {name: _as_array(name, state_dict[name]) for name in own if name in state_dict}
        for name in arrays:
            if not own[name].data.flags.writeable:
                raise ArgumentError(
                    message("load_state_dict", name, "a read-only array as its memory", "a writable one")
                )
        wrong = {name: array.shape for name, array in arrays.items() if array.shape != own[name].shape}
        if wrong or (strict and any(keys)):
            problems = [f"{name} is missing" for name in keys.missing_keys if strict]
            problems += [f"{name} is unexpected" for name in keys.unexpected_keys if strict]
            problems += [f"{name} has shape {shape}, expected {own[name].shape}" for name, shape in wrong.items()]
            what = f"{self._get_name()}.load_state_dict: got a state that does not fit; expected that of such a module"
            hint = "" if wrong else " strict=False would pass over these names."
            raise (ShapeError if wrong else ArgumentError)(f"{what}: {'; '.join(problems)}. Nothing was changed.{hint}")
        for name, array in arrays.items():
            tensor = own[name]
            tensor.data[...] = array
            tensor.bump_version()
        return keys

    # ---------------------------------------------------------------------------------------------------------- hooks

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """``hook(module, args) -> None or new args`` runs before ``forward``.

        With ``with_kwargs`` it is ``hook(module, args, kwargs) -> None or (new args, new kwargs)``.
        """
        return _add_hook(self._forward_pre_hooks, hook, with_kwargs, prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """``hook(module, args, output) -> None or new output`` runs after ``forward``.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``.
        """
        return _add_hook(self._forward_hooks, hook, with_kwargs, prepend)

    def register_full_backward_hook(self, hook: Callable, *, prepend: bool = False) -> RemovableHandle:
        """``hook(module, grad_input, grad_output) -> None or new grad_input`` runs in each backward through the module.

        Both are tuples over the positional inputs and the outputs (a tensor, tuple or list), None where there is no
        gradient. It runs when the gradients of all inputs are complete; when no input wants one, as soon as those of
        the outputs are.
        """
        return _add_hook(self._backward_hooks, hook, False, prepend)

    def _call_with_hooks(self, args, kwargs):
        for hook, with_kwargs in list(self._forward_pre_hooks):
            if with_kwargs:
                replaced = hook(self, args, kwargs)
                args, kwargs = (args, kwargs) if replaced is None else replaced
            else:
                replaced = hook(self, args)
                if replaced is not None:
                    args = replaced if isinstance(replaced, tuple) else (replaced,)
        if self._backward_hooks and autograd.is_grad_enabled():
            gates = _BackwardHooks(self, len(args))
            args = gates.on_inputs(args)
            output = gates.on_outputs(self.forward(*args, **kwargs))
        else:
            output = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks):
            replaced = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if replaced is None else replaced
        return output

    # -------------------------------------------------------------------------------------------------------- printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What ``repr`` puts between the parentheses, before the submodules."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(module))}" for name, module in self._modules.items()]
        if len(lines) <= 1 and not children:
            return f"{self._get_name()}({extra})"
        return "\n  ".join([f"{self._get_name()}(", *lines, *children]) + "\n)"


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """What zero_grad does to one parameter."""
    if set_to_none:
        parameter.grad = None
    elif parameter.grad is not None:
        parameter.grad = parameter.grad.detach()
        parameter.grad.data.fill(0)
        parameter.grad.bump_version()


def _check_name(module, name, kind):
    if not isinstance(name, str) or not name or "." in name:
        raise ArgumentError(
            message(module._get_name(), f"name of a {kind}", repr(name), "a string without dots, not empty",
                    "Dots separate the names on the way to a submodule.")
        )  # fmt: skip


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _as_array(name, value) -> np.ndarray:
    try:
        array = value.data if isinstance(value, Tensor) else np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DTypeError(message("load_state_dict", name, type(value).__name__, "an array", str(error))) from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(message("load_state_dict", name, f"values of dtype {array.dtype}", "numbers"))
    return array


def _add_hook(hooks, hook, with_kwargs, prepend):
    entry = (hook, with_kwargs)
    hooks.insert(0 if prepend else len(hooks), entry)
    return RemovableHandle(hooks, entry)


class _Gate(autograd.Node):
    """Passes gradients on, telling ``callback`` first."""

    __slots__ = ("callback",)

    def __init__(self, edges, callback):
        super().__init__(edges, len(edges))
        self.callback = callback

    def backward(self, dys):
        return self.callback(dys)


class _BackwardHooks:
    """The two gates of one call of a module with backward hooks: its outputs' gradients come in, its inputs' go out.

    A node runs when all that depends on it has run, so the gate on the inputs sees their gradients complete.
    """

    def __init__(self, module, n_inputs):
        self.module, self.n_inputs = module, n_inputs
        self.grad_output: tuple | None = None
        self.waits_for_inputs = False

    def on_inputs(self, args):
        gated, positions = _gate(args, self._at_inputs)
        self.input_positions, self.waits_for_inputs = positions, bool(positions)
        return gated

    def on_outputs(self, output):
        several = isinstance(output, (tuple, list))
        outputs = tuple(output) if several else (output,)
        gated, self.output_positions = _gate(outputs, self._at_outputs)
        self.n_outputs = len(outputs)
        if not several:
            return gated[0]
        return type(output)(*gated) if hasattr(output, "_fields") else type(output)(gated)

    def _at_outputs(self, dys):
        self.grad_output = _spread(dys, self.output_positions, self.n_outputs)
        if not self.waits_for_inputs:
            self._call((None,) * self.n_inputs)
        return dys

    def _at_inputs(self, dxs):
        if self.grad_output is None:  # backward started inside the module, at something it returned in another way
            return dxs
        grad_input = self._call(_spread(dxs, self.input_positions, self.n_inputs))
        return [grad_input[i] for i in self.input_positions]

    def _call(self, grad_input):
        for hook, _ in list(self.module._backward_hooks):
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is None:
                continue
            replaced = replaced if isinstance(replaced, tuple) else (replaced,)
            if len(replaced) != len(grad_input):
                raise ArgumentError(
                    message(
                        "full_backward_hook", "returned gradients", len(replaced), f"{len(grad_input)}, one per input"
                    )
                )
            grad_input = replaced
        return grad_input


def _gate(values, callback):
    """``values`` with those that want a gradient passed through one gate, and their positions."""
    positions = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not positions:
        return values, positions
    node = _Gate([values[i].edge() for i in positions], callback)
    gated = list(values)
    for index, i in enumerate(positions):
        y = values[i].detach()
        y.requires_grad, y.grad_fn, y.output_nr = True, node, index
        gated[i] = y
    return tuple(gated), positions


def _spread(gradients, positions, n):
    spread = [None] * n
    for i, gradient in zip(positions, gradients, strict=True):
        spread[i] = gradient
    return tuple(spread)


__all__ = ["Module"]
