"""The generated pages of the site: what they say is read from the code, so that it can't go stale.

``write(folder)`` makes ``architecture.md``, ``kernels.md``, ``operations.md``, ``ops/*.md`` and ``api/*.md`` there.
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import re
import shutil
import textwrap
from pathlib import Path

import numpy as np

import glassgrad as gg
from glassgrad import backends, locate
from glassgrad.op import REGISTRY, Op

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "glassgrad"
API = (
    "Tensor and functions", "autograd", "nn", "nn.functional", "nn.init", "nn.utils", "optim", "data", "metrics", "scope", "gradcheck",
    "compare", "function", "lesson", "errors",
)  # fmt: skip


TRANSPLANTED = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
    "matmul": "csrc/cpu/matmul/README.md",
    "conv": "csrc/cpu/conv/README.md",
    "softmax": "csrc/cpu/softmax/README.md",
}
LANGUAGES = {".cpp": "cpp", ".h": "cpp", ".cu": "cpp", ".py": "python", ".json": "json"}


def write(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "source").mkdir(parents=True)
    for name, path in TRANSPLANTED.items():
        (folder / f"{name}.md").write_text(transplant(ROOT / path, folder), encoding="utf-8")
    (folder / "ops").mkdir()
    (folder / "api").mkdir()
    (folder / "architecture.md").write_text(architecture(), encoding="utf-8")
    (folder / "kernels.md").write_text(kernels(), encoding="utf-8")
    names = sorted(REGISTRY)
    for name in names:
        (folder / "ops" / f"{name}.md").write_text(op_page(REGISTRY[name]), encoding="utf-8")
    (folder / "operations.md").write_text(op_index(names), encoding="utf-8")
    for name in API[1:]:
        (folder / "api" / f"{name}.md").write_text(api_page(name), encoding="utf-8")
    (folder / "api" / "tensor.md").write_text(tensor_page(), encoding="utf-8")
    entries = "\n".join(["tensor", *API[1:]])
    (folder / "api" / "index.md").write_text(f"# Reference\n\n```{{toctree}}\n{entries}\n```\n", encoding="utf-8")


# -------------------------------------------------------------------------------------------------------- architecture


def layers() -> list[set[str]]:
    """The layers that tests/test_architecture.py enforces."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS"
    )


def _files(name: str) -> list[Path]:
    folder = PACKAGE / name
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{name}.py"]


def _lines(paths) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def _first_sentence(text: str | None) -> str:
    return re.split(r"(?<=\.)\s", " ".join((text or "").split()))[0].replace("``", "`").rstrip(":")


def _purpose(name: str) -> str:
    paths = _files(name)
    first = next((p for p in paths if p.name in ("__init__.py", f"{name}.py")), paths[0])
    return _first_sentence(ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))))


def _kernel_purpose(path: Path) -> str:
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("//"):
            break
        comment.append(line.lstrip("/ "))
    return _first_sentence(" ".join(comment))


def architecture() -> str:
    rows = [
        (
            sorted(
                name
                for name in layer
                if name != "__main__" and (PACKAGE / name).exists() | (PACKAGE / f"{name}.py").exists()
            )
        )
        for layer in reversed(layers())
    ]
    boxes = [[(name, _lines(_files(name))) for name in row] for row in rows if row]
    native = []
    for folder, label in (("bindings", "csrc/bindings"), ("cpu", "csrc/cpu"), ("core", "csrc/core")):
        paths = [p for p in sorted((ROOT / "csrc" / folder).rglob("*")) if p.suffix in (".cpp", ".h")]
        native.append([(label, _lines(paths))])
    table = "\n".join(f"| `{name}` | {lines:,} | {_purpose(name)} |" for row in boxes for name, lines in row)
    files = [p for p in sorted((ROOT / "csrc").rglob("*")) if p.suffix in (".cpp", ".h")]
    kernel_table = "\n".join(f"| `{p.relative_to(ROOT)}` | {_lines([p]):,} | {_kernel_purpose(p)} |" for p in files)
    return f"""# The house on one page

Arrows point down: a module may import from its own row and from those below. `tests/test_architecture.py` enforces it, and this
picture and both tables are read from the code. The number in a box counts its lines.

```{{raw}} html
{_house(boxes + native)}
```

One line of a user's, `y = softmax(x @ w)`, goes straight down: a method of `tensor`, a function of `ops`, `op.apply`, which looks the kernel up
in the table of a backend, a binding, a kernel. If a gradient is wanted, `op` leaves a node in `autograd`, which knows nodes and
edges and no arrays.

## Python

| module | lines | what it is |
|---|---:|---|
{table}

## C++

| file | lines | what it is |
|---|---:|---|
{kernel_table}
"""


