"""Page: one self-contained HTML file, with data, style, script and SVG inside. Nothing is fetched, so it works from disk."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

THEME = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --muted: #5d6673; --line: #c9ced6; --grid: #e6e9ee; --surface: #ffffff; --page: #f4f5f7; --box: #f6f7f9;
  --cold: #0072b2; --good: #00805d; --hot: #c04f00; --value: #0072b2; --gradient: #b84a00; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8eaee; --muted: #9aa4b2; --line: #444c58; --grid: #2a313b; --surface: #171b21; --page: #0f1216; --box: #1f252d;
  --cold: #5cb8f0; --good: #2fc79a; --hot: #ff8f4d; --value: #5cb8f0; --gradient: #ff9f66; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: clamp(28px, 5vw, 42px); line-height: 1.1; margin: 0 0 10px; letter-spacing: -0.02em; }
h2 { font-size: 24px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; }
p { margin: 0; }
.lead { color: var(--muted); font-size: 18px; max-width: 46em; }
section { background: var(--surface); border: 1px solid var(--grid); border-radius: 14px; padding: 24px 26px; margin: 0 0 20px; }
figure { margin: 0; }
svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.cold { color: var(--cold); } .good { color: var(--good); } .hot { color: var(--hot); }
code { font: 14px ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--box); border: 1px solid var(--grid); border-radius: 5px;
  padding: 2px 6px; }
@media (max-width: 860px) { main { padding: 20px 12px 40px; } section { padding: 18px 14px; border-radius: 12px; } }
"""

# What a page may do: run its own script. A mistake that would fetch something is an error in the browser's console.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


class Page:
    """A view that a browser shows: ``save`` it, print it as text with ``str``, or leave it as a notebook cell's last line.

    Args:
        title: of the window.
        body: HTML, put inside ``<main>``.
        style: CSS after the theme's.
        script: JavaScript, run at the end; it finds ``data`` as the constant ``DATA``.
        data: anything ``json`` takes.

    >>> page = Page("Gradients", "<h1>Gradients</h1>", data={"steps": [1, 2]}, script="console.log(DATA.steps.length)")
    >>> str(page)[:15]
    '<!doctype html>'
    """

    def __init__(
        self, title: str, body: str, *, style: str = "", script: str = "", data: Any = None, height: int = 640
    ):
        self.title, self.height = title, height
        code = ""
        if script:
            # "</" would end the element, whatever string it stands in.
            numbers = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
            code = f"<script>\nconst DATA = {numbers};\n{script}\n</script>"
        self._html = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(title)}</title><style>{THEME}{style}</style></head>"
            f"<body><main>{body}</main>{code}</body></html>\n"
        )

    def __str__(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return f"<Page {self.title!r}, {len(self._html) / 1000:.0f} kB; .save(path) writes it>"

    def save(self, path: str | Path) -> Path:
        """Write it, and return where."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._html, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self._html)}" style="width:100%;height:{self.height}px;border:0"></iframe>'
        )
