"""The engine: nodes, edges and the walk from a loss back to its leaves. It imports no arrays.

A ``Node`` is one application of an op; its ``edges`` say where each input came from. A node is numbered when it is made,
so its number is larger than that of everything it depends on: taking the pending node with the largest number first *is*
reverse topological order, needs no recursion, and a chain of 100,000 nodes is no deeper than one of 3.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import traceback
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count

from .errors import GraphError

numbers = count(1)
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class _Mode(threading.local):
    grad = True
    inference = False
    anomaly = False


mode = _Mode()


class Node:
    """One step of the computation. Subclasses say how gradients pass through it.

    ``edges[i]`` belongs to input ``i``: ``(target, index)``, where target is the Node whose output ``index`` the input
    was, or the leaf tensor itself; None where no gradient is wanted.
    """

    # Class-level defaults: a node sets only what it has, which keeps small ops cheap.
    n_outputs = 1
    makes_new = False  # backward's results are its own, unless they are a gradient it was given or a view
    hooks: dict | None = None  # {output index: [f(dy) -> dy or None]}
    post_hooks: list | None = None
    forward_trace: traceback.StackSummary | None = None

    def __init__(self, edges, n_outputs=1):
        self.edges = edges
        self.n_outputs = n_outputs
        self.number = next(numbers)
        if mode.anomaly:
            self.remember_where()

    def remember_where(self) -> None:
        """Keep the stack, for the message of ``detect_anomaly``."""
        self.forward_trace = traceback.extract_stack()

    @property
    def name(self) -> str:
        return type(self).__name__

    def backward(self, dys: list) -> Sequence:
        """Gradients of the inputs, one per edge (None where there is none), from those of the outputs."""
        raise NotImplementedError

    def release(self) -> None:
        """Forget what was saved for backward."""

    @property
    def next_functions(self) -> tuple:
        """PyTorch's view of the edges: ``((node or leaf, output index), ...)``."""
        return tuple(edge or (None, 0) for edge in self.edges)

    def register_hook(self, hook):
        """``hook(grad_inputs, grad_outputs)`` runs after this node's backward. Returns a handle to remove it."""
        self.post_hooks = self.post_hooks or []
        self.post_hooks.append(hook)
        return RemovableHandle(self.post_hooks, hook)

    def __repr__(self):
        return f"<{self.name}>"


class RemovableHandle:
    """Takes a hook back: ``handle.remove()``, or use it in a with statement."""

    def __init__(self, hooks: list, hook):
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def run_backward(roots, dys, *, retain_graph=False, create_graph=False, inputs=None):
    """Send ``dys`` back from ``roots``; add into leaves' ``.grad``, or return the gradients of ``inputs`` alone.

    A root or an input is an edge ``(node or leaf, index)``.
    """
    pending: dict = {}  # node -> gradients of its outputs so far
    # id(leaf), since leaves compare element by element -> [leaf, gradient so far, whether no one else holds it]
    leaves: dict = {}
    heap: list = []
    useful = None if inputs is None else _leading_to(inputs, roots)
    wanted = None if inputs is None else {(id(target), index) for target, index in inputs}
    caught: dict = {}

    before, mode.grad = mode.grad, create_graph
    try:
        edges, dxs, node, outputs = roots, dys, None, ()
        while True:
            for edge, dx in zip(edges, dxs, strict=True):
                if edge is None or dx is None:
                    continue
                target, index = edge
                if isinstance(target, Node):
                    slots = pending.get(target)
                    if slots is None:
                        slots = pending[target] = [None] * target.n_outputs
                        heappush(heap, (-target.number, target))
                    slots[index] = dx if slots[index] is None else slots[index]._plus(dx)
                else:
                    slot = leaves.get(id(target))
                    if slot is None:
                        leaves[id(target)] = [target, dx, _is_unshared(dx, node, outputs)]
                    else:
                        slot[1], slot[2] = slot[1]._plus(dx), True
            if not heap:
                break
            node = heappop(heap)[1]
            outputs = pending.pop(node)
            if node.hooks:
                for index, hooks in node.hooks.items():
                    outputs[index] = _through_hooks(hooks, outputs[index])
            if wanted is not None:
                for index, dy in enumerate(outputs):
                    if (id(node), index) in wanted:
                        caught[(id(node), index)] = dy
                if id(node) not in useful:
                    edges = dxs = ()
                    continue
            edges, dxs = node.edges, node.backward(outputs)
            if mode.anomaly:
                _look_for_nan(node, dxs)
            if node.post_hooks:
                for hook in list(node.post_hooks):
                    hook(dxs, outputs)
            if not retain_graph:
                node.release()
        for leaf, dx, own in leaves.values():
            if leaf._hooks:
                dx, own = _through_hooks(leaf._hooks, dx), False
            if wanted is None:
                leaf._accumulate_grad(dx, own)
            else:
                caught[(id(leaf), 0)] = dx
    finally:
        mode.grad = before
    return None if inputs is None else [caught.get((id(target), index)) for target, index in inputs]


