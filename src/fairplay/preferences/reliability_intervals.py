"""How far the figures of `reliability.py` can be trusted: 95 % intervals over prompts, and what chance alone gives.

Left out: the figures themselves. Floor 2; pure.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairplay.preferences.reliability import NUM_BINS, confidence_bins
from fairplay.preferences.shares import share_interval
from fairplay.records import Interval
from fairplay.seeds import stable_seed

Vector = NDArray[np.float64]
NUM_DRAWS = 2000
MOST_POINTS, PAIRS_A_POINT = 8, 30
_CELLS = 1 << 20
_PERCENTILES = (2.5, 97.5)
_LEAST_ERROR, _TINY = 0.1, 1e-15


@dataclass(frozen=True, slots=True)
class ReliabilityIntervals:
    """Estimates with their 95 % intervals; pairs of one prompt are drawn, or counted, together.

    Attributes:
        accuracy: Share of pairs whose labelled winner is preferred, a tie counting half.
        brier: Mean of (1 - P(labelled winner))^2.
        log_loss: Mean of -log P(labelled winner), nats.
        calibration_error: Expected calibration error. Without an interval: few pairs in a bin never agree exactly, so
            it is above 0 for every oracle, and resampling does not mend that (a bootstrap corrected for bias holds the
            truth in 42 to 91 %).
        calibration_error_by_chance: What a perfectly calibrated oracle with the same confidences would show on as many
            pairs: the mean, and between which bounds 95 % of its errors lie. Within them there is no sign of
            miscalibration.
    """

    accuracy: Interval
    brier: Interval
    log_loss: Interval
    calibration_error: float
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

    Source: chance by consistency resampling, Broecker and Smith 2007; the calibration error's bias: Kumar, Liang and Ma
        2019, arXiv:1909.10155.
    """
    logits = np.asarray(winner_logits, dtype=np.float64)
    if not logits.size or not np.isfinite(logits).all():
        raise ValueError("intervals need one or more finite logits")
    probs = expit(logits / temperature)
    confidence = np.maximum(probs, 1 - probs)
    right = np.where(logits == 0, 0.5, logits > 0)
    error = _calibration_error(confidence)
    brier = mean_of_losses(np.square(1 - probs), prompts, seed=seed)
    return ReliabilityIntervals(
        accuracy=share_interval(right, prompts),
        brier=replace(brier, high=min(1.0, brier.high)),
        log_loss=mean_of_losses(np.logaddexp(0.0, -logits / temperature), prompts, seed=seed),
        calibration_error=float(error(np.ones((1, len(logits))), right)[0]),
        calibration_error_by_chance=_by_chance(confidence, error, seed),
    )


def mean_of_losses(losses: Vector, prompts: Sequence[str], *, seed: int) -> Interval:
    """The mean of losses, 0 or more each, most of them small and some large, with its 95 % interval over prompts.

    Whole prompts are drawn, and (mean - estimate) / standard error is taken in each resample: its percentiles know that
    the few large losses make the upper end uncertain, which those of the mean alone do not. A resample's standard error
    counts no less than `_LEAST_ERROR` of the sample's. A single prompt has no spread, and no width.

    Args:
        losses: [pairs].
        prompts: The prompt of each pair, [pairs].
        seed: Seeds the draws.

    Source: bootstrap-t: Efron 1981; Hall 1988; over clusters: Cameron, Gelbach and Miller 2008.
    """
    groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    sums = np.bincount(groups, losses).astype(np.float64)
    sizes = np.bincount(groups).astype(np.float64)
    mean = float(losses.mean())
    if len(sizes) == 1:
        return Interval(mean, mean, mean)
    spread = float(_standard_errors(np.ones((1, len(sizes))), sums, sizes)[0])
    studentised = np.concatenate(
        [
            (counts @ sums / (counts @ sizes) - mean)
            / np.maximum(_standard_errors(counts, sums, sizes), max(_LEAST_ERROR * spread, _TINY))
            for counts in _resamples(len(sizes), seed)
        ]
    )
    low, high = np.percentile(studentised, _PERCENTILES)
    return Interval(mean, max(0.0, min(mean, mean - float(high) * spread)), max(mean, mean - float(low) * spread))


def _standard_errors(counts: Vector, sums: Vector, sizes: Vector) -> Vector:
    """Of each resample's mean over pairs, whose prompts are drawn whole, [draws]."""
    totals = counts @ sizes
    means = counts @ sums / totals
    squares = counts @ np.square(sums) - 2 * means * (counts @ (sums * sizes)) + means**2 * (counts @ np.square(sizes))
    found: Vector = np.sqrt(np.maximum(squares, 0.0) * len(sums) / (len(sums) - 1)) / totals
    return found


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


def _calibration_error(confidence: Vector) -> Callable[[Vector, Vector], Vector]:
    """Expected calibration error of (counts, outcomes), [draws, pairs] each or outcomes [pairs], by fixed bins."""
    in_bin = np.eye(NUM_BINS)[confidence_bins(confidence)]

    def error(counts: Vector, outcomes: Vector) -> Vector:
        errors: Vector = np.abs((counts * (outcomes - confidence)) @ in_bin).sum(axis=1) / counts.sum(axis=1)
        return errors

    return error


def _resamples(num_prompts: int, seed: int) -> Iterator[Vector]:
    """How often each prompt is in a resample, [draws, prompts], in chunks."""
    rng = np.random.default_rng(stable_seed(seed, "reliability", "bootstrap"))
    shares = np.full(num_prompts, 1 / num_prompts)
    for size in _chunks(num_prompts):
        yield rng.multinomial(num_prompts, shares, size=size).astype(np.float64)


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


def _chunks(width: int) -> list[int]:
    size = max(1, _CELLS // width)
    return [min(size, NUM_DRAWS - start) for start in range(0, NUM_DRAWS, size)]
