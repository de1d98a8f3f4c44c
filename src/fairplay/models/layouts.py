"""How rows of prompt and response lie in a model's input: padded, packed, or packed with shared prompts.

Whatever the layout, the scored tokens come in the same order, so who reads the scores sees no difference. Left out:
what keeps the rows of a packed input apart (`attention.py`), which groups make an input (`packing.py`). Floor 3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairplay.errors import DataError
from fairplay.lookup import lookup

Row = tuple[Sequence[int], Sequence[int]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Segments:
    """What the queries of a packed input may see, group by group.

    Attributes:
        groups: Borders of each group, as places in the input: where its prompt starts, where it ends, where each of its
            responses ends. Every token sees what stands before it in its own prompt and response.
        longest: Tokens of the longest prompt with one of its responses.
    """

    groups: tuple[tuple[int, ...], ...]
    longest: int

    @cached_property
    def runs(self) -> tuple[tuple[slice, slice, bool], ...]:
        """(queries, keys, whether each query sees only up to its own place): together, who sees whom.

        A group's prompt and first response are one causal run. The later responses are a causal run each, and together
        one more that sees the whole prompt; of a group it comes last. Every place is a query of one causal run.
        """
        runs = []
        for start, prompt_end, *ends in self.groups:
            runs.append((slice(start, ends[0]), slice(start, ends[0]), True))
            runs += [(slice(*span), slice(*span), True) for span in pairwise(ends)]
            if len(ends) > 1:
                runs.append((slice(ends[0], ends[-1]), slice(start, prompt_end), False))
        return tuple(runs)


@dataclass(frozen=True)
class RowLayout:
    """Rows as they lie in a model's input.

    Attributes:
        input_ids: [inputs, columns], int64; 0 where there is padding.
        position_ids: Place of each token within its own prompt and response, [inputs, columns], int64.
        segments: Who may see whom; None where every input holds one row and the model needs to be told nothing.
        source: Flat place in [inputs * columns] whose hidden state predicts the scored token, [tokens], int64.
        target: The scored tokens, [tokens], int64.
        response_index: The row each scored token belongs to, [tokens], int64, non-decreasing.
        position: Place of the token within its response, [tokens], int64, from 0; prompt tokens count up to -1.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Segments | None
    source: Tensor
    target: Tensor
    response_index: Tensor
    position: Tensor


@dataclass(frozen=True)
class _Rows:
    """Rows and their lengths in tokens, [rows]; `leads` says which ones open a group: their prompt is a new one."""

    rows: Sequence[Row]
    prompt_lengths: Ints
    response_lengths: Ints
    leads: NDArray[np.bool_]


@dataclass(frozen=True)
class _Places:
    """Flat places at which each row's prompt and response start, [rows]; rows of a group share their prompt's."""

    prompt: Ints
    response: Ints
    shape: tuple[int, int]
    is_packed: bool
    opens: NDArray[np.bool_]  # rows with a prompt of their own


def _padded(rows: _Rows) -> _Places:
    columns = int((rows.prompt_lengths + rows.response_lengths).max())
    starts = np.arange(len(rows.rows)) * columns
    every = np.ones_like(rows.leads)
    return _Places(starts, starts + rows.prompt_lengths, (len(rows.rows), columns), False, every)


def _packed(rows: _Rows) -> _Places:
    return _in_one_input(rows, np.ones_like(rows.leads))


def _shared(rows: _Rows) -> _Places:
    return _in_one_input(rows, rows.leads)


def _in_one_input(rows: _Rows, opens: NDArray[np.bool_]) -> _Places:
    own_prompt = np.where(opens, rows.prompt_lengths, 0)
    ends = np.cumsum(own_prompt + rows.response_lengths)
    response = ends - rows.response_lengths
    group = np.cumsum(opens) - 1
    return _Places((response - own_prompt)[opens][group], response, (1, int(ends[-1])), True, opens)


def _padded_tokens(prompt: int, responses: Sequence[int]) -> int:
    return len(responses) * (prompt + max(responses))


def _packed_tokens(prompt: int, responses: Sequence[int]) -> int:
    return len(responses) * prompt + sum(responses)


def _shared_tokens(prompt: int, responses: Sequence[int]) -> int:
    return prompt + sum(responses)


@dataclass(frozen=True)
class Layout:
    """One way to lie.

    Attributes:
        place: Where each row's prompt and response start.
        count: Tokens that the body reads for a group alone, from the lengths of its prompt and responses.
    """

    place: Callable[[_Rows], _Places]
    count: Callable[[int, Sequence[int]], int]


LAYOUTS: Mapping[str, Layout] = {
    "padded": Layout(_padded, _padded_tokens),  # one row an input, filled up on the right
    "packed": Layout(_packed, _packed_tokens),  # all rows in one input, no padding, every response with its own prompt
    "shared": Layout(_shared, _shared_tokens),  # as packed, but adjacent rows with equal prompts hold it once
}


