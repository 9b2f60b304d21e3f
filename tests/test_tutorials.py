"""The tutorials: each runs once, does what every tutorial does, and reproduces its papers; and the command that runs them.

One test per tutorial makes all checks that need it to have run, so that no worker runs one twice.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import glassgrad as gg
from glassgrad import cli, lesson, school
from glassgrad.errors import ArgumentError
from papers import rows

for package in ("matplotlib", "tqdm", "sklearn"):
    pytest.importorskip(package)

ROOT = Path(__file__).parent.parent
TUTORIALS = [school.read(path) for path in sorted((ROOT / "tutorials").glob("*.py"))]
EXPECTED = [f"{number:02}" for number in (*range(1, 14), *range(31, 37), 50)]


def by_number(tutorial):
    marks = [pytest.mark.papers] if rows.of(tutorial.number) else []
    return pytest.param(tutorial, id=tutorial.name, marks=marks)


# ------------------------------------------------------------------------------------------------------ each tutorial


@pytest.mark.tutorial
@pytest.mark.parametrize("tutorial", [by_number(t) for t in TUTORIALS])
def test_tutorial(tutorial, tmp_path, monkeypatch, capsys, record_property):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    session = school.run(tutorial, tmp_path / "out")
    text = capsys.readouterr().out
    facts = json.loads((tmp_path / "out/claims.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    record_property("seconds", facts["seconds"])
    with capsys.disabled():
        print(f"\n  {tutorial.name}: {facts['seconds']:.1f} s", end="")

    assert session.parts >= {"predict", "claim", "picture", "lives", "exercise"}
    assert "What still hurts" in text
    assert text.index("? ") < text.index("\n= "), "a claim comes before the first prediction is asked"
    assert len(facts["claims"]) == len(session.claims) and all(claim["holds"] for claim in facts["claims"])
    assert {path.name for path in tmp_path.iterdir()} == {"out"}, "it wrote elsewhere"
    check_files(session.files)
    for exercise in session.exercises:
        check_exercise(exercise)
    check_papers(tutorial, session.claims)


def check_files(files):
    from PIL import Image

    pictures = [path for path in files if path.suffix == ".png"]
    assert pictures
    for path in files:
        assert path.stat().st_size > 5_000, f"{path.name} is empty"
        assert path.stat().st_size < 600_000, f"{path.name} is too large for a page"
    for path in pictures:
        with Image.open(path) as image:
            assert len(image.info.get("Description", "").split()) >= 5, f"{path.name} says too little without eyes"
            assert image.width >= 600
            assert len(image.convert("L").getcolors()) > 20, f"{path.name} is blank"


def check_exercise(exercise):
    assert exercise.passes(exercise.solution), exercise.task
    for wrong in (exercise.attempt, lambda *a, **k: None, lambda *a, **k: 0):
        assert not exercise.passes(wrong), exercise.task


def check_papers(tutorial, claims):
    for published in rows.of(tutorial.number):
        found = rows.find(published, claims)
        assert found, f"no claim has row={published.row} and the number {published.number:.5g}: {published.what}"
        for claim in found[:1] if published.compare == "=" else found:
            assert published.fits(claim.measured), (published, claim.measured)


# --------------------------------------------------------------------------------------------------- what they look like


@pytest.mark.parametrize("tutorial", [pytest.param(t, id=t.name) for t in TUTORIALS])
def test_it_is_a_page_of_the_gallery(tutorial):
    source = tutorial.path.read_text(encoding="utf-8")
    assert re.fullmatch(r"\d\d_[a-z]+(_[a-z0-9]+)+", tutorial.name)
    assert tutorial.number in EXPECTED
    heading = re.match(r'r?"""\n?(.+)\n(=+)\n\n', source)
    assert heading and len(heading[2]) == len(heading[1]), "the docstring starts with a title and a line of ="
    assert tutorial.question, "no sentence of the docstring is a question"
    cells = re.findall(r"^# %%$\n(.*)", source, re.MULTILINE)
    assert sum(line.startswith("# ") for line in cells) >= 3, "cells start with their text"
    assert len(source.splitlines()) <= 360
    assert ".show()" not in source, "a tutorial opens nothing"


