"""Offline training: any objective on the user's own preference data; the loop's stages without generation and ranking.

Left out: the training itself (`training/`). Floor 7. The folder has the layout of a run with one iteration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples
from fairplay.errors import DataError
from fairplay.objectives.table import build_objective
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES, count_reasons, data_digest
from fairplay.pipeline.settings import MAY_CHANGE, TrainRunSettings, split_objective
from fairplay.pipeline.stages import EXAMPLES_NAME, HELD_OUT_NAME, train_stage
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.digests import content_digest
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import build_settings, settings_document, without
from fairplay.storage.tables import write_records
from fairplay.training.guard import check_objective


@dataclass(frozen=True)
class OfflineData:
    """The data of an offline training.

    Attributes:
        source: Training data: a local file or folder, or a hub id.
        held_out: Other data to measure preference accuracy on; empty to take `num_held_out` pairs from `source`.
        num_held_out: Examples drawn from `source` by the seed and kept out of training.
    """

    source: str
    held_out: str = ""
    num_held_out: int = 0


def divide(
    examples: tuple[TrainingExample, ...], data: OfflineData, seed: int
) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """Training examples and held-out ones.

    Raises:
        DataError: If all examples would be held out.
    """
    if data.held_out:
        return list(examples), list(read_examples(data.held_out).items)
    if data.num_held_out >= len(examples):
        raise DataError(
            f"{data.source}: {len(examples)} usable examples, {data.num_held_out} are to be held out",
            hint="lower --num-held-out",
        )
    drawn = sorted(examples, key=lambda example: (stable_seed(seed, "held-out", example.id), example.id))
    held_out = {example.id for example in drawn[: data.num_held_out]}
    return [e for e in examples if e.id not in held_out], [e for e in examples if e.id in held_out]


def data_stage(run: RunDirectory, settings: TrainRunSettings, data: OfflineData) -> Manifest:
    """Read the user's data into training examples and held-out ones."""

    def fill(folder: Path) -> StageOutcome:
        loaded = read_examples(data.source)
        kept, held_out = divide(loaded.items, data, settings.seed)
        check_objective(build_objective(*split_objective(settings.objective)), kept, settings.training)
        write_records(folder / EXAMPLES_NAME, kept, TrainingExample)
        if held_out:
            write_records(folder / HELD_OUT_NAME, held_out, TrainingExample)
        num_in = len(loaded.items) + len(loaded.dropped)
        results = {"format": loaded.format, "num_held_out": len(held_out)}
        return StageOutcome(num_in, len(kept), count_reasons(loaded.dropped), results)

    decisive = {"seed": settings.seed, "num_held_out": data.num_held_out, "objective": settings.objective}
    inputs = {"data": data_digest(data.source)}
    if data.held_out:
        inputs["held_out"] = data_digest(data.held_out)
    return run.run_stage(Stage(EXAMPLES, 1, decisive, inputs), fill)


def check_settings(settings: TrainRunSettings) -> None:
    """Refuse, before anything is written, an objective that is not known, or parameters that it doesn't take."""
    build_objective(*split_objective(settings.objective))


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
        trained = train_stage(
            run,
            1,
            settings,
            reference=settings.model,
            inputs={"examples": read.content, "policy": digest, "reference": digest},
            should_stop=should_stop,
        )
    return {
        "schema_version": 1,
        "name": settings.name,
        "objective": settings.objective,
        "data": {"source": data.source, "num_in": read.num_in, "num_out": read.num_out, "dropped": read.dropped}
        | read.results,
        "training": {"num_in": trained.num_in, "num_out": trained.num_out, "dropped": trained.dropped}
        | trained.results,
        "model": str(run.folder(1, CHECKPOINT) / "model"),
    }
