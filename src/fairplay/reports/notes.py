"""Notes on comparisons, grouped: what is said of many of them is said once, with what differs as a range.

Left out: who writes the notes (`evaluation/`). Floor 5; pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER = re.compile(r"(?:(?<!\w)[-−+])?\d+(?:,\d{3})*(?:\.\d+)?")  # a hyphen within a word or a range is no sign


@dataclass(frozen=True, slots=True)
class GroupedNote:
    """One sentence of several comparisons.

    Attributes:
        text: With ranges where the comparisons' numbers differ.
        where: Which comparisons, in words.
        each: (comparison, its own sentence), where they differ; else empty.
    """

    text: str
    where: str
    each: tuple[tuple[str, str], ...]


def grouped_notes(notes: Iterable[tuple[str, str]], *, num_comparisons: int) -> tuple[GroupedNote, ...]:
    """Notes of one wording as one, in the order in which their wordings first come.

    Args:
        notes: (comparison, sentence).
        num_comparisons: All there are, with notes or without.
    """
    alike: dict[str, list[tuple[str, str]]] = {}
    for comparison, text in notes:
        alike.setdefault(_NUMBER.sub("#", text), []).append((comparison, text))
    return tuple(_grouped(members, num_comparisons) for members in alike.values())


def _grouped(members: list[tuple[str, str]], num_comparisons: int) -> GroupedNote:
    texts = [text for _, text in members]
    comparisons = list(dict.fromkeys(comparison for comparison, _ in members))
    if len(comparisons) == num_comparisons and num_comparisons > 1:
        where = "All comparisons"
    elif len(comparisons) > 2:
        where = f"{len(comparisons)} of {num_comparisons} comparisons"
    else:
        where = "; ".join(comparisons)
        where = where[:1].upper() + where[1:]
    differ = len(set(texts)) > 1
    tells_which = differ or 2 < len(comparisons) < num_comparisons
    return GroupedNote(_with_ranges(texts), where, tuple(members) if tells_which else ())


def _with_ranges(texts: list[str]) -> str:
    """The first text, its numbers replaced by `low to high` where the texts' numbers differ."""
    columns = iter(zip(*(_NUMBER.findall(text) for text in texts), strict=True))

    def spanned(_: re.Match[str]) -> str:
        found = sorted(set(next(columns)), key=_value)
        return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"

    return _NUMBER.sub(spanned, texts[0])


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))
