"""From annotations to one result a model: raw and length-controlled win rates, their intervals, and what to know.

Left out: reading (`reading`, `inputs`) and printing. Floor 5; pure but for the clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.evaluation.alpaca_eval.annotations import Instruction, ModelAnnotations
from fairplay.evaluation.alpaca_eval.cross_validation import choose_costs
from fairplay.evaluation.alpaca_eval.inputs import LcInputs
from fairplay.evaluation.alpaca_eval.intervals import lc_interval, penalty_notes
from fairplay.evaluation.alpaca_eval.length_model import fit, lc_win_rates, predictions
from fairplay.evaluation.alpaca_eval.missing import judge_notes, missing_notes
from fairplay.evaluation.alpaca_eval.raw_metrics import RawMetrics, raw_metrics
from fairplay.evaluation.alpaca_eval.rows import LengthModels, ModelRows, length_models, standardised_gaps
from fairplay.evaluation.alpaca_eval.settings import LOOK_UPS, VARIANTS, AlpacaEvalSettings
from fairplay.evaluation.comparison_notes import FEW_PROMPTS
from fairplay.evaluation.intervals import mean_interval
from fairplay.records import Interval
from fairplay.wording import plural

Floats = NDArray[np.float64]

Keys = tuple[Instruction, ...]

OFFICIAL_ROWS = list(LOOK_UPS)[1]


@dataclass(frozen=True, slots=True)
class LengthControl:
    """One model's length-controlled win rate.

    Attributes:
        lc_win_rate: In per cent.
        interval: The 95 % interval in per cent; None if none was asked for.
        prediction_spread: The official `lc_standard_error`: spread of the predictions, no error of the LC win rate.
        cost: C, stated or chosen; NaN for the baseline itself, which has no fit.
        coefficients: (phi, psi, theta): of length, difficulty and model.
        official_rows: The LC win rate with difficulties looked up by row number, in per cent; the same where no row is
            missing or moved, and where the official code has no number.
    """

    lc_win_rate: float
    interval: Interval | None
    prediction_spread: float
    cost: float
    coefficients: tuple[float, float, float]
    official_rows: float


@dataclass(frozen=True, slots=True)
class ModelResult:
    """Everything about one model.

    Attributes:
        annotations: What it was computed from.
        raw: Win rates as annotated.
        win_rate_interval: 95 %, in per cent; None if none was asked for or there is no verdict.
        length_control: None where it can't be computed; the notes say why.
        average_length: Of the model's responses whose length is known, in characters; NaN if none is.
        seconds: Time of the metrics without their intervals, an equal share for each model of the batch.
        is_partial: Whether verdicts, instructions or lengths are missing.
        notes: What a reader must know.
    """

    annotations: ModelAnnotations
    raw: RawMetrics
    win_rate_interval: Interval | None
    length_control: LengthControl | None
    average_length: float
    seconds: float
    is_partial: bool
    notes: tuple[str, ...]


def evaluate_models(
    models: Sequence[ModelAnnotations], inputs: LcInputs, settings: AlpacaEvalSettings
) -> tuple[ModelResult, ...]:
    """The results of all models, fitted together; no model's numbers depend on the others'.

    Args:
        models: Annotations by model.
        inputs: What the variant needs.
        settings: Variant, C and look-up.

    Raises:
        DataError: If an instruction has no difficulty.
    """
    start = perf_counter()
    raw = [raw_metrics(model.preferences) for model in models]
    controls = length_controls(models, inputs, settings)
    seconds = (perf_counter() - start) / len(models)
    return tuple(
        _result(model, numbers, control, inputs, settings, seconds)
        for model, numbers, control in zip(models, raw, controls, strict=True)
    )


def length_controls(
    models: Sequence[ModelAnnotations], inputs: LcInputs, settings: AlpacaEvalSettings
) -> list[LengthControl | None]:
    """LC win rates of all models in one batch, without intervals; None where a model lacks lengths or verdicts."""
    found: list[LengthControl | None] = [
        _BASELINE_ITSELF if model.is_baseline and not model.missing_lengths else None for model in models
    ]
    fitted = [number for number, model in enumerate(models) if found[number] is None and _can_fit(model)]
    if not fitted:
        return found
    controls = _fits([models[number] for number in fitted], inputs, settings, settings.look_up)
    found_for = dict(zip(fitted, controls, strict=True))
    shifted = [number for number in fitted if _is_shifted(models[number], inputs, settings)]
    official = _fits([models[number] for number in shifted], inputs, settings, OFFICIAL_ROWS) if shifted else []
    for number, other in zip(shifted, official, strict=True):
        found_for[number] = replace(found_for[number], official_rows=other.lc_win_rate)
    return [found_for.get(number, control) for number, control in enumerate(found)]


_BASELINE_ITSELF = LengthControl(50.0, Interval(50.0, 50.0, 50.0), 0.0, nan, (0.0, 0.0, 0.0), 50.0)


def _can_fit(model: ModelAnnotations) -> bool:
    return not model.missing_lengths and bool(np.isfinite(model.preferences).any())


def _is_shifted(model: ModelAnnotations, inputs: LcInputs, settings: AlpacaEvalSettings) -> bool:
    """Whether the official look-up would give other difficulties than the one asked for, and gives any."""
    rows = tuple(model.rows.tolist())
    asked = VARIANTS[settings.variant].uses_difficulty and settings.look_up != OFFICIAL_ROWS
    return asked and model.instructions != rows and all(row in inputs.difficulties for row in rows)


def _fits(
    models: Sequence[ModelAnnotations], inputs: LcInputs, settings: AlpacaEvalSettings, look_up: str
) -> list[LengthControl]:
    known: dict[Keys, Floats] = {}
    rows = [model_rows(model, inputs, settings.variant, look_up, known) for model in models]
    batch = length_models(rows, inputs.gamed)
    costs = np.full(len(models), settings.cost) if settings.cost else choose_costs(batch)
    coefficients = fit(batch, cost=costs)
    rates = 100 * lc_win_rates(batch, coefficients)
    spreads = 100 * _prediction_spreads(batch, coefficients)
    return [
        LengthControl(rate, None, spread, cost, (phi, psi, theta), official_rows=rate)
        for rate, spread, cost, (phi, psi, theta) in zip(
            rates.tolist(), spreads.tolist(), costs.tolist(), coefficients.tolist(), strict=True
        )
    ]


def _prediction_spreads(batch: LengthModels, coefficients: Floats) -> Floats:
    """Standard deviation of each model's predictions over the root of their number, [models]; NaN for a single one."""
    curves, sizes = predictions(batch, coefficients[:, None])[:, 0], batch.present.sum(axis=1)
    around = curves - (curves * batch.present).sum(axis=1, keepdims=True) / sizes[:, None]
    squares = (np.square(around) * batch.present).sum(axis=1)
    variances = np.divide(squares, (sizes - 1) * sizes, out=np.full(len(sizes), nan), where=sizes > 1)
    return np.asarray(np.sqrt(variances))


