"""Results as text for a terminal, and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .case import Result
from .goals import NAMES, geometric_means, judge_mean


def heading(group: str, threads: int, rates: dict[str, float]) -> str:
    plural = "s" if threads > 1 else ""
    return (
        f"\n{group}, {threads} thread{plural}: the machine multiplies and adds at {rates['multiply-adds'] / 1e9:.0f} "
        f"GFLOP/s and copies at {rates['copy'] / 1e9:.1f} GB/s"
    )


def line(result: Result) -> str:
    own, (low, high) = result.seconds["glassgrad"], result.spread["glassgrad"]
    text = f"  {result.name:52}{seconds(own):>11} ±{(high - low) / 2 / own:4.0%}"
    text += f"{rate(result):>16}{f'{result.share:.0%}' if result.share else '':>6}"
    text += "".join(f"   {NAMES[peer]} {result.ratios[peer]:5.2f} x" for peer in NAMES if peer in result.ratios)
    return text + "".join(f"   {verdict(judged)}" for judged in result.goals)


def verdict(judged: dict[str, Any]) -> str:
    """As text: `met: 1.3 x PyTorch`, `MISSED: 90% of multiply-adds`."""
    return f"{'met' if judged['met'] else 'MISSED'}: {judged['goal']}"


def means(group: str, results: list[Result], judged: list[dict[str, Any]]) -> str:
    found = ", ".join(f"{NAMES[peer]} {mean:.2f} x" for peer, mean in geometric_means(results).items())
    text = f"  {group}: geometric means of {len(results)} cases: {found or 'no peer'}"
    return text + "".join(f"   {verdict(j)}" for j in judged)


def summary(record: dict[str, Any]) -> str:
    """Geometric means over all cases, and how many goals are met, for each number of threads."""
    lines = []
    for threads, results in by_threads(record).items():
        found = ", ".join(f"{NAMES[peer]} {mean:.2f} x" for peer, mean in geometric_means(results).items())
        judged = [j for _, _, j in _judged(results)]
        lines.append(
            f"\n{threads} thread{'s' * (threads > 1)}, all {len(results)} cases: geometric means {found or 'no peer'}; "
            f"{sum(j['met'] for j in judged)} of {len(judged)} goals met"
        )
    return "".join(lines)


def seconds(value: float) -> str:
    return f"{value * 1e3:.3f} ms" if value >= 1e-3 else f"{value * 1e6:.2f} us"


def rate(result: Result) -> str:
    """In the unit of the limit it is held against."""
    return f"{result.rate / 1e9:.1f} {'GB/s' if result.limit == 'copy' else 'GFLOP/s'}" if result.limit else ""


def by_threads(record: dict[str, Any]) -> dict[int, list[Result]]:
    found: dict[int, list[Result]] = {}
    for fields in record["results"]:
        found.setdefault(fields["threads"], []).append(Result(**fields))
    return found


def by_group(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.group, []).append(result)
    return found


def _judged(results: list[Result]) -> list[tuple[str, str, dict[str, Any]]]:
    """(group, case, verdict) of every goal, those of whole groups last in each."""
    found = []
    for group, of_group in by_group(results).items():
        found += [(group, r.name, judged) for r in of_group for judged in r.goals]
        found += [(group, "geometric mean", judged) for judged in judge_mean(group, of_group)]
    return found


# ------------------------------------------------------------------------------------------------------------ Markdown


def page(record: dict[str, Any], picture: str) -> str:
    """The whole record as a page: the machine, a table per number of threads and group, and the picture."""
    machine = record["machine"]
    rounds = record["results"][0]["rounds"] if record["results"] else 0
    text = [f"# {machine['cpu']}, {machine['isa']}", ""]
    text += [
        f'What the columns mean: [the README](../README.md). Written by `make bench BENCH="all --rounds {rounds}"`; every number is in the '
        "JSON beside.",
        "",
    ]
    text += [f"- {key}: `{value}`" for key, value in machine.items() if key not in ("cpu", "isa")]
    text += ["", f"![roofline]({picture})", ""]
    peers = [peer for peer in NAMES if any(peer in r["ratios"] for r in record["results"])]
    for threads, results in by_threads(record).items():
        text += [f"## {threads} thread{'s' * (threads > 1)}", ""]
        text += _table_of_means(results, peers)
        for group, of_group in by_group(results).items():
            limits = next(x for x in record["limits"] if x["group"] == group and x["threads"] == threads)
            text += [
                f"### {group}: of {limits['multiply-adds'] / 1e9:.0f} GFLOP/s and {limits['copy'] / 1e9:.1f} GB/s",
                "",
                "| case | time | rate | of the limit | " + "".join(f"{NAMES[p]} | " for p in peers) + "goals |",
                "|---|---:|---:|---:|" + "---:|" * len(peers) + "---|",
                *(_row(r, peers) for r in of_group),
                "",
            ]
    return "\n".join(text)


def _row(r: Result, peers: list[str]) -> str:
    own, (low, high) = r.seconds["glassgrad"], r.spread["glassgrad"]
    cells = [r.name, f"{seconds(own)} ± {(high - low) / 2 / own:.0%}", rate(r), f"{r.share:.0%}" if r.share else ""]
    cells += [f"{r.ratios[p]:.2f} x" if p in r.ratios else "" for p in peers]
    cells.append("; ".join(verdict(j) for j in r.goals))
    return f"| {' | '.join(cells)} |"


def _table_of_means(results: list[Result], peers: list[str]) -> list[str]:
    columns = [*peers, "the best peer"] if len(peers) > 1 else peers
    if not columns:
        return []
    rows = [*by_group(results).items(), ("all", results)]
    judged = _judged(results)
    table = [
        "| geometric mean of | cases | " + "".join(f"{NAMES[p]} | " for p in columns) + "goals met |",
        "|---|---:|" + "---:|" * len(columns) + "---:|",
    ]
    for group, of_group in rows:
        found = geometric_means(of_group)
        of = [j for g, _, j in judged if group in (g, "all")]
        cells = [group, str(len(of_group)), *(f"{found[p]:.2f} x" if p in found else "" for p in columns)]
        cells.append(f"{sum(j['met'] for j in of)} of {len(of)}" if of else "")
        table.append(f"| {' | '.join(cells)} |")
    return [*table, ""]


__all__ = ["by_group", "by_threads", "heading", "line", "means", "page", "summary"]