def _house(rows: list[list[tuple[str, int]]]) -> str:
    height, gap, width = 40, 14, 760
    parts = [
        f'<svg role="img" aria-label="Modules in layers; imports point down" viewBox="0 0 {width} {len(rows) * (height + gap)}" '
        'style="width:100%;max-width:820px" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">'
    ]
    for i, row in enumerate(rows):
        y, each = i * (height + gap), (width - 30) / len(row)
        for j, (name, lines) in enumerate(row):
            x = 30 + j * each
            parts.append(
                f'<rect x="{x + 3:.1f}" y="{y + 1}" width="{each - 6:.1f}" height="{height}" rx="7" fill="none" stroke="currentColor" '
                f'stroke-opacity="0.45"/><text x="{x + each / 2:.1f}" y="{y + 18}" text-anchor="middle" font-weight="600">{html.escape(name)}</text>'
                f'<text x="{x + each / 2:.1f}" y="{y + 33}" text-anchor="middle" font-size="11" fill-opacity="0.65">{lines:,} lines</text>'
            )
    bottom = len(rows) * (height + gap) - gap
    parts.append(
        f'<path d="M12 4V{bottom - 4}m-5 -7l5 7l5 -7" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<text x="26" y="{bottom / 2:.0f}" transform="rotate(-90 26 {bottom / 2:.0f})" text-anchor="middle" font-size="11" '
        'fill-opacity="0.65" dy="-2">imports</text></svg>'
    )
    return "".join(parts)


# ----------------------------------------------------------------------------------------------------------------- ops


def _public(op: Op):
    for place in (gg, gg.nn.functional):
        f = getattr(place, op.name, None)
        if callable(f):
            return f, f"{place.__name__}.{op.name}"
    return None, ""


def _block(text: str, language: str = "text") -> str:
    return f"````{{code-block}} {language}\n{text.rstrip()}\n````\n"


def _source(f) -> str:
    """The source of a rule; of a lambda in a table, the whole row."""
    try:
        return textwrap.dedent(inspect.getsource(f))
    except (OSError, TypeError):
        return ""


def _shape(x) -> str:
    return str(x.shape) if isinstance(x, np.ndarray) else repr(x)


def op_page(op: Op) -> str:
    function, public = _public(op)
    doc = inspect.getdoc(function) if function else None
    rows = []
    for sample in list(op.samples(np.random.default_rng(0)))[:8]:
        static = ", ".join(f"{key}={value!r}" for key, value in sample.static.items())
        inputs = ", ".join(_shape(x) if not isinstance(x, (list, tuple)) else "[...]" for x in sample.inputs)
        rows.append(f"| {sample.name or 'plain'} | `{inputs}` | {f'`{static}`' if static else ''} |")
    rules = [rule.f for rule in (*op.rules, op.joint) if rule]
    sources = list(dict.fromkeys(filter(None, map(_source, rules))))
    cpp = backends.cpp.BACKEND
    kernel = "moves no data" if op.is_view else "C++" if cpp and hasattr(cpp.module, op.name) else "NumPy's own"
    fused = (
        f"`{op.fused_vjp[0]}` computes all of it in one pass, unless a second derivative is wanted."
        if op.fused_vjp
        else ""
    )
    parts = [
        f"# {op.name}\n",
        f"`{public}`\n" if public else "",
        "## What it computes\n",
        _block(_paragraph(doc or op.doc or op.name)),
        "## Its derivative\n" if sources else "## Its derivative\n\nIt has none.\n",
        "Each rule takes the incoming gradient `dy` and what it names of inputs and output.\n" if sources else "",
        *[_block(source, "python") for source in sources],
        fused + "\n" if fused else "",
        "## Shapes it is tested with\n\n| case | inputs | arguments |\n|---|---|---|\n" + "\n".join(rows) + "\n",
        f"## Backends\n\n| reference | cpp |\n|---|---|\n| NumPy | {kernel} |\n",
        "## Where it lives\n\n| what | file |\n|---|---|\n"
        + "\n".join(f"| {place.what} | `{place.file}:{place.line}` |" for place in locate.places(op.name))
        + "\n",
    ]
    return "\n".join(part for part in parts if part)


