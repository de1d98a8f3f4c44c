"""Files that say something of prompts: their rows by the prompt's messages.

Left out: what a row says (`verifier.py`, `recorded.py`). Floor 4; imports no torch.
"""

from collections.abc import Iterator
from pathlib import Path

from fairplay.data.faults import RowFault
from fairplay.data.rows import BrokenRow, Columns
from fairplay.data.sources import open_source
from fairplay.data.text import check_prompt, prompt_of
from fairplay.errors import DataError
from fairplay.records import Message

Messages = tuple[Message, ...]


def prompt_rows(source: str, column: str) -> Iterator[tuple[str, Messages, Columns]]:
    """The rows of a source: where each stands, its prompt's messages, and its columns.

    Args:
        source: A file (json, jsonl, parquet).
        column: Where the prompt stands, as text or messages.

    Raises:
        DataError: If there is no such file, it is empty, or a row is broken or has no prompt; the message says where.
    """
    if not Path(source).expanduser().is_file():
        raise DataError(f"{source}: no such file")
    is_empty = True
    for row in open_source(source).rows():
        is_empty = False
        where = f"{source}: {row.where}"
        if isinstance(row, BrokenRow):
            raise DataError(f"{where}: {row.fault}", hint=row.fault.reason.hint)
        if column not in row.columns:
            raise DataError(f"{where}: no `{column}`", hint=f"it has {', '.join(sorted(row.columns))}")
        try:
            messages = prompt_of(row.columns[column], column)
            check_prompt(messages)
        except RowFault as fault:
            raise DataError(f"{where}: {fault}", hint=fault.reason.hint) from fault
        yield where, messages, row.columns
    if is_empty:
        raise DataError(f"{source}: empty")
