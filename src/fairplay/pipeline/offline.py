"""Offline training: any objective on the user's own preference data; the loop's stages without generation and ranking.

Left out: the training itself (`training/`). Floor 7. The folder has the layout of a run with one iteration.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples
from fairplay.errors import DataError, SettingsError
from fairplay.models.loading import check_source
from fairplay.objectives.table import build_objective, resolved_objective
from fairplay.pipeline.checkpoint_stage import anchor_source, train_stage
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES, count_reasons, data_digest
from fairplay.pipeline.results import titled, with_intervals, write_results
from fairplay.pipeline.settings import MAY_CHANGE, TrainRunSettings, split_objective
from fairplay.pipeline.stages import EXAMPLES_NAME, HELD_OUT_NAME, prompt_text
from fairplay.records import Dropped, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.digests import content_digest
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import build_settings, settings_document, without
from fairplay.storage.tables import write_records
from fairplay.training.frozen import frozen_models
from fairplay.training.guard import check_objective
from fairplay.training.trainable import check_settings as check_training

HELD_OUT, PROMPT_HELD_OUT = "held out", "its prompt is held out"


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfflineData:
    """The data of an offline training.

    Attributes:
        source: Training data: a local file or folder, or a hub id.
        held_out: Other data to measure preference accuracy on; empty to take `num_held_out` examples from `source`.
        num_held_out: Examples drawn from `source` by the seed, prompt by prompt, and kept out of training.
    """

    source: str
    held_out: str = ""
    num_held_out: int = 0

    def __post_init__(self) -> None:
        if self.held_out and self.num_held_out:
            raise SettingsError(
                f"--held-out {self.held_out}: goes without --num-held-out {self.num_held_out}",
                hint="measure either on other data, or on a part of --data",
            )


@dataclass(frozen=True)
class Divided:
    """Examples in two parts that share no prompt.

    Attributes:
        training: What is trained on.
        held_out: What preference accuracy is measured on.
        dropped: What of the source is not trained on, with the reason.
        held_out_dropped: Rows of other held-out data that can't be used.
    """

    training: tuple[TrainingExample, ...]
    held_out: tuple[TrainingExample, ...]
    dropped: tuple[Dropped, ...]
    held_out_dropped: tuple[Dropped, ...] = ()


def divide(examples: Sequence[TrainingExample], data: OfflineData, seed: int) -> Divided:
    """Training examples and held-out ones; no prompt is on both sides.

    Where a part of the source is held out, whole prompts are drawn until there are enough examples; what remains of the
    last prompt is in neither part.

    Raises:
        DataError: If nothing would be left to train on.
    """
    if data.held_out:
        other = read_examples(data.held_out)
        held_out, held_out_dropped = other.items, other.dropped
    else:
        held_out, held_out_dropped = _drawn(examples, data.num_held_out, seed), ()
    ids = set() if data.held_out else {example.id for example in held_out}
    prompts = {prompt_text(example.prompt) for example in held_out}
    training, dropped = [], []
    for example in examples:
        if example.id in ids:
            dropped.append(Dropped(example.id, HELD_OUT))
        elif prompt_text(example.prompt) in prompts:
            dropped.append(Dropped(example.id, PROMPT_HELD_OUT))
        else:
            training.append(example)
    if not training:
        raise DataError(
            f"{data.source}: {len(examples)} usable examples, and none is left to train on "
            f"({len(held_out)} with {len(prompts)} prompts are to be held out)",
            hint="lower --num-held-out" if data.num_held_out else "name other data with --held-out",
        )
    return Divided(tuple(training), held_out, tuple(dropped), held_out_dropped)


def _drawn(examples: Sequence[TrainingExample], count: int, seed: int) -> tuple[TrainingExample, ...]:
    """So many examples, those of one prompt one after the other, in the source's order."""
    draws = {example.id: stable_seed(seed, "held-out", example.id) for example in examples}
    of_prompt: dict[str, tuple[int, str]] = {}
    for example in examples:
        text, draw = prompt_text(example.prompt), (draws[example.id], example.id)
        of_prompt[text] = min(of_prompt.get(text, draw), draw)
    ordered = sorted(examples, key=lambda e: (of_prompt[prompt_text(e.prompt)], draws[e.id], e.id))
    chosen = {example.id for example in ordered[:count]}
    return tuple(example for example in examples if example.id in chosen)


