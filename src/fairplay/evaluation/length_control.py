"""The win rate that remains when the policy's responses are as long as the opponent's, on one's own prompts.

A fractional logit of the win probability on the length gap, uncentred, evaluated at gap 0:

    logit P(policy wins) = theta + phi * tanh((policy length - opponent length) / scale),   LC win rate = sigmoid(theta)

Left out: AlpacaEval's model with its difficulties and gamed rows, and intervals (`win_rates`). Floor 5; pure numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.columns import JudgementColumns

Floats = NDArray[np.float64]

SLOPE_RIDGE = 0.04
"""Penalty on phi: SLOPE_RIDGE / 2 * phi^2 beside a log-likelihood in which each prompt counts 1, so a normal prior with
standard deviation 5 on phi. theta is never penalised."""

NEAR_LENGTHS = 0.1
"""Two lengths are nearly equal where their log ratio is below this."""

LAST_STEP = 1e-8
DRAW_STEP = 1e-4
"""`LAST_STEP` for resamples, whose quantiles need no more digits."""

_EDGE = 1e-6
_MAX_STEPS = 500
_CELLS = 1 << 16


@dataclass(frozen=True)
class LengthDesign:
    """What the length model reads: one row for each judgement.

    Attributes:
        win_probs: P(policy's response wins), [rows].
        gaps: tanh(length gap / scale), [rows], in [-1, 1]; positive where the policy's response is longer.
        prompt_index: The prompt of each row, [rows].
        row_weights: Weight of each row within its prompt, [rows]; a prompt's weights sum to 1.
        scale: Length gap that counts as one unit, in the unit of the lengths; 0 where all lengths are equal.
    """

    win_probs: Floats
    gaps: Floats
    prompt_index: NDArray[np.int64]
    row_weights: Floats
    scale: float


@dataclass(frozen=True)
class LengthFits:
    """Fits of the length model, one for each row of prompt weights.

    Attributes:
        lc_win_rates: sigmoid(theta), [fits], in [0, 1].
        slopes: phi, [fits], in nats of log-odds per unit of tanh; positive where length is rewarded.
    """

    lc_win_rates: Floats
    slopes: Floats


def length_design(columns: JudgementColumns) -> LengthDesign:
    """The rows of the length model.

    The scale is the root mean square of the length gap (each prompt counts 1), uncentred: it is the same for both
    sides, and follows the unit of the lengths, so that swapping sides flips the gaps and a change of unit leaves them.
    """
    differences = columns.policy_lengths - columns.opponent_lengths
    scale = float(np.sqrt(columns.prompt_means(differences**2).mean()))
    gaps = np.tanh(differences / scale) if scale > 0 else np.zeros_like(differences)
    return LengthDesign(columns.win_probs, gaps, columns.prompt_index, columns.row_weights, scale)


def fit_length_model(
    design: LengthDesign, prompt_weights: Floats, *, start_slope: float = 0.0, last_step: float = LAST_STEP
) -> LengthFits:
    """Fit the length model once for each row of prompt weights; all fits advance together.

    Newton's method with the step ln(1 + d) / d, d = sqrt(2) |step|, which lowers the loss from any start.

    Args:
        design: The rows.
        prompt_weights: How often each prompt counts, [fits, prompts], >= 0, each row with a positive sum.
        start_slope: Where phi begins; the result does not depend on it.
        last_step: Fits stop after a step that is smaller than this, times 1 + |phi|; the error is about its square.

    Returns:
        One fit for each row of weights. Defined for all data: separation by length is held by the ridge on phi;
        where the mean win probability is within 1e-6 of 0 or 1 (all losses, all wins), theta has no finite value
        and the LC win rate is that mean, with slope 0; with equal lengths, a single prompt or a constant win
        probability the LC win rate is the win rate.

    Source: the model is AlpacaEval's (Dubois et al. 2024, arXiv:2404.04475) without the instruction term; fractional
        logit: Papke and Wooldridge 1996; step: Sun and Tran-Dinh 2019, generalised self-concordance with nu = 2.
    """
    chunk = max(1, _CELLS // len(design.gaps))
    parts = [
        _fit(design, prompt_weights[first : first + chunk], start_slope, last_step)
        for first in range(0, len(prompt_weights), chunk)
    ]
    return LengthFits(
        lc_win_rates=np.concatenate([part.lc_win_rates for part in parts]),
        slopes=np.concatenate([part.slopes for part in parts]),
    )


def overlap_share(columns: JudgementColumns) -> float:
    """Share of prompts whose two lengths are nearly equal (|log ratio| < 0.1, or equal), samples averaged."""
    shorter = np.minimum(columns.policy_lengths, columns.opponent_lengths)
    longer = np.maximum(columns.policy_lengths, columns.opponent_lengths)
    near = (longer == shorter) | (longer < np.exp(NEAR_LENGTHS) * shorter)
    return float(columns.prompt_means(near.astype(np.float64)).mean())


def _fit(design: LengthDesign, prompt_weights: Floats, start_slope: float, last_step: float) -> LengthFits:
    weights = prompt_weights[:, design.prompt_index] * design.row_weights
    excess = design.win_probs - 0.5
    means = weights @ excess / (weights @ np.ones_like(excess))
    inner = np.abs(means) < 0.5 - _EDGE
    lc_win_rates, slopes = 0.5 + means, np.zeros_like(means)
    if inner.any():
        start = np.stack([2 * np.arctanh(2 * means[inner]), np.full(int(inner.sum()), start_slope)])
        theta, phi = _newton(design.gaps, excess, weights[inner], start, last_step)
        lc_win_rates[inner], slopes[inner] = 0.5 + 0.5 * np.tanh(0.5 * theta), phi
    return LengthFits(lc_win_rates, slopes)


def _newton(gaps: Floats, excess: Floats, weights: Floats, start: Floats, last_step: float) -> tuple[Floats, Floats]:
    """Both parameters, [2, fits], for each row of weights; all in win probability - 1/2: ties give exactly 0."""
    (theta, phi), squares = start.copy(), gaps**2
    wins, gap_wins = weights @ excess, weights @ (gaps * excess)
    for _ in range(_MAX_STEPS):
        fitted = 0.5 * np.tanh(0.5 * (theta[:, None] + phi[:, None] * gaps))
        weighted = weights * fitted
        gradient_theta = wins - weighted.sum(axis=1)
        gradient_phi = gap_wins - weighted @ gaps - SLOPE_RIDGE * phi
        weighted = weights * (0.25 - fitted**2)
        a, b, c = weighted.sum(axis=1), weighted @ gaps, weighted @ squares + SLOPE_RIDGE
        determinant = a * c - b * b
        step_theta = (c * gradient_theta - b * gradient_phi) / determinant
        step_phi = (a * gradient_phi - b * gradient_theta) / determinant
        norm = np.sqrt(2 * (step_theta**2 + step_phi**2))
        damping = np.log1p(norm) / np.maximum(norm, np.finfo(np.float64).tiny)
        theta += np.where(norm > 0, damping, 0) * step_theta
        phi += np.where(norm > 0, damping, 0) * step_phi
        if norm.max() < last_step * (1 + np.abs(phi).max()):
            return theta, phi
    raise AssertionError(f"the length model did not converge in {_MAX_STEPS} steps")
