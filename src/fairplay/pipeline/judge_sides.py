"""One side of what `fairplay judge` compares: a file of responses, and what its policy is called.

Left out: judging (`judge_files.py`). Floor 7; no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fairplay.data.reading import read_examples, read_responses
from fairplay.data.rows import READERS, Row, read_rows
from fairplay.errors import DataError
from fairplay.pipeline.context import count_reasons
from fairplay.pipeline.response_lines import group_of_line, read_lines
from fairplay.records import Dropped, Response, ResponseGroup

COLUMN_MARK = "::"
CHOSEN = "chosen"
NO_PAIRS = "no pairs"


@dataclass(frozen=True)
class JudgedSide:
    """One side.

    Attributes:
        groups: Its responses.
        left_out: Reason -> rows of the file that were left out in reading.
    """

    groups: tuple[ResponseGroup, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_side(source: str) -> JudgedSide:
    """The responses of one side.

    Args:
        source: `FILE` or `FILE::COLUMN`, by default the column `responses`, `output` or `response`, the first of them
            that is there; `::chosen` takes the chosen responses of preference pairs.

    Raises:
        DataError: If there is no such file, or it holds no responses.
    """
    name, mark, column = source.partition(COLUMN_MARK)
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"{name}: no such file", hint="responses are in a file: json, jsonl or parquet")
    if mark and column == CHOSEN:
        loaded = read_examples(path)
        unpaired = [Dropped(example.id, NO_PAIRS) for example in loaded.items if not example.pairs]
        groups = tuple(
            ResponseGroup(example.prompt, (Response(example.responses[example.pairs[0][0]].text),))
            for example in loaded.items
            if example.pairs
        )
        return JudgedSide(groups, count_reasons([*loaded.dropped, *unpaired]))
    if not mark and name.endswith(".jsonl"):
        lines = read_lines(path)
        if all("responses" in line.columns for line in lines):
            return JudgedSide(tuple(group_of_line(line) for line in lines))
    responses = read_responses(path, column=column or _column(path))
    return JudgedSide(responses.items, count_reasons(responses.dropped))


def _column(path: Path) -> str:
    columns = _first_columns(path)
    return "response" if "response" in columns and "output" not in columns else "output"


def _first_columns(path: Path) -> Mapping[str, object]:
    """The columns of the first row that can be read; none where there is no such row."""
    return next((row.columns for row in read_rows(path) if isinstance(row, Row)), {})


def side_name(source: str) -> str:
    """What a file says of who responded (`generator`), else the file's name."""
    name, _, column = source.partition(COLUMN_MARK)
    path = Path(name)
    if column:
        return f"{path.stem}::{column}"
    if name.endswith(tuple(READERS)):
        generator = _first_columns(path.expanduser()).get("generator")
        if isinstance(generator, str) and generator:
            return generator
    return path.stem
