"""Whether two policies differ on the same prompts: paired difference, sign-flip test, Holm, detectable gap.

Left out: which comparisons are made (the caller declares the family). Floor 5; pure numpy and scipy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairplay.errors import DataError
from fairplay.evaluation.intervals import mean_interval
from fairplay.records import Interval
from fairplay.seeds import stable_seed

Floats = NDArray[np.float64]

NUM_FLIPS = 10_000
_MOST_EXACT = 14
_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much an outcome differs between two policies on the same prompts.

    Attributes:
        difference: Mean of after - before over prompts, in [-1, 1], with its 95 % interval.
        p_value: Two-sided sign-flip p-value of no difference.
        minimum_detectable_gap: The true difference that so many prompts with this spread find in 80 % of evaluations.
        num_prompts: Number of prompts (or pairs) that both have.
    """

    difference: Interval
    p_value: float
    minimum_detectable_gap: float
    num_prompts: int


def paired_difference(before: Floats, after: Floats, *, seed: int, num_bootstrap: int = 2000) -> PairedDifference:
    """Compare two policies by one outcome in [0, 1] a prompt, the same prompts in the same order.

    Args:
        before: Outcomes of the one, [prompts].
        after: Outcomes of the other, [prompts].
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: If there are no prompts, the numbers of prompts differ, or an outcome is not finite.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or before.size == 0:
        raise DataError(f"outcomes of {before.shape} and {after.shape} prompts can't be paired")
    differences = after - before
    if not np.isfinite(differences).all():
        raise DataError(f"outcome {int(np.argmin(np.isfinite(differences)))} is not a finite number")
    spread = float(differences.std(ddof=1)) if differences.size > 1 else float("inf")
    return PairedDifference(
        difference=mean_interval(differences, centre=0.0, limit=1.0, seed=seed, num_bootstrap=num_bootstrap),
        p_value=sign_flip_p_value(differences, seed=seed),
        minimum_detectable_gap=minimum_detectable_gap(spread, num_prompts=differences.size),
        num_prompts=differences.size,
    )


def sign_flip_p_value(differences: Floats, *, seed: int) -> float:
    """Two-sided p-value of "either sign of each difference was as likely".

    Exact (McNemar's test) where all differences that are not 0 have one size, exact by enumeration up to 14 of them,
    else from 10,000 seeded flips as (1 + hits) / (1 + flips), so that it is never 0.

    Args:
        differences: One for each prompt, [prompts], finite; zeros say nothing and are left out.
        seed: Seed of the run.

    Source: Fisher 1935; McNemar 1947; Phipson and Smyth 2010 for the added ones.
    """
    moved = differences[differences != 0]
    if moved.size == 0:
        return 1.0
    sizes = np.abs(moved)
    if np.ptp(sizes) <= 1e-12 * sizes.max():
        return float(stats.binomtest(int((moved > 0).sum()), moved.size).pvalue)
    threshold = abs(float(moved.sum())) * (1 - 1e-12)
    if moved.size <= _MOST_EXACT:
        patterns = np.arange(1 << moved.size)[:, None] >> np.arange(moved.size) & 1
        return float((np.abs((2 * patterns - 1) @ moved) >= threshold).mean())
    rng = np.random.default_rng(stable_seed(seed, "sign flips", int(moved.size)))
    chunk, hits = max(1, _CELLS // moved.size), 0
    for start in range(0, NUM_FLIPS, chunk):
        signs = 2.0 * rng.integers(2, size=(min(chunk, NUM_FLIPS - start), moved.size), dtype=np.int8) - 1
        hits += int((np.abs(signs @ moved) >= threshold).sum())
    return (1 + hits) / (1 + NUM_FLIPS)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values of a declared family of comparisons, adjusted so that one false claim in the family has its chance.

    Args:
        p_values: By name of the comparison, each in [0, 1].

    Returns:
        Adjusted p-values by name, in the order given; compare each with 0.05.

    Source: Holm 1979.
    """
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def minimum_detectable_gap(spread: float, *, num_prompts: int) -> float:
    """The true mean difference that a two-sided 5 % test finds with 80 % power: 2.80 * spread / sqrt(prompts).

    Args:
        spread: Standard deviation over prompts of the difference (of the score, against a fixed 1/2).
        num_prompts: Number of prompts, >= 1.

    Returns:
        In the unit of the spread, at most 1: no difference of two shares is larger.
    """
    factor = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    return min(1.0, factor * spread / float(np.sqrt(num_prompts)))
