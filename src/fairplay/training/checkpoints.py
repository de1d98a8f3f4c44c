"""Checkpoints inside one training: trained weights, optimiser and schedule, written whole or not at all.

Left out: the finished policy (`models.saving`), files of several ranks (`parts.py`). No pickle: tensors in safetensors,
all else in JSON. A folder `step-N` is written under a temporary name, flushed to disk and renamed; the newest two are
kept. Every rank writes its part of the weights; any number of ranks can go on from it. Floor 5.
"""

import importlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
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
from fairplay.storage.atomic import disk_errors, folder_atomic, temporary_sibling
from fairplay.training.distributed import current_ranks, own_part
from fairplay.training.parts import Parts, write_part

logger = logging.getLogger(__name__)

NUM_KEPT = 2
_WEIGHTS, _OPTIMIZER = "weights", "optimizer"
_STATE, _REFERENCE = "state.json", "reference.safetensors"
# Optimiser states that are made of several tensors, and the module that makes them.
QUANTISED = {"OptimState4bit": "torchao.optim.subclass_4bit", "OptimState8bit": "torchao.optim.subclass_8bit"}
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
        """Trained tensors by name; tied ones once, this rank's parts of sharded ones."""
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
        ResourceError: In every rank, if one of them can't write; older checkpoints stay.
    """
    path, ranks = folder / f"step-{step}", current_ranks()
    tensors, values = _optimizer_state(trainee.optimizer)
    state = {
        "step": step,
        "fingerprint": fingerprint,
        "optimizer": values,
        "schedule": _without_tensors(trainee.schedule.state_dict()),
        "counters": dict(counters),
    }
    with ranks.same_fate(), ExitStack() as stack:
        with ranks.same_fate():
            temporary = stack.enter_context(folder_atomic(path)) if ranks.is_first else temporary_sibling(path)
        with ranks.same_fate(), disk_errors(path):
            weights = write_part(temporary, _WEIGHTS, trainee.trained_parameters(), ranks)
            rows = {_WEIGHTS: weights, _OPTIMIZER: write_part(temporary, _OPTIMIZER, tensors, ranks)}
        every = ranks.gather_objects(rows)
        if ranks.is_first:
            save_file(dict(reference), temporary / _REFERENCE)
            state["rows"] = {name: [of_rank[name] for of_rank in every] for name in rows}
            state["bytes"] = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
            (temporary / _STATE).write_text(json.dumps(state))
    if ranks.is_first:
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
    weights, tensors = (Parts(path, name, state["rows"][name]) for name in (_WEIGHTS, _OPTIMIZER))
    with torch.no_grad():
        for name, parameter in trainee.trained_parameters().items():
            own_part(parameter).copy_(own_part(weights.read(name, parameter)))
    _load_optimizer_state(trainee.optimizer, tensors, state["optimizer"])
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
    """The optimiser's state as (tensors by "parameter/key", sharded as the parameters are; everything else).

    A quantised tensor is taken apart: its parts are "parameter/key/part", and what else it takes to build it again goes
    to "quantised".
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    quantised: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            name = f"{index}/{key}"
            if type(value).__name__ in QUANTISED:
                parts, rest = value.__tensor_flatten__()
                tensors |= {f"{name}/{part}": getattr(value, part).contiguous() for part in parts}
                quantised[name] = {"type": type(value).__name__, "rest": [_to_json(item) for item in rest]}
            elif isinstance(value, Tensor):
                tensors[name] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"state": values, "quantised": quantised, "param_groups": _without_tensors(state["param_groups"])}


def _load_optimizer_state(optimizer: Optimizer, saved: Parts, values: Mapping[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors = {name: saved.read(name, parameters[int(name.partition("/")[0])]) for name in saved.names()}
    entries = {name: tensor for name, tensor in tensors.items() if name.count("/") == 1}
    for name, described in values["quantised"].items():
        parts = {key.rpartition("/")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        kind = getattr(importlib.import_module(QUANTISED[described["type"]]), described["type"])
        entries[name] = kind.__tensor_unflatten__(parts, [_from_json(item) for item in described["rest"]])
    state: dict[int, dict[str, Any]] = {int(index): dict(plain) for index, plain in values["state"].items()}
    for name, tensor in entries.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    groups = [
        {key: torch.tensor(value) if isinstance(now.get(key), Tensor) else value for key, value in saved.items()}
        for saved, now in zip(values["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _without_tensors(value: Any) -> Any:
    """The same with plain numbers in place of scalar tensors, such as the learning rate of torchao's optimisers."""
    if isinstance(value, Tensor):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _without_tensors(inner) for key, inner in value.items()}
    return [_without_tensors(inner) for inner in value] if isinstance(value, list | tuple) else value


def _to_json(value: object) -> object:
    """What describes a quantised tensor: flags, its shape, its dtype."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return list(value) if isinstance(value, torch.Size) else value


def _from_json(value: object) -> object:
    if isinstance(value, str):
        return getattr(torch, value)
    return torch.Size(value) if isinstance(value, list) else value
