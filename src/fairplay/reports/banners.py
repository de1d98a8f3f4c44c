"""What a reader must know before relying on a run's numbers, as banners; each follows from a rule with a stated limit.

Left out: the decision (`decision.py`), the honesty gates' own banners (`alarms.py`). Floor 5; pure.
"""

import math
from collections.abc import Iterator, Mapping

from fairplay.headline import MISSING_WARNING, missing_share
from fairplay.records import EvaluationResult
from fairplay.reports.alarms import Banner, gate_banners
from fairplay.reports.contents import IterationContents, ReportContents
from fairplay.reports.decision import headline_result, opponent_words, worst_case_words
from fairplay.reports.wording import is_defined, number, percent, points
from fairplay.wording import plural, reasons

MIN_OVERLAP = 0.10
"""Share of prompts with like lengths below which a length-controlled win rate extrapolates."""
MAX_LENGTH_GROWTH = 0.15
MAX_LENGTH_LOSS = 0.30
MIN_LENGTH_GAP = 0.03
"""Win rate minus length-controlled win rate that, with a change of length, raises the length alarm."""
MAX_TRUNCATED = 0.05
MIN_CONSISTENCY = 0.75

MAX_ORDER_FLIPS = 0.25
"""Share of pairs whose winner changes with the presentation order, above which the oracle is said to mind it."""
MAX_CIRCLES = 0.5
"""Share of the circular triples that chance would make, above which it is said."""
MIN_NEAR_DUPLICATES = 0.01
"""Share of pairs that are near-duplicates below which the oracle's margin on them is no matter."""

_CHOSEN = "logps/chosen"


def find_warnings(contents: ReportContents) -> tuple[Banner, ...]:
    """All warnings: alarms first, then what touches the decision."""
    found = list(gate_banners(contents))
    if contents.iterations:
        last = contents.iterations[-1]
        result = headline_result(last)
        if result is not None:
            found += [*_games_left_out(result), *_extrapolation(result), *_order(result), *_length(result, contents)]
        found += [
            *_oracle(last.audit),
            *_truncation(last),
            *_not_finite(contents),
            *_falling_chosen(contents),
            *_nearly_empty(contents),
            *_rows_left_out(contents),
        ]
    ordered = sorted(found, key=lambda banner: not banner.is_alarm)
    return (*ordered, *(Banner("Note", note) for note in contents.notes))


def _games_left_out(result: EvaluationResult) -> Iterator[Banner]:
    dropped, share = sum(result.dropped.values()), missing_share(result.num_judgements, result.dropped)
    if share > MISSING_WARNING:
        yield Banner(
            "Games are missing",
            f"{plural(dropped, 'game')} ({percent(share)}) against {opponent_words(result.opponent)} were not judged: "
            f"{reasons(result.dropped)}.{worst_case_words(result)}",
        )


def _extrapolation(result: EvaluationResult) -> Iterator[Banner]:
    if not is_defined(result.lc_win_rate):
        yield Banner(
            "No length control",
            "The length-controlled win rate is not defined here; the plain win rate may be a matter of length.",
        )
    elif result.overlap < MIN_OVERLAP:
        yield Banner(
            "Length control extrapolates",
            f"Only {percent(result.overlap)} of the prompts have two responses of about the same length, so the win "
            "rate at equal length rests on the model behind it more than on games that were played.",
        )


def _order(result: EvaluationResult) -> Iterator[Banner]:
    if result.position_consistency < MIN_CONSISTENCY:
        yield Banner(
            "The judge minds the order",
            f"Only {percent(result.position_consistency)} of the games have the same winner in both "
            "presentation orders.",
        )


def _length(result: EvaluationResult, contents: ReportContents) -> Iterator[Banner]:
    if not result.opponent_mean_length or not is_defined(result.lc_win_rate):
        return
    growth = result.mean_length / result.opponent_mean_length - 1
    gap = result.win_rate.value - result.lc_win_rate.value
    longer = growth > MAX_LENGTH_GROWTH and gap > MIN_LENGTH_GAP
    shorter = growth < -MAX_LENGTH_LOSS and gap > MIN_LENGTH_GAP
    if longer or shorter:
        yield Banner(
            "Length explains a part" if longer else "Brevity explains a part",
            f"Responses average {number(result.mean_length)} {contents.length_unit} against "
            f"{number(result.opponent_mean_length)} ({points(growth)} %), and at equal length the win rate is "
            f"{number(100 * gap)} points lower.",
        )


