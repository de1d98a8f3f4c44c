"""Checkpoints inside one training: trained weights, optimiser and schedule, written whole or not at all.

Left out: the finished policy (`models.saving`). No pickle: tensors in safetensors, everything else in JSON. A folder
`step-N` is written under a temporary name, flushed to disk and renamed; the newest two are kept. Floor 5.
"""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fairplay.errors import DataError
from fairplay.storage.atomic import folder_atomic

logger = logging.getLogger(__name__)

NUM_KEPT = 2
_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_REFERENCE = "reference.safetensors"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Trainee:
    """What a step changes and a checkpoint therefore holds.

    Attributes:
        model: Only parameters that require a gradient are saved; the others stay as they were loaded.
        optimizer: Over exactly those parameters.
        schedule: The learning-rate schedule of that optimiser.
    """

    model: Module
    optimizer: Optimizer
    schedule: LRScheduler

    def trained_parameters(self) -> dict[str, Tensor]:
        """Trained tensors by name; tied ones once."""
        return {name: p.data for name, p in self.model.named_parameters() if p.requires_grad}


def save_checkpoint(
    folder: Path,
    step: int,
    trainee: Trainee,
    *,
    fingerprint: str,
    counters: Mapping[str, Any],
    reference: Mapping[str, Tensor],
) -> Path:
    """Write `folder/step-N` and remove all but the newest two.

    Args:
        folder: Folder of all checkpoints of this training.
        step: Optimiser steps done.
        trainee: Model, optimiser and schedule after that step.
        fingerprint: Identifies the training; a checkpoint of another one is never taken up.
        counters: JSON-able state of the loop, given back by `restore_checkpoint`.
        reference: State of a reference that changes in training, given back by `restore_checkpoint` too.

    Returns:
        The checkpoint's folder.

    Raises:
        ResourceError: If the disk is full or not writable; older checkpoints stay.
    """
    path = folder / f"step-{step}"
    tensors, values = _optimizer_state(trainee.optimizer)
    with folder_atomic(path) as temporary:
        save_file({k: v.contiguous() for k, v in trainee.trained_parameters().items()}, temporary / _WEIGHTS)
        save_file(tensors, temporary / _OPTIMIZER)
        save_file(dict(reference), temporary / _REFERENCE)
        state = {
            "step": step,
            "fingerprint": fingerprint,
            "bytes": {name: (temporary / name).stat().st_size for name in (_WEIGHTS, _OPTIMIZER, _REFERENCE)},
            "optimizer": values,
            "schedule": trainee.schedule.state_dict(),
            "counters": dict(counters),
        }
        (temporary / _STATE).write_text(json.dumps(state))
    for old in _folders(folder)[:-NUM_KEPT]:
        shutil.rmtree(old)
    logger.info("checkpoint %s", path)
    return path


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, or None; a damaged one is passed over and named in the log."""
    for path in reversed(_folders(folder)):
        if _read_state(path) is not None:
            return path
        logger.warning("%s is incomplete, passed over", path)
    return None


def restore_checkpoint(path: Path, trainee: Trainee, *, fingerprint: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put model, optimiser and schedule into the state in which they were saved.

    Returns:
        The counters and the state of the reference that were saved with it.

    Raises:
        DataError: If the checkpoint is incomplete, or belongs to another training.
    """
    state = _read_state(path)
    if state is None:
        raise DataError(f"{path}: incomplete checkpoint", hint="remove it; the one before it is taken up then")
    if state["fingerprint"] != fingerprint:
        raise DataError(
            f"{path}: belongs to a training with other examples, settings, model or seed",
            hint="take another output folder, or remove these checkpoints",
        )
    with torch.no_grad():
        saved = load_file(path / _WEIGHTS)
        for name, parameter in trainee.trained_parameters().items():
            parameter.copy_(saved[name])
    _load_optimizer_state(trainee.optimizer, load_file(path / _OPTIMIZER), state["optimizer"])
    trainee.schedule.load_state_dict(state["schedule"])
    return state["counters"], load_file(path / _REFERENCE)


def _folders(folder: Path) -> list[Path]:
    """Folders `step-N`, oldest first; temporary names don't match."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text())
        sizes = {name: (path / name).stat().st_size for name in state["bytes"]}
    except (OSError, ValueError, KeyError):
        return None
    return state if sizes == state["bytes"] else None


def _optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state as (tensors by "parameter/key", everything else)."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{key}"] = value.contiguous()
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"state": values, "param_groups": state["param_groups"]}


def _load_optimizer_state(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in values["state"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": values["param_groups"]})
