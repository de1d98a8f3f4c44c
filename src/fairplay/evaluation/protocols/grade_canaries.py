"""Canaries where answers are graded one by one: answers that say nothing must get a low grade.

Left out: those of comparisons (`evaluation/canaries.py`), whose texts are taken. Floor 5; pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairplay.evaluation.canaries import TEXTS
from fairplay.evaluation.protocols.mt_bench import Grade, mean_grade
from fairplay.evaluation.settings import CANARIES
from fairplay.records import Interval

MAX_RATING = 3.0
"""Mean grade, of 1 to 10, above which a canary raises an alarm."""


@dataclass(frozen=True, slots=True)
class GradedCanary:
    """How one canary was graded.

    Attributes:
        canary: A name in `canaries.TEXTS`.
        num_questions: Questions on which it was graded.
        rating: Its mean grade; None where there is none.
        dropped: Reason -> answers that have no grade.
        alarm: What is wrong, in a sentence; empty where nothing is.
    """

    canary: str
    num_questions: int
    rating: Interval | None
    dropped: Mapping[str, int]
    alarm: str


def canary_answers(canary: str, num_turns: int) -> tuple[str, ...]:
    """The same text in every turn."""
    return (TEXTS[canary],) * num_turns


def graded_canary(canary: str, grades: Sequence[Grade], *, seed: int, num_bootstrap: int) -> GradedCanary:
    """What the grades of a canary say about the judge.

    Args:
        canary: A name in `canaries.TEXTS`.
        grades: One for each of its answers.
        seed: Of the interval.
        num_bootstrap: Resamples of the questions.
    """
    dropped = dict(sorted(Counter(item.reason for item in grades if item.rating is None).items()))
    rated = [item for item in grades if item.rating is not None]
    if not rated:
        return GradedCanary(canary, 0, None, dropped, f"The canary “{CANARIES[canary]}” could not be graded at all.")
    rating, number = mean_grade(rated, seed=seed, num_bootstrap=num_bootstrap)
    told = f"is graded {rating.value:.1f} [{rating.low:.1f}, {rating.high:.1f}] of 10"
    alarm = f"The canary “{CANARIES[canary]}” {told}, and must not get more than {MAX_RATING:.0f}."
    return GradedCanary(canary, number, rating, dropped, alarm if rating.value > MAX_RATING else "")
