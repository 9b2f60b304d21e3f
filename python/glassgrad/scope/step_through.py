"""Step through: back-propagation as a page with a Next button.

First every op computes its value, then the walk turns round and every op sends its gradient to its inputs, times the local
derivative. Where a value is used twice two gradients arrive, and the page shows the sum. On single numbers everything can be
changed and is computed again in the page; ``step_through.js`` has the ops, and the tests hold them against the engine's.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..function import FunctionContext
from ..locate import definitions
from ..op import REGISTRY, OpNode
from ..tensor import Tensor
from .draw import Drawing, numbers
from .page import Page
from .trace import Step, check_end, names_in, skeleton, trace

LIMIT = 200  # values: nobody steps through more
CELLS = 48  # of a heat strip
WIDTH = 112.0  # of a box: room for any number that an input may be changed to, −1.23e−05
LINES = 16  # of source

STYLE = """
main { padding-top: 18px; } h1 { font-size: 26px; margin-bottom: 2px; } .lead { font-size: 15px; margin-bottom: 14px; }
section { padding: 16px 18px; margin-bottom: 14px; }
.bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; position: sticky; top: 0; z-index: 1; }
button, input { font: inherit; color: var(--ink); background: var(--box); border: 1px solid var(--line); border-radius: 8px; }
button { min-height: 40px; padding: 4px 14px; cursor: pointer; } button:disabled { opacity: .45; cursor: default; }
button[aria-pressed=true] { border-color: var(--hot); color: var(--hot); font-weight: 600; }
#next { font-weight: 600; border-color: var(--value); } #time { flex: 1 1 120px; min-width: 90px; accent-color: var(--value); }
#count { color: var(--muted); min-width: 9.5em; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 3px solid var(--value); outline-offset: 2px; }
#says { font-size: 17px; min-height: 3.1em; } #verdict { color: var(--hot); margin-top: 6px; } #verdict:empty { display: none; }
.graph { overflow: auto; max-height: 62vh; } .graph svg { min-width: var(--least); } .graph figure { padding: 4px; } .narrow { display: none; }
.box { transition: opacity .2s; } .box.off { opacity: .35; } .arrow.off { opacity: .3; }
.box.now rect { stroke: var(--value); stroke-width: 2.6; } .back .box.now rect { stroke: var(--gradient); }
.box.got rect { stroke: var(--gradient); stroke-width: 1.8; } .box.wrong .grad { fill: var(--hot); text-decoration: underline; }
.arrow.flow path { stroke: var(--value); stroke-width: 2.4; } .back .arrow.flow path { stroke: var(--gradient); }
.arrow.flow text { fill: var(--ink); font-weight: 600; }
.below { display: grid; grid-template-columns: minmax(0, 1.7fr) minmax(0, 1fr); gap: 14px; align-items: start; }
table { border-collapse: collapse; width: 100%; margin: 10px 0; font-size: 15px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 400; color: var(--muted); font-size: 13px; } td, th { padding: 4px 10px 4px 0; vertical-align: top; }
tr + tr td { border-top: 1px solid var(--grid); } .v { color: var(--value); } .g { color: var(--gradient); }
.formula { font: 15px ui-monospace, Menlo, Consolas, monospace; } .muted { color: var(--muted); font-size: 14px; }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--box); border: 1px solid var(--grid); border-radius: 8px; padding: 8px 10px; margin: 4px 0 8px;
  font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
