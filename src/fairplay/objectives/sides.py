"""Comparisons with their log-probs: both sides of every row, from flat tokens to log-ratios and rewards.

Left out: which responses are compared (`comparisons.py`), how tokens are weighted (`tokens.py`). Floor 2.
Token weights may depend on the partner's length, so a response that sits in several rows is seated once in each; where
they are the response's own (`is_own`), it is summed once and looked up. Who sits where is planned on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import Ints, PreferenceBatch, to_device
from fairplay.objectives.comparisons import Rows, RowsOnDevice

Reward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Seats:
    """Where the tokens of one side of all rows sit, in numpy.

    Attributes:
        token: Index into the batch's flat tokens, [seated tokens].
        row: The row each token sits in, [seated tokens], non-decreasing.
        lengths: Tokens of the row's response on this side, [rows].
        partner_lengths: Tokens of the row's response on the other side, [rows].
        keys: The row's example key, [rows]; draws are hashed from it.
        draw: The row's draw number, [rows].
        are_all: Whether the rows are the batch's responses in their order, and the seated tokens all of its tokens.
    """

    token: Ints
    row: Ints
    lengths: Ints
    partner_lengths: Ints
    keys: Ints
    draw: Ints
    are_all: bool


@dataclass(frozen=True)
class SeatedTokens:
    """The tokens of one side of all rows, before they are weighted; tensors on the device of the log-probs.

    Attributes:
        batch: The batch that the tokens come from.
        seats: Where they sit.
        seed: The run's seed.
    """

    batch: PreferenceBatch
    seats: Seats
    seed: int

    @property
    def num_rows(self) -> int:
        """Rows of the comparison."""
        return len(self.seats.lengths)

    @cached_property
    def token(self) -> Tensor:
        """Index into the batch's flat tokens, [seated tokens]."""
        return self._on_device(self.seats.token)

    @cached_property
    def row(self) -> Tensor:
        """The row each token sits in, [seated tokens], non-decreasing."""
        return self.batch.logps.response_index if self.seats.are_all else self._on_device(self.seats.row)

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the row's response on this side, [rows], int64."""
        return self._on_device(self.seats.lengths)

    @cached_property
    def partner_lengths(self) -> Tensor:
        """Tokens of the row's response on the other side, [rows], int64."""
        return self._on_device(self.seats.partner_lengths)

    @cached_property
    def keys(self) -> Tensor:
        """The row's example key, [rows], int64; draws are hashed from it."""
        return self._on_device(self.seats.keys)

    @cached_property
    def draw(self) -> Tensor:
        """The row's draw number, [rows], int64."""
        return self._on_device(self.seats.draw)

    @property
    def position(self) -> Tensor:
        """Place of each token within its response, [seated tokens]."""
        return self.of(self.batch.logps.position)

    @property
    def shorter(self) -> Tensor:
        """Tokens of the shorter response of each row, [rows]."""
        return torch.minimum(self.lengths, self.partner_lengths)

    def of(self, values: Tensor) -> Tensor:
        """A per-token value of the seated tokens, [tokens] -> [seated tokens]."""
        return values if self.seats.are_all else values[self.token]

    def sums(self, values: Tensor) -> Tensor:
        """Sum over each row, [seated tokens] -> [rows]."""
        return values.new_zeros(self.num_rows).index_add(0, self.row, values)

    def _on_device(self, values: Ints) -> Tensor:
        return to_device(values, self.batch.logps.policy.device)


class TokenWeight(Protocol):
    """The weight w of each token in u = sum_t w_t (a_t - b_t).

    Where it depends on nothing but the response itself, it may say so by an attribute `is_own`.
    """

    def __call__(self, tokens: SeatedTokens) -> Tensor:
        """Weights, [seated tokens], of any real dtype."""
        ...


ReferenceWeight = Callable[[SeatedTokens, Tensor], Tensor]
"""From the seated tokens and the policy's weights to the reference's, [seated tokens]."""


def alike(_: SeatedTokens, weights: Tensor) -> Tensor:
    """The reference's tokens weigh what the policy's do, so that u is a sum of log-ratios."""
    return weights


@dataclass(frozen=True)
class Side:
    """One side of every row, after its tokens are weighted and summed.

    Attributes:
        response: Response index within the batch, [rows].
        lengths: Tokens of the response, [rows], real.
        seated, weights: The seated tokens and their weights under the policy, [seated tokens].
        logps: Weighted sum of the policy's log-probs, [rows]; carries the gradient.
        reference_logps: The same under the reference, [rows].
        rewards: beta * link(log-ratio), or of `logps` for reference-free objectives, [rows]; carries the gradient.
        is_looked_up: Whether the seated tokens are those of all responses, of which the rows are `response`.
    """

    response: Tensor
    lengths: Tensor
    seated: SeatedTokens
    weights: Tensor
    logps: Tensor
    reference_logps: Tensor
    rewards: Tensor
    is_looked_up: bool = False

    @property
    def logratios(self) -> Tensor:
        """Weighted sum of log pi_theta - log pi_ref, [rows], nats."""
        return self.logps - self.reference_logps

    def total(self, values: Tensor) -> Tensor:
        """Weighted sum of a per-token value over each row, [tokens] -> [rows]."""
        sums = self.seated.sums(self.weights * self.seated.of(values).to(self.weights.dtype))
        return sums[self.response] if self.is_looked_up else sums

    def at(self, responses: Ints) -> "Side":
        """The rows of these responses, of a side whose rows are all responses."""
        place = to_device(responses, self.logps.device)
        values = (self.lengths, self.logps, self.reference_logps, self.rewards)
        lengths, logps, reference_logps, rewards = (known[place] for known in values)
        return Side(place, lengths, self.seated, self.weights, logps, reference_logps, rewards, is_looked_up=True)


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
        return self.batch.columns[name][side.response].to(side.logps.dtype)


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
        logps = of_chosen.logps
        return Comparisons(
            batch=self.batch,
            rows=RowsOnDevice(rows, logps.device),
            chosen=of_chosen,
            rejected=of_rejected,
            anchor=logps.new_zeros(()),
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

    def _side(self, seats: Seats, response: Ints) -> Side:
        logps, seated = self.batch.logps, SeatedTokens(self.batch, seats, self.seed)
        dtype = torch.promote_types(logps.policy.dtype, torch.float32)
        weights = self.tokens(seated).to(dtype)
        of_reference = self.reference_tokens(seated, weights).to(dtype)
        summed = seated.sums(weights * seated.of(logps.policy.to(dtype)))
        reference = seated.sums(of_reference * seated.of(logps.reference.to(dtype)))
        return Side(
            response=to_device(response, logps.policy.device),
            lengths=seated.lengths.to(dtype),
            seated=seated,
            weights=weights,
            logps=summed,
            reference_logps=reference,
            rewards=self.reward(summed, reference),
        )
