"""How far an oracle goes by length, held against pairs whose better response is known.

Left out: length within a run's own preferences, where nobody knows the better one (`audit.py`). Floor 2; pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.preferences.shares import share_interval
from fairplay.records import Interval

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Length and verdicts on labelled pairs; lengths in the unit that was given.

    Attributes:
        longer_wins: Share of pairs whose longer response is the labelled winner, equal lengths counting half: the
            accuracy of a judge that reads nothing but length (that of its opposite is 1 minus this).
        prefers_longer: Share of pairs whose longer response the oracle prefers, counted alike; where it is farther from
            1/2 than `longer_wins`, the oracle goes by length more than the labels do.
        correlation: Of the logit and the length difference, first response less second, over both ways to write each
            pair, so that neither has a mean: sum d g / sqrt(sum d^2 sum g^2); 0 where one of them is always 0.
        label_correlation: The same with the label, +1 or -1, in place of the logit: what there is in the data.
        accuracy_shorter_wins, accuracy_longer_wins: Accuracy on the pairs whose shorter, and whose longer response is
            the labelled winner; None without such pairs.
        num_shorter_wins, num_longer_wins: How many these are.
    """

    longer_wins: Interval
    prefers_longer: Interval
    correlation: float
    label_correlation: float
    accuracy_shorter_wins: Interval | None
    accuracy_longer_wins: Interval | None
    num_shorter_wins: int
    num_longer_wins: int


def length_bias(
    winner_logits: NDArray[np.floating], length_gaps: NDArray[np.floating], prompts: Sequence[str]
) -> LengthBias:
    """The figures on labelled pairs.

    Args:
        winner_logits: Logit d that the labelled winner beats the loser, both presentation orders averaged, [pairs].
        length_gaps: Length of the labelled winner less that of the loser, [pairs].
        prompts: The prompt of each pair, [pairs]; the unit of the intervals.

    Raises:
        ValueError: If there is no pair, or as many of one as not of the other.
    """
    logits, gaps = np.asarray(winner_logits, dtype=np.float64), np.asarray(length_gaps, dtype=np.float64)
    if not logits.size or logits.shape != gaps.shape or len(prompts) != len(logits):
        raise ValueError(f"{logits.size} logits, {gaps.size} length gaps, {len(prompts)} prompts")
    names = np.asarray(prompts)
    right = _half_at_zero(logits)
    shorter, longer = gaps < 0, gaps > 0
    return LengthBias(
        longer_wins=share_interval(_half_at_zero(gaps), prompts),
        prefers_longer=share_interval(_half_at_zero(logits * np.sign(gaps)), prompts),
        correlation=_uncentred(logits, gaps),
        label_correlation=_uncentred(np.ones_like(gaps), gaps),
        accuracy_shorter_wins=share_interval(right[shorter], list(names[shorter])) if shorter.any() else None,
        accuracy_longer_wins=share_interval(right[longer], list(names[longer])) if longer.any() else None,
        num_shorter_wins=int(shorter.sum()),
        num_longer_wins=int(longer.sum()),
    )


def _half_at_zero(values: Vector) -> Vector:
    return np.where(values == 0, 0.5, values > 0)


def _uncentred(one: Vector, other: Vector) -> float:
    scale = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float(one @ other) / scale if scale > 0 else 0.0
