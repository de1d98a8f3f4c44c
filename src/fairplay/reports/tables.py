"""The tables of a page as rows of finished text: comparisons, trust, lengths, stages.

Left out: the oracle's audit (`audit_table.py`), sentences (`decision.py`), form (`templates/`). Floor 5; pure.
"""

import math
from dataclasses import dataclass

from fairplay.records import EvaluationResult, Interval
from fairplay.reports.contents import Evaluation, HeldOutLengths, ReportContents
from fairplay.reports.decision import OPPONENTS, Outcome, outcome_of_result
from fairplay.reports.notes import GroupedNote, grouped_notes
from fairplay.reports.wording import (
    NOT_DEFINED,
    bounds,
    duration,
    is_defined,
    number,
    percent,
    points,
    probability,
)
from fairplay.wording import reasons


@dataclass(frozen=True, slots=True)
class Mark:
    """A point estimate with its whiskers on a strip from 0 to 100."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One comparison of the first table; texts are finished."""

    iteration: int
    opponent: str
    role: str
    outcome: Outcome
    record: tuple[str, str, str]
    win_rate: tuple[str, str]
    lc_win_rate: tuple[str, str]
    p_value: tuple[str, str]
    mark: Mark | None
    lc_mark: Mark | None
    length: str
    opponent_length: str
    num_prompts: str


@dataclass(frozen=True, slots=True)
class TrustRow:
    """How far one comparison's numbers can be trusted."""

    iteration: int
    opponent: str
    role: str
    num_judgements: str
    consistency: str
    first_bias: tuple[str, str]
    sampling: str
    overlap: str
    dropped: str


@dataclass(frozen=True, slots=True)
class LengthRow:
    """Lengths of one policy's responses."""

    policy: str
    num_responses: str
    mean: str
    median: str
    longest_tenth: str
    change: str
    truncated: str


@dataclass(frozen=True, slots=True)
class StageRow:
    """What one stage took in and gave out."""

    iteration: int
    is_first: bool
    name: str
    rows_in: str
    rows_out: str
    dropped: str
    seconds: str
    tokens: str


def comparison_rows(contents: ReportContents) -> tuple[ComparisonRow, ...]:
    """Every comparison, the judge's before the oracle's within an iteration."""
    rows = []
    for entry in contents.iterations:
        for evaluation in sorted(entry.evaluations, key=lambda one: one.role != "judge"):
            result = evaluation.result
            rows.append(
                ComparisonRow(
                    iteration=entry.iteration,
                    opponent=_opponent(result.opponent),
                    role=evaluation.role,
                    outcome=outcome_of_result(result),
                    record=(f"{result.wins:,}", f"{result.ties:,}", f"{result.losses:,}"),
                    win_rate=_estimate(result.win_rate),
                    lc_win_rate=_estimate(result.lc_win_rate),
                    p_value=_p_value(evaluation),
                    mark=_mark(result.win_rate),
                    lc_mark=_mark(result.lc_win_rate),
                    length=number(result.mean_length),
                    opponent_length=number(result.opponent_mean_length),
                    num_prompts=f"{result.num_prompts:,}",
                )
            )
    return tuple(rows)


def trust_rows(contents: ReportContents) -> tuple[TrustRow, ...]:
    """Position, overlap and failures of every comparison."""
    return tuple(
        TrustRow(
            iteration=entry.iteration,
            opponent=_opponent(evaluation.result.opponent),
            role=evaluation.role,
            num_judgements=f"{evaluation.result.num_judgements:,}",
            consistency=percent(evaluation.result.position_consistency),
            first_bias=_first_bias(evaluation.result),
            sampling=_sampling(evaluation.result),
            overlap=percent(evaluation.result.overlap),
            dropped=reasons(evaluation.result.dropped) or "none",
        )
        for entry in contents.iterations
        for evaluation in entry.evaluations
    )


def trust_notes(contents: ReportContents) -> tuple[GroupedNote, ...]:
    """What the comparisons say of themselves, one line a wording."""
    compared = [
        (f"iteration {entry.iteration} against {_opponent(one.result.opponent)}, by the {one.role}", one.result.notes)
        for entry in contents.iterations
        for one in entry.evaluations
    ]
    said = ((name, note) for name, notes in compared for note in notes)
    return grouped_notes(said, num_comparisons=len(compared))


