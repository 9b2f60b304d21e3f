"""What every tutorial is made of: a question before the answer, claims, pictures, a look at the source, an exercise.

A tutorial is a plain script, ``tutorials/NN_verb_noun.py``; these few words are all it needs beside the library itself.
``glassgrad tutorial 5`` runs one; so does ``python tutorials/05_watch_gradients_vanish.py``.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ArgumentError, GlassgradError


class LessonError(GlassgradError):
    """What a tutorial says did not happen."""


@dataclass(frozen=True)
class Claim:
    """One prediction and what came of it.

    ``compare`` is "=" (measured / theory within ``tolerance`` of 1), "<" or ">". ``holds`` is None for a claim on a
    finished training when the training was cut short. ``row`` is the number of a published claim that it reproduces.
    """

    name: str
    says: str
    measured: float
    theory: float
    formula: str
    source: str
    compare: str = "="
    tolerance: float = 0.0
    trained: bool = False
    row: int | None = None
    holds: bool | None = None

    @property
    def ratio(self) -> float:
        return self.measured / self.theory

    def judged(self, fast: bool = False) -> Claim:
        if self.trained and fast:
            return self
        if self.compare == "=":
            holds = abs(self.ratio - 1) <= self.tolerance
        else:
            holds = self.measured < self.theory if self.compare == "<" else self.measured > self.theory
        return replace(self, holds=bool(holds))

    def as_dict(self) -> dict:
        return asdict(self) | {"ratio": self.ratio if self.compare == "=" else None}


@dataclass(frozen=True)
class Exercise:
    """A function that the reader writes; ``check`` raises or returns False for a wrong one."""

    task: str
    attempt: Callable
    check: Callable[[Callable], Any]
    solution: Callable

    def passes(self, function: Callable) -> bool:
        """Whether ``function`` does what was asked. An untouched one, whose body is ``...``, does not."""
        try:
            found = self.check(function)
            return found is None or bool(found)  # NumPy's False is another object than Python's
        except Exception:  # a function that is half written may raise anything
            return False


@dataclass
class Session:
    """One run of one tutorial: where its pictures go and what it did."""

    folder: Path
    ask: bool = False
    claims: list[Claim] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    exercises: list[Exercise] = field(default_factory=list)
    solved: int = 0
    questions: int = 0
    parts: set[str] = field(default_factory=set)


_session: Session | None = None


def current() -> Session:
    """The session that is open, or a new one, which asks if someone is there.

    Its folder is ``glassgrad-tutorials``, and in it ``05`` for ``python tutorials/05_watch_gradients_vanish.py``.
    """
    global _session
    if _session is None:
        script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").name
        number = script[:2] if re.match(r"\d\d_", script) else ""
        _session = Session(Path("glassgrad-tutorials", number), ask=sys.stdin is not None and sys.stdin.isatty())
    return _session


@contextlib.contextmanager
def session(folder: Path | str, ask: bool = False) -> Iterator[Session]:
    """Run a tutorial inside: its files go to ``folder``, and what it claimed can be read afterwards."""
    global _session
    before, _session = _session, Session(Path(folder), ask)
    try:
        yield _session
    finally:
        _session = before


# ------------------------------------------------------------------------------------------------------ words of a lesson


def predict(question: str, choices: Sequence[str], answer: int, because: str) -> None:
    """Ask before the result is shown, then say what is right and why.

    Someone at a terminal types a number; elsewhere the question is printed, so that a reader of the page can stop there.

    Args:
        question: about what the next lines will measure.
        choices: two to four possible answers.
        answer: index of the right one. Compute it from the measurement: then it can't be wrong.
        because: one or two sentences.

    >>> predict("Slope of tanh at 0?", ["0", "1/2", "1"], answer=2, because="1 - tanh(0)^2 = 1.")
    ? Slope of tanh at 0?
        1. 0
        2. 1/2
        3. 1
      3. 1: 1 - tanh(0)^2 = 1.
    """
    here = current()
    here.questions += 1
    here.parts.add("predict")
    _say("? " + question, "  ")
    for number, choice in enumerate(choices, 1):
        _say(f"    {number}. {choice}", "       ")
    if here.ask:
        try:
            typed = input("  your guess (a number, or Enter): ").strip()
        except EOFError:  # Ctrl-D: show me
            typed = ""
        if typed:
            print("  right." if typed == str(answer + 1) else "  not quite.")
    _say(f"  {answer + 1}. {choices[answer]}: {because}", "     ")


def claim(
    says: str,
    measured: float,
    theory: float,
    *,
    tolerance: float = 0.0,
    compare: str = "=",
    formula: str = "",
    source: str = "",
    row: int | None = None,
) -> None:
    """Hold a measurement against what theory or a paper says, print both, and stop if it does not hold.

    Args:
        says: what is measured, with its unit.
        compare: "=" for measured / theory within ``tolerance`` of 1; "<" or ">" for a bound.
        formula, source: where the number comes from.
        row: of the published claims that the tests list.

    Raises:
        LessonError: it does not hold.

    >>> claim("slope of tanh at its attractor, w = 1.25", 0.6185, 0.619, tolerance=0.01, source="Bengio et al. 1994")
    = slope of tanh at its attractor, w = 1.25: 0.6185, theory 0.619 (Bengio et al. 1994)
    """
    made = Claim(says, says, float(measured), float(theory), formula, source, compare, tolerance, row=row).judged()
    here = current()
    here.parts.add("claim")
    here.claims.append(made)
    bound = "theory" if compare == "=" else f"expected {compare}"
    origin = f" ({source})" if source else ""
    text = f"{says}: {measured:.4g}, {bound} {theory:.4g}{origin}"
    if not made.holds:
        within = f" within {tolerance:.1%}" if compare == "=" else ""
        raise LessonError(f"claim: {text}: got {measured:.6g}; expected {compare} {theory:.6g}{within}.")
    _say("= " + text, "  ")


def picture(figure, name: str, alt: str):
    """Save a matplotlib figure as ``NAME.png`` and say where; it stays open, for a notebook or a gallery to show.

    Args:
        alt: what it shows, for a reader who can't see it.
    """
    figure.set_label(alt)
    return _saved(name + ".png", lambda path: figure.savefig(path, dpi=150, metadata={"Description": alt}))


def page(view, name: str):
    """Save an HTML view of ``glassgrad.scope`` as ``NAME.html`` and say where."""
    return _saved(name + ".html", lambda path: path.write_text(str(view), encoding="utf-8"))


def _saved(name: str, write: Callable[[Path], Any]) -> Path:
    here = current()
    here.parts.add("picture")
    here.folder.mkdir(parents=True, exist_ok=True)
    path = here.folder / name
    write(path)
    here.files.append(path)
    print(f"> {path}")
    return path


def lives(thing: Any, lines: int = 12) -> None:
    """Show the first lines of the source of a function or class of the library: what runs, not a copy of it.

    >>> import glassgrad as gg
    >>> lives(gg.Tensor.tolist, lines=1)  # doctest: +ELLIPSIS
    @ glassgrad/tensor.py:...
        def tolist(self):
    ...
    """
    try:
        source, first = inspect.getsourcelines(inspect.unwrap(thing))
        path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
    except (TypeError, OSError):
        raise ArgumentError(
            f"lives: got {thing!r}, which has no Python source; expected a function or class."
        ) from None
    current().parts.add("lives")
    root = Path(__file__).parent.parent
    print(f"@ {path.relative_to(root) if path.is_relative_to(root) else path.name}:{first}")
    text = textwrap.dedent("".join(source[:lines])).rstrip()
    print(textwrap.indent(text + ("\n..." if len(source) > lines else ""), "    "))


def exercise(task: str, check: Callable[[Callable], Any], solution: Callable) -> Callable[[Callable], Callable]:
    """Decorate a function whose body the reader fills in: says whether it is right each time the tutorial runs.

    Args:
        task: what to write.
        check: called with the function; raises or returns False for a wrong one. It must reject one that returns None.
        solution: one that passes; the tests run it, and no one prints it.

    >>> @exercise("Return the slope of tanh from its output y.", lambda f: f(0.5) == 0.75, lambda y: 1 - y * y)
    ... def slope(y): ...
    ! exercise: Return the slope of tanh from its output y.
      not yet: fill in slope() and run this again.
    """

    def decorate(function: Callable) -> Callable:
        here = current()
        here.parts.add("exercise")
        made = Exercise(task, function, check, solution)
        here.exercises.append(made)
        _say("! exercise: " + task, "  ")
        done = made.passes(function)
        here.solved += done
        print("  solved." if done else f"  not yet: fill in {function.__name__}() and run this again.")
        return function

    return decorate


def say(text: str) -> None:
    """Print a paragraph, wrapped to 100 columns.

    >>> say("What still hurts: one layer at a time.")
    What still hurts: one layer at a time.
    """
    _say(inspect.cleandoc(text), "")


def _say(text: str, indent: str) -> None:
    wrapped = textwrap.fill(" ".join(text.split(" ")), 100, subsequent_indent=indent, break_long_words=False)
    encoding = sys.stdout.encoding or "ascii"  # a terminal that can't show a sign gets "?" instead of an error
    print(wrapped.encode(encoding, "replace").decode(encoding))
