"""Fold: a graph of thousands of ops as a few dozen boxes, one per module call, repeated blocks and rounds of a loop once.

No forward is run again: an op belongs to the module whose parameter it takes, and an op without one to what lies between its
neighbours, so ReLU after ``0`` and before ``2`` of a Sequential is ``1``, and softmax between ``attn.qkv`` and ``attn.proj``
is ``attn``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError
from ..nn import Module, ModuleList, Parameter, Sequential
from .trace import Step

PERIOD = 64  # ops of a loop's longest body
ROUNDS = 3  # fewer are drawn one by one

Path = tuple[str, ...]


@dataclass(eq=False)
class Group:
    """Steps that one box stands for.

    Attributes:
        title: the module's path, with a range where blocks are alike: ``blocks.0–11.attn``; of an op outside: its own.
        steps: of the first of those blocks.
        times: how many blocks are alike.
        sources: indices of the groups that feed it.
    """

    title: str
    steps: list[Step]
    times: int = 1
    sources: list[int] = field(default_factory=list)


def fold(steps: Sequence[Step], model: Module | None, limit: int) -> list[Group]:
    """Groups in the order in which they run: as fine as modules go, coarser if that would be more than ``limit``.

    Loops, which repeat the same ops without a module for each round, are folded only then.
    """
    parameters = set() if model is None else {id(p) for p in model.parameters()}
    shown = [step for step in steps if id(step.node) not in parameters]
    if model is not None and len(shown) == len(steps):
        raise ArgumentError(
            f"draw: model: got a {type(model).__name__} without a parameter in this graph; expected one."
        )
    paths = {} if model is None else _paths(shown, model)
    first, labels, times = _repeats(shown, paths)
    rounds: dict[Step, int] = {}
    deepest = max((len(p) for p in paths.values()), default=0)
    groups = _groups(shown, paths, first, labels, times, rounds, deepest)
    if len(groups) > limit:
        first_rounds, rounds = _loops([step for step in shown if step.op and step not in first], shown, paths)
        first |= first_rounds
        for depth in range(deepest, 0 if deepest else -1, -1):
            groups = _groups(shown, paths, first, labels, times, rounds, depth)
            if len(groups) <= limit:
                break
    return groups


def _paths(shown: list[Step], model: Module) -> dict[Step, Path]:
    """The module that each op belongs to; () is the model's own forward, or what lies outside."""
    owner = {
        id(parameter): tuple(path.split(".")) if path else ()
        for path, module in model.named_modules()
        for _, parameter in module.named_parameters(recurse=False)
    }
    own: dict[Step, Path] = {}
    for step in shown:
        found = [owner[id(source.node)] for source, _ in step.inputs if id(source.node) in owner]
        if found:
            own[step] = max(found, key=len)
    above, below = dict(own), dict(own)  # of the nearest op with a parameter
    order = {step: i for i, step in enumerate(shown)}
    for step in shown:
        known = [source for source, _ in step.inputs if source in above]
        if step not in above and known:
            above[step] = above[max(known, key=order.__getitem__)]
    for step in reversed(shown):
        for source, _ in step.inputs:
            if step in below and source not in own:
                below[source] = below[step]  # the last assignment is by the nearest
    return {
        step: own[step] if step in own else _between(above.get(step), below.get(step), model)
        for step in shown
        if step.op
    }


def _between(above: Path | None, below: Path | None, model: Module) -> Path:
    if above is None or below is None:
        return ()
    common = 0
    while common < min(len(above), len(below)) and above[common] == below[common]:
        common += 1
    inner = model.get_submodule(".".join(above[:common]))
    if not isinstance(inner, (Sequential, ModuleList)) or common in (len(above), len(below)):
        return above[:common]  # written in that module's own forward
    # The child that follows, if it has nothing to train (ReLU), from the innermost Sequential outwards.
    for depth in range(len(above) - 1, common - 1, -1):
        around = model.get_submodule(".".join(above[:depth]))
        if isinstance(around, Sequential):
            children = list(around.named_children())
            after = [name for name, _ in children].index(above[depth]) + 1
            if after < len(children) and not any(True for _ in children[after][1].parameters()):
                return (*above[:depth], children[after][0])
    return above[: common + 1]


def _repeats(shown: list[Step], paths: dict[Step, Path]):
    """Blocks that are alike, by their first: (step -> its twin there, path of a block -> label, path -> how many)."""
    first: dict[Step, Step] = {}
    labels: dict[Path, str] = {}
    times: dict[Path, int] = {}
    blocks: dict[Path, list[Step]] = {}
    for step in shown:
        path = paths.get(step, ())
        for depth in range(1, len(path) + 1):
            if path[depth - 1].isdigit():
                blocks.setdefault(path[:depth], []).append(step)
    for prefix in sorted({path[:-1] for path in blocks}, key=len):
        here = sorted((path for path in blocks if path[:-1] == prefix), key=lambda path: int(path[-1]))
        _complete(blocks[here[0]], blocks[here[-1]], here[-1], shown, paths)
        start = 0
        while start < len(here):
            model, size = blocks[here[start]], 1
            while start + size < len(here) and _alike(
                model, blocks[here[start + size]], here[start], here[start + size], paths
            ):
                size += 1
            if size > 1 and len(model) > 1:
                labels[here[start]] = f"{here[start][-1]}–{here[start + size - 1][-1]}"
                times[here[start]] = size
                for path in here[start + 1 : start + size]:
                    first |= dict(zip(blocks[path], model, strict=True))
            start += size
    return first, labels, times


