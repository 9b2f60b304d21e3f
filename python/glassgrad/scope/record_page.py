"""The page of a ``Record``: one sample at a time, with the arrow keys; nothing is fetched."""

from __future__ import annotations

from pathlib import Path

from .page import Page
from .record import Record, _plain

_STYLE = """
.bar { position: sticky; top: 0; background: var(--page); padding: 10px 0; display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; z-index: 2; }
.bar input { flex: 1 1 180px; accent-color: var(--cold); min-width: 0; }
.bar b { font-variant-numeric: tabular-nums; }
button, select { font: inherit; color: var(--ink); background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 4px 10px; max-width: 100%; }
:focus-visible { outline: 3px solid var(--cold); outline-offset: 2px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 20px; }
.grid section { margin: 0; min-width: 0; } .tight { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); } #norm { margin-top: 20px; }
h2 { font-size: 18px; } .note { color: var(--muted); font-size: 14px; margin-top: 6px; }
svg text { fill: var(--muted); font: 11px system-ui, sans-serif; } svg .name { fill: var(--ink); }
"""


def page(record: Record) -> Page:
    body = """
<h1>A training, from inside</h1>
<p class="lead" id="said" aria-live="polite"></p>
<div class="bar"><button id="back" aria-label="earlier sample">←</button><button id="next" aria-label="later sample">→</button>
<input id="at" type="range" min="0" value="0" aria-label="sample"><b id="step"></b>
<label>layer <select id="layer"></select></label></div>
<div class="grid">
<section><h2>Gradient at each layer's output</h2><div id="thermometer"></div>
<p class="note">Root mean square, powers of ten. Level is healthy: every layer hears the loss.</p></section>
<section><h2>How far a step moves the weights</h2><div id="updates"></div>
<p class="note">log10 of the change over the spread of the weights. Near −3 (dashed) is about right; −1 is wild, −5 is asleep.</p></section>
<section><h2>Outputs over time</h2><div id="outputs"></div><p class="note">Of the layer above; the oldest sample on top, this one filled dark.</p></section>
<section><h2>Gradients over time</h2><div id="gradients"></div><p class="note">log10 of the size of the entries; zeros at the left end.</p></section>
<section><h2>Singular values of the weights</h2><div id="spectra"></div><p class="note">From the largest to the smallest; dashed at the first sample.</p></section>
</div>
<section id="norm"><h2>Batch norm</h2><p class="note" id="normnote"></p><div class="grid tight">
<div id="normbins"></div><div id="normstat"></div><div id="term_dy"></div><div id="term_mean"></div><div id="term_xhat"></div></div></section>"""
    script = (Path(__file__).parent / "record_page.js").read_text(encoding="utf-8")
    return Page("A training, from inside", body, style=_STYLE, script=script, data=_plain(record.as_dict()), height=900)
