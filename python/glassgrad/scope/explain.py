"""Explain: a receipt for one gradient. Where on its way from the loss was it lost, or blown up?

The size of a gradient is the root of its mean square over entries. Going back from the loss, every op changes it by the
factor |its result| / |what came in|; where several paths meet their gradients add, which is one more factor. Written down
one after the other along one path, the factors multiply to the size that was measured, exactly: the sizes in between cancel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import autograd, nn
from ..autograd import Node
from ..errors import DTypeError, GraphError, message
from ..op import OpNode
from ..tensor import Tensor, wrap
from .plotting import COLD, GOOD, HOT, pyplot_for
from .thermometer import power

_SLOPES = "relu leaky_relu elu gelu gelu_tanh silu softplus logsigmoid sigmoid tanh softmax log_softmax"
_NORMS = "batch_norm batch_norm_eval layer_norm"
_LOSSES = "cross_entropy"
_SUMS = "sum mean sum_to_size expand max_pool2d avg_pool2d adaptive_avg_pool adaptive_max_pool2d logsumexp"
_LOOPS = "rnn_layer lstm_layer gru_layer"
_PRODUCTS = ("linear", "linear_relu", "matmul", "conv2d", "conv2d_backward_input")
SLOPE, WEIGHTS, NORM, LOSS, SUMS, LOOP, LAST, MEET, OTHER = (
    "activation slope", "weights", "normalisation", "loss", "sums and means", "recurrence", "own input, summed over samples",
    "paths meet", "other ops",
)  # fmt: skip
_KIND = {
    name: kind
    for names, kind in ((_SLOPES, SLOPE), (_NORMS, NORM), (_LOSSES, LOSS), (_SUMS, SUMS), (_LOOPS, LOOP))
    for name in names.split()
}
# Colour and hatch of each kind's bars: Okabe and Ito's, told apart without colour by the hatch.
_PAINT = {
    SLOPE: (COLD, ""), WEIGHTS: (HOT, "////"), NORM: (GOOD, "...."), LOSS: ("#5d6673", ""), SUMS: ("#cc79a7", "\\\\\\\\"),
    LOOP: ("#56b4e9", "xxxx"), LAST: ("#e69f00", "----"), MEET: ("#1b1f24", ""), OTHER: ("#c9ced6", ""),
}  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """One step of a gradient's way back.

    Attributes:
        kind: what it stands for, such as "activation slope" or "weights".
        op: the op, such as "tanh"; empty where paths meet.
        module: the module it belongs to, or, for an op without parameters, the one it comes after; empty if unknown.
        value: what the gradient's size is multiplied by.
    """

    kind: str
    op: str
    module: str
    value: float

    @property
    def label(self) -> str:
        if self.kind == MEET:
            return f"paths meet after {self.module}" if self.module else "paths meet"
        if not self.module:
            return self.op
        own = self.kind in (WEIGHTS, NORM, LOOP, LAST)
        return f"{self.module} {self.op}" if own else f"{self.op} after {self.module}"


@dataclass(repr=False)
class Receipt:
    """The factors between a loss and one gradient.

    Attributes:
        name: of the tensor.
        size: root mean square of its gradient, as measured.
        factors: from the loss to the tensor; their product is ``size``.
    """

    name: str
    size: float
    factors: list[Factor]

    @property
    def product(self) -> float:
        """The factors multiplied: the gradient of a loss with respect to itself is 1."""
        return math.prod(factor.value for factor in self.factors)

    def by_kind(self) -> dict[str, list[Factor]]:
        """The factors of each kind, the kind that changes the size most first."""
        groups: dict[str, list[Factor]] = {}
        for factor in self.factors:
            groups.setdefault(factor.kind, []).append(factor)
        return dict(sorted(groups.items(), key=lambda item: -_weight(item[1])))

    @property
    def words(self) -> str:
        """The receipt in sentences."""
        says = [f"The gradient of {self.name} is {_short(self.size)} per entry (root mean square)."]
        if not self.factors:
            return says[0]
        spoiled = next((f for f in self.factors if not math.isfinite(f.value)), None)
        nothing = next((f for f in self.factors if f.value == 0), None)
        if spoiled is not None:
            return f"{says[0]} It stops being a number at {spoiled.label}."
        if nothing is not None:
            return f"{says[0]} All of it is lost at {nothing.label}, which lets nothing through."
        parts = []
        for kind, factors in self.by_kind().items():
            whole = math.prod(f.value for f in factors)
            if abs(math.log(whole)) < 0.005 and len(factors) == 1:
                continue
            ops = " and ".join(dict.fromkeys(f.op for f in factors if f.op))
            name = f"{kind} ({ops})" if ops and kind in (SLOPE, LOSS, NORM, OTHER, SUMS, LOOP) else kind
            if len(factors) > 1:
                each = whole ** (1 / len(factors))
                parts.append(f"{name}: ×{_short(each)} each, {len(factors)} times = ×{_short(whole)}")
            else:
                parts.append(f"{name}: ×{_short(whole)}")
        says.append("Factors: " + "; ".join(parts) + ".")
        wholes = {kind: math.prod(f.value for f in factors) for kind, factors in self.by_kind().items()}
        if self.size < 1e-4:
            says.append(f"Most was lost to: {min(wholes, key=lambda kind: wholes[kind])}.")
        elif self.size > 10:
            says.append(f"Most was added by: {max(wholes, key=lambda kind: wholes[kind])}.")
        return " ".join(says)

    def __repr__(self) -> str:
        width = max([len(f.label) for f in self.factors], default=0)
        lines = [
            f"Receipt for the gradient of {self.name}, from the loss back",
            f"{'':{width}}      factor        size",
        ]
        size = 1.0
        for factor in self.factors:
            size *= factor.value
            lines.append(f"{factor.label:{width}}  {factor.value:10.4g}  {size:10.3g}  {factor.kind}")
        return "\n".join([*lines, self.words])

    def plot(self, ax=None):
        """A waterfall: each bar leads from the gradient's size before a step to that after it. Returns the figure.

        Args:
            ax: a matplotlib ``Axes`` to draw on; a new figure, as high as the receipt is long, without.
        """
        pyplot = pyplot_for("plot")
        from matplotlib import patches, ticker

        if ax is None:
            height = 1.5 + 0.26 * max(len(self.factors), 3)
            ax = pyplot.subplots(figsize=(8.6, height), layout="constrained")[1]
        sizes = np.cumprod([1.0, *[f.value for f in self.factors]])
        drawn = sizes[np.isfinite(sizes) & (sizes > 0)]
        low, high = math.log10(drawn.min()), math.log10(drawn.max())
        room = max(0.16 * (high - low), 0.5)
        for row, factor in enumerate(self.factors):
            before, after = sizes[row], sizes[row + 1]
            if not (0 < before < math.inf and 0 < after < math.inf):
                ax.text(10**low, row, f"{factor.value:g}", va="center", color=HOT, weight="bold")
                continue
            colour, hatch = _PAINT[factor.kind]
            left, right = sorted((before, after))
            ax.barh(row, right - left, left=left, height=0.62, color=colour, hatch=hatch, edgecolor="#ffffff", lw=0)
            ax.plot(
                [after, after],
                [row - 0.31, row + 1.31 if row + 1 < len(self.factors) else row + 0.31],
                color="#5d6673",
                lw=0.8,
            )
            ax.text(right * 10 ** (0.012 * (high - low + 2 * room)), row, f"×{factor.value:.3g}", va="center", size=8)
        ax.set_xscale("log")
        ax.set(ylim=(len(self.factors) - 0.4, -0.6), xlim=(10 ** (low - room / 2), 10 ** (high + room)))
        ax.set_yticks(range(len(self.factors)), [f.label for f in self.factors])
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("size of the gradient on its way back from the loss (root mean square; the loss itself: 1)")
        ax.set_title(f"Receipt: the gradient of {self.name} is {_short(self.size)}")
        every = max(1, math.ceil((high - low + 1.5 * room) / 9))
        first, last = math.ceil(low - room / 2), math.floor(high + room)
        ax.xaxis.set_major_locator(ticker.FixedLocator([10.0**e for e in range(first, last + 1) if e % every == 0]))
        ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(power))
        kinds = list(dict.fromkeys(f.kind for f in self.factors))
        handles = [
            patches.Patch(facecolor=_PAINT[k][0], hatch=_PAINT[k][1], edgecolor="#ffffff", lw=0, label=k) for k in kinds
        ]
        ax.figure.legend(
            handles=handles, frameon=False, fontsize=8.5, ncols=min(len(kinds), 4), loc="outside lower center"
        )
        return ax.figure


def _short(x: float) -> str:
    """Two digits, or a whole number where that says more.

    >>> _short(0.2447), _short(647.3), _short(1.9e-7)
    ('0.24', '647', '1.9e-07')
    """
    return f"{x:.0f}" if 99.5 <= x < 1e5 else f"{x:.2g}"


def _weight(factors: list[Factor]) -> float:
    """By how much factors change a size, up or down, on a logarithmic scale."""
    whole = math.prod(f.value for f in factors)
    return abs(math.log(whole)) if 0 < whole < math.inf else math.inf


# ------------------------------------------------------------------------------------------------------------- the walk


@dataclass
class _Arrival:
    """What one node sent along one of its edges."""

    node: Any
    slot: int
    before: float  # size of the gradient that the node was given
    after: float  # size of what it sent
    slope: float  # of that, the part of an activation inside the op


def _size(x: Tensor | None) -> float:
    if x is None or not x.numel():
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(np.mean(np.square(x.data, dtype=np.float64)))


def _key(edge):
    return id(edge[0]), edge[1]


def _nodes(root: Node) -> list[Node]:
    seen, stack = {id(root): root}, [root]
    while stack:
        for edge in stack.pop().edges:
            if edge and isinstance(edge[0], Node) and id(edge[0]) not in seen:
                seen[id(edge[0])] = edge[0]
                stack.append(edge[0])
    return list(seen.values())


def _inside(node, dys) -> float:
    """The slope of an activation that is part of the op: ReLU behind a product."""
    if isinstance(node, OpNode) and node.name == "linear_relu":
        saved = dict(zip(node.plan.names, node.saved_values(), strict=True))
        return _ratio(_size(wrap(dys[0].data * (saved["y"].data > 0))), _size(dys[0]))
    return 1.0


def _watch(node, arrivals: dict) -> Callable:
    def hook(dxs, dys):
        sizes = [_size(dy) for dy in dys]
        for slot, (edge, dx) in enumerate(zip(node.edges, dxs, strict=False)):
            if edge is not None and dx is not None:
                arrival = _Arrival(node, slot, max(sizes), _size(dx), _inside(node, dys))
                arrivals.setdefault(_key(edge), []).append(arrival)

    return hook


def _ratio(after: float, before: float) -> float:
    return after / before if before else (1.0 if after == 0 else math.inf)


def _largest(arrivals: list[_Arrival]) -> _Arrival:
    return max(arrivals, key=lambda a: math.inf if math.isnan(a.after) else a.after)


# ---------------------------------------------------------------------------------------------------------------- words


def _leaf_behind(edge):
    """The leaf that an input is, or is a view of; None if it was computed."""
    while edge is not None and isinstance(edge[0], OpNode) and edge[0].op.is_view:
        edge = edge[0].edges[0]
    return None if edge is None or isinstance(edge[0], Node) else edge[0]


def _kind(arrival: _Arrival, last: bool) -> str:
    name, node = arrival.node.name, arrival.node
    if name in _PRODUCTS:
        if last:
            return LAST
        if name != "matmul":
            return WEIGHTS
        other = node.edges[1 - arrival.slot]
        return WEIGHTS if _leaf_behind(other) is not None or other is None else OTHER
    if last and _KIND.get(name) in (NORM, LOOP) and arrival.slot:
        return LAST
    return _KIND.get(name, OTHER)


def _owners(model: nn.Module | None) -> tuple[dict[int, str], dict[int, str]]:
    """Names of parameters, and of the modules that own them, by the parameters' ids."""
    if model is None:
        return {}, {}
    names = {id(p): name for name, p in model.named_parameters()}
    return names, {key: name.rpartition(".")[0] for key, name in names.items()}


