"""One thing that `fairplay verify` computed again, beside what is written.

Left out: what is computed (`recomputing*.py`), what is made of it (`verifying.py`). Floor 7.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, FairplayError
from fairplay.objectives.table import resolved_objective
from fairplay.pipeline.benchmark_stage import BENCHMARK
from fairplay.pipeline.results import RESULTS_NAME
from fairplay.records import STATISTICS_VERSION
from fairplay.storage.manifest import STATISTICS, Manifest

_INTERVAL = {"value", "low", "high"}
_OF_STATISTICS = frozenset({"exploitability_low", "advice", "strengths", "minimum_detectable_gap", "alarm"})
"""Figures that bounds or covariances go into."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was computed again.

    Attributes:
        what: What it is about, with its place in the run.
        stored: What is written.
        follows: What follows from responses and verdicts.
        fault: Why nothing follows; empty where something does.
        version: Of the statistics by which the stage that it rests on made its intervals.
    """

    what: str
    stored: Any = None
    follows: Any = None
    fault: str = ""
    version: int = STATISTICS_VERSION


def compute_again(
    what: str, stored: Callable[[], Any], follows: Callable[[], Any], *, version: int = STATISTICS_VERSION
) -> Finding:
    """A finding, or why there is none."""
    try:
        return Finding(what, stored(), follows(), version=version)
    except FairplayError as fault:
        return Finding(what, fault=fault.message)
    except (KeyError, TypeError, ValueError) as fault:  # figures that are not what they should be
        return Finding(what, fault=f"{type(fault).__name__}: {fault}")


def version_of(manifest: Manifest) -> int:
    """Version of the statistics by which a stage made its intervals; 1 where it was made before these had one."""
    return int(manifest.versions.get(STATISTICS, 1))


def version_of_results(manifests: Iterable[Manifest]) -> int:
    """The oldest version of those stages that have statistics: `results.json` says nothing of its own."""
    having = (one for one in manifests if one.stage == BENCHMARK or without_intervals(one.results) != one.results)
    return min(map(version_of, having), default=STATISTICS_VERSION)


def written_results(folder: Path) -> Any:
    """`results.json` of a folder, whatever is in it; an objective's parameters that older releases left out filled in.

    Raises:
        DataError: If it can't be read.
        SettingsError: If its objective is not known.
    """
    path = folder / RESULTS_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't read it ({error})") from error
    if isinstance(document, dict) and "objective" in document:
        return {**document, "objective": resolved_objective(document["objective"])}
    return document


def without_intervals(figures: Any) -> Any:
    """Plain data without what depends on how intervals are made: of an interval only the estimate, no bounds."""
    if isinstance(figures, Mapping):
        if figures.keys() == _INTERVAL:
            return figures["value"]
        return {
            key: without_intervals(value)
            for key, value in figures.items()
            if not key.endswith("_ci") and key not in _OF_STATISTICS
        }
    return [without_intervals(item) for item in figures] if isinstance(figures, list | tuple) else figures
