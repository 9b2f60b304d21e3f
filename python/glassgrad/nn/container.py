"""Containers: modules that hold modules (or parameters) under computed names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError, AxisError, DTypeError, message
from ..tensor import Tensor
from .module import Module, _indent
from .parameter import Parameter


class _Numbered(Module):
    """Values under the names "0", "1", ...: a list that is a module. Subclasses may have other attributes as well."""

    kind = "module"

    def __init__(self, values: Iterable | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def _wanted(self, value):
        if not isinstance(value, Module):
            hint = "Functions have layers: nn.ReLU() for F.relu." if callable(value) else ""
            raise DTypeError(message(self._get_name(), "element", type(value).__name__, "a Module", hint))
        return value

    def _names(self) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind == self.kind]

    def _values(self) -> list:
        return list(self._of_kind(self.kind).values())

    def _is_numbered(self) -> bool:
        return all(name == str(i) for i, name in enumerate(self._names()))

    def _renumber(self, values: list) -> None:
        for name in self._names():
            delattr(self, name)
        for i, value in enumerate(values):
            setattr(self, str(i), value)

    def _name(self, index) -> str:
        names = self._names()
        if not hasattr(index, "__index__"):
            raise DTypeError(message(self._get_name(), "index", repr(index), "an int or a slice"))
        if not -len(names) <= index.__index__() < len(names):
            raise AxisError(
                message(self._get_name(), "index out of range", index, f"an index of {len(names)} elements")
            )
        return names[index]

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())

    def __contains__(self, value) -> bool:
        return any(value is own for own in self._values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._like({name: self.__dict__[name] for name in self._names()[index]})
        return self.__dict__[self._name(index)]

    def _like(self, named: dict):
        return type(self)(list(named.values()))

    def __setitem__(self, index, value) -> None:
        setattr(self, self._name(index), self._wanted(value))

    def __delitem__(self, index) -> None:
        numbered = self._is_numbered()
        for name in self._names()[index] if isinstance(index, slice) else [self._name(index)]:
            delattr(self, name)
        if numbered:
            self._renumber(self._values())

    def append(self, value):
        number = len(self)
        while str(number) in self._kinds:  # names from a dict may be numbers too
            number += 1
        setattr(self, str(number), self._wanted(value))
        return self

    def extend(self, values: Iterable):
        for value in [self._wanted(value) for value in values]:
            self.append(value)
        return self

    def insert(self, index: int, value) -> None:
        if not self._is_numbered():
            expected = "numbered ones; build a new one from a dict"
            raise ArgumentError(
                message(f"{self._get_name()}.insert", "elements", f"the names {self._names()}", expected)
            )
        values = self._values()
        values.insert(index, self._wanted(value))
        self._renumber(values)

    def pop(self, index: int = -1):
        value = self[index]
        del self[index]
        return value


class Sequential(_Numbered):
    """Modules called one after the other, each on the result of the one before.

    Takes modules, or one dict of name -> module.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> model(gg.ones(4, 2)).shape, len(model)
    ((4, 1), 3)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, self._wanted(module))
        else:
            self.extend(modules)

    def _like(self, named):
        return type(self)(named)

    def forward(self, input):
        values = self.__dict__
        for name, kind in self._kinds.items():
            if kind == "module":
                input = values[name](input)
        return input


class ModuleList(_Numbered):
    """A list whose modules are found by ``parameters()``; it has no forward of its own.

    >>> from glassgrad import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(list(layers.parameters()))
    6
    """

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> ModuleList:
        return self.extend(other)

    def __repr__(self) -> str:
        groups: list[list] = []  # neighbours that print the same: [first index, last index, text]
        for i, module in enumerate(self):
            text = repr(module)
            if groups and groups[-1][2] == text:
                groups[-1][1] = i
            else:
                groups.append([i, i, text])
        if not groups:
            return f"{self._get_name()}()"
        lines = [
            f"({first}): {_indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {_indent(text)}"
            for first, last, text in groups
        ]
        return "\n  ".join([f"{self._get_name()}(", *lines]) + "\n)"


class ModuleDict(Module):
    """A dict whose modules are found by ``parameters()``; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        if key not in self:
            raise KeyError(message("ModuleDict", "no such key", repr(key), f"one of {', '.join(self) or 'none'}"))
        return self.__dict__[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        self[key]  # says what is wrong with it
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key) -> bool:
        return self._kinds.get(key) == "module"

    def keys(self):
        return self._modules.keys()

    def values(self):
        return self._modules.values()

    def items(self):
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, key: str) -> Module:
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        for name in self:
            delattr(self, name)


class ParameterList(_Numbered):
    """A list whose parameters are found by ``parameters()``; a plain tensor becomes a Parameter."""

    kind = "parameter"

    def _wanted(self, value):
        if not isinstance(value, Tensor):
            raise DTypeError(message("ParameterList", "element", type(value).__name__, "a Parameter or Tensor"))
        return value if isinstance(value, Parameter) else Parameter(value)

    def extra_repr(self) -> str:
        return "\n".join(f"({i}): Parameter containing: [{p.dtype} of size {p.shape}]" for i, p in enumerate(self))


__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Sequential"]
