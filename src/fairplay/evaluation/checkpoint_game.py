"""All checkpoints of a run against each other: win matrix, its Nash mixture, how exploitable the last one is, advice.

Left out: judging (`judging.py`), the game's mathematics (`preferences/game.py`). Floor 5; pure.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairplay.errors import DataError
from fairplay.evaluation.intervals import NUM_IMAGINED, bootstrap, imagined_outcomes, interval_from_draws
from fairplay.preferences.game import nash_mixture
from fairplay.records import CheckpointGame, Interval

Floats = NDArray[np.float64]
_LEVEL = 0.95
_CLEARLY = 3.0


def checkpoint_game(
    names: Sequence[str],
    scores: Mapping[tuple[int, int], Mapping[str, float]],
    *,
    seed: int,
    num_bootstrap: int,
) -> CheckpointGame:
    """Evaluate the games of all pairs of checkpoints on the prompts that all pairs have.

    The bound of the exploitability promises at least 95 %, one-sided, whoever the best opponent is; see `_lower_bound`.

    Args:
        names: The checkpoints from the start to the last iterate, two or more.
        scores: (i, j) with i < j -> prompt id -> P(j beats i), mean over samples and both presentation orders.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: If a pair is missing, or no prompt was judged for all pairs.

    Source: empirical games: Balduzzi et al. 2018, arXiv:1806.02643; Lanctot et al. 2017, arXiv:1711.00832.
    """
    pairs = list(combinations(range(len(names)), 2))
    missing = [f"{names[i]} and {names[j]}" for i, j in pairs if (i, j) not in scores]
    if missing or not pairs:
        raise DataError(f"not judged against each other: {', '.join(missing) or 'fewer than two checkpoints'}")
    prompts = sorted(set.intersection(*(set(scores[pair]) for pair in pairs)))
    if not prompts:
        raise DataError("no held-out prompt was judged for every pair of checkpoints")
    outcomes = np.array([[scores[pair][prompt] for pair in pairs] for prompt in prompts])
    means, draws = outcomes.mean(axis=0), _draws(outcomes, seed=seed, num_bootstrap=num_bootstrap)
    rates = _matrix(len(names), pairs, means, draws, num_prompts=len(prompts))
    against_last = [place for place, (_, j) in enumerate(pairs) if j == len(names) - 1]
    earlier = 1 - means[against_last]  # P(i beats the last), i = 0 ... n - 2
    exploitability = max(0.0, float(earlier.max()) - 0.5)
    low = _lower_bound(earlier, 1 - draws[:, against_last], num_prompts=len(prompts)) - 0.5
    return CheckpointGame(
        names=tuple(names),
        num_prompts=len(prompts),
        win_rates=rates,
        nash=tuple(float(weight) for weight in nash_mixture(_values(rates))),
        exploiter=names[int(earlier.argmax())] if exploitability > 0 else names[-1],
        exploitability=exploitability,
        exploitability_low=max(0.0, low),
        advice="stop" if low > 0 else "go on" if rates[-1][-2].low > 0.5 else "no progress",
    )


def _draws(outcomes: Floats, *, seed: int, num_bootstrap: int) -> Floats:
    """Every pair's mean over the same resamples of prompts, [resamples, pairs]."""
    imagined = [imagined_outcomes(column, centre=0.5, limit=0.5) for column in outcomes.T]
    extended = np.concatenate([outcomes, np.stack(imagined, axis=1)])
    return bootstrap(
        lambda counts: counts @ extended / counts.sum(axis=1, keepdims=True),
        num_prompts=len(outcomes),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def _matrix(
    size: int, pairs: Sequence[tuple[int, int]], means: Floats, draws: Floats, *, num_prompts: int
) -> tuple[tuple[Interval, ...], ...]:
    rates = [[Interval(0.5, 0.5, 0.5)] * size for _ in range(size)]
    for place, (i, j) in enumerate(pairs):
        one = interval_from_draws(float(means[place]), draws[:, place], num_prompts=num_prompts)
        rates[j][i] = one
        rates[i][j] = Interval(1 - one.value, 1 - one.high, 1 - one.low)
    return tuple(map(tuple, rates))


def _values(rates: Sequence[Sequence[Interval]]) -> Floats:
    return np.array([[one.value for one in row] for row in rates])


def _lower_bound(means: Floats, draws: Floats, *, num_prompts: int) -> float:
    """A lower bound of the largest of several true means that holds in at least 95 % of evaluations.

    The largest over opponents of (centre - k standard errors): the centre is that of the draws (the imagined prompts
    draw it to "no preference"), at most the mean; k is the 95 % quantile of the largest studentised downward error
    among the opponents that may be the best one, with Student's t in the place of the normal. Who is more than
    `_CLEARLY` standard errors of the difference behind is none of these, and does not widen the bound.

    Args:
        means: One for each opponent, [opponents].
        draws: Their bootstrap values, [resamples, opponents].
        num_prompts: Number of prompts.

    Source: intersection bounds: Chernozhukov, Lee and Rosen 2013, arXiv:0907.3503; Hansen 2005 and Andrews and Soares
        2010 on leaving out what is clearly behind.
    """
    best = int(means.argmax())
    spread = (draws - draws[:, [best]]).std(axis=0)
    near = means[best] - means <= _CLEARLY * spread
    centres, errors = draws.mean(axis=0)[near], draws.std(axis=0)[near]
    normal = float(np.quantile(((centres - draws[:, near]) / errors).max(axis=1), _LEVEL))
    units = num_prompts + NUM_IMAGINED
    factor = float(np.sqrt(units / (units - 1)) * stats.t.ppf(stats.norm.cdf(normal), units - 1))
    return float((np.minimum(centres, means[near]) - factor * errors).max())
