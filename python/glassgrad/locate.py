"""Where an op lives: every file and line with its name, from formula to kernel to test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .op import find

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent.parent


@dataclass(frozen=True)
class Place:
    what: str
    file: str
    line: int


def roots() -> tuple[Path, Path]:
    """The folder of csrc, and the one to show paths from: of a checkout, or of an installed package with its sources."""
    return (_CHECKOUT, _CHECKOUT) if (_CHECKOUT / "csrc").is_dir() else (_PACKAGE, _PACKAGE.parent)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _matches(path: Path, pattern: str) -> Iterator[int]:
    expression = re.compile(pattern)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if expression.search(line):
            yield number


def _op_files() -> list[Path]:
    return sorted((_PACKAGE / "ops").glob("*.py"))


def definitions(name: str) -> Iterator[tuple[Path, int]]:
    """File and line of `softmax = Op("softmax", ...`, the name on the same line or the next, or of a table's row.

    >>> [path.name for path, _ in definitions("tanh")]
    ['elementwise.py']
    """
    for path in _op_files():
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"\b(?:Op|_unary|_binary|_compare|_predicate)\(\s*\"{name}\"", text):
            yield path, text.count("\n", 0, match.start()) + 1


def places(name: str) -> list[Place]:
    """Every place of the op ``name``, in reading order.

    >>> [place.what for place in places("tanh")][0]
    'formula and derivative'
    """
    op = find("where", name)
    sources, root = roots()
    found: list[Place] = []

    def note(what: str, path: Path, lines) -> None:
        found.extend(Place(what, _shown(path, root), line) for line in lines)

    for path, line in definitions(name):
        note("formula and derivative", path, [line])
    code = getattr(op.reference, "__code__", None)
    if code is not None:
        note("NumPy reference", Path(code.co_filename), [code.co_firstlineno])
    for path in _op_files():
        note("public function", path, _matches(path, rf"^def {name}\("))

    csrc = sources / "csrc"
    if csrc.is_dir():
        note("contract", csrc / "core/kernels.h", _matches(csrc / "core/kernels.h", rf"^void {name}(_backward)?\("))
        scalar = csrc / "core/scalar_ops.h"
        formula = list(_matches(scalar, rf"^struct {name} "))
        note("C++ formula", scalar, formula)
        if formula:  # an element-wise op: its loop and its binding are everyone's
            note(
                "C++ loop",
                csrc / "cpu/elementwise.cpp",
                _matches(csrc / "cpu/elementwise.cpp", "^void unary|^void binary"),
            )
            note("list for bindings", scalar, _matches(scalar, rf"op\({name}\)"))
        for path in sorted((csrc / "cpu").rglob("*.cpp")):
            note("C++ kernel", path, _matches(path, rf"^void {name}(_backward)?\("))
        for path in sorted((csrc / "bindings").glob("*.cpp")):
            note("binding", path, _matches(path, rf"\"{name}(_backward)?\""))
    for folder in ("tests", "tutorials"):
        for path in sorted((sources / folder).rglob("*.[pc]*")):
            if path.suffix in (".py", ".cpp") and (lines := list(_matches(path, rf"\b{name}\("))):
                note(folder.rstrip("s"), path, lines[:1])
    return found
