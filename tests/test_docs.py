"""Everything shown is run: docstrings' examples, the README's, and CONTRIBUTING's recipe for a new op."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import ops
from glassgrad.op import REGISTRY, apply

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    {
        m.name for m in pkgutil.walk_packages(gg.__path__, "glassgrad.") if not m.name.split(".")[1].startswith("_")
    }  # not the compiled modules, nor __main__
    | {"glassgrad"}
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


def test_examples_of_the_readme():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=FLAGS)
    assert result.attempted > 5
    assert result.failed == 0


def test_contributing_adds_an_op_that_passes_every_check():
    recipe = re.search(r"```python\n(# ops/elementwise.py.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names = dict(vars(ops.elementwise))
    before = (list(ops.elementwise.METHODS), list(ops.elementwise.INPLACE), set(REGISTRY))
    try:
        exec(recipe.group(1), names)
        (added,) = set(REGISTRY) - before[2]
        op = REGISTRY[added]
        for sample in op.samples(np.random.default_rng(0)):
            if sample.differentiable:
                x = gg.tensor(sample.inputs[0], dtype=gg.float64, requires_grad=True)
                assert gg.gradcheck(lambda x: apply(op, x), x)
                assert gg.gradgradcheck(lambda x: apply(op, x), x, atol=1e-4)
        assert op.doc.startswith(f"{added}:")
    finally:
        ops.elementwise.METHODS[:], ops.elementwise.INPLACE[:] = before[:2]
        for name in set(REGISTRY) - before[2]:
            del REGISTRY[name]


def test_every_public_function_has_a_docstring():
    public = [getattr(gg, name) for name in dir(gg) if not name.startswith("_")]
    missing = [f.__name__ for f in public if callable(f) and not (f.__doc__ or "").strip()]
    assert not missing
