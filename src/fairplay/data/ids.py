"""Rows with their ids and their drafts: the one stream from which both reading and checking draw.

Left out: what is done with the rows (`reading.py`, `check.py`). Floor 2.
Ids come from the data's own id column, else from a hash of the content, so they do not depend on the order of rows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fairplay.data.drafts import Draft, Turns
from fairplay.data.faults import DUPLICATE_ID, DUPLICATE_ROW, RowFault
from fairplay.data.formats import ID_COLUMNS, Layout
from fairplay.data.rows import BrokenRow, Columns, Row
from fairplay.data.sources import head_rows, open_source
from fairplay.data.text import text_of
from fairplay.errors import DataError

NUM_HEAD_ROWS = 100
NUM_EXAMPLES = 3
_ENCODER = json.JSONEncoder(ensure_ascii=False)
Detect = Callable[[Sequence[Columns], str], Layout]


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A usable row.

    Attributes:
        where: Where it stands.
        id: The row's own id, else the hash of its content.
        prompt_id: The id that the data gives the prompt, else the hash of the prompt.
        prompt_hash: The hash of the prompt's content.
    """

    where: str
    id: str
    prompt_id: str
    prompt_hash: str
    draft: Draft


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """A row that is left out; the id is its own, its content's, or else where it stands."""

    where: str
    id: str
    fault: RowFault

    @property
    def place(self) -> str:
        """Where it stands, with what exactly is wrong there."""
        return f"{self.where}: {self.fault.detail}" if self.fault.detail else self.where


def content_hash(*parts: object) -> str:
    """16 hexadecimal digits (64 bits) of the SHA-256 of the parts as JSON."""
    return hashlib.sha256(canonical(parts)).hexdigest()[:16]


def canonical(value: object) -> bytes:
    """The value as JSON in UTF-8, always the same bytes for the same value."""
    return _ENCODER.encode(value).encode()


def prompt_hash(messages: Turns) -> str:
    """The id of a prompt by its content."""
    return content_hash([(turn.role, turn.content) for turn in messages])


def parts_of(draft: Draft) -> tuple[object, ...]:
    """The draft's fields as plain lists, for hashing."""
    turns = [(turn.role, turn.content) for turn in draft.messages]
    return (turns, draft.responses, draft.pairs, draft.win_rates, draft.labels, draft.scores)


def open_rows(source: str, split: str, detect: Detect) -> tuple[Layout, Iterator[ReadRow | FaultyRow]]:
    """Find the data, detect its layout from the first rows, and read row by row.

    Args:
        source: A file, a folder or a hub id.
        split: The split, where the source names none.
        detect: Which kinds of data are welcome.

    Raises:
        DataError: If there is no such data, no row can be read, or the columns are wrong.
    """
    head, rows = head_rows(open_source(source, split=split).rows(), NUM_HEAD_ROWS)
    good = [row.columns for row in head if isinstance(row, Row)]
    if not good:
        faults = "; ".join(f"{row.where}: {row.fault}" for row in head[:NUM_EXAMPLES] if isinstance(row, BrokenRow))
        raise DataError(f"{source}: no readable row{': ' + faults if faults else ', it is empty'}")
    layout = detect(good, source)
    return layout, _identified(rows, layout)


def _identified(rows: Iterator[Row | BrokenRow], layout: Layout) -> Iterator[ReadRow | FaultyRow]:
    contents: dict[str, int] = {}
    ids: set[str] = set()
    prompts: dict[str, str] = {}  # of the data's own prompt ids
    for row in rows:
        if isinstance(row, BrokenRow):
            yield FaultyRow(row.where, row.where, row.fault)
            continue
        own = ""
        try:
            own, own_prompt = _own_ids(row.columns, is_prompt=layout.is_prompts)
            draft = layout.read(row.columns)
        except RowFault as fault:
            yield FaultyRow(row.where, own or row.where, fault)
            continue
        prompt = prompt_hash(draft.messages)
        content = prompt if layout.is_prompts else content_hash(prompt, *parts_of(draft)[1:])
        contents[content] = contents.get(content, 0) + 1
        if own and own in ids:
            yield FaultyRow(row.where, own, RowFault(DUPLICATE_ID, f"`{own}`"))
        elif own_prompt and prompts.setdefault(own_prompt, prompt) != prompt:
            yield FaultyRow(row.where, own or row.where, RowFault(DUPLICATE_ID, f"`{own_prompt}` for another prompt"))
        elif contents[content] > 1:
            yield FaultyRow(row.where, own or f"{content}#{contents[content]}", RowFault(DUPLICATE_ROW))
        else:
            identity = own or content
            prompt_id = own_prompt or (identity if layout.is_prompts else prompt)
            yield ReadRow(row.where, identity, prompt_id, prompt, draft)
        ids.add(own)


def _own_ids(columns: Columns, *, is_prompt: bool) -> tuple[str, str]:
    """The row's id and its prompt's id from its own columns; empty where it has none."""
    own, own_prompt = (_id_text(columns.get(name), name) for name in ID_COLUMNS)
    return (own_prompt or own, own_prompt or own) if is_prompt else (own, own_prompt)


def _id_text(value: object, column: str) -> str:
    return str(value) if isinstance(value, int) else text_of(value or "", column)