def _module_of(node, owners) -> str:
    leaves = [_leaf_behind(edge) for edge in node.edges]
    return next((owners[id(leaf)] for leaf in leaves if leaf is not None and id(leaf) in owners), "")


def explain(target: Tensor, loss: Tensor, model: nn.Module | None = None) -> Receipt:
    """Split the size of d(loss)/d(target) into factors along its way: slopes, weights, normalisation, sums, meeting paths.

    Call it before ``loss.backward()``, which frees the graph; no ``.grad`` is touched. Where paths meet, the one that
    brings most is followed, and a factor |sum| / |that part| stands for the others.

    Args:
        target: a parameter, or any tensor on the way to the loss.
        loss: one number.
        model: gives names to parameters and steps.

    Raises:
        GraphError: the loss does not depend on the target, or its graph was freed.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.scope import explain
    >>> x = gg.tensor([1.0, 2.0], requires_grad=True)
    >>> receipt = explain(x, (3 * x).tanh().sum())
    >>> [factor.op for factor in receipt.factors], abs(receipt.product / receipt.size - 1) < 1e-6
    (['tanh', 'mul'], True)
    """
    if not isinstance(target, Tensor):
        raise DTypeError(message("explain", "target", type(target).__name__, "a Tensor"))
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        got = f"a tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        hint = "Was it computed under no_grad?" if isinstance(loss, Tensor) and loss.numel() == 1 else ""
        raise GraphError(message("explain", "loss", got, "one number that requires grad", hint))
    names, owners = _owners(model)
    name = names.get(id(target), f"the tensor {target.shape}")
    if not target.requires_grad:
        raise GraphError(message("explain", name, "requires_grad=False", "a tensor that the loss depends on"))
    end, handles = target.edge(), []
    arrivals: dict[tuple[int, int], list[_Arrival]] = {}
    root = loss.edge()
    if _key(root) == _key(end):
        return Receipt(name, 1.0, [])
    try:
        for node in _nodes(root[0]) if isinstance(root[0], Node) else []:
            handles.append(node.register_hook(_watch(node, arrivals)))
        one = wrap(np.ones_like(loss.data))
        (gradient,) = autograd.run_backward([root], [one], retain_graph=True, inputs=[end])
    finally:
        for handle in handles:
            handle.remove()
    if gradient is None:
        raise GraphError(message("explain", name, "a loss that does not depend on it", "one that does"))
    return Receipt(name, _size(gradient), _factors(end, _size(gradient), arrivals, owners))


