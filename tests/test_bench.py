"""The bench: every case runs in every library, and what it prints and writes can be read. No time is judged here."""

import importlib.util
import json

import numpy as np
import pytest

from glassgrad import backends, bench, nn
from glassgrad.bench import case, goals, machine, report, step
from glassgrad.cli import main

pytestmark = pytest.mark.skipif("cpp" not in backends.BACKENDS, reason="the native module was not built")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(case, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(machine, "COPIED", 1 << 16)


def small(libraries):
    """Three cases instead of a group: of arithmetic, of memory, of neither."""
    a = np.ones((64, 64), np.float32)
    peers = [name for name in ("numpy", "torch") if name in libraries]
    for name, work in (("64 x 64 x 64", (2 * 64**3, 3 * 64**2 * 4)), ("add", (64**2, 3 * 64**2 * 4)), ("call", (0, 0))):
        runs = dict.fromkeys(["glassgrad", *peers], lambda: a @ a)
        yield case.Case("gemm", name, runs, *map(float, work))


def test_steps_are_timed_and_written(quick, capsys, tmp_path):
    out = tmp_path / "bench.json"
    assert main(["bench", "step", "--rounds", "1", "--against", "numpy", "--json", str(out)]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    record = json.loads(out.read_text())
    names = [r["name"].partition(",")[0] for r in record["results"]]
    assert {"ResNet-20 3 x 32 x 32", "CNN 32c3-p2-64c3-p2-128-10"} < set(names)
    assert ("LSTM 64-128" in names) == hasattr(nn, "LSTM")
    assert all(r["seconds"]["glassgrad"] > 0 for r in record["results"])


def test_the_record_says_where_and_with_what(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "CASES", {"gemm": small})
    out = tmp_path / "bench.json"
    assert main(["bench", "gemm", "--rounds", "2", "--against", "numpy", "--threads", "1,2", "--json", str(out)]) == 0
    record = json.loads(out.read_text())
    assert {"cpu", "isa", "compiler", "flags", "glassgrad", "numpy", "date"} <= set(record["machine"])
    assert "-O" in record["machine"]["flags"]
    assert {(x["group"], x["threads"]) for x in record["limits"]} == {("gemm", 1), ("gemm", 2)}
    arithmetic, memory, neither = record["results"][:3]
    assert (arithmetic["limit"], memory["limit"], neither["limit"]) == ("multiply-adds", "copy", "")
    assert arithmetic["share"] > 0 and memory["share"] > 0 and not neither["share"]
    assert [g["goal"] for g in arithmetic["goals"]] == ["1 x NumPy"]


def test_results_are_a_json_a_page_and_a_picture(quick, capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "CASES", {"gemm": small})
    assert main(["bench", "--rounds", "2", "--against", "numpy", "--threads", "1,2", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert set(files) == {".json", ".md", ".png"}
    assert all(str(path) in text for path in files.values())
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    page = files[".md"].read_text()
    assert f"({files['.png'].name})" in page
    for row in ("| 64 x 64 x 64 |", "| all | 3 |", "## 2 threads"):
        assert row in page
    widths = {line.count("|") for line in page.split("### gemm")[1].split("\n\n")[1].splitlines()}
    assert len(widths) == 1, "a ragged table"


def test_a_missing_peer_is_named(quick, capsys, monkeypatch):
    real = bench.importlib.import_module

    def without_torch(name, *args):
        if name == "torch":
            raise ImportError
        return real(name, *args)

    monkeypatch.setattr(bench.importlib, "import_module", without_torch)
    monkeypatch.setattr(bench, "CASES", {"gemm": small})
    assert main(["bench", "gemm", "--rounds", "1"]) == 0
    captured = capsys.readouterr()
    assert "torch is not installed" in captured.err
    assert "PyTorch" not in captured.out


def test_peers_are_timed_in_the_same_run(quick):
    libraries = {"glassgrad": backends.get("cpp").module, "numpy": np}
    cases = list(bench.gemm.cases(libraries))
    results = [bench.measure(case, threads=1, rounds=2) for case in cases[:2] + cases[-5:-2]]
    assert all(r.ratios["numpy"] > 0 for r in results)
    assert all(r.flops > 0 for r in results)


def result(group, name, ratios, threads=1, limit="", share=0.0):
    seconds = dict.fromkeys(["glassgrad", *ratios], 1.0)
    return case.Result(group, name, threads, 1, seconds, {}, ratios, 1.0, 1e8, limit, 1.0, share)


@pytest.mark.parametrize(
    ("of", "verdicts"),
    [
        (result("gemm", "512 x 512 x 512", {"numpy": 0.9}, 1, "multiply-adds", 0.91), [True, False]),
        (result("gemm", "512 x 512 x 512", {"numpy": 1.1}, 2, "multiply-adds", 0.1), [True]),
        (result("gemm", "64 x 10 x 128 nt", {"numpy": 0.1}), []),
        (result("rows", "exp", {"numpy": 3.0, "torch": 0.9}, 1, "copy", 0.9), [False, True]),
        (result("step", "GPT 4 x 128", {}), []),
        (result("step", "GPT 4 x 128", {"torch": 1.5}), [True]),
        (result("step", "GPT 4 x 128", {"torch": float("nan")}), [False]),
    ],
)
def test_goals_are_judged(of, verdicts):
    assert [j["met"] for j in goals.judge(of)] == verdicts


def test_means_are_geometric_and_against_the_better_peer():
    results = [result("conv", "a", {"numpy": 1.0, "torch": 4.0}), result("conv", "b", {"torch": 1.0})]
    means = goals.geometric_means(results)
    assert means == pytest.approx({"numpy": 1.0, "torch": 2.0, "the best peer": 1.0})
    (judged,) = goals.judge_mean("conv", results)
    assert judged["met"] and judged["got"] == pytest.approx(2.0)
    assert "met: 1.3 x PyTorch" in report.means("conv", results, [judged])


@pytest.mark.parametrize("group", bench.CASES)
def test_cases_say_of_which_group_they_are(group):
    assert next(bench.CASES[group]({"glassgrad": backends.get("cpp").module})).group == group


def test_every_goal_is_set_for_a_case_that_exists():
    libraries = {"glassgrad": backends.get("cpp").module, "numpy": np}
    assert {g.group for g in goals.GOALS} - set(bench.CASES) <= {"attention", "rnn"}
    names = [of_group.name for of_group in bench.step.STEPS] + ["3 ops on 4 numbers, forward + backward"]
    for goal in goals.GOALS:
        if goal.group == "step":
            assert [n for n in names if goals.re.fullmatch(goal.cases, n)], goal
    assert next(bench.step.cases(libraries)).name in names


@pytest.mark.parametrize("of", [s for s in step.STEPS if s.model is not step._lstm], ids=lambda s: s.name)
def test_work_of_a_step_is_counted_as_pytorch_counts_it(of):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    runs, _ = step._runs(of, {"torch": torch})
    with FlopCounterMode(display=False) as counter:
        runs["torch"]()
    # PyTorch does not count the CPU's attention: 2 products of 128 with 32.5 tokens, in each of 4 layers.
    attention = 2 * 12 * 64 * 3 * 4 * 2 * 128 * 32.5 if of.tokens else 0
    assert of.flops() == counter.get_total_flops() + attention


def test_the_commit_is_named(monkeypatch):
    from glassgrad import __version__

    assert machine.commit().startswith(__version__)
    monkeypatch.setenv("GLASSGRAD_COMMIT", "v1-2-gabc")
    assert machine.commit() == f"{__version__} (v1-2-gabc)"


def test_mistakes_say_so(capsys, monkeypatch):
    assert main(["bench", "gemm", "--against", "jax"]) == 2
    assert main(["bench", "gemm", "--threads", "one"]) == 2
    assert main(["bench", "gemm", "--threads", "1,0"]) == 2
    assert main(["bench", "gemm", "--rounds", "0"]) == 2
    err = capsys.readouterr().err
    assert "numpy, torch" in err
    assert err.count("numbers from 1 with commas") == 2
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "gemm", "--roofline", "x.png"]) == 2
    assert 'pip install "glassgrad[viz]"' in capsys.readouterr().err
