"""Columns: numbers of a row that come from the data or from the policy itself, for offsets, coefficients, weights.

Left out: statistics of the whole step (`anchors.py`). Floor 2. A column maps comparisons to [rows], or to a scalar;
wherever a column is asked for, a plain number will do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fairplay.objectives import stable
from fairplay.objectives.comparisons import same_example
from fairplay.objectives.sides import Comparisons, Side, chosen

Column = float | Callable[[Comparisons], Tensor]


def value_of(column: Column, comparisons: Comparisons) -> Tensor | float:
    """The column's values, or the number itself."""
    return column(comparisons) if callable(column) else column


def sppo_targets(win_rates: Tensor, *, eta: float) -> Tensor:
    """Log-ratio that each response should reach: eta times its advantage over the policy that wrote it.

    Args:
        win_rates: P(response beats that policy), [rows], in [0, 1].
        eta: Nats of log-ratio per unit of advantage (the authors' code calls 1 / eta "beta").

    Returns:
        Targets in nats, [rows]; 0 where the response wins exactly half of its games.

    Source: Wu et al. 2024, arXiv:2405.00675, Algorithm 1.
    """
    return eta * (win_rates - 0.5)


@dataclass(frozen=True)
class WinRateTarget:
    """eta (P - 1/2): SPPO's target for the log-ratio of one side, in nats."""

    eta: float
    of: Callable[[Comparisons], Side] = chosen
    needs: ClassVar[frozenset[str]] = frozenset({"win_rates"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return sppo_targets(comparisons.column("win_rates", self.of(comparisons)), eta=self.eta)


@dataclass(frozen=True)
class ExactTarget:
    """eta P - log mean_j exp(eta P_j): SPPO's target with log Z estimated from the example's responses, in nats."""

    eta: float
    needs: ClassVar[frozenset[str]] = frozenset({"win_rates"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        gains = self.eta * comparisons.column("win_rates", comparisons.chosen)
        group = same_example(comparisons.rows.example)
        return gains - group_logsumexp(gains, group) + torch.log(group.sum(dim=1).to(gains.dtype))


@dataclass(frozen=True)
class ScoreTarget:
    """eta * score: a target for the log-ratio of the chosen side, in nats."""

    eta: float
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return self.eta * comparisons.column("scores", comparisons.chosen)


@dataclass(frozen=True)
class LengthGap:
    """scale * (n_w - n_l), in nats."""

    scale: float

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return self.scale * (comparisons.chosen.lengths - comparisons.rejected.lengths)


@dataclass(frozen=True)
class LogScoreGap:
    """alpha * log(score_w - score_l); the chosen response must have the higher score."""

    alpha: float
    needs: ClassVar[frozenset[str]] = frozenset({"scores", "ordered scores"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        scores = comparisons.column("scores", comparisons.chosen), comparisons.column("scores", comparisons.rejected)
        return self.alpha * torch.log(scores[0] - scores[1])


@dataclass(frozen=True)
class ScorePreference:
    """sigmoid(eta (score_w - score_l)): the probability that the scores give to this order of the pair."""

    eta: float
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        scores = comparisons.column("scores", comparisons.chosen), comparisons.column("scores", comparisons.rejected)
        return torch.sigmoid(self.eta * (scores[0] - scores[1]))


@dataclass(frozen=True)
class ScoreSoftmax:
    """softmax(score / alpha) over the responses of the example."""

    alpha: float
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        scores = comparisons.column("scores", comparisons.chosen) / self.alpha
        return torch.exp(scores - group_logsumexp(scores, same_example(comparisons.rows.example)))


@dataclass(frozen=True)
class GroupShare:
    """1 / (number of rows of the example), for a mean where an example's loss is a sum."""

    def __call__(self, comparisons: Comparisons) -> Tensor:
        sizes = same_example(comparisons.rows.example).sum(dim=1)
        return 1 / sizes.to(comparisons.chosen.logps.dtype)


@dataclass(frozen=True)
class Shortfall:
    """scale * max(0, -u_w): how far the chosen response has fallen below the reference; carries the gradient."""

    scale: float

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return self.scale * functional.relu(-comparisons.chosen.logratios)


@dataclass(frozen=True)
class StatisticGap:
    """scale * (Q_l - Q_w), Q the weighted sum of a per-token statistic; carries the gradient where the statistic does.

    With `chosen_is_fixed`, Q_w is taken as a constant.
    """

    statistic: str
    scale: float
    chosen_is_fixed: bool = False
    needs: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset({f"statistics:{self.statistic}"}))

    def __call__(self, comparisons: Comparisons) -> Tensor:
        values = comparisons.batch.logps.statistics[self.statistic]
        of_chosen = comparisons.chosen.total(values.detach() if self.chosen_is_fixed else values)
        return self.scale * (comparisons.rejected.total(values) - of_chosen)


@dataclass(frozen=True)
class StatisticTotal:
    """Q_w, the weighted sum of a per-token statistic over the chosen response."""

    statistic: str
    needs: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset({f"statistics:{self.statistic}"}))

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return comparisons.chosen.total(comparisons.batch.logps.statistics[self.statistic])


@dataclass(frozen=True)
class PolicyLikelihood:
    """w_w w_l, w = exp(mean_t(log pi(y_t) - log sum_v pi(v)^2)): how much the pair is the policy's own; detached."""

    limit: float
    needs: ClassVar[frozenset[str]] = frozenset({"statistics:log_sum_sq"})

    def __call__(self, comparisons: Comparisons) -> Tensor:
        logps = comparisons.batch.logps
        typicality = (logps.policy - logps.statistics["log_sum_sq"]).detach()
        of_chosen, of_rejected = (
            side.total(typicality) / side.lengths for side in (comparisons.chosen, comparisons.rejected)
        )
        return stable.exp(of_chosen + of_rejected).clamp(max=self.limit)


@dataclass(frozen=True)
class Labelled:
    """`scale` in the rows whose response is desirable (or, with `desirable=False`, is not), 0 in the others."""

    scale: float
    desirable: bool

    def __call__(self, comparisons: Comparisons) -> Tensor:
        is_meant = comparisons.rows.desirable == float(self.desirable)
        return self.scale * is_meant.to(comparisons.chosen.logps.dtype)


@dataclass(frozen=True)
class Alone:
    """`scale` in the rows where a response stands by itself, 0 in those that hold two against each other."""

    scale: float

    def __call__(self, comparisons: Comparisons) -> Tensor:
        is_alone = comparisons.chosen.response == comparisons.rejected.response
        return self.scale * is_alone.to(comparisons.chosen.logps.dtype)


@dataclass(frozen=True)
class MeanLogratio:
    """scale * max(0, mean over the step of one side's log-ratio); carries the gradient."""

    scale: float
    of: Callable[[Comparisons], Side]
    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return self.scale * functional.relu(self.of(comparisons).logratios.mean())


@dataclass(frozen=True)
class Plus:
    """A column, or a number, plus a column, `scale` times."""

    first: Column
    second: "StatisticGap | StatisticTotal"
    scale: float = 1.0

    @property
    def needs(self) -> frozenset[str]:
        """What both columns need."""
        return self.second.needs | getattr(self.first, "needs", frozenset())

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return value_of(self.first, comparisons) + self.scale * self.second(comparisons)


@dataclass(frozen=True)
class Anchored:
    """scale * the objective's anchor."""

    scale: float = 1.0

    def __call__(self, comparisons: Comparisons) -> Tensor:
        return self.scale * comparisons.anchor


@dataclass(frozen=True)
class ShareOfKept:
    """Weight of a row among those where the anchor is not 0, so that the step's loss is the mean over them; else 0."""

    couples_examples: ClassVar[bool] = True

    def __call__(self, comparisons: Comparisons) -> Tensor:
        share = comparisons.rows.share.to(comparisons.chosen.logps.dtype)
        kept = (comparisons.anchor != 0).to(share.dtype)
        return kept * share.sum() / (kept * share).sum()


def group_logsumexp(values: Tensor, is_member: Tensor) -> Tensor:
    """Log of sum_j e^v_j over the members of each row's group.

    Args:
        values: [rows].
        is_member: Whether row j counts for row i, [rows, rows]; true on the diagonal.
    """
    return torch.where(is_member, values[None, :], -torch.inf).logsumexp(dim=1)