def _oracle(audit: Mapping[str, float]) -> Iterator[Banner]:
    flips = audit.get("order_flip_rate", 0.0)
    if flips > MAX_ORDER_FLIPS:
        yield Banner(
            "The oracle minds the order",
            f"{percent(flips)} of its preferences on the last iteration’s pairs change with the presentation order; "
            "both orders are averaged, but little is left to learn from.",
        )
    circles, by_chance = (audit.get(f"intransitive_triple_rate{name}", 0.0) for name in ("", "_by_chance"))
    if by_chance and circles > MAX_CIRCLES * by_chance:
        yield Banner(
            "Preferences run in circles",
            f"{percent(circles)} of the last iteration’s triples of responses beat each other in a circle; chance "
            f"would make {percent(by_chance)}. Either the oracle guesses, or no ranking fits its taste and there is no "
            "best response.",
        )
    near, usual = (audit.get(name, 0.0) for name in ("near_duplicate_margin", "mean_margin"))
    if audit.get("near_duplicate_rate", 0.0) > MIN_NEAR_DUPLICATES and near >= usual:
        yield Banner(
            "The oracle is sure about trifles",
            f"Between responses that are nearly equal its mean margin is {percent(near)}, no less than the "
            f"{percent(usual)} between any two.",
        )


def _truncation(last: IterationContents) -> Iterator[Banner]:
    share = last.held_out.truncated_share
    if share > MAX_TRUNCATED:
        yield Banner(
            "Responses are cut",
            f"{percent(share)} of iteration {last.iteration}’s held-out responses were cut at the generation limit; "
            "lengths and verdicts describe cut text.",
        )


def _not_finite(contents: ReportContents) -> Iterator[Banner]:
    for iteration in contents.iterations:
        keys = sorted({key for row in iteration.metrics for key, value in row.items() if not math.isfinite(value)})
        if keys:
            yield Banner(
                "Training metrics are not finite",
                f"Iteration {iteration.iteration}: {', '.join(keys)}; figures leave them out.",
            )


def _falling_chosen(contents: ReportContents) -> Iterator[Banner]:
    falls = [(entry.iteration, fall) for entry in contents.iterations if (fall := chosen_fall(entry)) > 0]
    if falls:
        told = ", ".join(f"{number(fall)} nats in iteration {iteration}" for iteration, fall in falls)
        yield Banner(
            "Chosen responses became less likely",
            f"Their mean log-prob fell by {told}: the policy learns by pushing rejected responses down, and chosen "
            "ones go along. Watch for odd text in the samples.",
        )


def chosen_fall(iteration: IterationContents) -> float:
    """By how much the log-prob of chosen responses fell during an iteration's training.

    The first and the last fifth of the rows are compared; each needs at least three rows.

    Returns:
        Nats, > 0; or 0 where there was no fall beyond two standard errors and 1 % of the first fifth's mean.
    """
    values = [row[_CHOSEN] for row in iteration.metrics if math.isfinite(row.get(_CHOSEN, math.nan))]
    size = len(values) // 5
    if size < 3:
        return 0.0
    first, last = values[:size], values[-size:]
    first_mean, last_mean = sum(first) / size, sum(last) / size
    squares = sum((value - first_mean) ** 2 for value in first) + sum((value - last_mean) ** 2 for value in last)
    error = math.sqrt(squares / (size * (size - 1)))
    fall = first_mean - last_mean
    return fall if fall > max(2 * error, 0.01 * abs(first_mean)) else 0.0


def _nearly_empty(contents: ReportContents) -> Iterator[Banner]:
    for iteration in contents.iterations:
        for stage in iteration.stages:
            lost = sum(stage.dropped.values())
            if lost > stage.rows_out:
                yield Banner(
                    "Most rows were lost",
                    f"In iteration {iteration.iteration}, {stage.name} left out {lost:,} of {stage.rows_in:,} rows "
                    f"({reasons(stage.dropped)}) and kept {stage.rows_out:,}: what follows rests on next to nothing.",
                )


def _rows_left_out(contents: ReportContents) -> Iterator[Banner]:
    counts: dict[str, int] = {}
    rows_in = 0
    for iteration in contents.iterations:
        for stage in iteration.stages:
            rows_in += stage.rows_in
            for reason, count in stage.dropped.items():
                counts[reason] = counts.get(reason, 0) + count
    if rows_in and sum(counts.values()) > MISSING_WARNING * rows_in:
        yield Banner(
            "Rows were left out",
            f"{sum(counts.values()):,} of {rows_in:,} rows over all stages: {reasons(counts)}. "
            "The table of stages says where.",
        )
