"""Numbers as a reader likes them: percent with one decimal, real minus signs, intervals, durations.

Left out: which numbers to show (`decision.py`, `banners.py`, `tables.py`). Floor 5; pure.
"""

import math

from fairplay.records import Interval

NOT_DEFINED = "–"
"""Stands where a number is undefined."""

_NO_BREAK = "\N{NO-BREAK SPACE}"


def _signs(text: str) -> str:
    return text.replace("-", "−")


def number(value: float, *, digits: int = 1) -> str:
    """A number with thousands separated and a real minus sign; a dash where it is not finite."""
    if not math.isfinite(value):
        return NOT_DEFINED
    rounded = round(value, digits) + 0.0
    return _signs(f"{rounded:,.{digits}f}")


def percent(value: float) -> str:
    """A share in [0, 1] as "68.2 %", with a space that does not break the line."""
    return f"{number(100 * value)}{_NO_BREAK}%" if math.isfinite(value) else NOT_DEFINED


def points(value: float) -> str:
    """A difference of shares as signed percentage points, "+3.1"."""
    return ("+" if round(100 * value, 1) > 0 else "") + number(100 * value)


def probability(value: float) -> str:
    """A p-value with three digits; "< 0.001" below that."""
    return f"<{_NO_BREAK}0.001" if value < 0.001 else f"{value:.3f}"


def is_defined(interval: Interval) -> bool:
    """Whether the estimate and both ends are finite."""
    return all(math.isfinite(part) for part in (interval.value, interval.low, interval.high))


def bounds(interval: Interval, *, signed: bool = False) -> str:
    """Both ends of an interval of shares, in percent: "[63.1, 73.0]"; nothing where it is undefined."""
    if not is_defined(interval):
        return ""
    show = points if signed else (lambda end: number(100 * end))
    return f"[{show(interval.low)},{_NO_BREAK}{show(interval.high)}]"


def negated(interval: Interval) -> Interval:
    """The interval of the opposite difference."""
    return Interval(-interval.value, -interval.high, -interval.low)


def percent_interval(interval: Interval) -> str:
    """An interval of shares as "68.2 % [63.1, 73.0]"."""
    return f"{percent(interval.value)} {bounds(interval)}" if is_defined(interval) else NOT_DEFINED


def duration(seconds: float) -> str:
    """Wall time as "0.4 s", "12 s", "3 min 05 s" or "2 h 07 min"."""
    if not math.isfinite(seconds):
        return NOT_DEFINED
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
