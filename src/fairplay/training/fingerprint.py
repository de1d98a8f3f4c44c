"""What identifies a training, so that it only ever goes on from its own checkpoints.

Left out: fingerprints of stages (`storage.manifest`). Floor 5.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fairplay.models.settings import ModelSettings
from fairplay.objectives.objective import Objective
from fairplay.storage.digests import sha256_value
from fairplay.training.batches import COLUMNS
from fairplay.training.encoded_data import EncodedData
from fairplay.training.settings import ImportanceSettings, TrainingSettings
from fairplay.training.start import TrainingModels


def training_fingerprint(
    data: EncodedData,
    *,
    models: TrainingModels,
    importance: ImportanceSettings,
    objective: Objective,
    settings: TrainingSettings,
    model_settings: ModelSettings,
    seed: int,
) -> str:
    """What identifies a training: equal calls have the same bytes as a result, and may go on from each other.

    Args:
        data: Encoded examples.
        models: The models that it reads; their content counts, not their places.
        importance: How two of them become token weights.
        objective: What is minimised.
        settings: How to train; trackers, the distance between checkpoints and how weights are spread may change, they
            move no result.
        model_settings: How models are loaded.
        seed: The run's seed.
    """
    digest = hashlib.sha256()
    for example in (*data.train, *data.held_out):
        source = example.example
        columns = [source.id, source.pairs, *(getattr(source, name) for name in COLUMNS)]
        digest.update(repr((columns, [len(response) for response in example.response_ids])).encode())
        for ids in (example.prompt_ids, *example.response_ids):
            digest.update(np.array(ids, dtype=np.int64).tobytes())
    others = {"frozen": models.frozen_digests, "importance": description(replace(importance, positive="", negative=""))}
    return sha256_value(
        {
            "examples": digest.hexdigest(),
            "held_out": len(data.held_out),
            "models": [models.digests[source] for source in (models.policy, models.reference)],
            "objective": description(objective),
            "settings": description(replace(settings, report_to=(), save_steps=0, dp_replicate_size=1)),
            "model_settings": description(model_settings),
            "seed": seed,
            **(others if models.frozen else {}),
        }
    )


def description(value: object) -> Any:
    """A value as JSON that is the same in every process; functions by their name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: description(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {type(value).__qualname__: inner}
    if isinstance(value, Mapping):
        return {str(key): description(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(description(inner)) for inner in value)
    if isinstance(value, list | tuple):
        return [description(inner) for inner in value]
    if isinstance(value, partial):
        return [description(value.func), description(value.args), description(value.keywords)]
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, str | int | float | bool) or value is None else repr(value)
