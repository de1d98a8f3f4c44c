"""95 % intervals over prompts by a bootstrap of whole prompts, two imagined ones among them.

Left out: shares that are counted (`preferences/shares.py`), p-values (`paired_tests`) and what the numbers mean.
Floor 5; pure numpy and scipy.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairplay.records import Interval
from fairplay.seeds import stable_seed

Floats = NDArray[np.float64]

NUM_IMAGINED = 2
"""Prompts that were not seen but might be: one at either extreme, in every bootstrap (see `bootstrap`)."""

_LEVEL = 0.975
_CELLS = 1 << 20


def bootstrap(statistic: Callable[[Floats], Floats], *, num_prompts: int, num_bootstrap: int, seed: int) -> Floats:
    """A statistic's values over resamples of whole prompts, and of two imagined ones.

    Each resample draws as many prompts as there are, with replacement, and each of the two imagined prompts Poisson(1)
    times. The statistic gives these the lowest and the highest outcome. Without them an interval has no width where all
    prompts agree, and is too narrow where few differ; with them a share's interval behaves as Agresti and Coull's.

    Args:
        statistic: From counts, [resamples, prompts + 2], the imagined ones last, to values, [resamples, statistics].
            Never called with all counts 0.
        num_prompts: Number of prompts, >= 1.
        num_bootstrap: Number of resamples.
        seed: Seed of the run; the same seed and number of prompts give the same resamples, so that intervals of
            several results on the same prompts belong together.

    Returns:
        Values, [num_bootstrap, statistics].

    Source: Efron 1979; Agresti and Coull 1998; imagined units: Muliere and Secchi 1996 (proper Bayesian bootstrap).
    """
    rng = np.random.default_rng(stable_seed(seed, "bootstrap over prompts", num_prompts))
    chunk = max(1, _CELLS // (num_prompts + NUM_IMAGINED))
    parts = []
    for start in range(0, num_bootstrap, chunk):
        size = min(chunk, num_bootstrap - start)
        drawn = rng.integers(num_prompts, size=(size, num_prompts)) + num_prompts * np.arange(size)[:, None]
        seen = np.bincount(drawn.ravel(), minlength=size * num_prompts).reshape(size, num_prompts)
        imagined = rng.poisson(1.0, size=(size, NUM_IMAGINED))
        parts.append(statistic(np.concatenate([seen, imagined], axis=1).astype(np.float64)))
    return np.concatenate(parts)


def interval_from_draws(value: float, draws: Floats, *, num_prompts: int, unbiased: bool = False) -> Interval:
    """The percentile interval of bootstrap draws, expanded for few prompts; it always contains the value.

    Args:
        value: The point estimate.
        draws: The statistic's bootstrap values, [resamples].
        num_prompts: Number of prompts; with the imagined ones it sets how far the percentiles move outwards, from
            2.5 % to what Student's t in place of the normal would give.
        unbiased: Whether percentiles are corrected for bias: for the coefficients of a logit with several features,
            whose estimates are too large in size where rows are few, and whose draws are so once more.

    Source: Hesterberg 2015, arXiv:1411.5279, section 5.3 (expanded percentile interval); bias: Efron 1981 (BC).
    """
    units = num_prompts + NUM_IMAGINED
    reach = float(np.sqrt(units / (units - 1)) * stats.t.ppf(_LEVEL, units - 1))
    shift = 2 * _bias(value, draws) if unbiased else 0.0
    low, high = np.quantile(draws, stats.norm.cdf([shift - reach, shift + reach]))
    return Interval(value, min(float(low), value), max(float(high), value))


def _bias(value: float, draws: Floats) -> float:
    """By how many standard deviations the value lies above the median of its draws; bounded by their number."""
    below = (float((draws < value).sum()) + float((draws <= value).sum())) / (2 * len(draws))
    return float(stats.norm.ppf(np.clip(below, 1 / len(draws), 1 - 1 / len(draws))))


def imagined_outcomes(values: Floats, *, centre: float, limit: float) -> Floats:
    """The outcomes of the two imagined prompts: as far from the centre as any that was seen, drawn to the mean.

    Letters stay where they are. The more alike graded or averaged verdicts are, the less an extreme one is to be
    expected, and the nearer to their mean are the imagined ones:

        mean + r^(1/4) * (centre -+ reach - mean),
        r = (sum (s - m)^2 + 1/2) / (sum m (1 - m) + 1/2), at most 1, over prompts that are not at the centre,

    where s is the outcome as a share of the way from one limit to the other, and m the mean of these. The root is of no
    theory: with none intervals of graded verdicts hold up to 100 %, with a square root some hold less than 93 %.

    Args:
        values: One outcome for each prompt, [prompts].
        centre: The outcome of no preference.
        limit: How far outcomes can lie from the centre (sums over several pairs a prompt also further); taken where all
            seen ones lie on it.

    Returns:
        [2]: the low and the high outcome.
    """
    reach = float(np.abs(values - centre).max())
    reach = reach if reach > 0 else limit
    limit = max(limit, reach)
    decided = 0.5 + (values[values != centre] - centre) / (2 * limit)
    middle = float(decided.mean()) if decided.size else 0.5
    letters = decided.size * middle * (1 - middle) + 0.5
    spread = min(1.0, (float(np.square(decided - middle).sum()) + 0.5) / letters)
    mean = float(values.mean())
    found = mean + spread**0.25 * (np.array([centre - reach, centre + reach]) - mean)
    return np.asarray(np.clip(found, centre - limit, centre + limit))


def mean_interval(values: Floats, *, centre: float, limit: float, seed: int, num_bootstrap: int) -> Interval:
    """The mean of one value a prompt with its bootstrap interval.

    Args:
        values: One outcome for each prompt (samples averaged before), [prompts].
        centre, limit: As for `imagined_outcomes`: 0.5 and 0.5 for win rates, 0 and 1 for differences of them.
        seed: Seed of the run.
        num_bootstrap: Number of resamples.
    """
    extended = np.concatenate([values, imagined_outcomes(values, centre=centre, limit=limit)])
    draws = bootstrap(
        lambda counts: (counts @ extended / counts.sum(axis=1))[:, None],
        num_prompts=len(values),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return interval_from_draws(float(values.mean()), draws[:, 0], num_prompts=len(values))
