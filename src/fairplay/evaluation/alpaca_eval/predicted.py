"""Predicted win rates between models that were only annotated against the same baseline.

Left out: real annotations of the two against each other (name those as files). Floor 5.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.alpaca_eval.annotations import Instruction
from fairplay.evaluation.alpaca_eval.inputs import LcInputs, number_in, read_table
from fairplay.evaluation.alpaca_eval.intervals import FitAt, predicted_interval
from fairplay.evaluation.alpaca_eval.length_model import predicted_win_rate
from fairplay.evaluation.alpaca_eval.results import OFFICIAL_ROWS, ModelResult, model_rows
from fairplay.evaluation.alpaca_eval.rows import ModelRows, length_models
from fairplay.evaluation.alpaca_eval.settings import OFFICIAL_JUDGE, VARIANTS, AlpacaEvalSettings
from fairplay.lookup import nearest_hint
from fairplay.records import Interval

Floats = NDArray[np.float64]


_COLUMNS = (
    ("phi", "psi", "theta"),
    ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"),
)


def read_weights(path: Path, *, judge: str = OFFICIAL_JUDGE) -> dict[str, Floats]:
    """Fitted coefficients by model, such as the authors publish them: csv, json, jsonl or parquet.

    Args:
        path: Table with the model's name in the first (unnamed) column or in `model`, and with the authors' column
            names, or `phi`, `psi`, `theta`.
        judge: Of a table with a column `judge`, only this one's rows.

    Raises:
        DataError: If the file is missing or has other columns, or names a model twice with different numbers.
    """
    found: dict[str, Floats] = {}
    for place, columns in read_table(path):
        if columns.get("judge", judge) != judge:
            continue
        names = next((names for names in _COLUMNS if names[2] in columns), _COLUMNS[1])
        model = columns.get("model", columns.get("index"))
        if not isinstance(model, str):
            raise DataError(f"{place}: no name of a model")
        values = np.array([number_in(columns, name, place) for name in names])
        if model in found and (found[model] != values).any():
            raise DataError(f"{place}: {model} is there twice, with different coefficients")
        found[model] = values
    return found


def predicted_win_rates(
    results: Sequence[ModelResult],
    difficulties: Sequence[float],
    against: Sequence[str],
    weights: Mapping[str, Floats],
) -> list[dict[str, float]]:
    """For each result, its predicted win rate against each of the named models.

    Args:
        results: Results of the same length control.
        difficulties: d of the whole evaluation set; without them (`minimal`) a single 0.
        against: Names of models.
        weights: Published coefficients, for names that are not among the results.

    Returns:
        Name -> per cent for each result; NaN where a result has no fit. The baseline's coefficients are 0.

    Raises:
        SettingsError: If a name is unknown.
    """
    known = {**weights, **_fitted(results)}
    unknown = [name for name in against if name not in known]
    if unknown:
        raise SettingsError(f"no coefficients of a model `{unknown[0]}`", hint=nearest_hint(unknown[0], known))
    values = np.array(difficulties or [0.0])
    return [
        {
            name: float("nan")
            if result.length_control is None
            else 100 * predicted_win_rate(np.array(result.length_control.coefficients), known[name], values)
            for name in against
        }
        for result in results
    ]


def predicted_intervals(
    results: Sequence[ModelResult],
    predicted: Sequence[Mapping[str, float]],
    inputs: LcInputs,
    settings: AlpacaEvalSettings,
) -> list[dict[str, Interval]]:
    """95 % intervals of `predicted_win_rates`, in per cent, where both models' annotations are at hand.

    Against the baseline that is the interval of the LC win rate. Published coefficients alone, and difficulties by
    official rows, have no interval.

    Args:
        results: Results of the same length control.
        predicted: Their predicted win rates, in per cent.
        inputs: What they were fitted with.
        settings: How.
    """
    if not settings.num_bootstrap or settings.look_up == OFFICIAL_ROWS:
        return [{} for _ in results]
    by_model = {(result.annotations.judge, result.annotations.model): result for result in results}
    found: list[dict[str, Interval]] = []
    for result, rates in zip(results, predicted, strict=True):
        intervals = {}
        for name, rate in rates.items():
            other = by_model.get((result.annotations.judge, name))
            if result.length_control is None:
                continue
            if name == result.annotations.baseline and result.length_control.interval is not None:
                intervals[name] = result.length_control.interval
            elif other is not None and other is not result and other.length_control is not None:
                intervals[name] = _between(result, other, rate / 100, inputs, settings)
        found.append(intervals)
    return found


def _between(
    one: ModelResult, other: ModelResult, rate: float, inputs: LcInputs, settings: AlpacaEvalSettings
) -> Interval:
    union = sorted({*one.annotations.instructions, *other.annotations.instructions}, key=str)
    sides, fits = [], []
    for result in (one, other):
        control = result.length_control
        assert control is not None
        sides.append(length_models([_aligned(result, union, inputs, settings)], inputs.gamed))
        fits.append(FitAt(np.array(control.coefficients), control.cost if control.cost > 0 else 1.0))
    found = predicted_interval(sides[0], sides[1], rate, fits, num_bootstrap=settings.num_bootstrap, seed=settings.seed)
    return Interval(100 * found.value, 100 * found.low, 100 * found.high)


def _aligned(
    result: ModelResult, union: Sequence[Instruction], inputs: LcInputs, settings: AlpacaEvalSettings
) -> ModelRows:
    """The model's rows in the order of all instructions of a pair of models; without a verdict where it has none."""
    rows = model_rows(result.annotations, inputs, settings.variant, settings.look_up)
    places = {instruction: number for number, instruction in enumerate(union)}
    at = np.array([places[instruction] for instruction in result.annotations.instructions])
    win_probs, gaps = np.full(len(union), np.nan), np.zeros(len(union))
    win_probs[at], gaps[at] = rows.win_probs, rows.gaps
    uses_difficulty = VARIANTS[settings.variant].uses_difficulty
    difficulties = [inputs.difficulties[key] if uses_difficulty else 0.0 for key in union]
    return ModelRows(win_probs, gaps, np.array(difficulties, dtype=np.float64))


def _fitted(results: Sequence[ModelResult]) -> dict[str, Floats]:
    baselines = {result.annotations.baseline: np.zeros(3) for result in results if result.annotations.baseline}
    fitted = {
        result.annotations.model: np.array(result.length_control.coefficients)
        for result in results
        if result.length_control is not None
    }
    return {**baselines, **fitted}
