"""Layout: where the boxes of a graph stand, in layers from inputs to result (after Sugiyama, Tagawa and Toda 1981).

A box stands one layer before the first box it feeds, so leaves are beside their first use. Edges that cross several layers get
a bend in each. Within a layer boxes are sorted by the mean place of their neighbours, forth and back a few times; that keeps
crossings few. All loops are over edges: 5,000 boxes take well under a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SWEEPS = 8
BENDS = 4000  # more than these, and long edges run straight: nobody could follow them anyway


@dataclass
class Layout:
    """``places[i]`` is box i's (layer, place across); ``bends[(i, k)]`` those of the edge from its k-th source, if it has any."""

    places: list[tuple[float, float]]
    bends: dict[tuple[int, int], list[tuple[float, float]]]


def layout(sources: Sequence[Sequence[int]]) -> Layout:
    """Places for boxes of which ``sources[i]`` are the indices that lead into box i, all of them smaller than i.

    >>> layout([[], [], [0, 1]]).places
    [(0, 0.0), (0, 1.0), (1, 0.5)]
    """
    count = len(sources)
    back = [0] * count  # layers from the end
    for i in reversed(range(count)):
        for j in sources[i]:
            back[j] = max(back[j], back[i] + 1)
    last = max(back, default=0)
    layer = [last - b for b in back]
    spans = sum(layer[i] - layer[j] - 1 for i in range(count) for j in sources[i])

    links: list[list[int]] = [[] for _ in range(count)]  # neighbours one layer up, of boxes and bends alike
    bends: dict[tuple[int, int], list[int]] = {}
    for i in range(count):
        for k, j in enumerate(sources[i]):
            chain: list[int] = []
            if spans <= BENDS:
                for between in range(layer[j] + 1, layer[i]):
                    layer.append(between)
                    links.append([chain[-1] if chain else j])
                    chain.append(len(links) - 1)
            if chain:
                bends[(i, k)] = chain
            links[i].append(chain[-1] if chain else j)
    across = _across(layer, links, last, count)
    return Layout(
        [(layer[i], across[i]) for i in range(count)],
        {edge: [(layer[n], across[n]) for n in chain] for edge, chain in bends.items()},
    )


def _across(layer: list[int], up: list[list[int]], last: int, boxes: int) -> list[float]:
    down: list[list[int]] = [[] for _ in layer]
    for i, sources in enumerate(up):
        for j in sources:
            down[j].append(i)
    rows: list[list[int]] = [[] for _ in range(last + 1)]
    for i in _depth_first(up, boxes):
        rows[layer[i]].append(i)
    at = [0.0] * len(layer)
    for row in rows:
        for place, i in enumerate(row):
            at[i] = float(place)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours = up if forward else down
        for row in rows if forward else reversed(rows):
            middle = {
                i: sum(at[j] for j in neighbours[i]) / len(neighbours[i]) if neighbours[i] else at[i] for i in row
            }
            row.sort(key=middle.__getitem__)
            wanted = [middle[i] for i in row]
            for i, there in zip(row, apart(wanted), strict=True):
                at[i] = there
    left = min(at, default=0.0)
    return [round(a - left, 3) for a in at]


def _depth_first(up: list[list[int]], boxes: int) -> list[int]:
    """All boxes and bends in the order in which a walk from the result meets them: neighbours start side by side."""
    order, seen = [], [False] * len(up)
    for root in reversed(range(boxes)):
        stack = [root]
        while stack:
            i = stack.pop()
            if not seen[i]:
                seen[i] = True
                order.append(i)
                stack += reversed(up[i])
    return order


def apart(wanted: Sequence[float], gap: float = 1.0) -> list[float]:
    """Places as near as can be (least squares) to the wanted ones, which ascend, each ``gap`` or more above the one before.

    >>> apart([0.0, 0.0, 5.0])
    [-0.5, 0.5, 5.0]
    """
    blocks: list[list[float]] = []  # [sum of (wanted - offset), count]: members of a block touch
    for value in wanted:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] + gap * blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            below = blocks[-1]
            below[0] += total - gap * below[1] * count
            below[1] += count
    return [total / count + gap * i for total, count in blocks for i in range(int(count))]
