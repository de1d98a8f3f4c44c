"""What every oracle does: responses in, pair logits out; and the door for oracles that give one score a response.

Left out: the oracles themselves, probabilities and win rates (`preferences/`). Floor 4; imports no torch.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Protocol

from fairplay.errors import DataError
from fairplay.preferences.win_matrix import asked_pairs, orders_read
from fairplay.records import Dropped, PreferenceGroup, ResponseGroup

NO_VERDICT = "no verdict on a pair"


class PreferenceOracle(Protocol):
    """Who prefers: a ranker for training, or a judge on the test set.

    Attributes:
        name: Kind and identity, the same wherever the same oracle is used, such as "rule:package.module:name".
        temperature: What its logits are to be divided by to be log-odds; `preferences.win_matrix` takes it.
    """

    @property
    def name(self) -> str: ...

    @property
    def temperature(self) -> float: ...

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group.

        Args:
            groups: Responses by prompt; K may differ. Verdicts do not depend on which groups come together.

        Returns:
            One judged group for each, in the same order; entry [i][j] is the logit that i beats j with i shown first.
            None where that order was not read, or there is no verdict: see `split_judged`.

        Raises:
            DataError: If a verdict is not a finite number; the message names the prompt.
        """
        ...


def split_judged(judged: Sequence[PreferenceGroup]) -> tuple[list[PreferenceGroup], list[Dropped]]:
    """The groups in which every pair that was to be compared has a verdict, and the others as dropped.

    An oracle that asks a server, or reads records, may leave verdicts out; a pair without one is neither a tie nor a
    loss; what is dropped has the oracle's own reason, where it told one. Pairs that were not to be compared
    (`PreferenceGroup.anchors`) are none of these.
    """
    kept = [preferences for preferences in judged if _has_its_verdicts(preferences)]
    lost = [item for item in judged if not _has_its_verdicts(item)]
    return kept, [Dropped(item.group.prompt.id, reason_of(item, NO_VERDICT)) for item in lost]


def reason_of(judged: PreferenceGroup, otherwise: str) -> str:
    """Why a group has no verdict: the oracle's first reason, or the other phrase where it told none."""
    return judged.missing[0] if judged.missing else otherwise


def _has_its_verdicts(preferences: PreferenceGroup) -> bool:
    is_read = orders_read(preferences)
    return bool((is_read | is_read.T | ~asked_pairs(preferences)).all())


def scores_to_group(
    group: ResponseGroup, scores: Sequence[float], *, scale: float = 1.0, truncated: Sequence[bool] = ()
) -> PreferenceGroup:
    """A judged group from one score a response: L_ij = (s_i - s_j) / scale.

    Args:
        group: The responses, K of them.
        scores: The score of each, [K]; higher is better.
        scale: Points of score that make one nat of logit, > 0.
        truncated: [K]; whether the oracle read only a part; empty if it always reads all.

    Returns:
        The group with antisymmetric pair logits, [K][K].

    Raises:
        DataError: If there is not one finite score a response; the message names the prompt.
        ValueError: If the scale is not positive.
    """
    if not (isfinite(scale) and scale > 0):
        raise ValueError(f"scale {scale} is not a positive number")
    if len(scores) != len(group.responses):
        raise DataError(f"prompt {group.prompt.id}: {len(scores)} scores for {len(group.responses)} responses")
    for index, score in enumerate(scores):
        if not isfinite(score):
            raise DataError(
                f"prompt {group.prompt.id}: the score of response {index} is {score}",
                hint="an oracle must give every response a finite score",
            )
    logits = tuple(tuple((first - second) / scale for second in scores) for first in scores)
    return PreferenceGroup(group, logits, tuple(truncated) or (False,) * len(scores))
