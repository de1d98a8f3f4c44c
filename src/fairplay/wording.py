"""Counts in sentences.

Left out: how reports write numbers (`reports/wording.py`), times and sizes of plans. Floor 1; pure.
"""

from collections.abc import Mapping


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 prompt", "1,200 prompts"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def reasons(dropped: Mapping[str, int]) -> str:
    """Reasons with their counts, the most frequent first: "12 x prompt too long, 3 x tie"."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} x {reason}" for reason, count in ordered if count)