def group_tokens(layout: str, prompt: int, responses: Sequence[int]) -> int:
    """Tokens that the model's body reads for one group on its own.

    Args:
        layout: Name in `LAYOUTS`.
        prompt: Tokens of the prompt.
        responses: Tokens of each response.

    Raises:
        SettingsError: If there is no such layout.
    """
    return lookup(LAYOUTS, layout, "layout").count(prompt, responses)


def lay_rows(rows: Sequence[Row], layout: str, *, prompt_tokens: bool = False) -> RowLayout:
    """Lay rows into a model's input.

    Args:
        rows: (prompt ids, response ids) of each response; neither is empty.
        layout: Name in `LAYOUTS`.
        prompt_tokens: Score each row's prompt tokens too (all but the first, which nothing predicts).

    Raises:
        DataError: If a row has an empty prompt or response, or there are no rows.
        SettingsError: If there is no such layout.
    """
    measured = _measured(rows)
    places = lookup(LAYOUTS, layout, "layout").place(measured)
    input_ids, position_ids = _filled(measured, places)
    row, position, place = _scored(measured, places, prompt_tokens)
    source = _place(measured, places, row, position - 1)
    return RowLayout(
        input_ids=torch.from_numpy(input_ids.reshape(places.shape)),
        position_ids=torch.from_numpy(position_ids.reshape(places.shape)),
        segments=_segments(measured, places) if places.is_packed else None,
        source=torch.from_numpy(source),
        target=torch.from_numpy(input_ids[place]),
        response_index=torch.from_numpy(row),
        position=torch.from_numpy(position),
    )


def _measured(rows: Sequence[Row]) -> _Rows:
    prompts = np.fromiter((len(prompt) for prompt, _ in rows), dtype=np.int64, count=len(rows))
    responses = np.fromiter((len(response) for _, response in rows), dtype=np.int64, count=len(rows))
    if not len(rows) or prompts.min() < 1 or responses.min() < 1:
        raise DataError("a prompt or a response without tokens can't be scored", hint="leave such rows out")
    leads = [not _is_same(before, prompt) for (before, _), (prompt, _) in pairwise(rows)]
    return _Rows(rows, prompts, responses, np.array([True, *leads]))


def _is_same(one: Sequence[int], other: Sequence[int]) -> bool:
    return one is other or (len(one) == len(other) and tuple(one) == tuple(other))


def _filled(rows: _Rows, places: _Places) -> tuple[Ints, Ints]:
    """Token ids and positions of the whole input, flat."""
    kept = [
        (prompt if opens else (), response) for (prompt, response), opens in zip(rows.rows, places.opens, strict=True)
    ]
    lengths = np.stack([np.where(places.opens, rows.prompt_lengths, 0), rows.response_lengths], axis=1).ravel()
    starts = np.stack([places.prompt, places.response], axis=1).ravel()
    first_positions = np.stack([np.zeros_like(rows.prompt_lengths), rows.prompt_lengths], axis=1).ravel()
    within = _counted(lengths)
    size = places.shape[0] * places.shape[1]
    input_ids = np.zeros(size, dtype=np.int64)
    position_ids = np.arange(size) % places.shape[1]
    where = np.repeat(starts, lengths) + within
    input_ids[where] = np.fromiter(chain.from_iterable(chain.from_iterable(kept)), dtype=np.int64, count=len(where))
    position_ids[where] = np.repeat(first_positions, lengths) + within
    return input_ids, position_ids


def _scored(rows: _Rows, places: _Places, prompt_tokens: bool) -> tuple[Ints, Ints, Ints]:
    """(row, place within the response, place in the input) of every scored token."""
    before = rows.prompt_lengths - 1 if prompt_tokens else np.zeros_like(rows.prompt_lengths)
    counts = before + rows.response_lengths
    row = np.repeat(np.arange(len(counts)), counts)
    position = _counted(counts) - before[row]
    return row, position, _place(rows, places, row, position)


def _place(rows: _Rows, places: _Places, row: Ints, position: Ints) -> Ints:
    of_prompt = places.prompt[row] + rows.prompt_lengths[row]
    return np.where(position < 0, of_prompt, places.response[row]) + position


def _counted(lengths: Ints) -> Ints:
    """0, 1, ... within each of several runs of these lengths."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _segments(rows: _Rows, places: _Places) -> Segments:
    ends = places.response + rows.response_lengths
    firsts = np.flatnonzero(places.opens)
    groups = tuple(
        (int(places.prompt[first]), int(places.response[first]), *ends[first:after].tolist())
        for first, after in pairwise([*firsts.tolist(), len(ends)])
    )
    return Segments(groups, int((rows.prompt_lengths + rows.response_lengths).max()))
