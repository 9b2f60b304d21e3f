"""Recurrent layers over whole sequences: without gradients, and a forward and backward pass in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import autograd, nn
from .case import Case, Runs, tensor_libraries

_LAYERS = (  # kind, gates, inputs, hidden, steps, batch
    ("RNN", 1, 64, 128, 50, 32),
    ("GRU", 3, 64, 128, 50, 32),
    ("LSTM", 4, 64, 128, 50, 32),
    ("LSTM", 4, 256, 256, 100, 16),
)


def cases(libraries: dict[str, Any]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for kind, gates, inputs, hidden, steps, batch in _LAYERS:
        x = rng.standard_normal((steps, batch, inputs)).astype(np.float32)
        flops = 2.0 * steps * batch * gates * hidden * (inputs + hidden)
        forward: Runs = {}
        train: Runs = {}
        for library, tensor, _ in tensor_libraries(libraries):
            own, no_grad = (
                (nn, autograd.no_grad)
                if library == "glassgrad"
                else (libraries["torch"].nn, libraries["torch"].no_grad)
            )
            model = getattr(own, kind)(inputs, hidden)
            forward[library] = partial(no_grad()(model), tensor(x))
            train[library] = partial(_train, model, tensor(x))
        name = f"{kind}({inputs}, {hidden}), {steps} steps, batch {batch}"
        yield Case("rnn", f"{name} forward", forward, flops=flops)
        yield Case("rnn", f"{name} + backward", train, flops=flops * (2 + hidden / (inputs + hidden)))


def _train(model: Callable, x: Any) -> None:
    """Gradients of the weights alone: x is data."""
    model.zero_grad()  # type: ignore[attr-defined]
    output, _ = model(x)
    output.sum().backward()
