"""A peer in a process of its own: threads that a library keeps awake can't hold up another's.

Only one process computes at a time; the others wait for a message.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import GlassgradError
from .case import Case, Timer
from .machine import limited_to

Cases = Callable[[dict[str, Any]], Iterator[Case]]


class Worker:
    """Times one peer's side of the same cases, in the order in which ``cases`` yields them.

    Use it as a context manager; ``next_case`` moves on, ``prepare`` and ``time`` are ``Timer``'s.
    """

    def __init__(self, library: str, cases: Cases, libraries: dict[str, Any], threads: int):
        self.library = library
        # Forked before anything was computed: the child has the same cases, and no threads yet.
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._pipe, library, cases, libraries, threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc) -> None:
        self._pipe.close()  # tells it to end
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def next_case(self) -> bool:
        """Go to the next case; whether the peer can compute it."""
        return self._ask("next_case")

    def prepare(self) -> None:
        self._ask("prepare")

    def time(self, rested: bool) -> float:
        return self._ask("time", rested)

    def _ask(self, *message: Any) -> Any:
        try:
            self._pipe.send(message)
            ok, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise GlassgradError(
                f"bench: the process that times {self.library} has ended; its own output says why."
            ) from None
        if not ok:
            raise GlassgradError(f"bench: {self.library}: {answer}")
        return answer


def _serve(pipe, parents, library: str, cases: Cases, libraries: dict[str, Any], threads: int) -> None:
    parents.close()  # else the end of the parent would go unnoticed
    with limited_to(threads, libraries["glassgrad"], {library: libraries[library]}):
        rest = cases({name: libraries[name] for name in ("glassgrad", library)})
        timer: Timer
        while True:
            try:
                action, *arguments = pipe.recv()
            except (EOFError, KeyboardInterrupt):
                return
            try:
                if action == "next_case":
                    run = next(rest).runs.get(library)
                    answer: Any = run is not None
                    if run is not None:
                        timer = Timer(run)
                else:
                    answer = getattr(timer, action)(*arguments)
                pipe.send((True, answer))
            except Exception as error:
                pipe.send((False, f"{type(error).__name__}: {error}"))
