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
    longest: int  # of prompt and response together
    leads: NDArray[np.bool_]


@dataclass(frozen=True)
class _Places:
    """Flat places at which each row's prompt and response start, [rows]; rows of a group share their prompt's.

    Rows lie one behind the other, each in `lengths` places: its prompt if it `opens` a group, its response, padding.
    """

    prompt: Ints
    response: Ints
    lengths: Ints
    opens: NDArray[np.bool_]
    shape: tuple[int, int]
    is_packed: bool


def _padded(rows: _Rows) -> _Places:
    count, columns = len(rows.rows), rows.longest
    starts = np.arange(count) * columns
    lengths, every = np.full(count, columns), np.ones(count, dtype=np.bool_)
    return _Places(starts, starts + rows.prompt_lengths, lengths, every, (count, columns), is_packed=False)


def _packed(rows: _Rows) -> _Places:
    return _in_one_input(rows, np.ones_like(rows.leads))


def _shared(rows: _Rows) -> _Places:
    return _in_one_input(rows, rows.leads)


def _in_one_input(rows: _Rows, opens: NDArray[np.bool_]) -> _Places:
    own_prompt = np.where(opens, rows.prompt_lengths, 0)
    lengths = own_prompt + rows.response_lengths
    ends = np.cumsum(lengths)
    response = ends - rows.response_lengths
    group = np.cumsum(opens) - 1
    prompt = (response - own_prompt)[opens][group]
    return _Places(prompt, response, lengths, opens, (1, int(ends[-1])), is_packed=True)


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
    row, position, place, source = _scored(measured, places, prompt_tokens)
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
    prompts = [len(prompt) for prompt, _ in rows]
    responses = [len(response) for _, response in rows]
    if not rows or min(prompts) < 1 or min(responses) < 1:
        raise DataError("a prompt or a response without tokens can't be scored", hint="leave such rows out")
    leads = [not _is_same(before, prompt) for (before, _), (prompt, _) in pairwise(rows)]
    longest = max(map(sum, zip(prompts, responses, strict=True)))
    lengths = np.array([prompts, responses], dtype=np.int64)
    return _Rows(rows, lengths[0], lengths[1], longest, np.array([True, *leads]))


def _is_same(one: Sequence[int], other: Sequence[int]) -> bool:
    return one is other or (len(one) == len(other) and tuple(one) == tuple(other))


def _filled(rows: _Rows, places: _Places) -> tuple[Ints, Ints]:
    """Token ids and positions of the whole input, flat."""
    parts: list[Sequence[int]] = []
    room = zip(rows.rows, places.opens.tolist(), places.lengths.tolist(), strict=True)
    for (prompt, response), opens, length in room:
        own = (prompt, response) if opens else (response,)
        padding = length - sum(map(len, own))
        parts += (*own, (0,) * padding) if padding else own
    size = places.shape[0] * places.shape[1]
    input_ids = np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=size)
    return input_ids, np.arange(size) - np.repeat(places.response - rows.prompt_lengths, places.lengths)


def _scored(rows: _Rows, places: _Places, prompt_tokens: bool) -> tuple[Ints, Ints, Ints, Ints]:
    """(row, place within the response, place in the input, place in the input of what stands before) of scored tokens.

    All places of a row count from where its response starts, but what belongs to a shared prompt lies further ahead.
    """
    counts = rows.response_lengths
    if prompt_tokens:
        counts = counts + rows.prompt_lengths - 1
    row = np.repeat(np.arange(len(counts)), counts)
    firsts = np.cumsum(counts) - rows.response_lengths
    position = np.arange(len(row)) - np.repeat(firsts, counts)
    place = position + np.repeat(places.response, counts)
    ahead = np.repeat(places.response - places.prompt - rows.prompt_lengths, counts)
    return row, position, place - ahead * (position < 0), place - 1 - ahead * (position < 1)


def _segments(rows: _Rows, places: _Places) -> Segments:
    ends = places.response + rows.response_lengths
    firsts = np.flatnonzero(places.opens)
    groups = tuple(
        (int(places.prompt[first]), int(places.response[first]), *ends[first:after].tolist())
        for first, after in pairwise([*firsts.tolist(), len(ends)])
    )
    return Segments(groups, rows.longest)