def _complete(model: list[Step], last: list[Step], path: Path, shown: list[Step], paths: dict[Step, Path]) -> None:
    """The ops that end a block, such as its residual sum, are taken for the forward around it in the last block: give them back."""
    missing = [step.op for step in model[len(last) :]]
    after = shown.index(last[-1]) + 1
    following = shown[after : after + len(missing)]
    outside = all(len(paths.get(step, ())) < len(path) for step in following)
    if missing and outside and [step.op for step in following] == missing:
        for step, twin in zip(following, model[len(last) :], strict=True):
            paths[step] = path + paths[twin][len(path) :]
            last.append(step)


def _alike(a: list[Step], b: list[Step], path_a: Path, path_b: Path, paths: dict[Step, Path]) -> bool:
    """The same ops in the same places, on parameters of the same shapes."""
    return len(a) == len(b) and all(
        s.op == t.op and paths[s][len(path_a) :] == paths[t][len(path_b) :] and _shapes(s) == _shapes(t)
        for s, t in zip(a, b, strict=True)
    )


def _shapes(step: Step) -> list[tuple[int, ...]]:
    return [source.node.shape for source, _ in step.inputs if isinstance(source.node, Parameter)]


def _loops(ops: list[Step], shown: list[Step], paths: dict[Step, Path]) -> tuple[dict[Step, Step], dict[Step, int]]:
    """Stretches of ops that come again and again: (step -> its twin in the first round, step -> how many rounds)."""
    place = {step: i for i, step in enumerate(ops)}
    uses: dict[Step, int] = {}
    for step in shown:
        for source, _ in step.inputs:
            uses[source] = uses.get(source, 0) + 1

    def key(step: Step) -> tuple:
        # Where inputs come from is a part of it: how many ops back, or from outside the loop.
        back = [place[step] - place[s] if s in place else -1 for s, _ in step.inputs]
        return paths.get(step, ()), step.symbol, tuple(min(b, PERIOD) for b in back), np.shape(step.value)

    keys = [key(step) for step in ops]
    first: dict[Step, Step] = {}
    rounds: dict[Step, int] = {}
    start = 0
    while start < len(ops):
        period, count = 1, 1
        for p in range(1, min(PERIOD, (len(ops) - start) // ROUNDS) + 1):
            if keys[start] != keys[start + p]:
                continue
            body, n = keys[start : start + p], 1
            while keys[start + n * p : start + (n + 1) * p] == body:
                n += 1
            if n >= ROUNDS and n * p > period * count:
                period, count = p, n
        for i in range(start, start + period * count):
            twin = ops[start + (i - start) % period]
            rounds[twin] = count
            if ops[i] is not twin:
                first[ops[i]] = twin
                for (mine, _), (its, _) in zip(ops[i].inputs, twin.inputs, strict=True):
                    if mine is not its and not mine.op and not its.op and uses[mine] == 1:
                        first[mine], rounds[its] = its, count  # an input of each round
        start += period * count
    return first, rounds


def _groups(shown, paths, first, labels, times, rounds, depth) -> list[Group]:
    groups: list[Group] = []
    at: dict[Step, int] = {}
    before: Path | None = None
    for step in shown:
        if not step.op and step not in first:
            at[step] = len(groups)
            groups.append(Group(step.title, [step], rounds.get(step, 1)))
    for step in shown:
        if step in first or not step.op:
            continue
        path = paths.get(step, ())[:depth]
        # Ops of one module that run one after the other: such groups never wait for each other in a circle.
        if path and path == before and rounds.get(step) == rounds.get(groups[-1].steps[-1]):
            groups[-1].steps.append(step)
        else:
            prefixes = [path[: k + 1] for k in range(len(path))]
            title = ".".join(labels.get(prefix, prefix[-1]) for prefix in prefixes) or step.title
            count = rounds.get(step, 1)
            for prefix in prefixes:
                count *= times.get(prefix, 1)
            groups.append(Group(title, [step], count))
        before = path
        at[step] = len(groups) - 1

    def twin(step: Step) -> int | None:
        while step in first:
            step = first[step]
        return at.get(step)  # None: a parameter

    for step in shown:
        for source, _ in step.inputs:
            target, origin = twin(step), twin(source)
            # An edge from one block to the next alike would lead back: its "×12" says so already.
            if target is not None and origin is not None and origin < target and origin not in groups[target].sources:
                groups[target].sources.append(origin)
    return groups
