"""The commands of the command line: what they print, and how they fail."""

import pytest

from glassgrad import backends
from glassgrad.cli import main

native = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


def run(capsys, *argv):
    code = main(list(argv))
    out = capsys.readouterr()
    return code, out.out, out.err


@native
def test_compare_some_ops(capsys):
    code, out, _ = run(capsys, "compare", "tanh", "softmax", "matmul")
    assert code == 0
    assert "3 of 3 ops agree" in out
    assert out.count("native") == 3


@native
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_compare_a_model(capsys, model):
    code, out, _ = run(capsys, "compare", "--model", model)
    assert code == 0
    assert "no op diverges" in out


@native
def test_compare_finds_the_first_op_that_diverges(monkeypatch, capsys, tmp_path):
    import numpy as np

    from glassgrad.op import REGISTRY

    kernels = backends.get("cpp").kernels
    op = REGISTRY["tanh"]
    good = kernels[op]
    monkeypatch.setitem(kernels, op, lambda x: good(x) + np.float32(1e-3))
    code, out, _ = run(capsys, "compare", "--model", "mlp")
    assert code == 1
    assert "first divergent op: call 3, tanh" in out
    code, out, _ = run(capsys, "compare", "tanh", "sigmoid")
    assert code == 1
    assert "1 of 2 ops agree; not: tanh" in out


def test_where(capsys):
    code, out, _ = run(capsys, "where", "softmax")
    assert code == 0
    assert "ops/softmax.py:" in out
    assert "csrc/cpu/softmax/3_production.cpp:" in out


def test_info(capsys):
    code, out, _ = run(capsys, "info")
    assert code == 0
    for word in ("glassgrad", "numpy", "backend", "cuda", "missing"):
        assert word in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["where", "sofmax"], "Did you mean softmax"),
        (["compare", "sofmax"], "Did you mean softmax"),
        (["compare", "--model", "nothing"], "MODULE:FUNCTION"),
        (["compare", "--backend", "tpu"], "expected one of"),
    ],
)
def test_a_mistake_gives_one_line(capsys, argv, words):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
