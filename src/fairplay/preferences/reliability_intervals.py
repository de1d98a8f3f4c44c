"""How far the figures of `reliability.py` can be trusted: 95 % intervals over prompts, and what chance alone gives.

Left out: the figures themselves. Floor 2; pure.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from fairplay.preferences.reliability import NUM_BINS, confidence_bins
from fairplay.records import Interval
from fairplay.seeds import stable_seed

Vector = NDArray[np.float64]
NUM_DRAWS = 2000
MOST_POINTS, PAIRS_A_POINT = 8, 30
_CELLS = 1 << 20
_Z = float(norm.ppf(0.975))
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class ReliabilityIntervals:
    """Estimates with their 95 % intervals; pairs of one prompt are drawn, or counted, together.

    Attributes:
        accuracy: Share of pairs whose labelled winner is preferred, a tie counting half.
        brier: Mean of (1 - P(labelled winner))^2.
        log_loss: Mean of -log P(labelled winner), nats.
        calibration_error: Expected calibration error; the interval is corrected for its bias (few pairs in a bin never
            agree exactly, so the error is above 0 for every oracle), and may lie wholly below the value.
        calibration_error_by_chance: What a perfectly calibrated oracle with the same confidences would show on as many
            pairs: the mean, and between which bounds 95 % of its errors lie. Within them there is no sign of
            miscalibration.
    """

    accuracy: Interval
    brier: Interval
    log_loss: Interval
    calibration_error: Interval
    calibration_error_by_chance: Interval


def reliability_intervals(
    winner_logits: NDArray[np.floating], prompts: Sequence[str], *, temperature: float, seed: int
) -> ReliabilityIntervals:
    """Intervals of what labelled pairs say of the probabilities sigmoid(d / T).

    Args:
        winner_logits: Logit d that the labelled winner beats the loser, both presentation orders averaged, [pairs].
        prompts: The prompt of each pair, [pairs]; the unit that is drawn.
        temperature: The oracle's T > 0.
        seed: Seeds the draws.

    Raises:
        ValueError: If there is no pair, or a logit is not finite.

    Source: bootstrap over prompts, Efron 1979, and its reversed percentiles where the estimate is biased (Davison and
        Hinkley 1997, 5.2); chance by consistency resampling, Broecker and Smith 2007.
    """
    logits = np.asarray(winner_logits, dtype=np.float64)
    if not logits.size or not np.isfinite(logits).all():
        raise ValueError("intervals need one or more finite logits")
    probs = expit(logits / temperature)
    confidence = np.maximum(probs, 1 - probs)
    right = np.where(logits == 0, 0.5, logits > 0)
    losses = np.stack([np.square(1 - probs), np.logaddexp(0.0, -logits / temperature)], axis=1)
    error = _calibration_error(confidence)
    groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    means, errors = [], []
    for counts in _resamples(groups, seed):
        means.append(counts @ losses / counts.sum(axis=1, keepdims=True))
        errors.append(error(counts, right))
    low, high = np.percentile(np.concatenate(means), _PERCENTILES, axis=0)
    value = float(error(np.ones((1, len(logits))), right)[0])
    lowest, highest = np.percentile(np.concatenate(errors), _PERCENTILES)
    brier, log_loss = (
        Interval(float(column.mean()), min(float(low[k]), float(column.mean())), float(high[k]))
        for k, column in enumerate(losses.T)
    )
    return ReliabilityIntervals(
        accuracy=share_interval(right, prompts),
        brier=brier,
        log_loss=log_loss,
        calibration_error=Interval(value, max(0.0, 2 * value - float(highest)), max(0.0, 2 * value - float(lowest))),
        calibration_error_by_chance=_by_chance(confidence, error, seed),
    )


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """Pairs of like confidence, as a point of a curve: how sure the oracle is of them, and how often it is right."""

    num_pairs: int
    confidence: float
    accuracy: Interval


def reliability_points(
    winner_logits: NDArray[np.floating], prompts: Sequence[str], *, temperature: float
) -> tuple[ReliabilityPoint, ...]:
    """The reliability curve over groups of equally many pairs, `PAIRS_A_POINT` or more each, `MOST_POINTS` at most.

    Args:
        winner_logits: Logit that the labelled winner beats the loser, both presentation orders averaged, [pairs].
        prompts: The prompt of each pair, [pairs].
        temperature: The oracle's T > 0.

    Source: bins of equal mass: Nguyen and O'Connor 2015; bins of equal width leave most of them empty where an oracle
        is never sure.
    """
    logits = np.asarray(winner_logits, dtype=np.float64)
    probs = expit(logits / temperature)
    confidence = np.maximum(probs, 1 - probs)
    right = np.where(logits == 0, 0.5, logits > 0)
    order = np.argsort(confidence, kind="stable")
    names = np.asarray(prompts)
    parts = np.array_split(order, max(1, min(MOST_POINTS, len(order) // PAIRS_A_POINT)))
    return tuple(
        ReliabilityPoint(len(part), float(confidence[part].mean()), share_interval(right[part], list(names[part])))
        for part in parts
    )


def share_interval(outcomes: NDArray[np.floating], prompts: Sequence[str]) -> Interval:
    """A share with Wilson's 95 % interval for as many independent trials as the pairs of these prompts are worth.

    Args:
        outcomes: 1, 0, or 1/2 for a tie, [pairs].
        prompts: The prompt of each pair, [pairs]; where each has one pair, this is Wilson's interval as it stands.

    Raises:
        ValueError: If there is no pair.

    Source: Wilson 1927; design effect of unequal clusters: Kish 1965, Korn and Graubard 1998.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    if not values.size:
        raise ValueError("a share needs one or more pairs")
    share, count = float(values.mean()), len(values)
    groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    num_groups = int(groups.max()) + 1
    trials = float(count)
    if 1 < num_groups < count and 0 < share < 1:
        clustered = float(np.square(np.bincount(groups, weights=values - share)).sum()) * num_groups / (num_groups - 1)
        trials = count / max(1.0, clustered / (count * share * (1 - share)))
    elif num_groups < count:
        trials = float(num_groups)
    centre = share + _Z * _Z / (2 * trials)
    half = _Z * np.sqrt(share * (1 - share) / trials + _Z * _Z / (4 * trials * trials))
    scale = 1 + _Z * _Z / trials
    low, high = float((centre - half) / scale), float((centre + half) / scale)
    return Interval(share, max(0.0, min(low, share)), min(1.0, max(high, share)))


