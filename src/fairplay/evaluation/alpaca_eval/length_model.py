"""AlpacaEval's length-controlled win rate: fits of its model and predictions at equal lengths.

    P(model beats baseline on row i) = sigmoid(phi * t_i + psi * d_i + theta)
    t_i = tanh((baseline's length - model's) / s),  s = standard deviation of that gap,  d_i = instruction's difficulty
    LC win rate = mean over rows of sigmoid(psi * d_i + theta)

Left out: the choice of C (`cross_validation`), intervals (`intervals`), where difficulties come from (`inputs`).
Floor 5; pure numpy. Source: Dubois et al. 2024, arXiv:2404.04475; alpaca_eval 0.6.6, metrics/glm_winrate.py.
"""

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.alpaca_eval.rows import LengthModels, WeightedRows
from fairplay.evaluation.alpaca_eval.solver import NUM_COEFFICIENTS, minimise

Floats = NDArray[np.float64]

LAST_STEP = 1e-6
"""Fits stop after a step that moves no row's log-odds further; what remains is about its square."""

_CELLS = 1 << 18


def fit(models: LengthModels, *, cost: Floats | float, start: Floats | None = None) -> Floats:
    """The coefficients of every model on all its judged rows.

    Args:
        models: The models.
        cost: C: how much a row weighs against |coefficients|_1, > 0; one number, or one for each model.
        start: Where to begin, [models, 3]; by default the mean win rate.

    Returns:
        (phi, psi, theta) of each model, [models, 3].
    """
    costs = np.broadcast_to(np.asarray(cost, dtype=np.float64), (models.num_models,))
    begin = starting_point(models) if start is None else start
    return fit_weighted(models, models.judged[:, None], cost=costs[:, None], start=begin[:, None])[:, 0]


def fit_weighted(
    models: LengthModels,
    weights: Floats,
    *,
    cost: Floats,
    start: Floats,
    gamed_weights: Floats | None = None,
    last_step: float = LAST_STEP,
) -> Floats:
    """Coefficients for each model and each of its choices of row weights.

    Args:
        models: The models.
        weights: How much each row counts, [models, fits, rows]; 0 where there is no verdict.
        cost: C, broadcast to [models, fits].
        start: Where to begin, broadcast to [models, fits, 3].
        gamed_weights: The same for the gamed rows, [models, fits, gamed rows]; `GAMED_WEIGHT` each if not given.
        last_step: Fits stop after a step that moves no row's log-odds further; the error is about its square.

    Returns:
        [models, fits, 3].
    """
    shape = weights.shape[:2]
    reach = np.abs(models.features).max(axis=2)
    if models.gamed is not None:
        shared = np.stack([models.gamed.gaps, models.gamed.difficulties])
        reach[:, :2] = np.maximum(reach[:, :2], np.abs(shared).max(axis=1))
    penalties = np.broadcast_to(1.0 / cost, shape)
    begin = np.broadcast_to(start, (*shape, NUM_COEFFICIENTS))
    width = models.basis.shape[2] + (0 if models.gamed is None else len(models.gamed.gaps))
    chunk = max(1, _CELLS // (shape[1] * width))
    parts = []
    for first in range(0, models.num_models, chunk):
        part = slice(first, first + chunk)
        gamed = None if gamed_weights is None else gamed_weights[part]
        smooth = WeightedRows.of(models.only(part), weights[part], gamed)
        parts.append(minimise(smooth, begin[part], penalties=penalties[part], reach=reach[part], last_step=last_step))
    return np.concatenate(parts)


def starting_point(models: LengthModels) -> Floats:
    """No effect of length or difficulty, and the mean win rate, [models, 3]: where fits begin."""
    counts = np.maximum(models.judged.sum(axis=1), 1)
    means = np.clip(models.excess.sum(axis=1) / counts, -0.49, 0.49)
    return np.stack([np.zeros_like(means), np.zeros_like(means), 2 * np.arctanh(2 * means)], axis=1)


def predictions(models: LengthModels, coefficients: Floats) -> Floats:
    """P(model beats baseline) at equal lengths on each row, [models, fits, rows], from [models, fits, 3]."""
    return 0.5 + 0.5 * np.tanh(0.5 * (coefficients[..., 1:] @ models.features[:, 1:]))


def lc_win_rates(models: LengthModels, coefficients: Floats) -> Floats:
    """LC win rate of each model, [models], in [0, 1], from coefficients [models, 3]."""
    found = predictions(models, coefficients[:, None])[:, 0]
    return np.asarray((found * models.present).sum(axis=1) / models.present.sum(axis=1))


def predicted_win_rate(one: Floats, other: Floats, difficulties: Floats) -> float:
    """Win rate that the fits of two models against the same baseline foretell between them, at equal lengths.

    Args:
        one, other: (phi, psi, theta) of the two, [3]; the baseline's are all 0.
        difficulties: d of the instructions, [instructions]; the official number takes the whole evaluation set.

    Returns:
        P(one beats the other), in [0, 1]; the two directions add up to 1.
    """
    difference = one - other
    return float(np.mean(0.5 + 0.5 * np.tanh(0.5 * (difference[2] + difference[1] * difficulties))))
