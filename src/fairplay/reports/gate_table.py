"""The honesty gates as rows of finished text: canaries, and marks for the judge by policy.

Left out: the alarms (`alarms.py`), the page's form (`templates/gates.html.j2`). Floor 5; pure.
"""

from dataclasses import dataclass

from fairplay.reports.contents import Gates
from fairplay.reports.wording import NOT_DEFINED, bounds, percent


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """One canary; texts are finished."""

    title: str
    expected: str
    win_rate: tuple[str, str]
    num_prompts: str
    is_alarm: bool


@dataclass(frozen=True, slots=True)
class MarkRow:
    """The marks of one policy: name, meaning, count, prompts."""

    policy: str
    num_responses: str
    most_frequent: str
    marks: tuple[tuple[str, str, str, str], ...]


def canary_rows(gates: Gates) -> tuple[CanaryRow, ...]:
    """Every canary in the order in which they were judged."""
    return tuple(
        CanaryRow(
            title=one.title,
            expected=one.expected,
            win_rate=(percent(one.win_rate.value), bounds(one.win_rate)) if one.win_rate else (NOT_DEFINED, ""),
            num_prompts=f"{one.num_prompts:,}",
            is_alarm=bool(one.alarm),
        )
        for one in gates.canaries
    )


def mark_rows(gates: Gates) -> tuple[MarkRow, ...]:
    """Every policy, the start first."""
    return tuple(
        MarkRow(
            policy=one.policy,
            num_responses=f"{one.num_responses:,}",
            most_frequent=percent(one.most_frequent_share),
            marks=tuple((name, meaning, f"{count:,}", ", ".join(ids)) for name, meaning, count, ids in one.marks),
        )
        for one in gates.marks
    )