def _calibration_error(confidence: Vector) -> Callable[[Vector, Vector], Vector]:
    """Expected calibration error of (counts, outcomes), [draws, pairs] each or outcomes [pairs], by fixed bins."""
    in_bin = np.eye(NUM_BINS)[confidence_bins(confidence)]

    def error(counts: Vector, outcomes: Vector) -> Vector:
        errors: Vector = np.abs((counts * (outcomes - confidence)) @ in_bin).sum(axis=1) / counts.sum(axis=1)
        return errors

    return error


def _resamples(groups: NDArray[np.intp], seed: int) -> Iterator[Vector]:
    """How often each pair is in a resample of whole prompts, [draws, pairs], in chunks."""
    rng = np.random.default_rng(stable_seed(seed, "reliability", "bootstrap"))
    num_groups = int(groups.max()) + 1
    shares = np.full(num_groups, 1 / num_groups)
    for size in _chunks(len(groups)):
        yield rng.multinomial(num_groups, shares, size=size)[:, groups].astype(np.float64)


def _by_chance(confidence: Vector, error: Callable[[Vector, Vector], Vector], seed: int) -> Interval:
    rng = np.random.default_rng(stable_seed(seed, "reliability", "chance"))
    once = np.ones((1, len(confidence)))
    draws = np.concatenate(
        [
            error(once, (rng.random((size, len(confidence))) < confidence).astype(np.float64))
            for size in _chunks(len(confidence))
        ]
    )
    low, high = np.percentile(draws, _PERCENTILES)
    return Interval(float(draws.mean()), float(low), float(high))


def _chunks(num_pairs: int) -> list[int]:
    size = max(1, _CELLS // num_pairs)
    return [min(size, NUM_DRAWS - start) for start in range(0, NUM_DRAWS, size)]