def data_stage(run: RunDirectory, settings: TrainRunSettings, data: OfflineData) -> Manifest:
    """Read the user's data into training examples and held-out ones."""

    def fill(folder: Path) -> StageOutcome:
        loaded = read_examples(data.source)
        divided = divide(loaded.items, data, settings.seed)
        objective = build_objective(*split_objective(settings.objective))
        check_objective(objective, divided.training, settings.training)
        write_records(folder / EXAMPLES_NAME, divided.training, TrainingExample)
        if divided.held_out:
            write_records(folder / HELD_OUT_NAME, divided.held_out, TrainingExample)
        results = {
            "format": loaded.format,
            "num_held_out": len(divided.held_out),
            "held_out_dropped": count_reasons(divided.held_out_dropped),
        }
        num_in = len(loaded.items) + len(loaded.dropped)
        dropped = count_reasons([*loaded.dropped, *divided.dropped])
        return StageOutcome(num_in, len(divided.training), dropped, results)

    decisive = {"seed": settings.seed, "num_held_out": data.num_held_out, "objective": settings.objective}
    inputs = {"data": data_digest(data.source)}
    if data.held_out:
        inputs["held_out"] = data_digest(data.held_out)
    places = {"data": data.source, "held_out": data.held_out}
    return run.run_stage(Stage(EXAMPLES, 1, decisive, inputs, places), fill)


def check_settings(settings: TrainRunSettings) -> None:
    """Refuse, before anything is written, an objective that is not known, or parameters or models it doesn't take.

    Raises:
        SettingsError: If there is no such objective or parameter, or a model is missing or not read.
        DataError: If such a model's folder is not there.
    """
    objective = build_objective(*split_objective(settings.objective))
    check_training(settings.training, settings.loading)
    frozen = frozen_models(objective, anchor=anchor_source(settings), importance=settings.importance)
    for source in frozen.values():
        check_source(source)


def _identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """What of an offline training's settings must be equal for it to go on; its data's places may change."""
    recipe = build_settings(TrainRunSettings, without(document, {"data"}), SETTINGS_NAME)
    data = build_settings(OfflineData, document.get("data", {}), SETTINGS_NAME)
    return {
        **without(settings_document(recipe), MAY_CHANGE),
        "num_held_out": data.num_held_out,
        "other_held_out": bool(data.held_out),
    }


def train_offline(
    settings: TrainRunSettings, data: OfflineData, run: RunDirectory, *, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train on the user's data, or go on with it.

    Returns:
        What was read, trained and measured, as plain data.

    Raises:
        SettingsError: If the folder was started with other settings.
        DataError: If the data lack what the objective needs.
        Preempted: If `should_stop` said so.
    """
    check_settings(settings)
    with run.open({**settings_document(settings), "data": settings_document(data)}, identity=_identity):
        read = data_stage(run, settings, data)
        digest = content_digest(settings.model)
        logger.info(
            "%s: %d examples, objective %s, learning rate %g",
            *(run.path, read.num_out, settings.objective["name"], settings.training.learning_rate),
        )
        trained = train_stage(
            run,
            1,
            replace(settings, anchor=anchor_source(settings)),
            reference=settings.model,
            inputs={"examples": read.content, "policy": digest, "reference": digest},
            digest=content_digest,
            should_stop=should_stop,
        )
        document = training_document(run, settings, data, read, trained)
        write_results(run.path, document)
    return document


def training_document(
    run: RunDirectory, settings: TrainRunSettings, data: OfflineData, read: Manifest, trained: Manifest
) -> dict[str, Any]:
    """An offline training as `results.json` has it, from its finished stages."""
    counts = {"num_in": read.num_in, "num_out": read.num_out, "dropped": read.dropped}
    told = {"num_in": trained.num_in, "num_out": trained.num_out, "dropped": trained.dropped}
    document = {
        "name": settings.name,
        "objective": resolved_objective(settings.objective),
        "data": {"source": data.source} | counts | read.results,
        "training": told | with_intervals(trained.results),
        "model": str(run.folder(1, CHECKPOINT) / "model"),
    }
    return titled("training", document)