def model_rows(
    model: ModelAnnotations, inputs: LcInputs, variant: str, look_up: str, known: dict[Keys, Floats] | None = None
) -> ModelRows:
    """What the length model reads of one model's annotations.

    Args:
        model: The annotations.
        inputs: Holds the difficulties.
        variant, look_up: As in the settings.
        known: Difficulties by their keys, looked up for models before; added to.

    Raises:
        DataError: If an instruction has no difficulty.
    """
    order = np.argsort(model.rows, kind="stable") if look_up == OFFICIAL_ROWS else np.arange(len(model.rows))
    difficulties = np.zeros(len(order))
    if VARIANTS[variant].uses_difficulty:
        keys = tuple(model.rows[order].tolist()) if look_up == OFFICIAL_ROWS else model.instructions
        known = {} if known is None else known
        if keys not in known:
            known[keys] = _difficulties(model.model, keys, inputs)
        difficulties = known[keys]
    gaps = standardised_gaps(model.baseline_lengths, model.lengths)
    return ModelRows(model.win_probs[order], gaps[order], difficulties)


def _difficulties(model: str, keys: Keys, inputs: LcInputs) -> Floats:
    try:
        return np.fromiter(map(inputs.difficulties.__getitem__, keys), np.float64, len(keys))
    except KeyError as error:
        unknown = [key for key in keys if key not in inputs.difficulties]
        told = f"{str(unknown[0])[:60]!r}" + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else "")
        raise DataError(
            f"{model}: {inputs.difficulty_source} has no difficulty of instruction {told}",
            hint="other prompts: `--lc minimal` or --fit-difficulty; by row: `--difficulty-by official-rows`",
        ) from error


