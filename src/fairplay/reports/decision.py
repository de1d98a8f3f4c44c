"""The decision first: better, worse, or not distinguishable, in sentences that follow from the intervals alone.

Left out: warnings about the numbers (`banners.py`), tables (`tables.py`). Floor 5; pure.
"""

from dataclasses import dataclass
from typing import Literal

from fairplay.headline import MISSING_LIMIT, missing_share
from fairplay.records import EvaluationResult, Interval
from fairplay.reports.contents import IterationContents, JudgeRole, ReportContents
from fairplay.reports.wording import bounds, is_defined, negated, number, percent, percent_interval, points
from fairplay.wording import plural, reasons

Outcome = Literal["better", "worse", "not distinguishable", "undefined"]

START = "start"
PREVIOUS = "previous"
OPPONENTS = {START: "start policy", PREVIOUS: "previous iterate"}
"""Names of opponents, in words; other names are shown as they are."""

_DETECTABLE = (1.96 + 0.84) / 1.96


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reader should take away.

    Attributes:
        outcome: The last iterate against the headline's opponent, at any length.
        headline: One sentence.
        sentences: What qualifies it, one thought each.
    """

    outcome: Outcome
    headline: str
    sentences: tuple[str, ...]


def outcome_of(interval: Interval) -> Outcome:
    """Which side of one half a 95 % interval of a win rate lies on."""
    if not is_defined(interval):
        return "undefined"
    if interval.low > 0.5:
        return "better"
    return "worse" if interval.high < 0.5 else "not distinguishable"


def outcome_of_result(result: EvaluationResult) -> Outcome:
    """Which side won; undefined where too many games have no verdict."""
    return "undefined" if too_many_missing(result) else outcome_of(result.win_rate)


def too_many_missing(result: EvaluationResult) -> bool:
    """Whether so many games have no verdict that the others decide nothing."""
    return missing_share(result.num_judgements, result.dropped) > MISSING_LIMIT


def worst_case_words(result: EvaluationResult) -> str:
    """A sentence, with a blank before it, on what the missing games could make of the win rate; empty if not known."""
    if not result.worst_case:
        return ""
    low, high = (percent(result.worst_case[end]) for end in ("low", "high"))
    return f" Whatever these would say, the win rate over all games lies between {low} and {high}."


def opponent_words(name: str) -> str:
    """An opponent as a sentence calls it."""
    return f"the {OPPONENTS[name]}" if name in OPPONENTS else name


def find_result(iteration: IterationContents, role: JudgeRole, opponent: str) -> EvaluationResult | None:
    """The comparison by that role against that opponent, if it was made.

    The first iterate's previous iterate is the start policy, so there the two opponents are one.
    """
    names = [opponent] if iteration.iteration > 1 or opponent != PREVIOUS else [PREVIOUS, START]
    for name in names:
        for evaluation in iteration.evaluations:
            if evaluation.role == role and evaluation.result.opponent == name:
                return evaluation.result
    return None


def headline_result(iteration: IterationContents) -> EvaluationResult | None:
    """The comparison that the headline speaks of: by the judge, against the start policy where there is one."""
    judged = [evaluation.result for evaluation in iteration.evaluations if evaluation.role == "judge"]
    return find_result(iteration, "judge", START) or (judged[0] if judged else None)


def extrapolates(result: EvaluationResult) -> bool:
    """Whether the length-controlled win rate rests on its model more than on games of like lengths."""
    return result.statistics is not None and result.statistics.lc_extrapolates


def decide(contents: ReportContents) -> Decision:
    """The decision on a run's last finished iterate."""
    if not contents.iterations:
        return Decision("undefined", "No iteration has finished yet.", ("There is nothing to compare so far.",))
    last = contents.iterations[-1]
    result = headline_result(last)
    if result is None:
        return Decision(
            "undefined", f"Iteration {last.iteration} was not judged.", ("No judge compared it with anything.",)
        )
    outcome = outcome_of_result(result)
    against = opponent_words(result.opponent)
    policy = f"Iteration {last.iteration}"
    length_outcome = "undefined" if too_many_missing(result) else outcome_of(result.lc_win_rate)
    headline = {
        "better": f"{policy} is better than {against}",
        "worse": f"{policy} is worse than {against}",
        "not distinguishable": f"{policy} is not distinguishable from {against}",
        "undefined": f"{policy} can’t be compared with {against}",
    }[outcome]
    if too_many_missing(result):
        headline += ": too many games have no verdict"
    if extrapolates(result):
        length_outcome = "undefined"  # no headline rests on lengths that were hardly seen
    if outcome == "better" and length_outcome in ("not distinguishable", "worse"):
        headline += ", but not at equal length"
    elif outcome != "better" and length_outcome == "better":
        headline += ", but better at equal length"
    sentences = [
        *_alarm(contents),
        _figures(result),
        *_failures(result),
        *_resolution(result, outcome),
        *_progress(last),
        *_gap(last, result),
    ]
    return Decision(outcome, headline + ".", tuple(sentences))