def length_rows(contents: ReportContents) -> tuple[LengthRow, ...]:
    """Lengths by policy, the start policy first."""
    start = _mean(contents.start.lengths)
    rows = [_length_row("start policy", contents.start, math.nan)] if contents.start.lengths else []
    rows += [
        _length_row(f"iteration {entry.iteration}", entry.held_out, start)
        for entry in contents.iterations
        if entry.held_out.lengths
    ]
    return tuple(rows)


def stage_rows(contents: ReportContents) -> tuple[StageRow, ...]:
    """Every stage of every iteration, in order."""
    return tuple(
        StageRow(
            iteration=entry.iteration,
            is_first=place == 0,
            name=stage.name,
            rows_in=f"{stage.rows_in:,}",
            rows_out=f"{stage.rows_out:,}",
            dropped=reasons(stage.dropped) or "none",
            seconds=duration(stage.seconds),
            tokens=f"{stage.tokens:,}" if stage.tokens else NOT_DEFINED,
        )
        for entry in contents.iterations
        for place, stage in enumerate(entry.stages)
    )


def sampling_sentences(contents: ReportContents) -> tuple[str, ...]:
    """How far what was sampled from is from what was trained, an iteration a sentence."""
    return tuple(
        f"Iteration {entry.iteration}: the engine’s log-probs of {entry.sampling['num_tokens']:,} tokens that it "
        f"sampled differ from the trainer’s by {entry.sampling['mean_abs']:.1e} nats on average and "
        f"{entry.sampling['max_abs']:.1e} at most; KL a token {entry.sampling['kl']:.1e}."
        if entry.sampling
        else f"Iteration {entry.iteration}: the engine told no log-probs, so how far its sampling is from what was "
        "trained is not measured."
        for entry in contents.iterations
    )


def totals(contents: ReportContents) -> str:
    """Wall time and tokens of all stages, in words."""
    stages = [stage for entry in contents.iterations for stage in entry.stages]
    return f"{duration(sum(stage.seconds for stage in stages))}, {sum(stage.tokens for stage in stages):,} tokens"


def _opponent(name: str) -> str:
    return OPPONENTS.get(name, name)


def _estimate(interval: Interval) -> tuple[str, str]:
    return (percent(interval.value), bounds(interval)) if is_defined(interval) else (NOT_DEFINED, "")


def _p_value(evaluation: Evaluation) -> tuple[str, str]:
    """The corrected p-value, or for a comparison that was not declared its own, in brackets."""
    statistics = evaluation.result.statistics
    if evaluation.holm_p_value is not None:
        return probability(evaluation.holm_p_value), ""
    return "", f"({probability(statistics.p_value)})" if statistics else NOT_DEFINED


def _first_bias(result: EvaluationResult) -> tuple[str, str]:
    statistics = result.statistics
    return points(result.first_position_bias), (
        bounds(statistics.first_position_bias, signed=True) if statistics else ""
    )


def _sampling(result: EvaluationResult) -> str:
    """The share of the win rate's variance that comes from sampling the responses."""
    statistics = result.statistics
    if statistics is None or statistics.variance_between_prompts is None or not statistics.variance_within_prompts:
        return NOT_DEFINED
    sampled = statistics.variance_within_prompts * result.num_prompts / result.num_judgements
    return percent(sampled / (statistics.variance_between_prompts + sampled))


def _mark(interval: Interval) -> Mark | None:
    if not is_defined(interval):
        return None
    return Mark(*(round(100 * end, 2) for end in (interval.value, interval.low, interval.high)))


def _mean(lengths: tuple[int, ...]) -> float:
    return sum(lengths) / len(lengths) if lengths else math.nan


def _length_row(policy: str, held_out: HeldOutLengths, start: float) -> LengthRow:
    ordered = sorted(held_out.lengths)
    size = len(ordered)
    median = 0.5 * (ordered[(size - 1) // 2] + ordered[size // 2])
    growth = _mean(held_out.lengths) / start - 1 if start else math.nan
    return LengthRow(
        policy=policy,
        num_responses=f"{size:,}",
        mean=number(_mean(held_out.lengths)),
        median=number(median),
        longest_tenth=f"{ordered[min(size - 1, 9 * size // 10)]:,}",
        change=f"{points(growth)}\N{NO-BREAK SPACE}%" if math.isfinite(growth) else NOT_DEFINED,
        truncated=percent(held_out.truncated_share),
    )
