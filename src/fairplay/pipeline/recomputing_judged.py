"""The figures of a folder of `fairplay judge` once more, from the verdicts and grades that lie in it.

Left out: reading them (`judged_folder.py`), what is made of differences (`verifying.py`). Floor 7; nothing is asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fairplay.evaluation.protocols.annotation_rows import preference_of
from fairplay.evaluation.protocols.grade_canaries import graded_canary
from fairplay.evaluation.protocols.mt_bench import Grade, grading_document, read_rating
from fairplay.evaluation.protocols.scores import protocol_document
from fairplay.evaluation.protocols.table import find_protocol
from fairplay.oracles.judge_verdicts import AMBIGUOUS, NO_LABEL
from fairplay.pipeline.findings import Finding, compute_again
from fairplay.pipeline.grade_files import CANARIES_NAME
from fairplay.pipeline.judge_files import judging_figures
from fairplay.pipeline.judge_gates import canary_results, marker_documents
from fairplay.pipeline.judged_folder import (
    read_canary_games,
    read_canary_grades,
    read_games,
    read_grades,
    read_preferences,
)
from fairplay.pipeline.results import with_intervals
from fairplay.records import STATISTICS_VERSION
from fairplay.seeds import stable_seed

_READ_FROM_REPLY = ("", NO_LABEL, AMBIGUOUS)


def recomputed_judged(folder: Path, results: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that can be computed again.

    Args:
        folder: Where it was judged.
        results: Its `results.json`, of a kind in `judged_folder.KINDS`.
    """
    version = int(results.get("statistics_version", STATISTICS_VERSION))  # one that was taken out excuses nothing
    for finding in (_judging if results["kind"] == "judging" else _grading)(folder, results):
        yield replace(finding, version=version)


def _judging(folder: Path, results: Mapping[str, Any]) -> Iterator[Finding]:
    seed, number = int(results["asked"]["seed"]), int(results["num_bootstrap"])
    told = results["comparison"]

    def canaries() -> list[Any]:
        return list(canary_results(read_canary_games(folder), seed=seed, num_bootstrap=number))

    def figures() -> dict[str, Any]:
        follows = protocol_document(
            find_protocol(results["protocol"]["name"]),
            read_games(folder, results),
            names=(told["policy"], told["opponent"], told["judge"]),
            orders=results["asked"]["orders"],
            seed=stable_seed(seed, "bootstrap"),
            num_bootstrap=number,
            alarms=[canary.alarm for canary in canaries() if canary.alarm],
        )
        return judging_figures(follows)

    yield compute_again(
        "annotations.json: preferences",
        lambda: read_preferences(folder),
        lambda: [preference_of(item) for item in read_games(folder, results).pairs],
    )
    yield _figures("results.json: win rates, intervals and counts", results, figures)
    yield compute_again(
        "results.json: canaries",
        lambda: results["gates"]["canaries"],
        lambda: with_intervals({"canaries": [asdict(canary) for canary in canaries()]})["canaries"],
    )
    yield compute_again(
        "results.json: marks for a judge",
        lambda: results["gates"]["markers"],
        lambda: marker_documents([item.pair for item in read_games(folder, results).pairs]),
    )


def _grading(folder: Path, results: Mapping[str, Any]) -> Iterator[Finding]:
    interval = {
        "seed": stable_seed(int(results["asked"]["seed"]), "bootstrap"),
        "num_bootstrap": int(results["num_bootstrap"]),
    }

    def canaries() -> list[Any]:
        found = read_canary_grades(folder, CANARIES_NAME)
        return [graded_canary(name, grades, **interval) for name, grades in found.items()]

    def figures() -> dict[str, Any]:
        alarms = [canary.alarm for canary in canaries() if canary.alarm]
        unanswered = int(results["grades"]["unanswered"])
        return with_intervals(grading_document(read_grades(folder), unanswered=unanswered, alarms=alarms, **interval))

    yield compute_again(
        "grades.jsonl: what the replies say",
        lambda: [item.rating for item in _replies(folder)],
        lambda: [read_rating(item.text)[0] for item in _replies(folder)],
    )
    yield _figures("results.json: grades, intervals and counts", results, figures)
    yield compute_again(
        "results.json: canaries",
        lambda: results["gates"]["canaries"],
        lambda: with_intervals({"canaries": [asdict(canary) for canary in canaries()]})["canaries"],
    )


def _replies(folder: Path) -> list[Grade]:
    """Grades, and answers whose reply holds none."""
    return [item for item in read_grades(folder) if item.reason in _READ_FROM_REPLY]


def _figures(what: str, results: Mapping[str, Any], figures: Any) -> Finding:
    """What is written against what follows; sentences may differ from release to release."""
    found = compute_again(what, dict, figures)
    if found.fault:
        return found
    follows = {key: _without_notes(value) for key, value in found.follows.items()}
    return Finding(what, {key: _without_notes(results.get(key, "nothing")) for key in follows}, follows)


def _without_notes(value: Any) -> Any:
    return {key: item for key, item in value.items() if key != "notes"} if isinstance(value, Mapping) else value
