"""95 % intervals of shares: Wilson's score interval, also where outcomes tie and come in clusters.

Left out: means of anything else (`evaluation/intervals.py`). Floor 2; pure numpy and scipy.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairplay.records import Interval

Floats = NDArray[np.float64]
_LEVEL = 0.975
_TINY = 1e-15


def wilson_interval(successes: float, trials: int) -> Interval:
    """Wilson's interval of a share of independent trials, none of them tied.

    Args:
        successes: Successes, in [0, trials].
        trials: Number of trials, >= 1.

    Raises:
        ValueError: If there is no trial, or there are more successes than trials.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001 on why not p +- 1.96 standard errors.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    share = successes / trials
    return _score_interval(share, share * (1 - share), float(trials))


def share_interval(outcomes: Floats, clusters: Sequence[str] | NDArray[np.int64]) -> Interval:
    """Wilson's interval of a mean of outcomes in [0, 1] whose ties count half and which come in clusters.

    Wilson's p (1 - p) is the variance of outcomes 0 and 1; here it is the outcomes' own, s^2, and the number of trials
    is how many independent ones would have the mean's variance over clusters, n_eff = s^2 / V, at most n:

        V = sum over clusters (sum of (outcome - mean))^2 / n^2

    Without ties, and one outcome a cluster, this is Wilson's interval.

    Args:
        outcomes: [n], n >= 1.
        clusters: The cluster of each outcome, such as its prompt, [n].

    Raises:
        ValueError: If there is no outcome, or not one cluster each.

    Source: score interval inverted with the tie share held: Newcombe 1998; effective sample size: Kish 1965.
    """
    if not outcomes.size or len(clusters) != outcomes.size:
        raise ValueError(f"a share of {outcomes.size} outcomes in {len(clusters)} clusters")
    mean, size = float(outcomes.mean()), outcomes.size
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=outcomes - mean)
    spread, variance = float(outcomes.var()), float((sums**2).sum()) / size**2
    trials = min(float(size), spread / variance) if variance > _TINY else float(min(size, sums.size))
    return _score_interval(mean, spread, trials)


def _score_interval(share: float, spread: float, trials: float) -> Interval:
    """The interval of a share that `trials` outcomes of that variance have; Wilson's where it is share (1 - share)."""
    z = float(stats.norm.ppf(_LEVEL))
    centre = (trials * share + z * z / 2) / (trials + z * z)
    half = z * float(np.sqrt(trials * spread + z * z / 4)) / (trials + z * z)
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))
