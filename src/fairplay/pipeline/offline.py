"""Offline training: any objective on the user's own preference data; the loop's stages without generation and ranking.

Left out: the training itself (`training/`). Floor 7. The folder has the layout of a run with one iteration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples
from fairplay.errors import DataError
from fairplay.objectives.table import build_objective
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES, count_reasons
from fairplay.pipeline.settings import TrainRunSettings, split_objective
from fairplay.pipeline.stages import EXAMPLES_NAME, HELD_OUT_NAME, train_stage
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.digests import content_digest
from fairplay.storage.locking import lock
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
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
    inputs = {"data": content_digest(data.source)}
    if data.held_out:
        inputs["held_out"] = content_digest(data.held_out)
    return run.run_stage(Stage(EXAMPLES, 1, decisive, inputs), fill)


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
    build_objective(*split_objective(settings.objective))
    run.open({**settings_document(settings), "data": settings_document(data)})
    with lock(run.path):
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
