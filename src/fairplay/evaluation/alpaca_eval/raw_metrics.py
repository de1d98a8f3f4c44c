"""Win rates as they were annotated, equal to the official ones to rounding.

Left out: length control (`length_model`). Floor 5; pure numpy. Source: alpaca_eval 0.6.6,
metrics/winrate.py and metrics/helpers.py.
"""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RawMetrics:
    """Win rates in per cent; NaN where there is no number.

    Attributes:
        win_rate: Mean win probability.
        standard_error: Of that mean, from the standard deviation with n - 1; NaN for a single verdict.
        discrete_win_rate: The mean of wins, with a tie (exactly 1.5) counted half.
        num_wins, num_losses, num_ties: Verdicts above, below and at 1.5.
        num_total: Verdicts; failed calls are not among them.
        num_failed: Rows where the judge failed.
    """

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    num_wins: int
    num_losses: int
    num_ties: int
    num_total: int
    num_failed: int


def raw_metrics(preferences: NDArray[np.float64]) -> RawMetrics:
    """The official raw numbers.

    Args:
        preferences: [rows], in [1, 2]; NaN where the judge failed.
    """
    win_probs = preferences[np.isfinite(preferences)] - 1
    wins, losses = int(np.count_nonzero(win_probs > 0.5)), int(np.count_nonzero(win_probs < 0.5))
    ties = win_probs.size - wins - losses
    mean = float(win_probs.sum()) / win_probs.size if win_probs.size else nan
    around = win_probs - mean
    deviation = sqrt(float(around @ around) / (win_probs.size - 1)) if win_probs.size > 1 else nan
    return RawMetrics(
        win_rate=100 * mean,
        standard_error=100 * deviation / sqrt(max(win_probs.size, 1)),
        discrete_win_rate=100 * (wins + ties / 2) / win_probs.size if win_probs.size else nan,
        num_wins=wins,
        num_losses=losses,
        num_ties=ties,
        num_total=win_probs.size,
        num_failed=preferences.size - win_probs.size,
    )
