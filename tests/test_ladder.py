"""Every rung of a ladder computes the same product, explains itself, and finds its way into the lesson's table."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from glassgrad import backends, ladder
from glassgrad.backends.rungs import LADDERS
from glassgrad.bench import machine
from glassgrad.cli import main

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")
LESSONS = Path(__file__).parent.parent / "csrc/cpu"


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


@pytest.mark.parametrize("op", LADDERS)
def test_every_rung_has_a_file_a_reason_and_a_row(op):
    folder = LADDERS[op].folder
    files = [re.sub(r"^\d_", "", p.stem) for p in sorted((LESSONS / folder).glob("[0-9]_*.cpp"))]
    assert files == LADDERS[op].names()
    table = (LESSONS / folder / "README.md").read_text().partition("ladder:begin")[2].partition("ladder:end")[0]
    for i, name in enumerate(files):
        assert f"| {i} {name} |" in table
        assert ladder._why(folder, i, name).endswith(".")


SMALL = {
    "matmul": ["48", "7x9x5"],
    "conv2d": ["2,3,9,5,3,1,1", "1,4,8,6,5,2,0"],
    "softmax": ["13x67"],
}


@pytest.mark.parametrize(("op", "size"), [(op, size) for op in LADDERS for size in SMALL[op]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ladder_prints_and_writes_its_table(op, size, dtype, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ladder, "_SECONDS", 0.001)
    monkeypatch.setattr(machine, "COPIED", 1 << 16)
    name = LADDERS[op].folder
    shutil.copytree(LESSONS / name, tmp_path / name)
    monkeypatch.setattr(ladder, "_folder", lambda folder: tmp_path / folder)
    assert main(["ladder", name, "--size", size, "--dtype", dtype, "--write"]) == 0
    out = capsys.readouterr().out
    for rung in LADDERS[op].names():
        assert f" {rung}\n" in out
    table = (
        (tmp_path / name / "README.md").read_text().partition("ladder:begin -->\n")[2].partition("\n<!-- ladder:end")[0]
    )
    assert f"--size {size} --dtype {dtype} --write" in table
    assert len({line.count("|") for line in table.splitlines()[2:]}) == 1, "a ragged table"


@pytest.mark.parametrize("op", LADDERS)
def test_the_picture_has_every_rung(op, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ladder, "_SECONDS", 0.001)
    monkeypatch.setattr(machine, "COPIED", 1 << 16)
    picture = tmp_path / "ladder.png"
    assert main(["ladder", LADDERS[op].folder, "--size", SMALL[op][0], "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("op", LADDERS)
def test_a_wrong_rung_is_told(op, capsys, monkeypatch):
    monkeypatch.setattr(ladder, "_SECONDS", 0.001)
    monkeypatch.setattr(machine, "COPIED", 1 << 16)
    real = ladder._call

    def off(of, rung, task):
        call = real(of, rung, task)
        return (lambda: call() * np.float32(1.01)) if rung == "naive" else call

    monkeypatch.setattr(ladder, "_call", off)
    assert main(["ladder", LADDERS[op].folder, "--size", SMALL[op][0]]) == 1
    err = capsys.readouterr().err
    assert "wrong: 0 naive" in err
    assert "production" not in err


@pytest.mark.parametrize("op", LADDERS)
def test_a_rung_that_has_no_kernel_for_the_shape_says_so(op, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ladder, "_SECONDS", 0.001)
    monkeypatch.setattr(machine, "COPIED", 1 << 16)
    name = LADDERS[op].folder
    shutil.copytree(LESSONS / name, tmp_path / name)
    monkeypatch.setattr(ladder, "_folder", lambda folder: tmp_path / folder)
    real = ladder._call
    monkeypatch.setattr(ladder, "_call", lambda *a: (lambda: NotImplemented) if a[1] == "naive" else real(*a))
    assert main(["ladder", name, "--size", SMALL[op][0], "--write"]) == 0
    assert "not for this shape" in capsys.readouterr().out
    assert "| 0 naive |  |  |" in (tmp_path / name / "README.md").read_text()


@pytest.mark.parametrize("size", ["0", "x", "9000", "4x4", "-3"])
def test_a_size_that_makes_no_sense_is_refused(size, capsys):
    assert main(["ladder", "matmul", "--size", size]) == 2
    assert "numbers from 1 to 8192" in capsys.readouterr().err


def test_an_unknown_rung_is_named(module):
    with pytest.raises(RuntimeError, match="naive"):
        module.matmul_rung("fast", np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
