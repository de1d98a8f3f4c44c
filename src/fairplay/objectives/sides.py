"""Comparisons with their log-probs: both sides of every row, from flat tokens to log-ratios and rewards.

Left out: which responses are compared (`comparisons.py`), where their tokens lie (`seats.py`), how tokens are weighted
(`tokens.py`). Floor 2. Token weights may depend on the partner's length, so a response that sits in several rows is
seated once in each; where they are the response's own (`is_own`), it is summed once and looked up. Who sits where is
planned on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import Ints, PreferenceBatch, to_device
from fairplay.objectives.comparisons import Rows, RowsOnDevice
from fairplay.objectives.linear import scaled
from fairplay.objectives.seats import ReferenceWeight, SeatedTokens, Seats, TokenWeight, alike

Reward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sums:
    """What the seated tokens of some rows sum to, [rows] each.

    Attributes:
        seated, weights: The tokens, and their weights under the policy.
        logps: Weighted sum of the policy's log-probs; carries the gradient.
        reference_logps: The same under the reference.
        rewards: beta * link(log-ratio), or of `logps` for reference-free objectives; carries the gradient.
    """

    seated: SeatedTokens
    weights: Tensor | float
    logps: Tensor
    reference_logps: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class Side:
    """One side of every row, after its tokens are weighted and summed; what nobody reads is not looked up.

    Attributes:
        responses: Response index within the batch, [rows], on the host.
        sums: Of these rows; or of all responses, of which the rows are some.
        place: Where the rows are in the sums, [rows]; None where they are the sums' own.
        rewards: beta * link(log-ratio), or of `logps` for reference-free objectives, [rows]; carries the gradient.
    """

    responses: Ints
    sums: Sums
    place: Tensor | None
    rewards: Tensor

    @cached_property
    def response(self) -> Tensor:
        """Response index within the batch, [rows]."""
        return to_device(self.responses, self.rewards.device) if self.place is None else self.place

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the response, [rows], real."""
        return self._looked_up(self.sums.seated.lengths.to(self.sums.logps.dtype))

    @cached_property
    def logps(self) -> Tensor:
        """Weighted sum of the policy's log-probs, [rows]; carries the gradient."""
        return self._looked_up(self.sums.logps)

    @cached_property
    def reference_logps(self) -> Tensor:
        """The same under the reference, [rows]."""
        return self._looked_up(self.sums.reference_logps)

    @property
    def logratios(self) -> Tensor:
        """Weighted sum of log pi_theta - log pi_ref, [rows], nats."""
        return self.logps - self.reference_logps

    def total(self, values: Tensor) -> Tensor:
        """Weighted sum of a per-token value over each row, [tokens] -> [rows]."""
        seated = self.sums.seated
        return self._looked_up(seated.sums(scaled(self.sums.weights, seated.of(values).to(self.sums.logps.dtype))))

    def at(self, responses: Ints) -> "Side":
        """The rows of these responses, of a side whose rows are all responses."""
        place = to_device(responses, self.rewards.device)
        return Side(responses, self.sums, place, self.rewards.index_select(0, place))

    def _looked_up(self, values: Tensor) -> Tensor:
        return values if self.place is None else values.index_select(0, self.place)


@dataclass(frozen=True)
class Comparisons:
    """Everything that offsets, coefficients, losses and anchors may read.

    Attributes:
        batch: The batch, for its columns and statistics.
        rows: The comparisons as indices.
        chosen, rejected: Both sides of every row.
        anchor: The value of the objective's anchor, a scalar or [rows]; detached.
        seed: The run's seed, for anchors that draw.
    """

    batch: PreferenceBatch
    rows: RowsOnDevice
    chosen: Side
    rejected: Side
    anchor: Tensor
    seed: int

    def column(self, name: str, side: Side) -> Tensor:
        """A data column at one side of every row, [rows]."""
        return self.batch.columns[name][side.response].to(side.rewards.dtype)


def chosen(comparisons: Comparisons) -> Side:
    """The chosen side."""
    return comparisons.chosen


def rejected(comparisons: Comparisons) -> Side:
    """The rejected side."""
    return comparisons.rejected


@dataclass(frozen=True)
class Seating:
    """How the responses of a batch are weighted, summed and rewarded, whatever rows they sit in.

    Attributes:
        batch: Flat log-probs; half-precision ones are read as float32.
        tokens: The weight of each token.
        reward: Maps a side's (policy, reference) log-probs, [rows] each, to rewards, [rows].
        seed: The run's seed, for weights that draw.
        reference_tokens: The weight of each token under the reference.
    """

    batch: PreferenceBatch
    tokens: TokenWeight
    reward: Reward
    seed: int
    reference_tokens: ReferenceWeight = alike

    @cached_property
    def every(self) -> Side:
        """Every response by itself, anchor rows too; [rows] are [responses]."""
        known = self.batch.structure
        nobody = np.zeros(0, dtype=np.int64)  # nothing asks for tokens and rows that lie as they are
        draw, keys = np.zeros_like(known.lengths), known.example_keys[known.example_index]
        seats = Seats(nobody, nobody, known.lengths, known.lengths, keys, draw, are_all=True)
        return self._side(seats, np.arange(known.num_responses))

    def seat(self, rows: Rows) -> Comparisons:
        """Sum the weighted log-probs of both sides of every row."""
        side = self._looked_up if self._is_own else self._seated
        of_chosen = side(rows, rows.chosen, rows.rejected)
        is_alone = rows.rejected is rows.chosen
        of_rejected = of_chosen if is_alone else side(rows, rows.rejected, rows.chosen)
        rewards = of_chosen.rewards
        return Comparisons(
            batch=self.batch,
            rows=RowsOnDevice(rows, rewards.device),
            chosen=of_chosen,
            rejected=of_rejected,
            anchor=rewards.new_zeros(()),
            seed=self.seed,
        )

    @property
    def _is_own(self) -> bool:
        return getattr(self.tokens, "is_own", False) and self.reference_tokens is alike

    def _looked_up(self, _: Rows, response: Ints, __: Ints) -> Side:
        return self.every.at(response)

    def _seated(self, rows: Rows, response: Ints, partner: Ints) -> Side:
        known = self.batch.structure
        own = known.lengths[response]
        first_token, first_seat = known.lengths.cumsum() - known.lengths, own.cumsum() - own
        seats = Seats(
            token=np.repeat(first_token[response] - first_seat, own) + np.arange(own.sum()),
            row=np.repeat(np.arange(len(own)), own),
            lengths=own,
            partner_lengths=known.lengths[partner],
            keys=known.example_keys[rows.example],
            draw=rows.draw,
            are_all=False,
        )
        return self._side(seats, response)

    def _side(self, seats: Seats, responses: Ints) -> Side:
        logps, seated = self.batch.logps, SeatedTokens(self.batch, seats, self.seed)
        dtype = torch.promote_types(logps.policy.dtype, torch.float32)
        weights = self.tokens(seated)
        weights = weights.to(dtype) if isinstance(weights, Tensor) else weights
        of_reference = self.reference_tokens(seated, weights)
        of_reference = of_reference.to(dtype) if isinstance(of_reference, Tensor) else of_reference
        summed = seated.sums(scaled(weights, seated.of(logps.policy.to(dtype))))
        reference = seated.sums(scaled(of_reference, seated.of(logps.reference.to(dtype))))
        sums = Sums(seated, weights, summed, reference, self.reward(summed, reference))
        return Side(responses, sums, None, sums.rewards)
