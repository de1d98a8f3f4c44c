"""The figures of an offline training once more, from the margins of its held-out pairs.

Left out: those of runs and evaluations (`recomputing.py`). Floor 7; no model is loaded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairplay.pipeline.checkpoint_stage import held_out_results
from fairplay.pipeline.context import CHECKPOINT, EXAMPLES
from fairplay.pipeline.findings import Finding, compute_again, version_of, written_results
from fairplay.pipeline.margins import AFTER_NAME, BEFORE_NAME, MARGINS, example_of, read_margins
from fairplay.pipeline.offline import OfflineData, training_document
from fairplay.pipeline.results import RESULTS_NAME
from fairplay.pipeline.settings import TrainRunSettings
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory
from fairplay.storage.settings_file import build_settings, without
from fairplay.training.summary import HeldOutPairs, PairMargins


def recomputed_training(
    folder: Path, document: Mapping[str, Any], manifests: Mapping[tuple[int, str], Manifest]
) -> Iterator[Finding]:
    """Accuracies on held-out pairs before and after, and the results that tell them.

    Args:
        folder: The training's folder.
        document: Its settings.
        manifests: Its stages whose manifests are whole.
    """
    stages = [manifests.get((1, stage)) for stage in (EXAMPLES, CHECKPOINT)]
    read, trained = stages
    if read is None or trained is None:
        return
    run = RunDirectory(folder)
    place = run.folder(1, CHECKPOINT)
    settings = build_settings(TrainRunSettings, without(document, {"data"}), str(folder / SETTINGS_NAME))
    data = build_settings(OfflineData, document["data"], str(folder / SETTINGS_NAME))
    if trained.results.get("held_out") and (place / AFTER_NAME).is_file():  # older releases kept no margins
        yield compute_again(
            f"iteration-1/{CHECKPOINT}: held-out accuracies",
            lambda: without(trained.results["held_out"], {"dropped"}),
            lambda: without(held_out_results(_held_out(place), settings.seed), {"dropped"}),
            version=version_of(trained),
        )
    if (folder / RESULTS_NAME).is_file():  # the folder may have moved since, and the model with it
        yield compute_again(
            "results.json",
            lambda: without(written_results(folder), {"model"}),
            lambda: without(training_document(run, settings, data, read, trained), {"model"}),
            version=version_of(trained),
        )


def _held_out(place: Path) -> HeldOutPairs:
    before, after = (read_margins(place / name) for name in (BEFORE_NAME, AFTER_NAME))
    examples = tuple(map(example_of, after[MARGINS[0]]))
    return HeldOutPairs(examples, _margins(before), _margins(after), ())


def _margins(found: Mapping[str, Mapping[str, float]]) -> PairMargins:
    return PairMargins(**{kind: np.array(list(found[kind].values())) for kind in MARGINS})
