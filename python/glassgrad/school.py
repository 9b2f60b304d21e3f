"""``glassgrad tutorial``: finds the tutorials, runs one here or all of them, each in a process of its own.

A tutorial is a script, ``tutorials/NN_verb_noun.py``, written with the few words of ``glassgrad.lesson``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from . import lesson
from .demo import check_packages, make_folder, plain
from .errors import ArgumentError
from .locate import roots

TRACKS = {1: "How it learns", 31: "How it runs", 50: "Final"}  # number of a track's first tutorial: its name
OUT = Path("glassgrad-tutorials")


@dataclass(frozen=True)
class Tutorial:
    """A script and what its docstring says: a title, then text, of which the first question is the tutorial's."""

    path: Path
    title: str
    question: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def track(self) -> str:
        return TRACKS[max(first for first in TRACKS if first <= max(int(self.number), 1))]


def read(path: Path) -> Tutorial:
    """The tutorial in ``path``, without running it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    heading = re.match(r"(.+)\n=+\n(.*)", text, re.DOTALL)
    title, body = heading.groups() if heading else ("", text)
    sentences = re.split(r"(?<=[.?!])\s+", " ".join(body.replace("**", "").split()))
    return Tutorial(path, title, next((s for s in sentences if s.endswith("?")), ""))


def tutorials() -> list[Tutorial]:
    """All of this installation, in order.

    >>> tutorials()[0].name
    '01_build_backprop'
    """
    return [read(path) for path in sorted((roots()[0] / "tutorials").glob("[0-9][0-9]_*.py"))]


def find(asked: str) -> Tutorial:
    """One tutorial, by number, by a part of its name, or by the path of a script.

    >>> find("1").title, find("backprop").number
    ('Build backprop for one number', '01')
    """
    if asked.endswith(".py"):
        if not re.match(r"\d\d_.+", Path(asked).name) or not Path(asked).is_file():
            raise ArgumentError(f"tutorial: got {asked!r}; expected a script that exists and is named NN_verb_noun.py.")
        return read(Path(asked))
    known = tutorials()
    if asked.isdigit():
        found = [t for t in known if int(t.number) == int(asked)]
    else:
        found = [t for t in known if re.sub(r"\W", "_", asked.lower()) in t.name]
    if len(found) != 1:
        fits = f"which fits {', '.join(t.name for t in found)}" if found else "which no tutorial has"
        numbers = ", ".join(t.number for t in known)
        raise ArgumentError(
            f"tutorial: got {asked!r}, {fits}; expected 'all', a part of one name, or one of {numbers}."
        )
    return found[0]


def run(tutorial: Tutorial, folder: Path, ask: bool = False) -> lesson.Session:
    """Run it in this process. Pictures, pages and ``claims.json`` (every claim, and what came of it) go to ``folder``.

    Raises:
        LessonError: a claim does not hold.
    """
    from matplotlib import pyplot

    make_folder(folder)
    start = time.perf_counter()
    with pyplot.rc_context(), lesson.session(folder, ask) as session:
        try:
            runpy.run_path(str(tutorial.path), run_name="__main__")
        finally:
            pyplot.close("all")
    summary = {
        "tutorial": tutorial.name,
        "title": tutorial.title,
        "question": tutorial.question,
        "seconds": time.perf_counter() - start,
        "claims": [claim.as_dict() for claim in session.claims],
        "files": [path.name for path in session.files],
        "exercises": len(session.exercises),
        "solved": session.solved,
    }
    (folder / "claims.json").write_text(json.dumps(plain(summary), indent=1, allow_nan=False), encoding="utf-8")
    return session


# -------------------------------------------------------------------------------------------------------- command line


def main(argv: list[str] | None = None) -> int:
    """Run a tutorial; the command line is in ``--help``. Returns 0 when every claim held."""
    parser = argparse.ArgumentParser(
        prog="glassgrad tutorial",
        description="Run a tutorial: it asks before it shows, measures what it claims, and draws pictures.",
    )
    parser.add_argument(
        "which", nargs="?", metavar="WHICH", help="a number, a part of a name, a script, or 'all'; none: list them"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where to write (default: {OUT}/NN; with 'all' a folder of such)"
    )
    args = parser.parse_args(argv)
    if args.which is None:
        return _list()
    chosen = None if args.which == "all" else find(args.which)
    check_packages()
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures are files: no window opens
    return _all(args.out or OUT) if chosen is None else _one(chosen, args.out or OUT / chosen.number)


def _list() -> int:
    width = min(shutil.get_terminal_size().columns, 120)
    track = ""
    for t in tutorials():
        if t.track != track:
            track = t.track
            print(track)
        print(f"  {t.number}  {t.title}")
        print(textwrap.fill(t.question, width, initial_indent=" " * 6, subsequent_indent=" " * 6))
    print("\nglassgrad tutorial 1  runs one; glassgrad tutorial all  runs all")
    return 0


def _count(things, word: str) -> str:
    return f"{len(things)} {word}" + "s" * (len(things) != 1)


def _one(tutorial: Tutorial, folder: Path) -> int:
    ask = sys.stdin is not None and sys.stdin.isatty()
    lesson.say(f"{tutorial.number}  {tutorial.title}")
    lesson.say(tutorial.question)
    print()
    session = run(tutorial, folder, ask)
    print(f"\nHeld: {_count(session.claims, 'claim')}. Pictures and pages: {folder}{os.sep}")
    if session.exercises:
        print(f"Exercises solved: {session.solved} of {len(session.exercises)}.")
    if session.solved < len(session.exercises):
        mine = folder / tutorial.path.name  # the reader writes into a copy, which no update takes away
        if not mine.exists():
            shutil.copyfile(tutorial.path, mine)
        print(f"To solve: fill in the functions in {mine}, then: glassgrad tutorial {mine}")
    return 0


def _all(out: Path) -> int:
    from tqdm import tqdm

    failed = []
    with tqdm(tutorials(), disable=None, leave=False, unit=" tutorials") as bar:
        for tutorial in bar:
            bar.set_description(tutorial.name)
            folder = out / tutorial.number
            done = subprocess.run(
                [sys.executable, "-m", "glassgrad", "tutorial", str(tutorial.path), "--out", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
            if done.returncode:
                failed.append(tutorial.number)
                line = f"{tutorial.name:32}  FAILED\n{textwrap.indent(done.stdout, '    ')}"
            else:
                facts = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
                claims, files = _count(facts["claims"], "claim"), _count(facts["files"], "picture")
                line = f"{tutorial.name:32}{facts['seconds']:6.1f} s {claims:>12}{files:>14}"
            tqdm.write(line)
    print(f"failed: {', '.join(failed)}" if failed else f"all hold; pictures and pages: {out}{os.sep}")
    return 1 if failed else 0
