"""The oracle's audit as rows of finished text: each quantity with its meaning, one column a set of preferences.

Left out: the numbers (`preferences/audit.py`), the page's form (`templates/`). Floor 5; pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairplay.reports.wording import number, percent

_WHOLE = frozenset({"num_groups"})
_SIGNED = frozenset({"length_correlation", "mean_order_bias"})
_MEANINGS = {
    "order_flip_rate": (
        "Order flips",
        "pairs whose winner changes when the two are shown the other way round; 0 is best",
    ),
    "mean_order_bias": ("Order bias", "nats that a response gains by being shown first; 0 is fair"),
    "one_order_share": ("Read in one order", "pairs of which the other order was not asked; their order bias stays in"),
    "not_compared_share": ("Not compared", "pairs without an anchor, left out by choice; all else is of the others"),
    "intransitive_triple_rate": ("Intransitive triples", "triples that beat each other in a circle"),
    "intransitive_triple_rate_by_chance": (
        "The same by chance",
        "if the winners of its pairs were dealt at random; near this, the oracle ranks like a coin",
    ),
    "cyclic_energy_share": (
        "Cyclic energy",
        "strength of preference that no ranking explains; 0 means a clear ranking",
    ),
    "length_correlation": (
        "Length correlation",
        "of win rate and length within a prompt; above 0 the oracle likes long responses",
    ),
    "tie_rate": ("Ties", "pairs of different texts that it finds exactly equal"),
    "duplicate_rate": (
        "Duplicates",
        "pairs of the very same text, which no oracle is asked about and no tie counts; high means little variety",
    ),
    "truncated_share": ("Cut by the oracle", "responses that it read only in part"),
    "prompt_truncated_share": ("Prompts cut by the oracle", "that it read only in part"),
    "mean_margin": ("Mean margin", "how decided it is: 0 is a coin, 100 % is certain"),
    "near_duplicate_rate": ("Near-duplicates", "pairs that differ in about one word of nine or less"),
    "near_duplicate_margin": (
        "Margin on near-duplicates",
        "as decided as elsewhere means over-confident about trifles",
    ),
    "member_disagreement": ("Members disagree", "standard deviation of the ensemble's win probabilities"),
    "num_groups": ("Prompts", "with preferences"),
}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One quantity of the audit; a dash stands where a set of preferences does not have it."""

    title: str
    meaning: str
    values: tuple[str, ...]


def audit_rows(audits: Sequence[Mapping[str, float]]) -> tuple[AuditRow, ...]:
    """Known quantities with their meaning, others by their bare name.

    Args:
        audits: One audit a column, by name as `preferences.audit` gives them.

    Returns:
        One row for each quantity that any of them has.
    """
    present = {key for audit in audits for key in audit}
    names = [key for key in _MEANINGS if key in present] + sorted(present - _MEANINGS.keys())
    return tuple(
        AuditRow(*_MEANINGS.get(name, (name, "")), tuple(_value(name, audit) for audit in audits)) for name in names
    )


def _value(name: str, audit: Mapping[str, float]) -> str:
    value = audit.get(name, math.nan)
    if name in _WHOLE:
        return number(value, digits=0)
    if name in _SIGNED or name not in _MEANINGS:
        return ("+" if name in _SIGNED and round(value, 2) > 0 else "") + number(value, digits=2)
    return percent(value)