def _factors(end, size: float, arrivals: dict, owners: dict[int, str]) -> list[Factor]:
    """From the target to the loss along the largest arrivals, then turned round."""
    steps: list[tuple[str, str, str, float]] = []  # kind, op, its module if it has one, value
    here, last = end, True
    while _key(here) in arrivals:
        came = arrivals[_key(here)]
        best = _largest(came)
        if len(came) > 1 or size != best.after:
            steps.append(
                (MEET if len(came) > 1 else OTHER, "" if len(came) > 1 else "hook", "", _ratio(size, best.after))
            )
        own, kind = _module_of(best.node, owners), _kind(best, last)
        steps.append((kind, best.node.name, own, _ratio(_ratio(best.after, best.before), best.slope)))
        if best.node.name == "linear_relu":
            steps.append((SLOPE, "relu", own, best.slope))
        size, last = best.before, False
        here = _given(best, arrivals)
    # A step without parameters is named after the module below it, which has just been passed.
    factors, module = [], ""
    for kind, op, own, value in steps:
        module = own or module
        if value != 1.0 or kind not in (OTHER, SUMS, MEET):
            factors.append(Factor(kind, op, module, value))
    return factors[::-1]


def _given(arrival: _Arrival, arrivals: dict):
    """The edge through which the node was given the largest of its gradients."""
    node = arrival.node
    edges = [(node, index) for index in range(node.n_outputs)]
    return max(edges, key=lambda edge: max([a.after for a in arrivals.get(_key(edge), [])], default=-1.0))
