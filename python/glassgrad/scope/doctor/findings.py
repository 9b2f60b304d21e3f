"""Findings: what can be wrong, what to do about it, and what explains what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: such as "dead-relu".
        layer: the module or parameter it is about; empty if it is about the whole.
        evidence: what was measured.
        remedy: what to change.
        lesson: the command that teaches it.
    """

    code: str
    layer: str
    evidence: str
    remedy: str
    lesson: str

    def __str__(self) -> str:
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.code}{where}\n    seen:   {self.evidence}\n    do:     {self.remedy}\n    learn:  {self.lesson}"


# code: (remedy, number of the tutorial)
CODES: dict[str, tuple[str, int]] = {
    "nan-source": ("keep that op's input where it is defined: clamp it, add a small eps, or clean the data", 4),
    "detached-graph": ("remove .detach(), .data, .item() or no_grad() between that layer and the loss", 1),
    "unused-parameter": ("use the layer in forward(), or delete it", 1),
    "frozen-parameter": ("requires_grad_(True), and give the parameter to the optimizer", 10),
    "missing-zero-grad": ("call optimizer.zero_grad() in every step, before backward()", 10),
    "broadcast-loss": ("give prediction and target one shape: y.reshape(prediction.shape)", 3),
    "double-softmax": ("drop the softmax: cross_entropy applies it, so give it the raw scores", 33),
    "bn-eval-in-training": ("call model.train() before training; model.eval() only to test", 8),
    "bn-batch-of-one": ("use batches of 8 or more, or LayerNorm, which needs no batch", 8),
    "unnormalised-input": ("x = (x - x.mean(0)) / x.std(0), with the training set's mean and std", 7),
    "symmetric-init": ("draw the first weights at random (nn.init.kaiming_normal_, xavier_normal_), not all alike", 7),
    "shuffled-labels": ("check that x and y were shuffled together and loaded in the same order", 11),
    "exploding-gradient": ("smaller first weights (He for ReLU, Xavier for tanh), batch norm, or clip_grad_norm_", 6),
    "saturated-activation": ("smaller first weights (Xavier), or normalise what goes in", 5),
    "dead-relu": ("start biases at 0 and weights with He's; a lower learning rate; LeakyReLU", 7),
    "vanishing-gradient": ("ReLU with He's weights instead of sigmoid, batch norm, or residual connections", 5),
    "lr-too-high": ("a lower learning rate: lr / 10", 12),
    "lr-too-low": ("a higher learning rate, tenfold until the loss moves", 12),
}

_FLOW = {
    "exploding-gradient",
    "saturated-activation",
    "dead-relu",
    "vanishing-gradient",
    "lr-too-high",
    "lr-too-low",
    "nan-source",
}
# What a finding explains, so that it is not reported beside it.
EXPLAINS: dict[str, set[str]] = {
    "nan-source": set(CODES) - {"nan-source"},
    "detached-graph": {"unused-parameter", "lr-too-low", "vanishing-gradient"},
    "unused-parameter": {"lr-too-low"},
    "frozen-parameter": {"lr-too-low", "lr-too-high"},
    "missing-zero-grad": _FLOW,
    "broadcast-loss": {"lr-too-low", "lr-too-high", "shuffled-labels"},
    "double-softmax": {"lr-too-low", "lr-too-high", "vanishing-gradient"},
    "bn-eval-in-training": _FLOW,
    "bn-batch-of-one": set(CODES) - {"bn-batch-of-one"},
    "unnormalised-input": _FLOW,
    "symmetric-init": _FLOW,
    "shuffled-labels": {"lr-too-low"},
    "exploding-gradient": {"lr-too-high", "saturated-activation", "dead-relu", "lr-too-low", "nan-source"},
    "saturated-activation": {"vanishing-gradient", "lr-too-low", "lr-too-high"},
    "dead-relu": {"vanishing-gradient", "lr-too-low"},
    "vanishing-gradient": {"lr-too-low", "dead-relu", "saturated-activation"},
    "lr-too-high": {"dead-relu", "saturated-activation", "lr-too-low", "nan-source"},
}
