"""How often a policy puts the chosen response above the rejected one on held-out pairs, and how training changed that.

Left out: the log-probs behind the margins (`training/`); a margin is whatever the caller compares by: summed or mean
log-probs, or implicit rewards against a reference. Floor 5; pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.evaluation.paired_tests import PairedDifference, paired_difference
from fairplay.preferences.shares import share_interval
from fairplay.records import Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PreferenceAccuracy:
    """Share of held-out pairs that a policy orders as the annotator did.

    Attributes:
        accuracy: In [0, 1], ties half, with Wilson's 95 % interval for ties and clusters.
        num_pairs: Number of pairs.
        ties: Pairs with margin 0.
        mean_margin: Mean of chosen - rejected, in the unit of the margins.
    """

    accuracy: Interval
    num_pairs: int
    ties: int
    mean_margin: float


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """Preference accuracy before and after training on the same pairs, and the paired difference after - before."""

    before: PreferenceAccuracy
    after: PreferenceAccuracy
    change: PairedDifference


def preference_accuracy(margins: Sequence[float] | Floats, prompts: Sequence[str] = ()) -> PreferenceAccuracy:
    """Accuracy of one policy.

    Args:
        margins: chosen - rejected, one for each pair, [pairs].
        prompts: The prompt of each pair, [pairs]: pairs of one prompt are no independent evidence. Empty where every
            pair has its own.

    Raises:
        DataError: If there are no pairs, or a margin is not finite (a broken policy must not score like a good one);
            or if there is not one prompt a pair.
    """
    values = _checked(margins)
    return PreferenceAccuracy(
        accuracy=share_interval(_outcomes(values), _prompt_index(prompts, values.size)),
        num_pairs=values.size,
        ties=int((values == 0).sum()),
        mean_margin=float(values.mean()),
    )


def compare_preference_accuracy(
    before: Sequence[float] | Floats,
    after: Sequence[float] | Floats,
    *,
    prompts: Sequence[str] = (),
    seed: int,
    num_bootstrap: int = 2000,
) -> AccuracyChange:
    """Accuracy before and after on the same pairs in the same order, with the paired difference.

    Args:
        before, after: Margins, [pairs], of the same kind. Against a reference that is the start policy, the margins
            before are all 0, and every pair is a tie.
        prompts: As for `preference_accuracy`. The test flips and resamples whole prompts, each with the sum over its
            pairs.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: As `preference_accuracy`; or if the numbers of pairs differ.
    """
    one, other = _checked(before), _checked(after)
    if one.size != other.size:
        raise DataError(f"{one.size} margins before and {other.size} after can't be paired")
    index = _prompt_index(prompts, one.size)
    sums = [np.bincount(index, weights=_outcomes(side)) * (index.max() + 1) / index.size for side in (one, other)]
    return AccuracyChange(
        before=preference_accuracy(one, prompts),
        after=preference_accuracy(other, prompts),
        change=paired_difference(*sums, seed=seed, num_bootstrap=num_bootstrap),
    )


def _prompt_index(prompts: Sequence[str], num_pairs: int) -> NDArray[np.int64]:
    if not prompts:
        return np.arange(num_pairs)
    if len(prompts) != num_pairs:
        raise DataError(f"{num_pairs} pairs of {len(prompts)} prompts")
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return np.array([numbers[prompt] for prompt in prompts], dtype=np.int64)


def _outcomes(margins: Floats) -> Floats:
    return 0.5 * (1 + np.sign(margins))


def _checked(margins: Sequence[float] | Floats) -> Floats:
    values = np.asarray(margins, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError("there are no held-out pairs to measure accuracy on")
    if not np.isfinite(values).all():
        index = int(np.argmin(np.isfinite(values)))
        raise DataError(f"the margin of pair {index} is {values[index]}", hint="the policy's log-probs are broken")
    return values
