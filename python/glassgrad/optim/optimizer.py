"""Optimizer: parameter groups, their state, and one fused call per group and step.

A step costs Python about 0.2 us per parameter besides the kernel: what depends only on which parameters have a gradient
is worked out once, in a ``_Plan``; the arrays are looked up anew each time, so that ``p.data = ...`` is seen.
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..autograd import enable_grad
from ..errors import ArgumentError, DTypeError, ShapeError, message
from ..nn.module import clear_grad
from ..tensor import Tensor, wrap


class _Plan:
    """The parameters of a group that have a gradient, and their states, for as long as that stays so."""

    def __init__(self, params, missing, state):
        self.group, self.missing = list(params), missing
        without = set(missing)
        self.params = [p for i, p in enumerate(params) if i not in without]
        for p in self.params:
            if not p.data.flags.writeable:
                raise ArgumentError(message("step", f"parameter {p.shape}", "read-only memory", "writable memory"))
        self.state = state
        self.states = [state[p] for p in self.params]
        self.n_states = len(state)

    def fits(self, params, missing, state) -> bool:
        return (
            self.missing == missing
            and len(self.group) == len(params)
            and all(map(operator.is_, self.group, params))
            and self.state is state
            and self.n_states == len(state)
        )


class Optimizer:
    """Base class. A subclass gives ``_check`` (of a group's options) and ``_update`` (one step of a group).

    Args:
        params: tensors, (name, tensor) pairs, or dicts ``{"params": tensors, option: value}``, one per group.
        defaults: options of groups that do not say otherwise.

    Attributes:
        param_groups: a list of dicts: "params" and the options; change ``group["lr"]`` at will.
        state: parameter -> dict of what the optimizer remembers of it.
    """

    def __init__(self, params: Iterable, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._plans: dict[int, _Plan] = {}
        if isinstance(params, (Tensor, dict, set)) or not isinstance(params, Iterable):
            hint = "Sets have no order." if isinstance(params, set) else "Put it in a list."
            raise DTypeError(
                message(self._name(), "params", type(params).__name__, "an iterable of tensors or dicts", hint)
            )
        groups = list(params)
        if not groups:
            hint = "model.parameters() is used up after one pass, and empty for a model that registers none."
            raise ArgumentError(message(self._name(), "params", "no parameters", "at least one", hint))
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def _name(self) -> str:
        return type(self).__name__

    # ----------------------------------------------------------------------------------------------- for subclasses

    def _check(self, group: dict[str, Any]) -> None:
        """Raise when an option of ``group`` makes no sense."""

    def _update(self, group: dict[str, Any], params: list, grads: list, states: list[dict]) -> None:
        """Change the arrays ``params`` in place, given the arrays ``grads`` and the state of each."""
        raise NotImplementedError(f"{self._name()}: got no step method; expected the class to define step(self).")

    # ----------------------------------------------------------------------------------------------------------- steps

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss anew and calls backward; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            params = group["params"]
            missing = [i for i, p in enumerate(params) if p.grad is None]
            plan = self._plans.get(index)
            if plan is None or not plan.fits(params, missing, self.state):
                plan = self._plans[index] = _Plan(params, missing, self.state)
            active = plan.params
            if active:
                self._update(group, [p.data for p in active], [p.grad.data for p in active], plan.states)
                for p in active:
                    p.bump_version()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to 0 in their memory."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    # ---------------------------------------------------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add ``{"params": tensors, option: value, ...}``; options left out take the defaults."""
        name = self._name()
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise DTypeError(message(name, "group", repr(param_group), "a dict with the key 'params'"))
        params = param_group["params"]
        if isinstance(params, set):
            raise DTypeError(message(name, "params", "a set", "an ordered collection", "Sets have no order."))
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {**self.defaults, **param_group}
        if params and all(isinstance(p, tuple) and len(p) == 2 for p in params):
            group["param_names"] = [n for n, _ in params]
            params = [p for _, p in params]
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise DTypeError(message(name, f"params[{i}]", type(p).__name__, "a Tensor"))
            if not p.is_leaf:
                hint = "Optimize what it was made of, or .detach() it."
                raise ArgumentError(message(name, f"params[{i}]", f"the result of {p.grad_fn.name}", "a leaf", hint))
            if not p.is_floating_point():
                raise DTypeError(message(name, f"params[{i}]", p.dtype, "a floating dtype"))
            if id(p) in known:
                raise ArgumentError(message(name, f"params[{i}]", f"a parameter {p.shape} it already has", "each once"))
            known.add(id(p))
        group["params"] = params
        self._check(group)
        self.param_groups.append(group)

    # ----------------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: state}, "param_groups": [options with the parameters' numbers]}``, as in PyTorch.

        Parameters are numbered through all groups; the tensors are the optimizer's own, not copies.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
            groups.append({**group, "params": [numbers[id(p)] for p in group["params"]]})
        state = {numbers[id(p)]: dict(values) for p, values in self.state.items() if values and id(p) in numbers}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and state, copied and cast to the parameters' dtypes; PyTorch's own dicts fit too.

        Raises:
            ArgumentError: the groups differ in number or size.
            ShapeError: a state tensor differs in shape from its parameter. Nothing is changed then.
        """
        saved = [dict(group) for group in state_dict["param_groups"]]
        own_sizes, sizes = ([len(g["params"]) for g in groups] for groups in (self.param_groups, saved))
        if own_sizes != sizes:
            raise ArgumentError(message(f"{self._name()}.load_state_dict", "parameters per group", sizes, own_sizes))
        by_number = {
            number: p
            for group, old in zip(self.param_groups, saved, strict=True)
            for number, p in zip(old["params"], group["params"], strict=True)
        }
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if number in by_number:
                p = by_number[number]
                state[p] = {key: self._restored(key, value, p) for key, value in values.items()}
        options = [{k: _plain(v) for k, v in group.items()} for group in saved]
        self.param_groups = [
            {**group, **old, "params": group["params"]} for group, old in zip(self.param_groups, options, strict=True)
        ]
        self.state = state

    def _restored(self, key, value, p):
        if not hasattr(value, "shape"):
            return copy.deepcopy(value)
        array = value.data if isinstance(value, Tensor) else np.asarray(value)
        if key == "step":
            return int(array)
        if array.shape != p.shape:
            raise ShapeError(message(f"{self._name()}.load_state_dict", f"shape of {key}", array.shape, p.shape))
        return wrap(np.array(array, p.dtype if array.dtype.kind == "f" else array.dtype, order="C"))

    def __repr__(self) -> str:
        lines = [f"{self._name()} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _plain(value):
    """An option without the tensor PyTorch may keep it in."""
    return value.item() if hasattr(value, "item") else copy.deepcopy(value)


def zeros_like(p) -> Tensor:
    """State of the shape and dtype of an array."""
    return wrap(np.zeros(p.shape, p.dtype))


def check_number(owner: str, name: str, value, low: float = 0.0, below: float | None = None) -> None:
    """``value`` must be a number with low <= value (< below)."""
    expected = f"a number >= {low:g}" if below is None else f"a number with {low:g} <= {name} < {below:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DTypeError(message(owner, name, repr(value), expected))
    if not (low <= value and (below is None or value < below)):
        raise ArgumentError(message(owner, name, value, expected))


__all__ = ["Optimizer"]
