"""Where the tokens of compared responses sit in a batch, and what a weight of tokens is.

Left out: the weights there are (`tokens.py`), their sums (`sides.py`). Floor 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from fairplay.logps import Ints, PreferenceBatch, to_device


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

    def __call__(self, tokens: SeatedTokens) -> Tensor | float:
        """Weights, [seated tokens], of any real dtype, or the one weight of all tokens."""
        ...


ReferenceWeight = Callable[[SeatedTokens, Tensor | float], Tensor | float]
"""From the seated tokens and the policy's weights to the reference's, [seated tokens] or the one of all tokens."""


def alike(_: SeatedTokens, weights: Tensor | float) -> Tensor | float:
    """The reference's tokens weigh what the policy's do, so that u is a sum of log-ratios."""
    return weights
