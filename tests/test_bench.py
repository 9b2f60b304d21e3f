"""The bench: every case runs in every library, and what it prints and writes can be read. No time is judged here."""

import json

import pytest

from glassgrad import backends, bench
from glassgrad.cli import main

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


def test_steps_are_timed_and_written(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench.case, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(bench, "_stream", lambda: 1e10)
    out = tmp_path / "bench.json"
    assert main(["bench", "step", "--rounds", "2", "--against", "numpy", "--threads", "1,2", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "GFLOP/s" in text
    record = json.loads(out.read_text())
    assert record["machine"]["isa"]
    assert {r["threads"] for r in record["results"]} == {1, 2}
    assert all(r["seconds"]["glassgrad"] > 0 for r in record["results"])


def test_peers_are_timed_in_the_same_run(monkeypatch):
    monkeypatch.setattr(bench.case, "BLOCK_SECONDS", 0.0)
    libraries = bench._libraries("numpy")
    cases = list(bench.gemm.cases(libraries))
    results = [bench.measure(case, threads=1, rounds=2) for case in cases[:2] + cases[-5:-2]]
    assert all(r.ratios["numpy"] > 0 for r in results)
    assert all(r.flops > 0 for r in results)


def test_mistakes_say_so(capsys):
    assert main(["bench", "gemm", "--against", "jax"]) == 2
    assert main(["bench", "gemm", "--threads", "one"]) == 2
    assert main(["bench", "gemm", "--rounds", "0"]) == 2
    err = capsys.readouterr().err
    assert "numpy, torch" in err
    assert "numbers with commas" in err