.input { display: grid; grid-template-columns: minmax(3em, 1fr) 7em minmax(80px, 2fr); gap: 8px; align-items: center; margin-bottom: 8px; }
.input input { min-height: 36px; width: 100%; padding: 2px 8px; } .input input[type=range] { padding: 0; accent-color: var(--value); }
.strip { height: 16px; width: 100%; margin: 3px 0; } .scroll { overflow-x: auto; }
@media (max-width: 860px) { .wide { display: none; } .narrow { display: block; } .below { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .bar { margin-left: -12px; margin-right: -12px; border-radius: 0; padding: 10px 12px; } #first, #last { display: none; } .graph { max-height: 56vh; } #says { font-size: 16px; min-height: 4.7em; } }
@media (prefers-reduced-motion: no-preference) { .arrow.flow path { stroke-dasharray: 6 4; animation: run .7s linear infinite; }
  .back .arrow.flow path { animation-direction: reverse; } @keyframes run { to { stroke-dashoffset: -10; } } }
@media (prefers-reduced-motion: reduce) { .box { transition: none; } }
"""


def step_through(loss: Tensor, names: Mapping[str, Tensor] | None = None) -> Page:
    """A page in which a reader steps back-propagation forward and back, one op at a time.

    Each step shows the op's value, formula and source, its local derivatives, the gradient that came in and those that it sends
    on. The arrow keys step; Home and End jump. On single numbers the inputs can be changed, and a wrong order be tried: an op
    that sends its gradient before all of it has arrived. Of arrays the page shows size, norm, first entries and a strip of
    colours, and computes nothing anew.

    Args:
        loss: one number that requires grad; its graph not yet freed. Built under ``gg.autograd.detect_anomaly()``, each op also
            shows the line of your code that it came from.
        names: what to call tensors; default the caller's variables, and the parameters of its modules.

    Raises:
        GraphError: no graph, or a freed one. ArgumentError: more than 200 values.

    >>> import glassgrad as gg
    >>> from glassgrad.scope import step_through
    >>> w, x = gg.tensor(3.0, requires_grad=True), gg.tensor(2.0, requires_grad=True)
    >>> step_through((w * x).tanh()).title
    'Back-propagation, step by step'
    """
    check_end("step_through", loss)
    names = names_in(inspect.currentframe()) if names is None else names
    count = len(skeleton(loss, names))
    if count > LIMIT:
        raise ArgumentError(
            f"step_through: got a graph of {count} values; expected at most {LIMIT}. scope.draw(loss) shows larger ones."
        )
    steps = trace(loss, names)
    drawing = Drawing(numbers(steps), least=WIDTH)
    return Page(
        "Back-propagation, step by step",
        _body(drawing),
        style=STYLE,
        script=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
        data={
            "steps": _data(steps),
            "lessons": _lessons(steps),
            "single": {step.dtype for step in steps} == {"float32"},
        },
        height=900,
    )


def _body(drawing: Drawing) -> str:
    figures = "".join(
        f'<figure class="{kind}" style="--least: {round(0.8 * drawing.extent(down)[0])}px">'
        f"{drawing.svg(down, 'The graph; the text above says what each step does to it')}</figure>"
        for kind, down in (("wide", False), ("narrow", True))
    )
    return f"""
<h1>Back-propagation, step by step</h1>
<p class="lead">Forward, every op computes its <b class="v">value</b>. Then back: every op takes its <b class="g">gradient</b>, multiplies
it by its local derivative (on the arrows) and sends that to its inputs. Keys: → ← Home End.</p>
<section class="bar" role="group" aria-label="Steps"><button id="first" aria-label="First step">|◁</button>
<button id="back" aria-label="Step back">◁ Back</button><button id="next" aria-label="Next step">Next ▷</button>
<button id="last" aria-label="Last step">▷|</button><input id="time" type="range" min="0" value="0" aria-label="Step">
<span id="count"></span><button id="wrong" aria-pressed="false">Wrong order</button></section>
<section><p id="says" aria-live="polite"></p><p id="verdict" role="status"></p></section>
<section class="graph" tabindex="0" aria-label="Graph">{figures}</section>
<div class="below"><section id="op"></section><section id="inputs"></section></div>"""


# ---------------------------------------------------------------------------------------------------------------- data


def _data(steps: Sequence[Step]) -> list[dict]:
    at = {step: i for i, step in enumerate(steps)}
    return [
        {
            "title": step.expression,
            "name": step.name,
            "op": step.op,
            "value": _shown(step.value),
            "gradient": _shown(step.gradient),
            "constant": step.gradient is None and not step.op,
            "operands": [
                {
                    "from": None if o.source is None else at[o.source],
                    "value": _shown(o.value),
                    "local": _shown(o.local),
                    "sent": _shown(o.sent),
                }
                for o in step.operands
            ],
            "line": step.line,
        }
        for step in steps
    ]


def _shown(x: Any) -> Any:
    """A number as JSON can write it, or what the page shows of an array."""
    if x is None or isinstance(x, float):
        return x if x is None or np.isfinite(x) else _word(x)
    array = np.asarray(x, np.float64)
    flat = array.ravel()
    cells = [part.mean() for part in np.array_split(flat, min(CELLS, flat.size))] if flat.size else []
    return {
        "size": "×".join(map(str, array.shape)),
        "norm": _shown(float(np.linalg.norm(flat))),
        "first": [_shown(float(v)) for v in flat[:6]],
        "more": flat.size > 6,
        "cells": [_shown(float(f"{v:.4g}")) for v in cells],
    }


def _word(x: float) -> str:
    """As JavaScript's ``Number`` reads it."""
    return "NaN" if np.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def _lessons(steps: Sequence[Step]) -> dict[str, dict[str, str]]:
    """Once per op, however often it is used."""
    return {step.op: _lesson(step.node) for step in steps if step.op}


def _lesson(node: Any) -> dict[str, str]:
    """The formulas and the source of what made a value."""
    if isinstance(node, OpNode):
        _, _, text = REGISTRY[node.name].doc.splitlines()[0].partition(": ")
        forward, _, derivative = text.partition("; derivative")
        where, source = _definition(node.name)
        derivative = f"derivative{derivative}".rstrip(".") if derivative else ""
        return {"forward": forward.rstrip("."), "derivative": derivative, "where": where, "source": source}
    if isinstance(node, FunctionContext):
        source = textwrap.dedent(inspect.getsource(node.function)) if _has_source(node.function) else ""
        return {"forward": "", "derivative": "", "where": "your own Function", "source": _head(source)}
    return {"forward": "", "derivative": "", "where": "", "source": ""}


def _has_source(thing: Any) -> bool:
    try:
        return bool(inspect.getsource(thing))
    except (OSError, TypeError):
        return False


@functools.cache
def _definition(name: str) -> tuple[str, str]:
    """``glassgrad/ops/elementwise.py:148`` and the statement that defines the op: formula, derivative, what is saved."""
    for path, line in definitions(name):
        text = path.read_text(encoding="utf-8")
        for statement in ast.parse(text).body:
            if statement.lineno <= line <= (statement.end_lineno or line):
                source = "\n".join(text.splitlines()[statement.lineno - 1 : statement.end_lineno])
                return f"glassgrad/ops/{path.name}:{statement.lineno}", _head(source)
    return "", ""


def _head(source: str) -> str:
    lines = source.rstrip().splitlines()
    return "\n".join([*lines[:LINES], "..."] if len(lines) > LINES else lines)
