"""What is doubtful about usable rows: texts with control tokens, cut-off responses, conflicts, duplicate prompts.

Left out: rows that can't be used (`drafts.py`), lengths (`lengths.py`). Floor 2. Doubtful rows are kept and told.
"""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from fairplay.data.drafts import Draft
from fairplay.data.faults import (
    CONFLICT,
    CONTROL_TOKEN,
    DUPLICATE_PROMPT,
    EMPTY_TURN,
    NUL,
    OVERLAP,
    REPEATS_PROMPT,
    SCORES_DISAGREE,
    TRUNCATED,
    Reason,
    Severity,
)
from fairplay.data.ids import NUM_EXAMPLES, ReadRow, content_hash

_CONTROL = re.compile(
    r"<\|[a-z_0-9]+\|>|<｜[^｜\n]{1,40}｜>|</?s>|<bos>|<eos>|<pad>|<unk>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>|\n\n(?:Human|Assistant):"
)
_MIN_CUT_WORDS = 20
_MIN_REPEATED = 20
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows with one reason.

    Attributes:
        reason: The fixed phrase.
        severity: `error` (the whole data is refused), `warning` (left out, or kept and doubtful) or `info` (kept).
        count: Rows with it; pairs, where it is about lengths.
        examples: Where the first of them stand, with what exactly.
        hint: How to mend it.
    """

    reason: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    hint: str


@dataclass
class Tally:
    """Counts by reason, with the places of the first rows of each."""

    counts: dict[Reason, int] = field(default_factory=dict)
    places: dict[Reason, list[str]] = field(default_factory=dict)

    def add(self, reason: Reason, where: str, detail: str = "") -> None:
        """Count one row."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < NUM_EXAMPLES:
            places.append(f"{where}: {detail}" if detail else where)

    def add_all(self, reason: Reason, count: int) -> None:
        """Count rows that only together show it."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.places.setdefault(reason, [])

    def findings(self) -> tuple[Finding, ...]:
        """The findings, the gravest and most frequent first."""
        ranked = sorted(self.counts, key=lambda r: (_SEVERITIES.index(r.severity), -self.counts[r], r.phrase))
        return tuple(Finding(r.phrase, r.severity, self.counts[r], tuple(self.places[r]), r.hint) for r in ranked)


def text_findings(draft: Draft) -> Iterator[tuple[Reason, str]]:
    """What is doubtful about the texts of one row, each reason at most once, with what exactly."""
    texts = [*(turn.content for turn in draft.messages), *draft.responses]
    tokens = sorted({match.group() for text in texts for match in _CONTROL.finditer(text)})
    if tokens:
        yield CONTROL_TOKEN, ", ".join(repr(token) for token in tokens[:NUM_EXAMPLES])
    if any("\0" in text for text in texts):
        yield NUL, ""
    if any(not turn.content.strip() for turn in draft.messages):
        yield EMPTY_TURN, ""
    cut = [index for index, text in enumerate(draft.responses) if looks_cut_off(text)]
    if cut:
        yield TRUNCATED, _names(draft, cut)
    asked = draft.messages[-1].content.strip()
    repeats = [i for i, text in enumerate(draft.responses) if len(asked) >= _MIN_REPEATED and text.startswith(asked)]
    if repeats:
        yield REPEATS_PROMPT, _names(draft, repeats)
    numbers = draft.scores or draft.win_rates
    if numbers and any(numbers[chosen] <= numbers[rejected] for chosen, rejected in draft.pairs):
        yield SCORES_DISAGREE, ""


def looks_cut_off(text: str) -> bool:
    """Whether a longer text ends in the middle: in a word, a comma or an opening bracket, on an unbroken line."""
    end = text.rstrip()
    last_line = end.rpartition("\n")[2]
    in_prose = len(last_line.split()) >= _MIN_CUT_WORDS
    return in_prose and (end[-1].isalnum() or end[-1] in ",;([{-–—")


def _names(draft: Draft, indices: list[int]) -> str:
    if len(draft.responses) == 1:
        return ""
    sides = ("chosen", "rejected") if draft.pairs == ((0, 1),) else ()
    return ", ".join(sides[i] if sides else f"response {i}" for i in indices)


class Memory:
    """What earlier rows said, as hashes: prompts, and which of two responses was preferred.

    Args:
        other_prompts: Prompt hashes of the other data set, to find the overlap with it.
    """

    def __init__(self, other_prompts: Set[str]) -> None:
        self.other_prompts = other_prompts
        self.prompts: set[str] = set()
        self.verdicts: dict[str, bool] = {}

    def findings(self, row: ReadRow) -> Iterator[tuple[Reason, str]]:
        """What is doubtful about the row in view of the rows before it; then remember it."""
        if row.prompt_hash in self.prompts:
            yield DUPLICATE_PROMPT, ""
        if row.prompt_hash in self.other_prompts:
            yield OVERLAP, ""
        verdicts = dict(_verdicts(row))
        if any(self.verdicts.get(question, verdict) != verdict for question, verdict in verdicts.items()):
            yield CONFLICT, ""
        self.prompts.add(row.prompt_hash)
        self.verdicts.update(verdicts)


def _verdicts(row: ReadRow) -> Iterator[tuple[str, bool]]:
    """What the row says about two responses (is the first in alphabetical order chosen?) or about one (is it good?)."""
    draft = row.draft
    for i, j in draft.pairs:
        chosen, rejected = draft.responses[i], draft.responses[j]
        yield content_hash(row.prompt_hash, *sorted((chosen, rejected))), chosen < rejected
    for text, label in zip(draft.responses, draft.labels, strict=False):
        yield content_hash(row.prompt_hash, text), label
