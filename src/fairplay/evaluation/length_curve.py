"""Win probability against length difference: means in bins with intervals, and the fitted length model's curve.

Left out: the model (`length_control.py`), drawing (`reports/`). Floor 5; pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.length_control import fit_length_model, length_design
from fairplay.records import Interval, Judgement

MAX_BINS = 7
MIN_PAIRS = 8
"""Pairs of responses in a bin."""
_POINTS = 41


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Pairs of like length difference: their mean difference, mean win probability over prompts, and number."""

    gap: float
    win_rate: Interval
    num_pairs: int


@dataclass(frozen=True, slots=True)
class LengthCurve:
    """How winning goes with length.

    Attributes:
        bins: By length difference, policy minus opponent; of about as many pairs each.
        fitted: (length difference, win probability) by the length model behind the length-controlled win rate; empty
            where all lengths are equal.
    """

    bins: tuple[LengthBin, ...]
    fitted: tuple[tuple[float, float], ...]


def length_curve(judgements: Sequence[Judgement], *, seed: int, num_bootstrap: int = 2000) -> LengthCurve:
    """Bins and fitted curve of one comparison.

    Args:
        judgements: At least one.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts behind each bin's interval.
    """
    columns = judgement_columns(judgements)
    gaps = columns.policy_lengths - columns.opponent_lengths
    order = np.argsort(gaps, kind="stable")
    bins = []
    for rows in np.array_split(order, max(1, min(MAX_BINS, len(order) // MIN_PAIRS))):
        prompts = columns.prompt_index[rows]
        sums, counts = np.bincount(prompts, weights=columns.win_probs[rows]), np.bincount(prompts)
        means = np.clip(sums[counts > 0] / counts[counts > 0], 0, 1)
        rate = mean_interval(means, centre=0.5, limit=0.5, seed=seed, num_bootstrap=num_bootstrap)
        bins.append(LengthBin(float(gaps[rows].mean()), rate, len(rows)))
    design = length_design(columns)
    if design.scale == 0:
        return LengthCurve(tuple(bins), ())
    fit = fit_length_model(design, np.ones((1, columns.num_prompts)))
    rate, slope = np.clip(fit.lc_win_rates[0], 1e-6, 1 - 1e-6), fit.slopes[0]
    places = np.linspace(gaps.min(), gaps.max(), _POINTS)
    fitted = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + slope * np.tanh(places / design.scale))))
    return LengthCurve(tuple(bins), tuple(zip(places.tolist(), fitted.tolist(), strict=True)))
