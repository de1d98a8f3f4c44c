"""Token weights: all remedies for length lie here and nowhere else.

Left out: the sums themselves (`sides.py`). Floor 2. n is the response's length, K the shorter one's of its row.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import to_device
from fairplay.objectives.hashing import mixed
from fairplay.objectives.seats import ReferenceWeight, SeatedTokens, TokenWeight, alike
from fairplay.seeds import stable_seed


@dataclass(frozen=True)
class Sum:
    """w = 1: the log-prob of the whole response."""

    is_own: ClassVar[bool] = True

    def __call__(self, tokens: SeatedTokens) -> float:
        return 1.0


@dataclass(frozen=True)
class Mean:
    """w = 1 / n: the log-prob per token."""

    is_own: ClassVar[bool] = True

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        return 1.0 / tokens.lengths.to(torch.float64)[tokens.row]


@dataclass(frozen=True)
class Shared:
    """w = K / n: the mean of every choice of K tokens, so SamPO's log-ratio in expectation."""

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        return (tokens.shorter.to(torch.float64) / tokens.lengths)[tokens.row]


@dataclass(frozen=True)
class SharedAverage:
    """w = (n_w + n_l) / (2 n): the log-prob per token, scaled back by the row's mean length."""

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        both = tokens.lengths + tokens.partner_lengths
        return (both.to(torch.float64) / (2 * tokens.lengths))[tokens.row]


@dataclass(frozen=True)
class LengthDecoupled:
    """w = 1 for the first K tokens, alpha for those beyond."""

    alpha: float

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        is_beyond = tokens.position >= tokens.shorter[tokens.row]
        return 1.0 - (1.0 - self.alpha) * is_beyond.to(torch.float64)


@dataclass(frozen=True)
class Given:
    """w is a per-token statistic that came with the batch."""

    statistic: str
    is_own: ClassVar[bool] = True
    needs: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset({f"statistics:{self.statistic}"}))

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        return tokens.of(tokens.batch.logps.statistics[self.statistic])


@dataclass(frozen=True)
class Kept:
    """w = 1 for K tokens drawn uniformly without replacement, 0 for the others; only the longer response is cut.

    The draw is a hash of (seed, stream, epoch, example key, draw number, position), so it depends neither on the
    batch's layout nor on what was drawn before. Draws from streams of different names are independent.
    """

    stream: str = "kept tokens"
    in_expectation: ClassVar[TokenWeight] = Shared()

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        start = stable_seed(tokens.seed, self.stream, tokens.batch.epoch)
        of_row = mixed(mixed(tokens.keys ^ start) + tokens.draw)
        ticket = mixed(of_row[tokens.row] + tokens.position)
        by_ticket = ticket.argsort()
        order = by_ticket[tokens.row[by_ticket].argsort(stable=True)]
        first_seat = tokens.lengths.cumsum(0) - tokens.lengths
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first_seat[tokens.row]
        return rank < tokens.shorter[tokens.row]


@dataclass(frozen=True)
class Subset:
    """w = 1 for the tokens of the subset of size K that the row's draw number counts to, in lexicographic order."""

    in_expectation: ClassVar[TokenWeight] = Shared()

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        seats = tokens.seats
        sizes = zip(seats.draw.tolist(), seats.lengths.tolist(), seats.partner_lengths.tolist(), strict=True)
        members = [
            _subset(number % math.comb(size, min(size, other)), size, min(size, other)) for number, size, other in sizes
        ]
        first_seat = tokens.lengths.cumsum(0) - tokens.lengths
        flat = to_device(np.array([is_member for row in members for is_member in row]), tokens.row.device)
        return flat[first_seat[tokens.row] + tokens.position]


@dataclass(frozen=True)
class Apart:
    """The reference's tokens have a weight of their own, whatever the policy's is; u is then no sum of log-ratios."""

    weight: TokenWeight

    @property
    def in_expectation(self) -> ReferenceWeight:
        """The policy's weights: in expectation, draws by one rule are one weight."""
        return alike

    def __call__(self, tokens: SeatedTokens, _: Tensor | float) -> Tensor | float:
        return self.weight(tokens)


def _subset(number: int, size: int, kept: int) -> list[bool]:
    """Whether each of `size` positions is in the subset of this number, among those that keep `kept`."""
    members = []
    for position in range(size):
        with_this = math.comb(size - position - 1, kept - 1) if kept else 0
        is_member = number < with_this
        members.append(is_member)
        number, kept = (number, kept - 1) if is_member else (number - with_this, kept)
    return members
