"""Remedies: what can be mended from outside, on a copy, to see whether it helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import nn
from ...errors import ArgumentError
from ...tensor import wrap
from .findings import Finding
from .watch import Patient


def _replace(model: nn.Module, kind: type | tuple[type, ...], make: Callable[[Any], nn.Module]) -> int:
    """Put another module in the place of each of a kind; how many there were."""
    count = 0
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
                count += 1
    return count


def _clear_gradients(patient: Patient, finding: Finding) -> None:
    step = patient.train_step

    def cleared(model, loss_fn, optimizer, x, y):
        optimizer.zero_grad()
        return step(model, loss_fn, optimizer, x, y)

    patient.train_step = cleared


def _one_shape(patient: Patient, finding: Finding) -> None:
    """Targets in the prediction's shape; flat, if the loss flattens the prediction itself."""
    loss_fn = patient.loss_fn

    def compared(prediction, y):
        return loss_fn(prediction, y.reshape(prediction.shape if y.shape != prediction.shape else -1))

    patient.loss_fn = compared


def _drop_softmax(patient: Patient, finding: Finding) -> None:
    if not _replace(patient.model, nn.Softmax, lambda _: nn.Identity()):
        raise ArgumentError(
            f"prove: got a softmax that is not a module of its own; expected nn.Softmax. {finding.remedy}."
        )


def _train_mode(patient: Patient, finding: Finding) -> None:
    patient.model.register_forward_pre_hook(lambda module, args: module.train() and None)


def _layer_norm(patient: Patient, finding: Finding) -> None:
    _replace(patient.model, nn.BatchNorm1d, lambda bn: nn.LayerNorm(bn.num_features))
    _replace(patient.model, nn.BatchNorm2d, lambda bn: nn.GroupNorm(1, bn.num_features))
    _own_all(patient)


def _own_all(patient: Patient, *_: Any) -> None:
    """Every parameter moves."""
    held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}
    for p in patient.model.parameters():
        p.requires_grad_(True)
        if id(p) not in held:
            patient.optimizer.add_param_group({"params": [p]})


def _normalise(patient: Patient, finding: Finding) -> None:
    x = patient.x.data
    std = x.std(axis=0)
    patient.x = wrap(((x - x.mean(axis=0)) / np.where(std > 0, std, 1)).astype(x.dtype))


def _clean(patient: Patient, finding: Finding) -> None:
    if finding.layer not in ("x", "y"):
        raise ArgumentError(f"prove: got a NaN that the model makes; expected one in the data. {finding.remedy}.")
    good = np.isfinite(patient.x.data.reshape(len(patient.x.data), -1)).all(axis=1)
    if patient.y.data.dtype.kind == "f":
        good &= np.isfinite(patient.y.data.reshape(len(good), -1)).all(axis=1)
    patient.x, patient.y = wrap(patient.x.data[good]), wrap(patient.y.data[good])


def _better_lr(patient: Patient, finding: Finding) -> None:
    patient.scale_lr(patient.better_lr)


def _start_again(patient: Patient, finding: Finding) -> None:
    """He's weights, biases at 0, and ReLU for sigmoids inside."""
    if finding.code == "vanishing-gradient":
        _replace(patient.model, nn.Sigmoid, lambda _: nn.ReLU())
    kinds = {type(m) for m in patient.model.modules()}
    gain = math.sqrt(2) if nn.ReLU in kinds else 1.0
    for module in patient.model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            fan_in = math.prod(module.weight.shape[1:])
            nn.init.normal_(module.weight, std=gain / math.sqrt(fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


REMEDIES: dict[str, Callable[[Patient, Finding], None]] = {
    "nan-source": _clean,
    "frozen-parameter": _own_all,
    "missing-zero-grad": _clear_gradients,
    "broadcast-loss": _one_shape,
    "double-softmax": _drop_softmax,
    "bn-eval-in-training": _train_mode,
    "bn-batch-of-one": _layer_norm,
    "unnormalised-input": _normalise,
    "symmetric-init": _start_again,
    "exploding-gradient": _start_again,
    "saturated-activation": _start_again,
    "dead-relu": _start_again,
    "vanishing-gradient": _start_again,
    "lr-too-high": _better_lr,
    "lr-too-low": _better_lr,
}
