"""Counts in sentences.

Left out: how reports write numbers (`reports/wording.py`), times and sizes of plans. Floor 1; pure.
"""


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 prompt", "1,200 prompts"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
