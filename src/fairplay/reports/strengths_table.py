"""The checkpoints on one length-controlled scale, as finished text.

Left out: the fit (`evaluation/joint_strengths.py`), the page's form (`templates/`). Floor 5; pure.
"""

from dataclasses import dataclass

from fairplay.records import CheckpointStrengths, Interval
from fairplay.reports.wording import NOT_DEFINED, bounds, number, percent, percent_interval
from fairplay.wording import plural


@dataclass(frozen=True, slots=True)
class StrengthRow:
    """One checkpoint: its strength and its win rates at equal length, each as (estimate, interval)."""

    name: str
    strength: tuple[str, str]
    against_start: tuple[str, str]
    against_previous: tuple[str, str]


def strength_rows(found: CheckpointStrengths) -> tuple[StrengthRow, ...]:
    """A row for each checkpoint, the start first; the start has nothing to be compared with."""
    nothing = NOT_DEFINED, ""
    return tuple(
        StrengthRow(
            name=name,
            strength=(_nats(strength.value), f"[{_nats(strength.low)}, {_nats(strength.high)}]")
            if place
            else ("0", ""),
            against_start=_rate(found.lc_win_rates[place][0]) if place else nothing,
            against_previous=_rate(found.lc_win_rates[place][place - 1]) if place else nothing,
        )
        for place, (name, strength) in enumerate(zip(found.names, found.strengths, strict=True))
    )


def strength_sentences(found: CheckpointStrengths, length_unit: str) -> tuple[str, ...]:
    """What length is worth to the judge, and how well one scale fits."""
    slope, last = found.length_slope, found.lc_win_rates[-1][0]
    size = f"{_nats(slope.value)} [{_nats(slope.low)}, {_nats(slope.high)}]"
    worth = "no measurable" if slope.low <= 0 <= slope.high else "a positive" if slope.value > 0 else "a negative"
    return (
        f"At equal length {found.names[-1]} wins {percent_interval(last)} of its games against {found.names[0]}, by "
        f"all {plural(found.num_judgements, 'game')} together.",
        f"Length has {worth} effect on the judge: {size} nats of log-odds for a response that is longer by far more "
        f"than {number(found.length_scale)} {length_unit}.",
        f"One scale leaves at most {number(100 * found.misfit)} points of a pair’s win rate unexplained; circles among"
        " the checkpoints would.",
    )


def _rate(interval: Interval) -> tuple[str, str]:
    return percent(interval.value), bounds(interval)


def _nats(value: float) -> str:
    return number(value, digits=2)
