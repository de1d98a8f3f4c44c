"""Results as plain documents for programs, and as the rows of a leaderboard for people.

Left out: printing. Floor 5.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from fairplay.evaluation.alpaca_eval.inputs import LcInputs
from fairplay.evaluation.alpaca_eval.intervals import interval_cost
from fairplay.evaluation.alpaca_eval.missing import num_expected
from fairplay.evaluation.alpaca_eval.results import ModelResult
from fairplay.evaluation.alpaca_eval.settings import AlpacaEvalSettings
from fairplay.records import Interval

LEADERBOARD = ("rank", "model", "LC win rate", "95 %", "win rate", "95 %", "length", "n", "C", "")


def result_document(
    result: ModelResult,
    inputs: LcInputs,
    settings: AlpacaEvalSettings,
    predicted: Mapping[str, float],
    intervals: Mapping[str, Interval],
) -> dict[str, Any]:
    """One model's result under the official names where there are such; null where there is no number.

    Rates and their intervals are in per cent, lengths in characters. `avg_length` is cut to an integer, as the
    leaderboard's is.
    """
    raw, control, annotations = result.raw, result.length_control, result.annotations
    length = None
    if control is not None:
        names = ("length", "difficulty", "model")
        length = {
            "lc_win_rate": control.lc_win_rate,
            "lc_win_rate_ci": _pair(control.interval),
            "C": _number(control.cost),
            "C_of_interval": None if control.interval is None else _number(interval_cost(control.cost)),
            "C_chosen_by": "stated" if settings.cost else "cross-validation",
            "coefficients": dict(zip(names, control.coefficients, strict=True)),
            "official_lc_standard_error": _number(control.prediction_spread),
            "lc_win_rate_official_rows": control.official_rows,
        }
    return {
        "model": annotations.model,
        "judge": annotations.judge,
        "baseline": annotations.baseline,
        "win_rate": _number(raw.win_rate),
        "win_rate_ci": _pair(result.win_rate_interval),
        "standard_error": _number(raw.standard_error),
        "discrete_win_rate": _number(raw.discrete_win_rate),
        "n_wins": raw.num_wins,
        "n_wins_base": raw.num_losses,
        "n_draws": raw.num_ties,
        "n_total": raw.num_total,
        "n_failed": raw.num_failed,
        "n_missing": num_expected(annotations, inputs) - len(annotations.instructions),
        "avg_length": int(result.average_length) if isfinite(result.average_length) else None,
        "lc": settings.variant,
        **(length or {"lc_win_rate": None, "lc_win_rate_ci": None, "C": None}),
        "difficulty_by": settings.look_up,
        "difficulty_source": inputs.difficulty_source,
        "gamed_source": inputs.gamed_source,
        **(_predicted(predicted, intervals) if predicted else {}),
        "seconds": result.seconds,
        "partial": result.is_partial,
        "notes": list(result.notes),
    }


def leaderboard_rows(documents: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """The columns `LEADERBOARD` of each model, the highest LC win rate first; models without one last."""
    ordered = sorted(documents, key=lambda row: (row["lc_win_rate"] is None, -(row["lc_win_rate"] or 0), row["model"]))
    return [
        (
            rank,
            row["model"],
            _told(row["lc_win_rate"]),
            _told_pair(row["lc_win_rate_ci"]),
            _told(row["win_rate"]),
            _told_pair(row["win_rate_ci"]),
            "-" if row["avg_length"] is None else row["avg_length"],
            "-" if row["n_total"] is None else row["n_total"],
            "-" if row["C"] is None else f"{row['C']:.4g}",
            "partial" if row["partial"] else "leaderboard" if "source" in row else "",
        )
        for rank, row in enumerate(ordered, 1)
    ]


def _predicted(predicted: Mapping[str, float], intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        "predicted_win_rates": {name: _number(rate) for name, rate in predicted.items()},
        "predicted_win_rates_ci": {name: _pair(intervals.get(name)) for name in predicted},
    }


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _told_pair(pair: Sequence[float] | None) -> str:
    return "-" if pair is None else f"[{pair[0]:.1f}, {pair[1]:.1f}]"