def op_index(names: list[str]) -> str:
    rows = []
    for name in names:
        op = REGISTRY[name]
        function, _ = _public(op)
        first = _first_sentence((inspect.getdoc(function) if function else op.doc) or "")
        rows.append(f"| [{name}](ops/{name}.md) | {first.replace('|', chr(92) + '|')} |")
    return (
        f"# Operations\n\n{len(names)} of them, each tested from its own samples on every backend: values, layouts, first and second derivatives.\n\n"
        "| op | what it computes |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\n```{toctree}\n:hidden:\n"
        + "\n".join(f"ops/{name}" for name in names)
        + "\n```\n"
    )


# ------------------------------------------------------------------------------------------------------------- kernels


def kernels() -> str:
    """The ladders, and the contracts of kernels.h."""
    text = (ROOT / "csrc" / "core" / "kernels.h").read_text(encoding="utf-8")
    return f"""# Kernels

A kernel is a plain function with a contract. Three are ladders: folders of numbered files, from the naive loop to what runs.

```{{toctree}}
matmul
conv
softmax
```

## Contracts

{_block(text, "cpp")}"""


def transplant(path: Path, folder: Path) -> str:
    """A page of the repository on the site: its links lead to pages of the site, of source files too."""

    def link(match: re.Match) -> str:
        text, address = match.groups()
        target = (path.parent / address).resolve()
        if address.startswith("http") or not target.exists():
            return match[0]
        if target.is_dir():
            return text
        for name, source in TRANSPLANTED.items():
            if target == ROOT / source:
                return f"[{text}]({name}.md)"
        if target.is_relative_to(ROOT / "docs"):
            return f"[{text}](../{target.relative_to(ROOT / 'docs')})"
        return f"[{text}](source/{_source_page(target, folder)})"

    return re.sub(r"\[([^\]]*)\]\(([^)#]+)\)", link, path.read_text(encoding="utf-8"))


def _source_page(path: Path, folder: Path) -> str:
    shown = str(path.relative_to(ROOT))
    name = shown.replace("/", "-").replace(".", "-") + ".md"
    block = _block(path.read_text(encoding="utf-8"), LANGUAGES.get(path.suffix, "text"))
    (folder / "source" / name).write_text(f"---\norphan: true\n---\n\n# {shown}\n\n{block}", encoding="utf-8")
    return name


# ----------------------------------------------------------------------------------------------------------------- API


def api_page(name: str) -> str:
    module = importlib.import_module(f"glassgrad.{name}")
    names = getattr(module, "__all__", None) or [
        n
        for n, value in vars(module).items()
        if not n.startswith("_")
        and callable(value)
        and (getattr(value, "__module__", "") or "").startswith(module.__name__)
    ]
    return f"# {module.__name__}\n\n{_paragraph(inspect.getdoc(module))}\n\n" + _entries(module, names)


def tensor_page() -> str:
    names = [n for n in dir(gg) if not n.startswith("_") and callable(getattr(gg, n)) and n != "Tensor"]
    methods = [n for n in dir(gg.Tensor) if not n.startswith("_")]
    return (
        "# Tensor and functions\n\n"
        + _entry("Tensor", gg.Tensor)
        + "\n## Methods of Tensor\n\n"
        + ", ".join(f"`{n}`" for n in methods)
        + "\n\n"
        + _entries(gg, names)
    )


def _entries(module, names) -> str:
    return "\n".join(
        _entry(n, getattr(module, n)) for n in sorted(names, key=str.lower) if callable(getattr(module, n))
    )


def _entry(name: str, thing) -> str:
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = ""
    signature = re.sub(r" at 0x[0-9a-f]+", "", signature)
    return f"## {name}\n\n" + _block(f"{name}{signature}\n\n{_paragraph(inspect.getdoc(thing))}")


def _paragraph(text: str | None) -> str:
    """A docstring's words as Markdown: double backquotes become code."""
    return (text or "").replace("``", "`")
