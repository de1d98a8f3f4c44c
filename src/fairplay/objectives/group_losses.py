"""Losses of a whole group of responses, row by row; their sum over an example's rows is the group's loss.

Left out: scalar losses (`losses.py`). Floor 2. A group is the rows of one example, and its margins are the rewards.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fairplay.objectives.columns import group_logsumexp
from fairplay.objectives.comparisons import same_example
from fairplay.objectives.sides import Comparisons


def negative_log_softmax(margins: Tensor, comparisons: Comparisons) -> Tensor:
    """-log softmax(m)_i over the group."""
    return group_logsumexp(margins, same_example(comparisons.rows.example)) - margins


def plackett_luce(margins: Tensor, comparisons: Comparisons) -> Tensor:
    """-log of the chance that response i is drawn first among those that score no higher."""
    scores = comparisons.column("scores", comparisons.chosen)
    is_left = same_example(comparisons.rows.example) & (scores[None, :] <= scores[:, None])
    return group_logsumexp(margins, is_left) - margins


@dataclass(frozen=True)
class KlToScores:
    """q_i (log q_i - log p_i) with q = softmax(m), p = softmax(score / alpha) over the group."""

    alpha: float
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, margins: Tensor, comparisons: Comparisons) -> Tensor:
        group = same_example(comparisons.rows.example)
        scores = comparisons.column("scores", comparisons.chosen) / self.alpha
        log_q = margins - group_logsumexp(margins, group)
        log_p = scores - group_logsumexp(scores, group)
        return log_q.exp() * (log_q - log_p)
