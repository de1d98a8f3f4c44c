"""When a win rate is no headline: too many verdicts are missing, or the judge can be fooled. One rule for all commands.

A missing verdict is neither a tie nor a loss, and the missing ones need not be like the others. Left out: win rates and
their intervals (`evaluation/`), how a report says it (`reports/`). Floor 1; pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MISSING_WARNING = 0.01
"""Share of missing verdicts above which it is said."""
MISSING_LIMIT = 0.05
"""Share of missing verdicts above which there is no headline."""


def missing_share(num_judged: int, dropped: Mapping[str, int]) -> float:
    """Share of what was asked for that is missing; `dropped` is reason -> count."""
    missing = sum(dropped.values())
    return missing / max(1, num_judged + missing)


def missing_fault(share: float, *, what: str = "pairs have no verdict") -> list[str]:
    """What speaks against a headline where so large a share is missing; nothing up to `MISSING_LIMIT`."""
    return [f"{100 * share:.1f} % of the {what}"] if share > MISSING_LIMIT else []


def headline_of(headline: Mapping[str, Any], faults: Sequence[str]) -> dict[str, Any]:
    """`headline`, which is null where something speaks against it, and `headline_withheld`, which says what."""
    return {"headline": None if faults else headline, "headline_withheld": "; ".join(faults)}


def headline_document(evaluation: Mapping[str, Any], alarms: Sequence[str]) -> dict[str, Any]:
    """The headline of a comparison, or why there is none, and the bounds of its win rate.

    Args:
        evaluation: An `EvaluationResult` as plain data.
        alarms: What the canaries say against the judge.

    Returns:
        `headline`, `headline_withheld`, `missing_share`, `missing_warning` and `worst_case`; nothing for a result of an
        older release, which has no bounds.
    """
    if not evaluation.get("worst_case"):
        return {}
    share = missing_share(evaluation["num_judgements"], evaluation["dropped"])
    headline = {"win_rate": evaluation["win_rate"], "lc_win_rate": evaluation["lc_win_rate"]}
    if evaluation["statistics"]["lc_extrapolates"]:
        headline["lc_win_rate"] = None
    return {
        **headline_of(headline, [*missing_fault(share), *alarms]),
        "missing_share": share,
        "missing_warning": share > MISSING_WARNING,
        "worst_case": dict(evaluation["worst_case"]),
    }
