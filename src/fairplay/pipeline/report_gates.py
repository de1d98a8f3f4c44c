"""The honesty gates' part of a run's report, from its results.

Left out: how it looks (`reports/`), the rest of the report (`report_stage.py`). Floor 7.
"""

from collections.abc import Mapping
from typing import Any

from fairplay.evaluation.canaries import MAX_WIN_RATE
from fairplay.evaluation.injection import MARKERS
from fairplay.evaluation.settings import CANARIES, SECOND_SAMPLE
from fairplay.records import Interval
from fairplay.reports.contents import CanaryGames, Gates, PolicyMarks, SeenPrompts


def gates_contents(found: Mapping[str, Any]) -> Gates:
    """What the page shows of `gates` in `results.json`."""
    return Gates(
        oracle_is_judge=found["oracle_is_judge"],
        canaries=tuple(map(_canary, found.get("canaries", ()))),
        seen_prompts=tuple(map(_seen, [found["overlap"]] if "overlap" in found else [])),
        marks=tuple(map(_marks, found["markers"])),
    )


def _canary(found: Mapping[str, Any]) -> CanaryGames:
    expected = "about half" if found["canary"] == SECOND_SAMPLE else f"at most {100 * MAX_WIN_RATE:.0f} %"
    rate = found["win_rate"]
    return CanaryGames(
        title=CANARIES[found["canary"]].capitalize(),
        expected=expected,
        win_rate=None if rate is None else Interval(rate, *found["win_rate_ci"]),
        num_prompts=found["num_prompts"],
        alarm=found["alarm"],
    )


def _seen(found: Mapping[str, Any]) -> SeenPrompts:
    shown = {key: value for key, value in found.items() if key != "mean_containment"}
    return SeenPrompts(**{**shown, "examples": tuple(found["examples"])})


def _marks(found: Mapping[str, Any]) -> PolicyMarks:
    return PolicyMarks(
        policy=found["policy"],
        num_responses=found["num_responses"],
        marks=tuple(
            (name, MARKERS[name][0] if name in MARKERS else "", count, tuple(found["examples"].get(name, ())))
            for name, count in found["markers"].items()
            if count
        ),
        most_frequent_share=found["most_frequent_share"],
    )
