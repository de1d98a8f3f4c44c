"""How rewards are matched across a step, and how its example losses are reduced to one number.

Left out: the usual case's division of labour between micro-batches (`evaluate.py`). Floor 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from fairplay.logps import StepTotals
from fairplay.objectives.sides import Comparisons

Matching = Callable[[Comparisons], Comparisons]
Reduction = Callable[[Tensor, StepTotals], Tensor]


def as_paired(comparisons: Comparisons) -> Comparisons:
    """Each chosen reward meets the rejected one of its own row."""
    return comparisons


@dataclass(frozen=True)
class SortedRewards:
    """The k-th smallest chosen reward of the step meets the k-th smallest rejected one."""

    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons) -> Comparisons:
        chosen, rejected = comparisons.chosen, comparisons.rejected
        return replace(
            comparisons,
            chosen=replace(chosen, rewards=chosen.rewards.sort().values),
            rejected=replace(rejected, rewards=rejected.rewards.sort().values),
        )


@dataclass(frozen=True)
class SortedMargins:
    """The k-th smallest margin under the policy meets the k-th smallest under the reference, both times beta."""

    beta: float
    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons) -> Comparisons:
        chosen, rejected = comparisons.chosen, comparisons.rejected
        policy = (chosen.logps - rejected.logps).sort().values
        reference = (chosen.reference_logps - rejected.reference_logps).sort().values
        return replace(
            comparisons,
            chosen=replace(chosen, rewards=self.beta * policy),
            rejected=replace(rejected, rewards=self.beta * reference),
        )


def mean_over_examples(example_losses: Tensor, totals: StepTotals) -> Tensor:
    """Their share of the step's mean, so that micro-batches sum to it."""
    return example_losses.sum() / totals.num_examples


@dataclass(frozen=True)
class LogMeanExp:
    """-b log mean exp(-loss / b) over the step's examples: hard examples, likely mislabelled, count less."""

    temperature: float
    couples_examples: ClassVar[bool] = True

    def __call__(self, example_losses: Tensor, totals: StepTotals) -> Tensor:
        scaled = (-example_losses / self.temperature).logsumexp(dim=0) - math.log(totals.num_examples)
        return -self.temperature * scaled
