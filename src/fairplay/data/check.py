"""Lint a user's data before anything trains on it: what would train wrongly, what is doubtful, how long texts are.

Left out: printing (`cli/`), tokens (`models/`). Floor 2. Reads row by row; memory holds hashes and lengths, no texts.
"""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from fairplay.data.findings import Finding, Memory, Tally, text_findings
from fairplay.data.formats import Layout, detect_examples, detect_prompts
from fairplay.data.ids import FaultyRow, ReadRow, open_rows
from fairplay.data.lengths import LengthBias, Lengths, Ruler, Turns
from fairplay.data.rows import Columns
from fairplay.data.sources import DEFAULT_SPLIT
from fairplay.errors import DataError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check_data` found.

    Attributes:
        source: What the user named.
        format: What was detected, in words.
        num_rows: Rows, usable or not.
        num_pairs: Preference pairs, those that are left out included.
        num_usable: Rows that reading keeps.
        num_refused: Rows for which strict reading refuses the whole data.
        findings: By reason, the gravest first.
        lengths: Distributions of the usable rows by side and unit.
        length_bias: Of the usable pairs, by unit; empty where there are none.
        turns: User turns of the usable rows' prompts.
    """

    source: str
    format: str
    num_rows: int
    num_pairs: int
    num_usable: int
    num_refused: int
    findings: tuple[Finding, ...]
    lengths: tuple[Lengths, ...]
    length_bias: tuple[LengthBias, ...]
    turns: Turns

    @property
    def num_errors(self) -> int:
        """Rows that would train wrongly; they are left out."""
        return self.num_rows - self.num_usable

    def to_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {"schema": SCHEMA, **asdict(self), "num_errors": self.num_errors}


def check_data(source: str | Path, *, against: str | Path = "", split: str = DEFAULT_SPLIT) -> CheckReport:
    """Look at every row of training data or prompts.

    Args:
        source: A file, a folder or a hub id, as for `read_examples`.
        against: Other data that should share no prompts with it, such as the test data; empty for none.
        split: The split, where the source names none and has several.

    Returns:
        The report; its `num_errors` counts the rows that would train wrongly.

    Raises:
        DataError: If there is no such data, it is damaged as a whole, or its columns are none of the known ones.
        SettingsError, ResourceError, ServiceError: As for `read_examples`.
    """
    memory = Memory(_prompt_hashes(str(against), split) if against else frozenset())
    layout, rows = open_rows(str(source), split, detect_any)
    tally, ruler = Tally(), Ruler()
    num_rows = num_usable = num_refused = num_pairs = 0
    for row in rows:
        num_rows += 1
        if isinstance(row, FaultyRow):
            tally.add(row.fault.reason, row.where, row.fault.detail)
            num_refused += row.fault.reason.structural
            num_pairs += layout.is_pairs and not row.fault.reason.structural
            continue
        num_usable += 1
        num_pairs += len(row.draft.pairs)
        ruler.measure(row.draft)
        _look(row, tally, memory)
    for reason, count in ruler.one_sided():
        tally.add_all(reason, count)
    return CheckReport(
        source=str(source),
        format=layout.words,
        num_rows=num_rows,
        num_pairs=num_pairs,
        num_usable=num_usable,
        num_refused=num_refused,
        findings=tally.findings(),
        lengths=ruler.lengths(),
        length_bias=ruler.bias(),
        turns=ruler.turn_counts(),
    )


def detect_any(rows: Sequence[Columns], source: str) -> Layout:
    """How to read the rows as training examples, or else as prompts.

    Raises:
        DataError: If they are neither.
    """
    try:
        return detect_examples(rows, source)
    except DataError as error:
        if {"chosen", "rejected"} & rows[0].keys():  # half a pair: meant for training, whatever else it would do for
            raise
        try:
            return detect_prompts(rows, source)
        except DataError:
            raise error from None


def _look(row: ReadRow, tally: Tally, memory: Memory) -> None:
    for reason, detail in text_findings(row.draft):
        tally.add(reason, row.where, detail)
    for reason, detail in memory.findings(row):
        tally.add(reason, row.where, detail)


def _prompt_hashes(source: str, split: str) -> Set[str]:
    _, rows = open_rows(source, split, detect_any)
    return {row.prompt_hash for row in rows if isinstance(row, ReadRow)}
