"""95 % intervals over prompts: Wilson's for counts, a bootstrap of whole prompts for everything else.

Left out: p-values (`paired_tests`) and what the numbers mean. Floor 5; pure numpy and scipy.
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
_TINY = 1e-15
_CELLS = 1 << 20


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


def share_interval(outcomes: Floats, clusters: NDArray[np.int64]) -> Interval:
    """Wilson's interval of a mean of outcomes in [0, 1] whose ties count half and which come in clusters.

    Wilson's p (1 - p) is the variance of outcomes 0 and 1; here it is the outcomes' own, s^2, and the number of trials
    is how many independent ones would have the mean's variance over clusters, n_eff = s^2 / V, at most n:

        V = sum over clusters (sum of (outcome - mean))^2 / n^2

    Without ties, and one outcome a cluster, this is Wilson's interval.

    Args:
        outcomes: [n], n >= 1.
        clusters: The cluster of each outcome, [n].

    Source: score interval inverted with the tie share held: Newcombe 1998; effective sample size: Kish 1965.
    """
    mean, size = float(outcomes.mean()), outcomes.size
    _, index = np.unique(clusters, return_inverse=True)
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


def interval_from_draws(value: float, draws: Floats, *, num_prompts: int) -> Interval:
    """The percentile interval of bootstrap draws, expanded for few prompts; it always contains the value.

    Args:
        value: The point estimate.
        draws: The statistic's bootstrap values, [resamples].
        num_prompts: Number of prompts; with the imagined ones it sets how far the percentiles move outwards, from
            2.5 % to what Student's t in place of the normal would give.

    Source: Hesterberg 2015, arXiv:1411.5279, section 5.3 (expanded percentile interval).
    """
    units = num_prompts + NUM_IMAGINED
    tail = float(stats.norm.cdf(-np.sqrt(units / (units - 1)) * stats.t.ppf(_LEVEL, units - 1)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value))


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