def test_the_map_lists_every_tutorial():
    lines = (ROOT / "tutorials/README.md").read_text(encoding="utf-8").splitlines()
    listed = {line[2:4] if line[2] != "[" else line[3:5]: line for line in lines if re.match(r"\| \[?\d\d", line)}
    assert sorted(listed) == sorted(EXPECTED)
    for t in TUTORIALS:
        papers = ", ".join(map(str, sorted({row.row for row in rows.of(t.number)})))
        row = f"| [{t.number}]({t.path.name}) | {t.title} | {t.question} | {papers} |"
        assert listed[t.number] == row.replace("  ", " "), f"tutorials/README.md should say:\n{row}"


def test_every_planned_tutorial_is_there():
    assert [t.number for t in TUTORIALS] == EXPECTED
    assert {row.row for t in TUTORIALS for row in rows.of(t.number)} == set(range(1, 14))


# ----------------------------------------------------------------------------------------------- the papers' numbers


def test_a_claim_is_found_by_its_number():
    def claim(theory, measured, row=3, compare="="):
        return lesson.Claim("", "", measured, theory, "", "", compare, row=row)

    third, half = [row for row in rows.ROWS if row.row == 3][:2]
    claims = [claim(0.5, 0.54), claim(0.333, 0.34), claim(0.333, 0.34, row=4), claim(0.8, 0.8)]
    assert rows.find(third, claims) == [claims[1]]
    assert rows.find(half, claims) == [claims[0]]
    assert third.fits(0.34) and not third.fits(0.4) and not third.fits(float("nan"))
    learns = next(row for row in rows.ROWS if row.row == 5 and row.compare == "<")
    strict, loose = claim(0.01, 0.001, 5, "<"), claim(0.5, 0.001, 5, "<")
    assert rows.find(learns, [strict, loose]) == [strict]
    assert learns.fits(0.001) and not learns.fits(float("nan"))


# -------------------------------------------------------------------------------------------------------- the command

