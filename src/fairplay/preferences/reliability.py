"""Whether an oracle's probabilities can be taken at their word: held against pairs whose better response is known.

Left out: fitting the temperature (`calibration.py`), intervals (`reliability_intervals.py`), asking the oracle
(`oracles/`). Floor 2; pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairplay.errors import DataError
from fairplay.preferences.calibration import fit_score_temperature
from fairplay.preferences.win_matrix import group_logits, symmetric_logits
from fairplay.records import PreferenceGroup

NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs of like confidence.

    Attributes:
        low, high: Confidence from and to, within [1/2, 1].
        num_pairs: How many.
        confidence: Their mean confidence; 0 without pairs.
        accuracy: Share whose labelled winner the oracle prefers, a tie counting half; 0 without pairs.
    """

    low: float
    high: float
    num_pairs: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """What labels say of an oracle's probabilities; a coin has accuracy 1/2, Brier score 1/4, log loss ln 2.

    Attributes:
        num_pairs: Labelled pairs.
        accuracy: Share whose labelled winner is preferred; a tie counts half.
        mean_confidence: Mean of max(P, 1 - P); above the accuracy, the oracle is over-confident.
        brier: Mean of (1 - P(labelled winner))^2.
        log_loss: Mean of -log P(labelled winner), nats.
        calibration_error: Expected calibration error, sum over bins of share |accuracy - confidence|.
        fitted_temperature: The temperature that these labels choose; above the oracle's own, it is over-confident.
        bins: The reliability curve, `NUM_BINS` bins of equal width.
    """

    num_pairs: int
    accuracy: float
    mean_confidence: float
    brier: float
    log_loss: float
    calibration_error: float
    fitted_temperature: float
    bins: tuple[ReliabilityBin, ...]


def reliability(winner_logits: NDArray[np.floating], *, temperature: float) -> Reliability:
    """Calibration of the probabilities sigmoid(d / T) on labelled pairs.

    Args:
        winner_logits: Logit d that the labelled winner beats the loser, both presentation orders averaged, [pairs].
        temperature: The oracle's T > 0.

    Returns:
        The figures.

    Raises:
        ValueError: If there is no pair, or a logit is not finite.

    Source: Brier 1950; Guo et al. 2017, arXiv:1706.04599 (expected calibration error).
    """
    logits = np.asarray(winner_logits, dtype=np.float64)
    fitted = fit_score_temperature(logits)
    probs = expit(logits / temperature)
    confidence = np.maximum(probs, 1 - probs)
    right = np.where(logits == 0, 0.5, logits > 0)
    place = confidence_bins(confidence)
    bins = tuple(_bin(number, confidence[place == number], right[place == number]) for number in range(NUM_BINS))
    return Reliability(
        num_pairs=len(logits),
        accuracy=float(right.mean()),
        mean_confidence=float(confidence.mean()),
        brier=float(np.square(1 - probs).mean()),
        log_loss=float(np.logaddexp(0.0, -logits / temperature).mean()),
        calibration_error=sum(one.num_pairs * abs(one.accuracy - one.confidence) for one in bins) / len(logits),
        fitted_temperature=fitted,
        bins=bins,
    )


def confidence_bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of the reliability curve that each confidence in [1/2, 1] falls into, [pairs], from 0."""
    return np.minimum(((confidence - 0.5) * 2 * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def winner_logits(groups: Sequence[PreferenceGroup], scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The logits of all pairs that labels decide: of the response with the higher score against the other.

    Args:
        groups: Judged responses.
        scores: Scores by someone else, [groups][K], or empty for a group without labels.

    Returns:
        d, [pairs]; pairs of equal scores, and those that were not compared, are left out.

    Raises:
        DataError: If a group's scores are not one finite number a response; the message names the prompt.
    """
    found: list[float] = []
    for preferences, own in zip(groups, scores, strict=True):
        size = len(preferences.group.responses)
        if len(own) not in (0, size) or not np.isfinite(own).all():
            raise DataError(f"prompt {preferences.group.prompt.id}: scores are not {size} finite numbers")
        d = symmetric_logits(group_logits(preferences))
        found += [d[i, j] for i in range(len(own)) for j in range(len(own)) if own[i] > own[j]]
    logits = np.asarray(found, dtype=np.float64)
    return logits[~np.isnan(logits)]


def _bin(number: int, confidence: NDArray[np.float64], right: NDArray[np.float64]) -> ReliabilityBin:
    low, high = (0.5 + edge / (2 * NUM_BINS) for edge in (number, number + 1))
    if not len(confidence):
        return ReliabilityBin(low, high, 0, 0.0, 0.0)
    return ReliabilityBin(low, high, len(confidence), float(confidence.mean()), float(right.mean()))
