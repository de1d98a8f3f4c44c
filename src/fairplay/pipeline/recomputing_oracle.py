"""The figures of an oracle's training once more, from its verdicts on the pairs that were kept apart.

Left out: those of runs and of other trainings (`recomputing.py`). Floor 7; no model is loaded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairplay.pipeline.findings import Finding, compute_again, version_of, written_results
from fairplay.pipeline.oracle_results import oracle_results, read_verdicts
from fairplay.pipeline.oracle_stages import ORACLE, PAIRS, OracleRunSettings, oracle_document
from fairplay.pipeline.results import RESULTS_NAME
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory
from fairplay.storage.settings_file import build_settings, without


def recomputed_oracle(
    folder: Path, document: Mapping[str, Any], manifests: Mapping[tuple[int, str], Manifest]
) -> Iterator[Finding]:
    """Accuracy, calibration, length and order on the held-out pairs, and the results that tell them.

    Args:
        folder: The folder of `fairplay train-oracle`.
        document: Its settings.
        manifests: Its stages whose manifests are whole.
    """
    read, trained = (manifests.get((1, stage)) for stage in (PAIRS, ORACLE))
    if read is None or trained is None:
        return
    run = RunDirectory(folder)
    settings = build_settings(OracleRunSettings, without(document, {"data"}), str(folder / SETTINGS_NAME))
    if verdicts := read_verdicts(run.folder(1, ORACLE)):  # older releases kept none
        temperature = float(trained.results["training"]["temperature"])
        yield compute_again(
            f"iteration-1/{ORACLE}: what it is worth on held-out pairs",
            lambda: trained.results["measured"],
            lambda: oracle_results(verdicts, temperature=temperature, seed=settings.seed),
            version=version_of(trained),
        )
    if (folder / RESULTS_NAME).is_file():  # the folder may have moved since, and the model with it
        yield compute_again(
            "results.json",
            lambda: without(written_results(folder), {"model"}),
            lambda: without(oracle_document(run, settings, document["data"], read, trained), {"model"}),
            version=version_of(trained),
        )