def _alarm(contents: ReportContents) -> list[str]:
    if contents.gates.oracle_is_judge or contents.judge == contents.oracle:
        return ["This is the training oracle’s own verdict: no judge that the training never saw has confirmed it."]
    if any(canary.alarm for canary in contents.gates.canaries):
        return ["But this judge can be fooled, so that its verdict can’t be relied on: it failed a canary, see below."]
    return []


def _figures(result: EvaluationResult) -> str:
    if not is_defined(result.win_rate):
        return f"The judge gave no verdict on {plural(result.num_prompts, 'prompt')}."
    prompts = plural(result.num_prompts, "held-out prompt")
    if too_many_missing(result):
        return f"It wins {percent_interval(result.win_rate)} of the games that were judged, on {prompts}: no headline."
    start = f"It wins {percent_interval(result.win_rate)} of its games on {prompts}"
    if not is_defined(result.lc_win_rate):
        return f"{start}; a win rate at equal length can’t be given."
    extrapolated = ", extrapolated from other lengths" if extrapolates(result) else ""
    return f"{start}, and {percent_interval(result.lc_win_rate)} at equal length{extrapolated}."


def _failures(result: EvaluationResult) -> list[str]:
    if not too_many_missing(result):
        return []
    share = percent(missing_share(result.num_judgements, result.dropped))
    return [f"{share} of the games could not be judged ({reasons(result.dropped)}).{worst_case_words(result)}"]


def _resolution(result: EvaluationResult, outcome: Outcome) -> list[str]:
    if outcome != "not distinguishable":
        return []
    detectable = 0.5 * (result.win_rate.high - result.win_rate.low) * _DETECTABLE
    return [
        f"With this many prompts, a true win rate closer than about {number(100 * detectable)} points to 50 % "
        "would usually go unseen."
    ]


def _progress(last: IterationContents) -> list[str]:
    result = find_result(last, "judge", PREVIOUS)
    if result is None or result.opponent != PREVIOUS:
        return []
    words = {
        "better": "It still improves on",
        "worse": "It falls back behind",
        "not distinguishable": "It is not distinguishable from",
    }
    verb = words.get(outcome_of_result(result))
    return [f"{verb} the iterate before it: {percent_interval(result.win_rate)}."] if verb else []


def _gap(last: IterationContents, judged: EvaluationResult) -> list[str]:
    gap = last.oracle_gaps.get(judged.opponent)
    oracle = find_result(last, "oracle", judged.opponent)
    if gap is None or oracle is None or not is_defined(gap) or too_many_missing(judged) or too_many_missing(oracle):
        return []
    rate, size = percent(oracle.win_rate.value), number(100 * abs(gap.value))
    if gap.low > 0:
        apart = outcome_of_result(oracle) != outcome_of_result(judged)
        end = (
            "and the two part ways on the decision itself"
            if apart
            else "so that much of its gain is the oracle’s taste"
        )
        return [f"The training oracle flatters it: {rate}, {size} points {bounds(gap)} above the judge, {end}."]
    if gap.high < 0:
        below = bounds(negated(gap))
        return [f"The training oracle is harsher than the judge: {rate}, {size} points {below} below it."]
    apart_by = f"{points(gap.value)} points {bounds(gap, signed=True)}"
    return [f"Training oracle and judge agree within the noise: {rate} by the oracle, a gap of {apart_by}."]
