"""The audit of an oracle's preferences that lie on disk already: a run's, or a file of `fairplay rank`.

Left out: the figures (`preferences/audit.py`, `preferences/reliability.py`), asking an oracle. Floor 7.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.pipeline.context import PREFERENCES
from fairplay.pipeline.response_lines import preferences_of_line, read_lines, scores_of_line, temperature_of_line
from fairplay.preferences.audit import audit_preferences
from fairplay.preferences.reliability import reliability, winner_logits
from fairplay.records import PreferenceGroup
from fairplay.storage.manifest import refuse_damage
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts


def audit_source(source: Path) -> dict[str, Any]:
    """Audit the preferences of every iteration of a run, or of every oracle in a ranked file.

    Args:
        source: A run's folder, whose finished `iteration-*/3-preferences` are read; or JSON lines as `fairplay rank`
            writes them. A line's column `scores` (a number a response, by people or a better judge; higher is better)
            serves as labels.

    Returns:
        `source`, and `parts`: each with `title`, `read` (the folder or file), `temperature`, `audit`, and
        `calibration`, which is empty where no pair is labelled.

    Raises:
        DataError: If there are no preferences, or a file is not what it should be.
    """
    if not source.exists():
        raise DataError(
            f"{source}: no such file or folder", hint="name a run's folder, or JSON lines that `fairplay rank` wrote"
        )
    parts = _run_parts(source) if source.is_dir() else _file_parts(source)
    return {"source": str(source), "parts": parts}


def _run_parts(source: Path) -> list[dict[str, Any]]:
    parts = []
    for folder, manifest in RunDirectory(source).manifests():
        if manifest.stage == PREFERENCES:
            refuse_damage(folder, manifest)
            groups = read_parts(folder, PreferenceGroup)
            temperature = float(manifest.results["temperature"])
            parts.append(_part(f"iteration {manifest.iteration}", folder, groups, [()] * len(groups), temperature))
    if not parts:
        raise DataError(
            f"{source}: no finished {PREFERENCES} in it",
            hint="name a run's folder, or a file that `fairplay rank` wrote",
        )
    return parts


def _file_parts(source: Path) -> list[dict[str, Any]]:
    """One part for each oracle and temperature, in the order in which they appear."""
    groups: dict[tuple[str, float], list[PreferenceGroup]] = {}
    scores: dict[tuple[str, float], list[tuple[float, ...]]] = {}
    for line in read_lines(source):
        key = str(line.columns.get("oracle", source.name)), temperature_of_line(line)
        groups.setdefault(key, []).append(preferences_of_line(line))
        scores.setdefault(key, []).append(scores_of_line(line))
    return [_part(key[0], source, groups[key], scores[key], key[1]) for key in groups]


def _part(
    title: str, read: Path, groups: Sequence[PreferenceGroup], scores: Sequence[Sequence[float]], temperature: float
) -> dict[str, Any]:
    labelled = winner_logits(groups, scores)
    return {
        "title": title,
        "read": str(read),
        "temperature": temperature,
        "audit": audit_preferences(groups, temperature=temperature),
        "calibration": asdict(reliability(labelled, temperature=temperature)) if len(labelled) else {},
    }
