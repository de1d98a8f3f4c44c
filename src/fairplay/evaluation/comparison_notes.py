"""What a reader must know of one comparison before relying on its numbers, in full sentences with stated limits.

Left out: the numbers themselves (`win_rates`), a report's banners (`reports/`). Floor 5; pure.
"""

from fairplay.headline import MISSING_LIMIT, MISSING_WARNING, missing_share
from fairplay.records import ComparisonStatistics, EvaluationResult, Interval
from fairplay.wording import plural

FEW_PROMPTS = 30
SMALL_OVERLAP = 0.1
"""Share of prompts with responses of like length below which the length-controlled win rate is no headline."""

NOTABLE_BIAS = 0.05
NOTABLE_SAMPLING = 0.5
"""Share of the win rate's variance that comes from sampling, from which more samples are advised."""


def comparison_notes(result: EvaluationResult, statistics: ComparisonStatistics) -> tuple[str, ...]:
    """The sentences that follow from the numbers, the gravest first."""
    return (
        *_dropped_notes(result),
        *_size_notes(result, statistics),
        *_length_notes(result, statistics),
        *_position_notes(statistics.first_position_bias),
    )


def _dropped_notes(result: EvaluationResult) -> list[str]:
    share, num_dropped = missing_share(result.num_judgements, result.dropped), sum(result.dropped.values())
    count = f"{num_dropped} of {num_dropped + result.num_judgements} judgements are missing ({_percent(share)})"
    if share > MISSING_LIMIT:
        return [f"{count}: too many for a headline, because the missing ones need not be like the others."]
    return [f"{count}."] if share > MISSING_WARNING else []


def _size_notes(result: EvaluationResult, statistics: ComparisonStatistics) -> list[str]:
    notes = []
    if result.num_prompts < FEW_PROMPTS:
        notes.append(f"Only {plural(result.num_prompts, 'prompt')}: the intervals are rough.")
    gap, rate = statistics.minimum_detectable_gap, result.win_rate
    if rate.low <= 0.5 <= rate.high and result.num_prompts > 1:
        notes.append(
            "Policy and opponent are not distinguishable by win rate; so many prompts find a true distance from 50 % of"
            f" {_points(gap)} in four of five evaluations."
        )
    between, within = statistics.variance_between_prompts, statistics.variance_within_prompts
    if between is not None and within:
        sampled = within * result.num_prompts / result.num_judgements
        share = sampled / (between + sampled)
        if share >= NOTABLE_SAMPLING:
            notes.append(
                f"{_percent(share)} of the win rate's variance comes from sampling the responses: more samples of each"
                " prompt would narrow the interval."
            )
    return notes


def _length_notes(result: EvaluationResult, statistics: ComparisonStatistics) -> list[str]:
    notes = []
    if statistics.lc_extrapolates:
        notes.append(
            "The two responses are nearly equal in length (within 10 %) on only"
            f" {_percent(result.overlap)} of the prompts: the length-controlled win rate extrapolates to equal lengths"
            " that were hardly seen."
        )
    effect, slope = statistics.length_effect, statistics.length_slope
    if effect is not None and slope is not None and (effect.low > 0 or effect.high < 0):
        direction = "longer" if slope.value > 0 else "shorter"
        notes.append(
            f"The judge prefers {direction} responses here, and of the win rate {_points(effect.value)} go with length."
        )
    return notes


def _position_notes(bias: Interval) -> list[str]:
    if abs(bias.value) < NOTABLE_BIAS or bias.low <= 0 <= bias.high:
        return []
    shown = "first" if bias.value > 0 else "second"
    return [
        f"The judge favours the response shown {shown} by {_points(abs(bias.value))}; both orders are averaged, so that"
        " neither side gains by it."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