SCRIPT = '''"""{title}
{line}

Text first. {question}
"""

from matplotlib import pyplot as plt

from glassgrad import lesson

lesson.predict("Which?", ["a", "b"], answer=1, because="b.")
lesson.claim("one", {measured}, 1.0, tolerance=0.01)
figure, ax = plt.subplots()
lesson.picture(figure, "line", alt="nothing at all")


@lesson.exercise("Return 1.", lambda f: f() == 1, lambda: 1)
def one(): ...
'''


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Three tutorials of which one fails, in place of the real ones; the current folder is a new one."""
    folder = tmp_path / "home/tutorials"
    folder.mkdir(parents=True)
    for name, title, measured in (("01_see_one", "One", 1), ("05_see_two", "Two", 1), ("31_see_bad", "Bad", 2)):
        text = SCRIPT.format(title=title, line="=" * len(title), question=f"Is it {title}?", measured=measured)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(school, "roots", lambda: (folder.parent, folder.parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(gg.__file__).parent.parent))  # children run this very package
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_tutorial_is_read_without_running_it(shelf):
    one, _, bad = school.tutorials()
    assert (one.number, one.name, one.title, one.question, one.track) == (
        "01", "01_see_one", "One", "Is it One?", "How it learns",
    )  # fmt: skip
    assert bad.track == "How it runs"


@pytest.mark.parametrize(("asked", "number"), [("5", "05"), ("05", "05"), ("two", "05"), ("See-Bad", "31")])
def test_find(shelf, asked, number):
    assert school.find(asked).number == number


def test_find_says_what_there_is(shelf):
    with pytest.raises(ArgumentError, match="got '7', which no tutorial has; expected .* one of 01, 05, 31"):
        school.find("7")
    with pytest.raises(ArgumentError, match="fits 01_see_one, 05_see_two, 31_see_bad; expected"):
        school.find("see")
    with pytest.raises(ArgumentError, match="expected a script that exists"):
        school.find("07_is_missing.py")


def test_list(shelf, capsys):
    assert cli.main(["tutorial"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == ["How it learns", "  01  One", "      Is it One?", "  05  Two", "      Is it Two?"]
    assert lines[5:8] == ["How it runs", "  31  Bad", "      Is it Bad?"]


def test_run_one(shelf, capsys):
    from matplotlib import pyplot

    assert cli.main(["tutorial", "5"]) == 0
    out = capsys.readouterr().out
    assert "Is it Two?" in out and "Held: 1 claim. Pictures and pages: glassgrad-tutorials/05/" in out
    assert "Exercises solved: 0 of 1." in out
    assert not pyplot.get_fignums()
    folder = Path("glassgrad-tutorials/05")
    facts = json.loads((folder / "claims.json").read_text())
    assert facts["files"] == ["line.png"] and (folder / "line.png").exists()
    assert facts["claims"][0]["holds"] and facts["solved"] == 0

    mine = folder / "05_see_two.py"  # the reader's copy: solve it
    mine.write_text(mine.read_text().replace("def one(): ...", "def one():\n    return 1"))
    assert cli.main(["tutorial", str(mine)]) == 0
    assert "Exercises solved: 1 of 1." in capsys.readouterr().out
    assert cli.main(["tutorial", "two"]) == 0
    assert "return 1" in mine.read_text()  # and it stays


def test_the_dojo_can_be_played_to_its_end(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    asked = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "1")
    school.run(school.find("50"), tmp_path, ask=True)
    out = capsys.readouterr().out
    assert sum("q: stop" in prompt for prompt in asked) == 30
    assert (score := re.search(r"Your score: (\d+) of 30", out)) and 0 < int(score[1]) < 30
    assert out.index("30 of 30") < out.index("Run 1:"), "the answers come before the game"


def test_someone_is_asked(monkeypatch, capsys, tmp_path):
    typed = iter(["2", "1", "", EOFError])

    def answer(_):
        text = next(typed)
        if text is EOFError:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", answer)
    with lesson.session(tmp_path, ask=True) as session:
        for _ in range(4):
            lesson.predict("Which?", ["a", "b"], answer=1, because="so it is.")
    out = capsys.readouterr().out
    assert out.count("2. b: so it is.") == session.questions == 4
    assert out.count("  right.") == out.count("  not quite.") == 1


def test_a_claim_that_fails_is_an_error(shelf, capsys):
    assert cli.main(["tutorial", "31"]) == 2
    assert "glassgrad: claim: one: 2, theory 1: got 2; expected = 1 within 1.0%" in capsys.readouterr().err


def test_out_that_is_a_file(shelf, capsys):
    Path("taken").write_text("")
    assert cli.main(["tutorial", "5", "--out", "taken"]) == 2
    assert "--out: got 'taken', which cannot be made a folder" in capsys.readouterr().err


def test_control_c_stops_it(shelf, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(school, "run", stop)
    assert cli.main(["tutorial", "5"]) == 130
    assert capsys.readouterr().err == "glassgrad: stopped\n"


def test_run_all(shelf, capsys):
    assert cli.main(["tutorial", "all", "--out", "there"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"01_see_one +\d+\.\d s +1 claim +1 picture\n05_see_two ", out)
    assert re.search(r"31_see_bad +FAILED\n(?s:.*)\n    glassgrad: claim: one", out)  # with what it printed
    assert out.endswith("failed: 31\n")
    assert Path("there/05/line.png").exists()


def test_a_missing_package_is_named(shelf, monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest)
    )
    assert cli.main(["tutorial", "5"]) == 2
    assert 'got no scikit-learn; expected them for data and pictures. pip install "glassgrad[tutorials]"' in (
        capsys.readouterr().err
    )


def test_a_script_run_by_python_has_its_own_folder(monkeypatch):
    monkeypatch.setattr(lesson, "_session", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "tutorials/05_watch_gradients_vanish.py", raising=False)
    assert lesson.current().folder == Path("glassgrad-tutorials/05")
    monkeypatch.setattr(lesson, "_session", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "other.py")
    assert lesson.current().folder == Path("glassgrad-tutorials")


def test_an_exercise_that_raises_is_not_solved():
    made = lesson.Exercise("", lambda: None, lambda f: f() == 1, lambda: 1)
    assert made.passes(lambda: 1)
    assert not lesson.Exercise("", None, lambda f: np.bool_(f() == 1), None).passes(lambda: 2)
    assert lesson.Exercise("", None, lambda f: None, None).passes(lambda: 2)  # a check that only asserts
    assert not made.passes(lambda: {}["a name that is missing"])
    assert not made.passes(lambda: gg.ones(2) @ gg.ones(3))
