"""Read a user's data as prompts, training examples or responses; everything left out is counted with its reason.

Left out: reports on the data (`check.py`), ids (`ids.py`), tokens (`models/`). Floor 2.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fairplay.data.faults import Reason
from fairplay.data.formats import detect_examples, detect_prompts, detect_responses
from fairplay.data.ids import NUM_EXAMPLES, Detect, FaultyRow, ReadRow, canonical, open_rows, parts_of
from fairplay.data.sources import DEFAULT_SPLIT
from fairplay.errors import DataError
from fairplay.records import Dropped, Prompt, Response, ResponseGroup, TrainingExample

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What was read from a source.

    Attributes:
        items: The prompts, examples or response groups, in the order of the rows.
        format: What was detected, in words.
        dropped: Rows left out, with reasons.
        source: What the user named.
        sha256: Of ids and contents in order: the same for the same data in another file format.
    """

    items: tuple[T, ...]
    format: str
    dropped: tuple[Dropped, ...]
    source: str
    sha256: str


def read_prompts(source: str | Path, *, split: str = DEFAULT_SPLIT, strict: bool = True) -> Loaded[Prompt]:
    """Read prompts; training data gives its prompts, AlpacaEval files their instructions.

    Args:
        source: A file (json, jsonl, jsonl.gz, parquet), a folder of such files, or a hub id
            `owner/name[:config][@split]`.
        split: The split, where the source names none and has several.
        strict: Refuse data with rows that are not what the format asks for; else leave these rows out, counted.

    Returns:
        The prompts without duplicates.

    Raises:
        DataError: If there is no such data, the columns are wrong (expected and found are listed), or, where strict,
            rows are faulty (counted by reason, with examples).
        SettingsError: If the split is named twice, differently, or asked of a single file.
        ResourceError: If a hub id needs the package `datasets`.
        ServiceError: If the hub can't be reached.
    """
    return _load(str(source), split, strict, detect_prompts, lambda row: Prompt(row.prompt_id, row.draft.messages))


def read_examples(source: str | Path, *, split: str = DEFAULT_SPLIT, strict: bool = True) -> Loaded[TrainingExample]:
    """Read training examples: pairs, K responses with scores or win rates, labelled single responses, dialogues.

    Arguments and errors are those of `read_prompts`.
    """
    return _load(str(source), split, strict, detect_examples, _example)


def read_responses(
    source: str | Path, *, column: str = "output", split: str = DEFAULT_SPLIT, strict: bool = True
) -> Loaded[ResponseGroup]:
    """Read prompts with one response each, such as AlpacaEval's outputs, to judge them.

    Args:
        source: As for `read_prompts`.
        column: The column with the responses (in a table of many models, the model's name).
        split: As for `read_prompts`.
        strict: As for `read_prompts`.

    Raises:
        DataError: As for `read_prompts`; also if there is no such column (the columns are listed).
    """
    return _load(str(source), split, strict, lambda rows, name: detect_responses(rows, name, column), _response_group)


def _example(row: ReadRow) -> TrainingExample:
    draft = row.draft
    responses = tuple(Response(text) for text in draft.responses)
    prompt = Prompt(row.prompt_id, draft.messages)
    return TrainingExample(row.id, prompt, responses, draft.pairs, draft.win_rates, draft.labels, draft.scores)


def _response_group(row: ReadRow) -> ResponseGroup:
    responses = tuple(Response(text) for text in row.draft.responses)
    return ResponseGroup(Prompt(row.prompt_id, row.draft.messages), responses)


def _load(source: str, split: str, strict: bool, detect: Detect, build: Callable[[ReadRow], T]) -> Loaded[T]:
    layout, rows = open_rows(source, split, detect)
    items: list[T] = []
    faulty: list[FaultyRow] = []
    digest = hashlib.sha256()
    for row in rows:
        if isinstance(row, FaultyRow):
            faulty.append(row)
            continue
        items.append(build(row))
        digest.update(canonical((row.id, row.prompt_id, *parts_of(row.draft))))
    refused = [row for row in faulty if row.fault.reason.structural]
    if strict and refused:
        raise DataError(f"{source}: {_summary(refused)}", hint=_hint(refused))
    if not items:
        raise DataError(f"{source}: no usable row; left out: {_summary(faulty)}", hint=_hint(faulty))
    logger.info("%s: %s; %d rows read, %d left out", source, layout.words, len(items), len(faulty))
    dropped = tuple(Dropped(row.id, row.fault.reason.phrase) for row in faulty)
    return Loaded(tuple(items), layout.words, dropped, source, digest.hexdigest())


def _summary(rows: list[FaultyRow]) -> str:
    """Counts by reason, the most frequent first, each with the places of its first rows."""
    counts = Counter(row.fault.reason for row in rows)
    return "; ".join(f"{reason.phrase}: {count} ({_places(rows, reason)})" for reason, count in counts.most_common())


def _places(rows: list[FaultyRow], reason: Reason) -> str:
    places = [row.place for row in rows if row.fault.reason == reason]
    more = ", ..." if len(places) > NUM_EXAMPLES else ""
    return ", ".join(places[:NUM_EXAMPLES]) + more


def _hint(rows: list[FaultyRow]) -> str:
    return Counter(row.fault.reason for row in rows).most_common(1)[0][0].hint
