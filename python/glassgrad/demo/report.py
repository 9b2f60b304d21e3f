"""The demo's words: a table for the terminal and one self-contained page. Every number in them comes from the run."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np

from glassgrad.scope import Page
from glassgrad.scope.thermometer import power

from .pictures import rough

MARKS = {True: "✓", False: "✗", None: "–"}

# ------------------------------------------------------------------------------------------------------------ terminal


def figures(claim: dict[str, Any]) -> tuple[str, str, str]:
    """Measured, theory and their ratio, as text."""
    theory = number(claim["theory"])
    if claim["compare"] != "=":
        return number(claim["measured"]), f"{claim['compare']} {theory}", ""
    return number(claim["measured"]), theory, f"{claim['ratio']:.3f}"


def number(x: float) -> str:
    """Four digits."""
    if x == 0 or 1e-3 <= abs(x) < 1e5:
        return f"{x:.4g}"
    mantissa, exponent = f"{x:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(x: float) -> str:
    return f"{100 * x:.2g} %" if x >= 1e-5 else f"{x:.0e}".replace("e-0", "e-")


def table(claims: list[dict]) -> str:
    """What was predicted and what was measured, for the terminal."""
    width = max(len(claim["says"]) for claim in claims)
    lines = [f"{'':{width}}  {'measured':>10}  {'theory':>10}  {'ratio':>6}"]
    for claim in claims:
        measured, theory, ratio = figures(claim)
        lines.append(
            f"{claim['says']:{width}}  {measured:>10}  {theory:>10}  {ratio:>6}  {MARKS[claim['holds']]}".rstrip()
        )
    lines.append(verdict(claims))
    return "\n".join(lines)


def verdict(claims: list[dict]) -> str:
    held, judged = sum(c["holds"] is True for c in claims), sum(c["holds"] is not None for c in claims)
    text = f"{held} of {judged} predictions hold"
    short = len(claims) - judged
    return f"{text}; {short} need the full run" if short else text


# ---------------------------------------------------------------------------------------------------------------- page

_STYLE = """
.facts { display: flex; flex-wrap: wrap; gap: 10px 28px; margin: 20px 0 28px; padding: 0; list-style: none; }
.facts b { display: block; font-size: 22px; letter-spacing: -0.01em; }
.facts span { color: var(--muted); font-size: 14px; }
.digits { height: 44px; image-rendering: pixelated; border-radius: 6px; border: 1px solid var(--line); align-self: center; max-width: 100%; }
section { background: var(--surface); border: 1px solid var(--grid); border-radius: 14px; padding: 24px 26px; margin: 0 0 20px; }
.words { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px 32px; margin-bottom: 16px; }
.words h3 { margin: 0 0 2px; font-size: 12px; font-weight: 600; letter-spacing: 0.06em; text-transform: uppercase; color: var(--muted); }
.words p { font-size: 15px; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }
.expression { display: grid; grid-template-columns: 3fr 1.1fr; gap: 16px; align-items: center; }
svg { width: 100%; }
.narrow { display: none; }
.caption { color: var(--muted); font-size: 14px; margin-top: 8px; }
.note { margin-top: 14px; font-size: 15px; color: var(--hot); }
b.cold, b.good, b.hot { font-weight: 650; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 15px; }
caption { text-align: left; color: var(--muted); padding-bottom: 10px; font-size: 15px; }
th { text-align: right; font-size: 13px; font-weight: 600; color: var(--muted); }
th:first-child, td:first-child { text-align: left; }
td { text-align: right; border-top: 1px solid var(--grid); padding: 7px 0 7px 14px; vertical-align: top; white-space: nowrap; }
td:first-child { padding-left: 0; white-space: normal; }
td small { display: block; color: var(--muted); font-size: 13px; }
.yes { color: var(--good); } .no { color: var(--hot); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 0; font-size: 15px; }
dt { font-weight: 600; } dd { margin: 0; color: var(--muted); }
.again { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: baseline; color: var(--muted); font-size: 14px; margin-top: 6px; }
@media (max-width: 860px) {
  .words, .panels, .expression { grid-template-columns: 1fr; } .panels { gap: 26px; }
  .wide { display: none; } .narrow { display: block; }
  .panels svg, .narrow svg { max-width: 460px !important; }
  table { font-size: 14px; } td { padding-left: 8px; } .ratio { display: none; } dl { grid-template-columns: 1fr; gap: 2px; } dd { margin-bottom: 8px; }
}
"""


def page(results: dict, svgs: dict[str, str], samples: np.ndarray) -> str:
    """The report: inline style, inline SVG, no script, nothing fetched."""
    claims = results["claims"]
    facts = [
        (verdict(claims).split(" predictions")[0], "predictions hold"),
        (f"{results['seconds']:.0f} s", "for everything on this page"),
        (f"{results['images']:,}", "real images of handwritten digits"),
    ]
    parts = [
        "<h1>Watching gradients</h1>",
        '<p class="lead">A network turns an image into an answer layer by layer; the <b>loss</b> says how wrong the answer is. It '
        "learns from one signal, the <b>gradient</b>: for each of its numbers (weights), how much the loss would change if that number "
        "did. The gradient is worked out backwards, from the loss to the first layer. This page shows what can happen to it on the "
        "way, each time beside what theory says must happen.</p>",
        '<ul class="facts">' + "".join(f"<li><b>{a}</b><span>{b}</span></li>" for a, b in facts),
        f'<li><img class="digits" alt="ten of the digits" src="{_strip(samples)}"></li></ul>',
        *_sections(results, svgs),
        _claims(claims),
        _formulas(),
        _again(results),
    ]
    return str(Page("glassgrad demo: watching gradients", "\n".join(parts), style=_STYLE))


def _sections(results: dict, svgs: dict[str, str]) -> list[str]:
    made = []
    for name, write in (
        ("thermometer", _thermometer), ("relu_depth", _relu), ("sigmoid_batchnorm", _sigmoid), ("exploding", _exploding),
        ("expression", _expression),
    ):  # fmt: skip
        failed = [c for c in results["claims"] if c["act"] == name and c["holds"] is False]
        notes = [
            f"{html.escape(c['says'])}: measured {figures(c)[0]}, theory {html.escape(figures(c)[1])}" for c in failed
        ]
        notes = [f"Not as predicted in this run: {'; '.join(notes)}."] if notes else []
        if results["fast"] and "sides" in results[name]:
            notes.append(f"A fast run: {results[name]['steps']} steps only, so nothing had time to be learned.")
        made.append(
            f"<section>\n{write(results[name], svgs)}\n{''.join(f'<p class=note>{note}</p>' for note in notes)}</section>"
        )
    return made


def _section(title: str, question: str, see: str, why: str, body: str) -> str:
    words = "".join(
        f"<div><h3>{head}</h3><p>{text}</p></div>"
        for head, text in (("Question", question), ("What you see", see), ("Why", why))
    )
    return f'<h2>{title}</h2>\n<div class="words">{words}</div>\n{body}'


def _panels(svgs: dict[str, str], name: str) -> str:
    own = [svg for key, svg in svgs.items() if key.startswith(f"{name}/")]
    return '<div class="panels">' + "".join(f"<figure>{svg}</figure>" for svg in own) + "</div>"


def _both(svgs: dict[str, str], name: str) -> str:
    return (
        f'<figure class="wide">{svgs[f"{name}/wide"]}</figure><figure class="narrow">{svgs[f"{name}/narrow"]}</figure>'
    )


def _thermometer(data: dict, svgs: dict[str, str]) -> str:
    reach = {row["name"]: row["gradients"][0] / row["gradients"][-1] for row in data["networks"]}
    rows = {row["name"]: row for row in data["networks"]}
    return _section(
        "How far does a gradient reach?",
        f"Through {data['depth']} layers, how much of the gradient is left for the first one, if nothing has been learned yet?",
        "One line per network. Dots are measured, dashes are theory. Each layer multiplies by nearly the same factor, so on an "
        f'axis of powers of ten a network is a straight line: <b class="cold">down to {power(reach["sigmoid_xavier"])}</b> for sigmoid '
        f'units, <b class="hot">up to {power(reach["relu_double"])}</b> when weights are twice too large.',
        'Only a <b class="good">factor near 1</b> survives depth. The small histograms show what units of the middle layer pass on. '
        "A unit is <i>off</i> or <i>saturated</i> when its slope is below a tenth of its steepest, so that it sends next to no "
        f"gradient back: {rows['tanh_chaotic']['histogram']['saturated']:.0%} of tanh's. Sigmoid vanishes without any: "
        "even its steepest slope is only ¼.",
        _both(svgs, "thermometer")
        + f'<p class="caption">A name gives the function each unit applies (ReLU passes positive numbers and turns the rest into 0; '
        "sigmoid and tanh squash), then how large the first random weights are (Xavier and He are recipes for that) or whether each "
        f"unit is rescaled over the batch of images (batch norm). Histograms of ReLU leave out the units that are off. {data['width']} units per layer, {data['batch']} images, mean of "
        f"{data['draws']} random starts.</p>",
    )


def _relu(data: dict, svgs: dict[str, str]) -> str:
    stuck, learns = data["sides"]
    ratio = stuck["signals"][-1] / learns["signals"][-1]
    return _section(
        f"{data['depth']} layers: Xavier stalls, He learns",
        f"Two networks of {data['depth']} ReLU layers (a ReLU passes positive numbers on and turns the rest into 0) differ only "
        "in the size of their first random weights, by √2. Does that matter?",
        f'<b class="cold">Xavier\'s</b> stays at a loss of {stuck["run"]["final"]:.4g}, which is guessing among ten digits. '
        f'<b class="good">He\'s</b> comes down to {learns["run"]["final"]:.2g} in {data["steps"]} steps. Jumps are real: so deep a plain '
        "network is rough ground.",
        f"ReLU throws half of the signal's power away. He's weights are √2 larger and make up for it; with Xavier's, "
        f"{data['depth']} layers shrink the signal to 1/{1 / ratio:,.0f} of He's, and the gradient likewise. Nothing is left to learn from.",
        _panels(svgs, "relu_depth"),
    )


def _sigmoid(data: dict, svgs: dict[str, str]) -> str:
    plain, normed = data["sides"]
    last = [side["histograms"][-1] for side in data["sides"]]
    return _section(
        "Batch normalisation wakes a sigmoid network",
        f"Sigmoid units squash their input into 0 to 1. Why would {data['depth']} layers of them not learn, and what changes "
        "when each unit is rescaled over the batch of images (batch normalisation)?",
        f'<b class="cold">Without</b>, the loss stays at {plain["run"]["final"]:.4g}: guessing. <b class="good">With</b>, it falls to '
        f"{normed['run']['final']:.2g}. Last picture: by layer {last[0]['layer']} a plain unit answers every image alike "
        f"(±{rough(last[0]['spread'])}), a normalised one does not (±{rough(last[1]['spread'])}).",
        "A layer of sigmoids with Xavier's weights hands on less than a quarter of the gradient, "
        f"{plain['theory']:.3f} in theory. Normalisation stretches what is left of each unit's differences back to full size before it is "
        f"squashed again, and the gradient with them: a factor of {normed['theory']:.3f}.",
        _panels(svgs, "sigmoid_batchnorm"),
    )


def _exploding(data: dict, svgs: dict[str, str]) -> str:
    free, held = (side["run"] for side in data["sides"])
    return _section(
        "Too large a start overflows; clipping holds it",
        f"What if the first weights are {data['gain']:g} times too large, in {data['depth']} ReLU layers? And what if the gradient's length "
        f"is never allowed above {data['max_norm']:g} (clipping)?",
        f'<b class="hot">Unclipped</b>, the loss is {free["losses"][0]:,.0f} at first and '
        + (
            f"no number any more at step {free['overflow_step'] + 1}. "
            if free["overflow_step"] is not None
            else "stays finite in this run. "
        )
        + f'<b class="good">Clipped</b>, the same network walks down to {held["final"]:.2g}.',
        f"Each layer multiplies by {data['gain']:g}, so the gradient starts out about {data['gain'] ** data['depth']:,.0f} times too long. One step of "
        "that length ruins every weight, and the next pass overflows. Clipping keeps the direction and gives up the length.",
        _panels(svgs, "exploding"),
    )


def _expression(data: dict, svgs: dict[str, str]) -> str:
    steps = {row["name"]: row for row in data["steps"]}
    w, wx, w2 = steps["w"], steps["w·x"], steps["w²"]
    one, two = wx["gradient"] * data["at"]["x"], w2["gradient"] * 2 * data["at"]["w"]
    return _section(
        "One neuron, every gradient",
        "How is a gradient worked out at all? Here is one neuron (a weight w, an input x, an offset b), its squared error, and a "
        "small penalty on w.",
        "Every box has its value, and its gradient: how much L changes if the box does. The number on an arrow is the slope of that one "
        "step. The curve: following the gradients of w and b downhill, L falls.",
        "Backwards, a box gets (number on the arrow) × (gradient at its tip), summed over its arrows. w has two: "
        f"{wx['gradient']:.3f} × {data['at']['x']:g} + {w2['gradient']:.3g} × {2 * data['at']['w']:g} = {one:.3f} + {two:.3f} = <b>{w['gradient']:.3f}</b>. "
        "That sum is all of back-propagation.",
        f'<div class="expression"><div>{_both(svgs, "expression")}</div><figure>{svgs["expression/descent"]}</figure></div>',
    )


def _claims(claims: list[dict]) -> str:
    rows = []
    for claim in claims:
        measured, theory, ratio = (html.escape(text) for text in figures(claim))
        equal = claim["compare"] == "="
        basis = f"{claim['formula']} · {claim['source']}, ±{percent(claim['tolerance'])}" if equal else claim["source"]
        style = {True: "yes", False: "no", None: ""}[claim["holds"]]
        rows.append(
            f"<tr><td>{html.escape(claim['says'])}<small>{html.escape(basis)}</small></td>"
            f'<td>{measured}</td><td>{theory}</td><td class="ratio">{ratio}</td><td class="{style}">{MARKS[claim["holds"]]}</td></tr>'
        )
    return (
        "<section><h2>Measured against theory</h2><table><caption>"
        + verdict(claims)
        + ". The second line of a row gives the formula, where it comes from, and how far off the measurement may be.</caption>"
        '<thead><tr><th>claim</th><th>measured</th><th>theory</th><th class="ratio">ratio</th><th></th></tr></thead><tbody>'
        + "".join(rows)
        + "</tbody></table></section>"
    )


def _formulas() -> str:
    words = (
        ("φ, φ′", "the function a unit applies (ReLU, sigmoid, tanh), and its slope"),
        ("E[ ], Var", "mean and variance over a bell curve of width 1, which is what many random weights add up to"),
        (
            "σw",
            "size of the random weights: their standard deviation times the square root of the number of inputs. Xavier is 1, He √2",
        ),
        ("χ₁ = σw² E[φ′²]", "growth of the squared gradient per layer; its root is the factor of the gradient itself"),
        (
            "r(B)",
            "the same with batch normalisation, for ReLU and batches of B images; E[φ′²] / Var φ for large batches and any φ",
        ),
        ("⅓ · ½", "weights uniform between ±1/√n have a variance of 1/(3n); ReLU lets half through"),
        ("ln 10 = 2.303", "the cross-entropy of giving each of ten digits the same chance"),
    )
    rows = "".join(f"<dt>{a}</dt><dd>{b}</dd>" for a, b in words)
    return f"<section><h2>The symbols, in words</h2><dl>{rows}</dl></section>"


def _again(results: dict) -> str:
    versions = " · ".join(
        f"{html.escape(name)} {html.escape(str(value))}" for name, value in results["versions"].items()
    )
    return (
        "<section><h2>Make it again</h2><p>The same seed gives the same numbers on the same backend (the set of kernels that did the arithmetic).</p>"
        f'<p class="again"><code>{html.escape(results["command"])}</code><span>{versions}</span></p></section>'
    )


def _strip(samples: np.ndarray) -> str:
    """Images side by side, as a PNG in a data: address."""
    from PIL import Image

    tiles = np.concatenate([np.pad(image, 1) for image in samples], axis=1)
    grey = 255 - np.round(255 * (tiles - tiles.min()) / max(float(np.ptp(tiles)), 1e-9))
    out = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
