"""How long texts are: distributions by side and unit, and whether the chosen response is the longer one.

Left out: lengths in tokens (they depend on a tokenizer; `models/`). Floor 2. Memory: 8 bytes a text and unit.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fairplay.data.drafts import Draft
from fairplay.data.faults import CHOSEN_LONGER, CHOSEN_SHORTER, Reason

UNITS = ("characters", "words")
SIDES = ("prompt", "response", "chosen", "rejected")
MIN_PAIRS = 10
"""Pairs below which their lengths say nothing."""
MAX_ONE_SIDED = 0.9
"""Share of pairs in which chosen is the longer (or the shorter) one, above which it is a finding."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the texts of one side (`prompt`, `response`, `chosen`, `rejected`) in one unit.

    Attributes:
        unit: `characters` (Unicode code points) or `words` (split at white space).
    """

    side: str
    unit: str
    mean: float
    median: float
    p95: float
    maximum: int


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How the lengths of chosen and rejected compare, over pairs.

    Attributes:
        share_chosen_longer: Share of pairs whose chosen response is longer, in [0, 1].
        share_equal: Share of pairs with two responses of the same length, in [0, 1].
        mean_gap: Mean of the length of chosen less the length of rejected, in the unit.
    """

    unit: str
    share_chosen_longer: float
    share_equal: float
    mean_gap: float


@dataclass(frozen=True, slots=True)
class Turns:
    """User turns of the prompts."""

    mean: float
    maximum: int
    share_multi_turn: float


@dataclass
class Ruler:
    """Measures rows one by one."""

    columns: dict[tuple[str, str], "array[int]"] = field(default_factory=dict)
    turns: "array[int]" = field(default_factory=lambda: array("q"))

    def measure(self, draft: Draft) -> None:
        """Take in the lengths of one row; responses of pairs count as chosen or rejected, others as responses."""
        self._add("prompt", [turn.content for turn in draft.messages])
        self.turns.append(sum(turn.role == "user" for turn in draft.messages))
        for chosen, rejected in draft.pairs:
            self._add("chosen", [draft.responses[chosen]])
            self._add("rejected", [draft.responses[rejected]])
        if len(draft.responses) != 2 or not draft.pairs:
            for text in draft.responses:
                self._add("response", [text])

    def _add(self, side: str, texts: Sequence[str]) -> None:
        for unit in UNITS:
            length = sum(len(text) if unit == "characters" else len(text.split()) for text in texts)
            self.columns.setdefault((side, unit), array("q")).append(length)

    def lengths(self) -> tuple[Lengths, ...]:
        """Distributions of all sides that occur."""
        found = [(side, unit) for side in SIDES for unit in UNITS if (side, unit) in self.columns]
        return tuple(_summary(side, unit, self.columns[side, unit]) for side, unit in found)

    def bias(self) -> tuple[LengthBias, ...]:
        """The length bias in each unit; empty where there are no pairs."""
        if ("chosen", UNITS[0]) not in self.columns:
            return ()
        gaps = {
            unit: np.array(self.columns["chosen", unit]) - np.array(self.columns["rejected", unit]) for unit in UNITS
        }
        return tuple(
            LengthBias(unit, float((gap > 0).mean()), float((gap == 0).mean()), float(gap.mean()))
            for unit, gap in gaps.items()
        )

    def one_sided(self) -> Iterator[tuple[Reason, int]]:
        """Whether length alone tells which response was chosen, and in how many pairs; by characters."""
        if ("chosen", UNITS[0]) not in self.columns:
            return
        gaps = np.array(self.columns["chosen", UNITS[0]]) - np.array(self.columns["rejected", UNITS[0]])
        for reason, sign in ((CHOSEN_LONGER, 1), (CHOSEN_SHORTER, -1)):
            count = int((gaps * sign > 0).sum())
            if len(gaps) >= MIN_PAIRS and count > MAX_ONE_SIDED * len(gaps):
                yield reason, count

    def turn_counts(self) -> Turns:
        """User turns of the prompts measured so far; zeros where there are none."""
        if not self.turns:
            return Turns(0.0, 0, 0.0)
        turns = np.array(self.turns)
        return Turns(float(turns.mean()), int(turns.max()), float((turns > 1).mean()))


def _summary(side: str, unit: str, values: "array[int]") -> Lengths:
    lengths = np.array(values)
    median, p95 = np.quantile(lengths, [0.5, 0.95])
    return Lengths(side, unit, float(lengths.mean()), float(median), float(p95), int(lengths.max()))
