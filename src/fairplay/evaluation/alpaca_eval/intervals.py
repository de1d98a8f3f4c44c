"""Intervals of LC and predicted win rates: instructions are resampled, and the length model refitted in each resample.

The official `lc_standard_error` is the spread of the fitted predictions over instructions, not an error of the LC win
rate: two to six times too small. Left out: the fit (`length_model`). Floor 5; pure numpy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.alpaca_eval.length_model import fit_weighted, predictions
from fairplay.evaluation.alpaca_eval.rows import LengthModels, extended
from fairplay.evaluation.intervals import NUM_IMAGINED, bootstrap, imagined_outcomes, interval_from_draws
from fairplay.records import Interval

Floats = NDArray[np.float64]

MIN_COST = 2.782559402207126
"""Refits never take a smaller C (of the official grid): what the penalty removes from every resample would pass for
certainty, up to an interval without width at 50 %."""

_LAST_STEP = 1e-3
_CELLS = 1 << 15


@dataclass(frozen=True)
class FitAt:
    """One model's fit: (phi, psi, theta), [3], and the C that it was made at."""

    coefficients: Floats
    cost: float


def lc_interval(models: LengthModels, coefficients: Floats, *, cost: float, num_bootstrap: int, seed: int) -> Interval:
    """LC win rate of one model with its 95 % interval, in [0, 1].

    C (but see `MIN_COST`), the scale of the lengths and the gamed rows stay as they are. The two imagined instructions
    of `bootstrap` have equal lengths, the mean difficulty, and the most decided outcomes seen.

    Args:
        models: The rows of one model, at least one of them judged.
        coefficients: Its fit, [3].
        cost: C of that fit.
        num_bootstrap: Number of resamples.
        seed: Seed; models on equally many instructions share their resamples.
    """
    rows = extended(models, _imagined(models))
    refits = _refits(rows, coefficients, cost)

    def statistic(counts: Floats) -> Floats:
        asked = counts * rows.present[0]
        rates = (predictions(rows, refits(counts)[None])[0] * asked).sum(axis=1) / asked.sum(axis=1)
        return np.asarray(rates[:, None])

    value = float(predictions(models, coefficients[None, None])[0, 0].mean())
    num_prompts = rows.present.shape[1] - NUM_IMAGINED
    draws = bootstrap(
        lambda counts: _in_chunks(statistic, counts, rows),
        num_prompts=num_prompts,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return interval_from_draws(value, draws[:, 0], num_prompts=num_prompts)


def interval_cost(cost: float) -> float:
    """The C of the refits behind an interval."""
    return max(cost, MIN_COST)


def penalty_notes(cost: float, coefficients: Sequence[float], win_rate: float, *, has_interval: bool) -> list[str]:
    """What a reader must know where C is so small that the penalty decides.

    Args:
        cost: C of the fit.
        coefficients: The fit.
        win_rate: As annotated, in per cent.
        has_interval: Whether there is an interval beside the LC win rate.
    """
    notes = []
    if not any(coefficients) and win_rate != 50:
        notes.append(
            f"The penalty at C = {cost:.4g} takes all coefficients to 0: an LC win rate of 50 says nothing of the"
            f" verdicts here, whose win rate is {win_rate:.2f}. A larger C can be stated (--C 10)."
        )
    if has_interval and cost < MIN_COST:
        notes.append(
            f"The LC win rate is fitted at C = {cost:.4g}, its interval at C = {interval_cost(cost):.4g}, the smallest"
            " that intervals take: the two need not lie around each other."
        )
    return notes


def predicted_interval(
    one: LengthModels, other: LengthModels, value: float, fits: Sequence[FitAt], *, num_bootstrap: int, seed: int
) -> Interval:
    """A predicted win rate between two models with its 95 % interval, in [0, 1].

    Both models are refitted in the same resamples of the instructions; each of the two imagined ones is won by one
    model and lost by the other, as decidedly as any that was seen.

    Args:
        one, other: The rows of one model each, on the same instructions in the same order.
        value: The prediction.
        fits: The two fits.
        num_bootstrap: Number of resamples.
        seed: Seed.
    """
    rows = extended(one, _imagined(one)), extended(other, _imagined(other)[::-1])
    refits = [_refits(part, fit.coefficients, fit.cost) for part, fit in zip(rows, fits, strict=True)]

    def statistic(counts: Floats) -> Floats:
        difference = (refits[0](counts) - refits[1](counts))[:, 1:]
        asked = counts * rows[0].present[0]
        chances = 0.5 + 0.5 * np.tanh(0.5 * (difference @ rows[0].features[0, 1:]))
        return np.asarray(((chances * asked).sum(axis=1) / asked.sum(axis=1))[:, None])

    num_prompts = rows[0].present.shape[1] - NUM_IMAGINED
    draws = bootstrap(
        lambda counts: _in_chunks(statistic, counts, rows[0]),
        num_prompts=num_prompts,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return interval_from_draws(value, draws[:, 0], num_prompts=num_prompts)


def _imagined(models: LengthModels) -> Floats:
    return imagined_outcomes(0.5 + models.excess[0, models.judged[0] > 0], centre=0.5, limit=0.5)


def _refits(rows: LengthModels, coefficients: Floats, cost: float) -> Callable[[Floats], Floats]:
    """From counts of the rows, [resamples, rows], to coefficients, [resamples, 3]."""

    def refit(counts: Floats) -> Floats:
        weights = (counts * rows.judged[0])[None]
        costs = np.asarray(interval_cost(cost))
        return np.asarray(fit_weighted(rows, weights, cost=costs, start=coefficients, last_step=_LAST_STEP)[0])

    return refit


def _in_chunks(statistic: Callable[[Floats], Floats], counts: Floats, rows: LengthModels) -> Floats:
    """A statistic of many resamples, so many at once as fit a cache."""
    width = rows.present.shape[1] + (0 if rows.gamed is None else len(rows.gamed.gaps))
    size = max(1, _CELLS // width)
    return np.concatenate([statistic(counts[first : first + size]) for first in range(0, len(counts), size)])