def _result(
    model: ModelAnnotations,
    raw: RawMetrics,
    control: LengthControl | None,
    inputs: LcInputs,
    settings: AlpacaEvalSettings,
    seconds: float,
) -> ModelResult:
    interval = None
    if settings.num_bootstrap and raw.num_total:
        interval = _percent(
            mean_interval(
                model.win_probs[np.isfinite(model.win_probs)],
                centre=0.5,
                limit=0.5,
                seed=settings.seed,
                num_bootstrap=settings.num_bootstrap,
            )
        )
    if settings.num_bootstrap and control is not None and control is not _BASELINE_ITSELF:
        control = _with_interval(model, control, inputs, settings)
    lengths = model.output_lengths if model.output_lengths.size else model.lengths
    known = lengths[np.isfinite(lengths)]
    notes = missing_notes(model, raw, inputs)
    return ModelResult(
        annotations=model,
        raw=raw,
        win_rate_interval=interval,
        length_control=control,
        average_length=float(known.mean()) if known.size else nan,
        seconds=seconds,
        is_partial=bool(notes),
        notes=(*notes, *judge_notes(model, inputs), *_control_notes(model, raw, control)),
    )


def _with_interval(
    model: ModelAnnotations, control: LengthControl, inputs: LcInputs, settings: AlpacaEvalSettings
) -> LengthControl:
    rows = length_models([model_rows(model, inputs, settings.variant, settings.look_up)], inputs.gamed)
    found = lc_interval(
        rows,
        np.array(control.coefficients),
        cost=control.cost,
        num_bootstrap=settings.num_bootstrap,
        seed=settings.seed,
    )
    return replace(control, interval=_percent(found))


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _control_notes(model: ModelAnnotations, raw: RawMetrics, control: LengthControl | None) -> list[str]:
    if control is None:
        return []
    notes = []
    if abs(control.official_rows - control.lc_win_rate) > 1e-9:
        notes.append(
            f"The official code looks difficulties up by row number and gives {control.official_rows:.4f}: from the"
            " first missing or moved row on it takes those of other instructions."
        )
    if control is not _BASELINE_ITSELF:
        notes += penalty_notes(control.cost, control.coefficients, raw.win_rate, has_interval=bool(control.interval))
    gaps = model.baseline_lengths - model.lengths
    if (gaps == gaps[0]).all() and control is not _BASELINE_ITSELF:
        notes.append("All length gaps are equal: there is no effect of length to take out.")
    if _is_extreme(raw.win_rate, control.lc_win_rate):
        notes.append("Length control changes the win rate by more than the official warning allows: look at the fit.")
    if raw.num_total < FEW_PROMPTS:
        notes.append(f"Only {plural(raw.num_total, 'verdict')}: the intervals are rough.")
    return notes


def _is_extreme(win_rate: float, lc_win_rate: float) -> bool:
    """The official warning: get_is_extreme_changes with its defaults."""
    return lc_win_rate < min(0.75 * win_rate, win_rate - 10) or lc_win_rate > max(
        win_rate + (100 - win_rate) / 4, win_rate + 10
    )
