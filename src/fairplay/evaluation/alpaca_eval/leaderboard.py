"""Existing leaderboards beside new results: the authors' csv, or what `fairplay alpaca-eval --format json` printed.

Left out: the numbers of new results (`results`), printing. Floor 5.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.alpaca_eval.inputs import read_table

_NAMES: Mapping[str, tuple[str, ...]] = {
    "win_rate": ("win_rate",),
    "standard_error": ("standard_error",),
    "discrete_win_rate": ("discrete_win_rate",),
    "n_total": ("n_total",),
    "avg_length": ("avg_length",),
    "lc_win_rate": ("lc_win_rate", "length_controlled_winrate"),
    "C": ("C",),
}
"""Key of a result -> columns it may be under."""

_INTERVALS = ("win_rate_ci", "lc_win_rate_ci")
_COUNTS = ("n_total", "avg_length")


def read_leaderboard(path: Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard under the keys of a result; null where it has no number.

    Args:
        path: csv, json, jsonl or parquet with the model's name in `model` or in the first (unnamed) column, and
            `win_rate`.

    Returns:
        One object a model, with `judge` where the file has it, and `source`, the file.

    Raises:
        DataError: If the file is missing, a row has no name or no win rate, or a value is no number.
    """
    found = []
    for place, columns in read_table(path):
        model = columns.get("model") or columns.get("index")
        if not isinstance(model, str):
            raise DataError(f"{place}: no name of a model", hint="it is in `model`, or in the first column of a csv")
        row: dict[str, Any] = {"model": model, "judge": str(columns.get("judge") or "")}
        for key, names in _NAMES.items():
            value = _number(next((columns[name] for name in names if columns.get(name) is not None), None), key, place)
            row[key] = int(value) if value is not None and key in _COUNTS else value
        row |= {key: columns.get(key) for key in _INTERVALS}
        if row["win_rate"] is None:
            raise DataError(f"{place}: no `win_rate`", hint="is it a leaderboard?")
        found.append({**row, "partial": bool(columns.get("partial")), "notes": [], "source": str(path)})
    return found


def merged(documents: Sequence[Mapping[str, Any]], published: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """New results and a leaderboard as one list; of a model that both have, the new result.

    Args:
        documents: New results.
        published: Rows of a leaderboard; those without a judge are taken to be by the judge of the new results.

    Returns:
        The new results in their order, then the others.
    """
    judges = list(dict.fromkeys(document["judge"] for document in documents))
    known = {(document["judge"], document["model"]) for document in documents}
    rows = [{**row, "judge": row["judge"] or judges[0]} for row in published]
    return [*map(dict, documents), *(row for row in rows if (row["judge"], row["model"]) not in known)]


def _number(value: object, key: str, place: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value) if isinstance(value, str | int | float) else float(str(value))
    except ValueError as error:
        raise DataError(f"{place}: `{key}` is {value!r}, not a number") from error
