"""Diagnostics of any objective: how far margins follow length, how far log-probs drift, whether targets can be reached.

Left out: when they are computed, and logging (training). Floor 2. Each is a function of detached per-pair or per-row
numbers, so that those of many micro-batches can be concatenated first; a window of a few pairs says little.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch
from fairplay.objectives.anchors import State
from fairplay.objectives.columns import value_of
from fairplay.objectives.evaluate import compare
from fairplay.objectives.losses import square
from fairplay.objectives.objective import Objective, Term
from fairplay.objectives.sides import Comparisons


@dataclass(frozen=True)
class LengthDependence:
    """How margins depend on the difference of lengths, by least squares over pairs.

    Attributes:
        slope: Margin per token by which the chosen response is longer; not a number where all differences are equal.
        share: Share of the margins' variance that length explains (r^2), in [0, 1]; not a number where margins or
            differences are all equal.
    """

    slope: float
    share: float


def length_gaps(batch: PreferenceBatch) -> Tensor:
    """Tokens by which the chosen response of each pair is longer than the rejected one, [pairs], float64."""
    lengths = batch.logps.lengths()[batch.pairs].to(torch.float64)
    return lengths[:, 0] - lengths[:, 1]


def length_dependence(margins: Tensor, gaps: Tensor) -> LengthDependence:
    """How much longer chosen responses explain larger margins.

    Args:
        margins: `ObjectiveOutput.margins` or any other margins, [pairs].
        gaps: `length_gaps` of the same pairs, [pairs].
    """
    y, x = (values.to(torch.float64) - values.to(torch.float64).mean() for values in (margins, gaps))
    covariance, of_gaps, of_margins = float(x @ y), float(x @ x), float(y @ y)
    slope = covariance / of_gaps if of_gaps > 0 else math.nan
    share = covariance**2 / (of_gaps * of_margins) if of_gaps > 0 and of_margins > 0 else math.nan
    return LengthDependence(slope, share)


def chosen_drift(logps: Tensor, start: Tensor) -> float:
    """Mean change of the chosen responses' log-prob since the start, in nats; below 0 they have become less likely.

    Args:
        logps: Log-prob of each chosen response under the policy, [pairs].
        start: The same under the policy that the training began with (the reference, where it is that), [pairs].

    Source: Pal et al. 2024, arXiv:2402.13228; Razin et al. 2024, arXiv:2410.08847 ("displacement").
    """
    return float((logps.detach() - start).to(torch.float64).mean())


@dataclass(frozen=True)
class Regression:
    """What a regression objective asks for, and what it has; each [rows of all squared terms], detached.

    Attributes:
        values: The contrast of rewards that is regressed (for SPPO a log-ratio, for IPO a difference of two).
        targets: What it should become.
        room: The same contrast of -reward(log pi_ref), all sides counted as positive: how far the rewards could rise
            if the responses became certain.
    """

    values: Tensor
    targets: Tensor
    room: Tensor


@dataclass(frozen=True)
class Reach:
    """How the values stand to their targets.

    Attributes:
        ratio: Sum of |value| over sum of |target|; near 1 where targets are met, not a number where all are 0.
        too_far: Share of targets with |target| > -log pi(y), in [0, 1].
        impossible: Share of targets > -log pi(y), which ask for a probability above 1; the other half of `too_far`
            asks for a fall by more than the response has to rise, which is possible but takes the policy apart.
    """

    ratio: float
    too_far: float
    impossible: float


def regression(
    objective: Objective, batch: PreferenceBatch, *, seed: int = 0, state: State | None = None
) -> Regression:
    """Values, targets and room of all squared terms; empty for objectives that regress nothing.

    Args:
        objective: Any objective; rewards with a link are taken through it.
        batch: What it is evaluated on; it must have what the objective needs.
        seed: The run's seed.
        state: The anchor's state, as in `evaluate`.
    """
    with torch.no_grad():
        comparisons, _ = compare(objective, batch, seed=seed, state=state)
        parts = [_parts(term, objective, comparisons) for term in objective.terms if term.loss is square]
    empty = comparisons.chosen.logps.new_zeros(0)
    return Regression(*(torch.cat([empty, *(part[place] for part in parts)]) for place in range(3)))


def reach(rows: Regression) -> Reach:
    """How far values are from their targets, and whether they can get there at all.

    Values that stay far below `ratio` 1 while `too_far` is large call for a smaller eta (a larger tau).
    """
    size = rows.targets.abs()
    total = float(size.sum())
    if not len(size):
        return Reach(math.nan, math.nan, math.nan)
    return Reach(
        ratio=float(rows.values.abs().sum()) / total if total > 0 else math.nan,
        too_far=float((size > rows.room).to(torch.float64).mean()),
        impossible=float((rows.targets > rows.room).to(torch.float64).mean()),
    )


def _parts(term: Term, objective: Objective, comparisons: Comparisons) -> tuple[Tensor, Tensor, Tensor]:
    sides = (comparisons.chosen, comparisons.rejected)
    values = sum((weight * side.rewards for weight, side in zip(term.contrast, sides, strict=True)), torch.zeros(()))
    room = sum(
        (
            abs(weight) * objective.beta * objective.link(-side.reference_logps)
            for weight, side in zip(term.contrast, sides, strict=True)
        ),
        torch.zeros(()),
    )
    targets = torch.as_tensor(value_of(term.offset, comparisons)) / value_of(term.scale, comparisons)
    return values, targets.to(values.dtype).expand_as(values), room