def _is_unshared(dx, node, dys) -> bool:
    """Whether ``node`` made dx for this edge alone, so that a leaf may keep it without a copy."""
    if node is None or not node.makes_new or node.post_hooks:  # a hook has seen dx, and may have kept it
        return False
    for dy in dys:
        if dx is dy:
            return False
    return dx._owns_memory()


def _through_hooks(hooks, dy):
    if dy is not None:
        for hook in list(hooks):
            replaced = hook(dy)
            dy = dy if replaced is None else replaced
    return dy


def _leading_to(inputs, roots) -> set:
    """ids of the nodes whose backward is needed for ``inputs``: those with a path to one of them."""
    seen, stack = {}, [target for target, _ in roots if isinstance(target, Node)]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            stack.extend(edge[0] for edge in node.edges if edge and isinstance(edge[0], Node))
    goals = {id(target) for target, _ in inputs}
    useful: set = set()
    for node in sorted(seen.values(), key=lambda node: node.number):  # parents come before children
        if any(edge and (id(edge[0]) in goals or id(edge[0]) in useful) for edge in node.edges):
            useful.add(id(node))
    return useful


def _look_for_nan(node, dxs):
    for i, dx in enumerate(dxs):
        if dx is not None and bool(dx.isnan().any()):
            where = ""
            if node.forward_trace:
                frame = next((f for f in reversed(node.forward_trace) if not f.filename.startswith(_PACKAGE)), None)
                if frame:
                    where = f" Its forward ran at {frame.filename}:{frame.lineno}: {frame.line}"
            raise GraphError(f"{node.name}: backward gave NaN for input {i}.{where}")


# ---------------------------------------------------------------------------------------------------------------- modes


class _ModeSwitch(contextlib.ContextDecorator):
    """A context manager that is also a decorator: sets attributes of ``mode`` and restores them."""

    def __init__(self, **values):
        self._values = values
        self._before = []

    def __enter__(self):
        self._before.append({name: getattr(mode, name) for name in self._values})
        for name, value in self._values.items():
            setattr(mode, name, value)
        return self

    def __exit__(self, *exc):
        for name, value in self._before.pop().items():
            setattr(mode, name, value)

    def __call__(self, f):
        if not callable(f):
            return super().__call__(f)
        values = self._values

        @functools.wraps(f)
        def inner(*args, **kwargs):
            with _ModeSwitch(**values):
                return f(*args, **kwargs)

        return inner


def _decorator_or_context(f, **values):
    switch = _ModeSwitch(**values)
    return switch if f is None else switch(f)


def no_grad(f=None):
    """Context manager or decorator: results do not remember how they were made."""
    return _decorator_or_context(f, grad=False)


def enable_grad(f=None):
    """Context manager or decorator: undoes an outer ``no_grad``."""
    return _decorator_or_context(f, grad=True)


def inference_mode(enabled: bool = True):
    """``no_grad`` whose results can never be given a gradient."""
    return _ModeSwitch(grad=not enabled, inference=enabled)


def set_grad_enabled(enabled: bool):
    """Context manager: results remember how they were made, or not."""
    return _ModeSwitch(grad=bool(enabled))


def is_grad_enabled() -> bool:
    """Whether results remember how they were made, in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return mode.inference


def detect_anomaly(enabled: bool = True):
    """Within: each node remembers its forward line and its inputs, and a backward that gives NaN raises and names that line."""
    return _ModeSwitch(anomaly=enabled)
