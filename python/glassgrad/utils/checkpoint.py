"""Checkpoint: keep a segment's input instead of all that happens inside, and compute it again when backward comes by.

Chen, Xu, Zhang and Guestrin 2016, Training deep nets with sublinear memory cost: n layers in k segments keep k inputs and, one
segment at a time, n / k layers: about 2 sqrt(n) at k = sqrt(n), for one more forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import autograd, nn
from .. import random as random_
from ..autograd import Node
from ..errors import ArgumentError, GraphError
from ..function import Function
from ..tensor import Tensor, wrap


@dataclass
class _Plan:
    """A call that can be made again."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    rng: Any
    inputs: list[int] = field(default_factory=list)  # places of tensors among the arguments
    leaves: list[Tensor] = field(default_factory=list)  # parameters that the function uses

    def run(self) -> tuple[list[Tensor], Any]:
        """Inputs cut off from the graph above, and what the function makes of them."""
        args, inner = list(self.args), []
        for i in self.inputs:
            args[i] = self.args[i].detach().requires_grad_(self.args[i].requires_grad)
            inner.append(args[i])
        with autograd.enable_grad():
            return inner, self.function(*args, **self.kwargs)


class _Recompute(Function):
    @staticmethod
    def forward(ctx, plan, outputs, *tensors):
        ctx.plan = plan
        ctx.save_for_backward(*tensors)  # a change in place before backward is noticed
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx, *dys):
        if autograd.is_grad_enabled():
            raise GraphError(
                "checkpoint: got create_graph=True; expected a first derivative: what is computed again has no second."
            )
        tensors, plan = ctx.saved_tensors, ctx.plan
        before = random_.get_rng_state()
        if plan.rng is not None:
            random_.set_rng_state(plan.rng)
        try:
            inner, result = plan.run()
        finally:
            random_.set_rng_state(before)
        outputs = list(result) if isinstance(result, tuple) else [result]
        wanted = [t for t in (*inner, *plan.leaves) if t.requires_grad]
        pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if y.requires_grad]
        # The graph of a tensor from outside, which the function closes over, is needed again: nothing is freed but with the segment.
        found = iter(
            autograd.grad([y for y, _ in pairs], wanted, [dy for _, dy in pairs], allow_unused=True, retain_graph=True)
        )
        return (None, None, *[next(found) if t.requires_grad else None for t in tensors])


def checkpoint(function: Callable, *args, use_reentrant: bool = False, preserve_rng_state: bool = True, **kwargs):
    """``function(*args, **kwargs)``, keeping only its tensor arguments for backward; what lies between is computed again then.

    Gradients are those of the plain call, bit for bit, dropout included. BatchNorm's running statistics see the batch twice.

    Args:
        function: of tensors and anything else; a Tensor or a tuple of Tensors comes back. It may use parameters.
        use_reentrant: as PyTorch has it; only False.
        preserve_rng_state: draw the same random numbers again.

    Raises:
        ArgumentError: ``function`` is not callable, gives something else, or ``use_reentrant`` is True.
        GraphError: in backward, with ``create_graph=True``.

    >>> import glassgrad as gg
    >>> from glassgrad.utils.checkpoint import checkpoint
    >>> x = gg.ones(3, requires_grad=True)
    >>> checkpoint(lambda x: (x.exp() * 2).log(), x).sum().backward()
    >>> x.grad
    tensor([1., 1., 1.])
    """
    if not callable(function):
        raise ArgumentError(f"checkpoint: function: got {type(function).__name__}; expected something to call.")
    if use_reentrant:
        raise ArgumentError("checkpoint: use_reentrant: got True; expected False, the only way here.")
    if not autograd.is_grad_enabled():
        return function(*args, **kwargs)
    plan = _Plan(function, args, kwargs, random_.get_rng_state() if preserve_rng_state else None)
    plan.inputs = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.data.dtype.kind == "f"]
    inner, result = plan.run()
    outputs = list(result) if isinstance(result, tuple) else [result]
    if not outputs or not all(isinstance(y, Tensor) for y in outputs):
        raise ArgumentError(
            f"checkpoint: function gave {type(result).__name__}; expected a Tensor or a tuple of Tensors."
        )
    plan.leaves = _leaves(outputs, inner)
    tensors = [*(args[i] for i in plan.inputs), *plan.leaves]
    # Not detach(): a view would hold its base, and with it the graph that is to go.
    made = _Recompute.apply(plan, [wrap(y.data) for y in outputs], *tensors)
    return made if isinstance(result, tuple) else (made[0] if isinstance(made, tuple) else made)


def _leaves(outputs: Sequence[Tensor], inner: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the graph that no op made, other than the inputs."""
    own, seen, found = {id(t) for t in inner}, set(), []
    stack: list[Any] = [y.edge()[0] for y in outputs if y.requires_grad]
    while stack:
        target = stack.pop()
        if id(target) in seen or id(target) in own:
            continue
        seen.add(id(target))
        if isinstance(target, Node):
            stack.extend(edge[0] for edge in target.edges if edge is not None)
        else:
            found.append(target)
    return found


def checkpoint_sequential(
    functions, segments: int, input: Tensor, use_reentrant: bool = False, preserve_rng_state: bool = True
):
    """A chain of modules in ``segments`` pieces, each of them a ``checkpoint`` but the last, whose backward comes first anyway.

    Args:
        functions: a ``Sequential``, or a list of modules or functions of one tensor.
        segments: 1 to their number.

    >>> import glassgrad as gg
    >>> from glassgrad import nn
    >>> from glassgrad.utils.checkpoint import checkpoint_sequential
    >>> layers = nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)])
    >>> checkpoint_sequential(layers, 3, gg.ones(2, 4)).shape
    (2, 4)
    """
    chain = list(functions.children()) if isinstance(functions, nn.Sequential) else list(functions)
    if not isinstance(segments, int) or not 1 <= segments <= max(len(chain), 1):
        raise ArgumentError(
            f"checkpoint_sequential: segments: got {segments!r}; expected 1 to {len(chain)}, the number of functions."
        )
    size = len(chain) // segments

    def piece(start: int, end: int) -> Callable[[Tensor], Tensor]:
        def run(x):
            for f in chain[start:end]:
                x = f(x)
            return x

        return run

    for k in range(segments - 1):
        input = checkpoint(
            piece(k * size, (k + 1) * size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state
        )
    return piece((segments - 1) * size, len(chain))(input)
