"""The house stays as it was built: arrows point down, kernels are listed and bound, every op explains itself."""

import ast
import re
from pathlib import Path

import pytest

from glassgrad import backends
from glassgrad.op import REGISTRY

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "glassgrad"

# A module may import from its own layer and from those below it.
LAYERS = [
    {"errors"},
    {"dtypes", "autograd", "backends"},
    {"tensor"},
    {"op", "function", "gradcheck", "random", "creation"},
    {"ops"},
    {"nn", "optim", "data", "metrics", "compare", "locate", "ladder", "bench", "lesson", "utils"},
    {"scope"},
    {"demo", "dojo", "school"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts


def imports_of(path, parts, *, top_level_only):
    """Names of glassgrad's own top modules that ``path`` imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    package = parts if path.name == "__init__.py" else parts[:-1]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - (node.level - 1)]
                full = (*base, *((node.module or "").split(".") if node.module else ()))
                yield from [full[0]] if full else [alias.name for alias in node.names]
            elif node.module and node.module.split(".")[0] == "glassgrad":
                yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("glassgrad."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize(("path", "parts"), [pytest.param(*m, id="/".join(m[1])) for m in modules()])
def test_imports_point_down(path, parts):
    here = LAYER[parts[0]]
    for name in imports_of(path, parts, top_level_only=True):
        if name in LAYER:
            assert LAYER[name] <= here, f"{path.relative_to(ROOT)} imports {name}, which lies above it"


def test_the_engine_imports_no_arrays():
    source = (PACKAGE / "autograd.py").read_text()
    assert "numpy" not in source.split('"""', 2)[2]
    assert "backend" not in re.sub(r"#.*", "", source.split('"""', 2)[2]).replace("backward", "")


def test_pybind11_is_in_the_bindings_alone():
    for path in (ROOT / "csrc").rglob("*.[hc]*"):
        if "pybind11" in path.read_text():
            assert path.relative_to(ROOT / "csrc").parts[0] == "bindings", path


def test_the_core_imports_numpy_and_nothing_else_from_outside():
    outside = {"matplotlib", "tqdm", "sklearn", "torch", "scipy", "pandas"}
    for path, parts in modules():
        tree = ast.parse(path.read_text())
        for node in tree.body:
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not {n.split(".")[0] for n in names} & outside, f"{'/'.join(parts)} imports it at import time"


def contracts():
    text = (ROOT / "csrc/core/kernels.h").read_text()
    return re.findall(r"^(?:void|i64|double|T)\s+(\w+)\(", text, re.MULTILINE)


def test_every_kernel_has_a_contract_and_a_definition():
    sources = "\n".join(p.read_text() for p in (ROOT / "csrc/cpu").rglob("*.[hc]*"))
    names = contracts()
    assert len(names) > 30
    for name in names:
        assert re.search(rf"\b{name}\b\s*(<T>)?\(", sources), f"{name} is promised in kernels.h and not written"


def test_every_kernel_is_tested_without_python():
    tests = "\n".join(p.read_text() for p in (ROOT / "tests/cpp").glob("test_*.cpp"))
    for name in contracts():
        assert re.search(rf"\b{name}\b", tests), f"{name} appears in no file of tests/cpp"


def test_every_kernel_is_tested_at_the_edges():
    edges = (ROOT / "tests/cpp/test_edges.cpp").read_text()
    for name in set(contracts()) - {"fma_ceiling"}:  # which takes no array
        assert re.search(rf"\b{name}\b", edges), f"{name} is missing in tests/cpp/test_edges.cpp"


def test_every_kernel_is_bound():
    bindings = "\n".join(p.read_text() for p in (ROOT / "csrc/bindings").rglob("*.[hc]*"))
    for name in contracts():
        assert re.search(rf"\b{name}\b", bindings), f"{name} is written and not bound"


@pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")
def test_every_op_that_says_it_is_native_is():
    module = backends.get("cpp").module
    missing = [op.name for op in REGISTRY.values() if op.native and not hasattr(module, op.name)]
    assert not missing
    fused = [op.fused_vjp[0] for op in REGISTRY.values() if op.fused_vjp]
    assert not [name for name in fused if not hasattr(module, name)]


@pytest.mark.parametrize("ladder", ["matmul", "conv", "softmax"])
def test_every_rung_explains_itself(ladder):
    rungs = sorted((ROOT / "csrc/cpu" / ladder).glob("[0-9]_*.cpp"))
    assert len(rungs) >= 3
    for rung in rungs:
        head = rung.read_text()[:3000]
        for word in ("Idea:", "Changed:", "Why faster:", "Still hurts:"):
            assert word in head, f"{rung.name} lacks {word}"


def test_where_finds_the_whole_column_of_an_op():
    from glassgrad.locate import places

    found = {place.what for place in places("softmax")}
    assert {
        "formula and derivative",
        "NumPy reference",
        "contract",
        "C++ kernel",
        "binding",
        "public function",
    } <= found


def test_no_path_of_a_machine_and_no_stale_marks():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "csrc").rglob("*.[hc]*"), *(ROOT / "tests").rglob("*.[pc]*")]:
        if path.suffix in (".py", ".h", ".cpp") and path != Path(__file__):
            text = path.read_text()
            assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), path
            assert not re.search(r"/(home|root|work)/\w", text), path
