"""Every rung of a ladder computes the same product, explains itself, and finds its way into the lesson's table."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from glassgrad import backends, ladder
from glassgrad.cli import main

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")
LESSON = Path(__file__).parent.parent / "csrc/cpu/matmul"


@pytest.fixture
def module():
    return backends.get("cpp").module


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (17, 33, 65), (64, 10, 128), (5, 1, 300), (4, 4, 0)], ids=str)
def test_rungs_agree(module, shape, dtype):
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype).T
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = (k + 2) * np.finfo(dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    for rung in module.matmul_rungs():
        c = module.matmul_rung(rung, a, b)
        assert c.dtype == dtype
        assert (np.abs(c - exact) <= bound + 1e-300).all(), rung


def test_every_rung_has_a_file_and_a_row(module):
    files = [re.sub(r"^\d_", "", p.stem) for p in sorted(LESSON.glob("[0-9]_*.cpp"))]
    assert files == list(module.matmul_rungs())
    table = (LESSON / "README.md").read_text().partition("ladder:begin")[2].partition("ladder:end")[0]
    for i, name in enumerate(files):
        assert f"| {i} {name} |" in table


def test_the_ladder_prints_and_writes_its_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ladder, "_SECONDS", 0.001)
    shutil.copytree(LESSON, tmp_path / "matmul")
    monkeypatch.setattr(ladder, "_folder", lambda: tmp_path / "matmul")
    assert main(["ladder", "matmul", "--size", "48", "--write"]) == 0
    out = capsys.readouterr().out
    assert out.count("GFLOP/s") >= 6
    assert "48 x 48" in (tmp_path / "matmul/README.md").read_text()


def test_an_unknown_rung_is_named(module):
    with pytest.raises(RuntimeError, match="naive"):
        module.matmul_rung("fast", np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
