"""What `fairplay judge` left in a folder, read back: the games of a comparison, the grades of a grading.

Left out: what becomes of them (`compared.py`, `recomputing_judged.py`). Floor 7; no torch.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, FairplayError
from fairplay.evaluation.protocols.annotation_rows import played_pairs
from fairplay.evaluation.protocols.games import Played
from fairplay.evaluation.protocols.mt_bench import Grade, Question
from fairplay.pipeline.grade_files import GRADES_NAME
from fairplay.pipeline.judge_files import ANNOTATIONS_NAME, CANARIES_NAME
from fairplay.records import Dropped
from fairplay.storage.digests import sha256_file

KINDS = ("judging", "grading")


@contextmanager
def told_as_damage(folder: Path) -> Iterator[None]:
    """Results in which something is missing, or is not what it should be, as a `DataError`."""
    try:
        yield
    except FairplayError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder}: its results are not what `fairplay judge` writes ({type(error).__name__}: {error})",
            hint="run `fairplay judge` on this folder again: what is in its cache is not paid for again",
        ) from error


def damaged_files(folder: Path, results: Mapping[str, Any]) -> dict[str, str]:
    """Name of each file of verdicts -> what is wrong with it; empty where nothing is.

    Raises:
        DataError: If the result is of a release that did not say what its files were.
    """
    if "files" not in results:
        raise DataError(
            f"{folder}: judged by an older release, whose results don't say what their verdicts were",
            hint="run `fairplay judge` on this folder again: what is in its cache is not paid for again",
        )
    told = {}
    for name, digest in results["files"].items():
        path = folder / name
        if not path.is_file():
            told[name] = "is missing"
        else:
            told[name] = "" if sha256_file(path) == digest else "is not what was written (sha256)"
    return told


def read_games(folder: Path, results: Mapping[str, Any]) -> Played:
    """Everything that was to be compared; what had no partner is counted in the results alone."""
    rows = _read(folder / ANNOTATIONS_NAME)
    unmatched = tuple(
        Dropped("", reason) for reason, count in results["pairs"]["without_partner"].items() for _ in range(int(count))
    )
    pairs = tuple(played_pairs(rows, str(folder / ANNOTATIONS_NAME)))
    return Played(pairs, unmatched, results["comparison"]["length_unit"])


def read_preferences(folder: Path) -> list[Any]:
    """The official column of the annotations."""
    return [row.get("preference") for row in _read(folder / ANNOTATIONS_NAME)]


def read_canary_games(folder: Path) -> dict[str, Played]:
    """Canary -> its games."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in _read(folder / CANARIES_NAME):
        by_name.setdefault(str(row.get("generator_2")), []).append(row)
    where = str(folder / CANARIES_NAME)
    return {name: Played(tuple(played_pairs(rows, where)), (), "characters") for name, rows in by_name.items()}


def read_grades(folder: Path) -> list[Grade]:
    """Every grade, and every answer that has none."""
    return [grade for _, grade in _grades(folder / GRADES_NAME)]


def read_canary_grades(folder: Path, name: str) -> dict[str, list[Grade]]:
    """Canary -> its grades; `name` is that of the file."""
    found: dict[str, list[Grade]] = {}
    for canary, grade in _grades(folder / name):
        found.setdefault(canary, []).append(grade)
    return found


def _grades(path: Path) -> list[tuple[str, Grade]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [
            (
                str(row.get("canary", "")),
                Grade(
                    Question(str(row["question_id"]), str(row["category"]), ()),
                    int(row["turn"]) - 1,
                    None if row["rating"] is None else float(row["rating"]),
                    str(row.get("failure", "")),
                    str(row["judgment"]),
                ),
            )
            for row in lines
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: can't read grades from it ({type(error).__name__}: {error})") from error


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't read annotations from it ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: no list of annotations")
    return rows
