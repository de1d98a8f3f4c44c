"""Margins of preference pairs on disk, pair by pair, so that two models can be compared on them.

Left out: computing them (`training/held_out.py`). Floor 7.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairplay.storage.tables import read_records
from fairplay.training.summary import PairMargins

MARGINS = ("logps", "mean_logps", "implicit_rewards")
MARGINS_NAME = "margins.parquet"
BEFORE_NAME, AFTER_NAME = "margins-before.parquet", "margins-after.parquet"
PLACE_MARK = "#"


@dataclass(frozen=True, slots=True)
class PairMargin:
    """How far one pair's chosen response is above the rejected one; see `PreferenceAccuracy`.

    Attributes:
        pair: The example's id, `#`, and its place among the example's pairs; intervals take examples whole.
        logps, mean_logps: By summed log-prob, and per token; nats.
        implicit_rewards: Against the reference; None without one.
    """

    pair: str
    logps: float
    mean_logps: float
    implicit_rewards: float | None


def pair_margins(example_ids: Sequence[str], margins: PairMargins, *, has_reference: bool = True) -> list[PairMargin]:
    """Margins as records, those of one example one after the other.

    Args:
        example_ids: The example of each pair, [pairs].
        margins: [pairs] each.
        has_reference: Whether implicit rewards mean something.
    """
    rewards = margins.implicit_rewards.tolist() if has_reference else [None] * len(example_ids)
    columns = zip(pair_names(example_ids), margins.logps.tolist(), margins.mean_logps.tolist(), rewards, strict=True)
    return [PairMargin(*row) for row in columns]


def read_margins(path: Path) -> dict[str, dict[str, float]]:
    """Kind of margin -> pair -> margin; kinds that are not known for all pairs are left out.

    Raises:
        DataError: If it is no file of margins.
    """
    rows = read_records(path, PairMargin)
    found = {kind: {row.pair: getattr(row, kind) for row in rows} for kind in MARGINS}
    return {kind: pairs for kind, pairs in found.items() if None not in pairs.values()}


def pair_names(example_ids: Sequence[str]) -> list[str]:
    """The name of each pair: its example and its place there."""
    seen: Counter[str] = Counter()
    names = []
    for example in example_ids:
        names.append(f"{example}{PLACE_MARK}{seen[example]}")
        seen[example] += 1
    return names


def example_of(pair: str) -> str:
    """The example that a pair is of."""
    return pair.rpartition(PLACE_MARK)[0]
