"""Two evaluations on the same prompts: how win rate, length-controlled win rate and accuracy differ, prompt by prompt.

Left out: which evaluations are compared (the pipeline), the tests themselves (`paired_tests.py`). Floor 5; pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.evaluation.columns import JudgementColumns, judgement_columns
from fairplay.evaluation.intervals import (
    NUM_IMAGINED,
    bootstrap,
    imagined_outcomes,
    interval_from_draws,
    mean_interval,
)
from fairplay.evaluation.length_control import LengthDesign, fit_length_model, length_design
from fairplay.evaluation.paired_tests import PairedDifference, paired_difference
from fairplay.evaluation.preference_accuracy import compare_preference_accuracy
from fairplay.evaluation.win_rates import compare_judgements
from fairplay.records import Interval, Judgement

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """Prompts (or pairs) on which the second did better than the first, as well, and worse."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class VerdictDifference:
    """Two policies by one judge against one opponent, on the same prompts; differences are second minus first.

    Attributes:
        win_rate_before, win_rate_after: Of the first and of the second.
        win_rate_change: Their paired difference with its sign-flip test.
        lc_win_rate_before, lc_win_rate_after: At equal lengths, each by its own length model.
        lc_win_rate_difference: Paired: both models are refitted in the same resamples of the prompts.
        counts: By the mean win probability on each prompt.
        length_before, length_after: Mean lengths of the two policies' responses.
    """

    win_rate_before: Interval
    win_rate_after: Interval
    win_rate_change: PairedDifference
    lc_win_rate_before: Interval
    lc_win_rate_after: Interval
    lc_win_rate_difference: Interval
    counts: OutcomeCounts
    length_before: float
    length_after: float


@dataclass(frozen=True, slots=True)
class AccuracyDifference:
    """Two policies on the same preference pairs; the test is McNemar's where no prompt has several and no margin is 0.

    Attributes:
        accuracy_before, accuracy_after: Shares of pairs ordered as the annotator did, ties half.
        accuracy_change: Second minus first.
        counts: Pairs that only the second orders right, that both do or neither, that only the first does.
    """

    accuracy_before: Interval
    accuracy_after: Interval
    accuracy_change: PairedDifference
    counts: OutcomeCounts


@dataclass(frozen=True, slots=True)
class RatingDifference:
    """Two policies' grades of one judge on the same questions; the test flips whole questions.

    Attributes:
        rating_before, rating_after: Mean grades over questions.
        rating_change: Second minus first, in grades.
        counts: By the mean grade of each question.
    """

    rating_before: Interval
    rating_after: Interval
    rating_change: PairedDifference
    counts: OutcomeCounts


def rating_difference(
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    questions: Mapping[str, str],
    limits: tuple[float, float],
    seed: int,
    num_bootstrap: int,
) -> RatingDifference:
    """Compare two policies by the grades of the same answers.

    Args:
        before, after: Answer (a question's turn) -> grade; the same answers.
        questions: Answer -> its question.
        limits: The lowest and the highest grade.
        seed: Seed of resamples and flips.
        num_bootstrap: Resamples of the questions.

    Raises:
        DataError: If the answers are not the same, or there are none.
    """
    if before.keys() != after.keys():
        raise DataError("the two gradings have not the same answers")
    names, (low, high) = sorted(before), limits
    numbers = {question: number for number, question in enumerate(dict.fromkeys(questions[name] for name in names))}
    index = np.array([numbers[questions[name]] for name in names], dtype=np.int64)
    shares = [
        (np.bincount(index, weights=[side[name] for name in names]) / np.bincount(index) - low) / (high - low)
        for side in (before, after)
    ]
    change = paired_difference(*shares, seed=seed, num_bootstrap=num_bootstrap)
    means = [mean_interval(side, centre=0.5, limit=0.5, seed=seed, num_bootstrap=num_bootstrap) for side in shares]
    width = high - low
    return RatingDifference(
        rating_before=_scaled(means[0], width, low),
        rating_after=_scaled(means[1], width, low),
        rating_change=replace(
            change,
            difference=_scaled(change.difference, width, 0.0),
            minimum_detectable_gap=width * change.minimum_detectable_gap,
        ),
        counts=_counts(np.round(shares[1] - shares[0], 12)),
    )


def _scaled(interval: Interval, width: float, start: float) -> Interval:
    return Interval(*(start + width * value for value in (interval.value, interval.low, interval.high)))


def verdict_difference(
    before: Sequence[Judgement], after: Sequence[Judgement], *, seed: int, num_bootstrap: int
) -> VerdictDifference:
    """Compare two evaluations that have the same prompts.

    Args:
        before, after: Judgements of the two policies.
        seed: Seed of resamples and flips.
        num_bootstrap: Resamples of whole prompts.

    Raises:
        DataError: If the prompts are not the same, or as `judgement_columns`.
    """
    one, other = judgement_columns(before), judgement_columns(after)
    if one.prompt_ids != other.prompt_ids:
        raise DataError("the two evaluations have not the same prompts")
    scores = one.prompt_scores(), other.prompt_scores()
    rates = [mean_interval(side, centre=0.5, limit=0.5, seed=seed, num_bootstrap=num_bootstrap) for side in scores]
    controlled = _length_controlled(one, other, seed=seed, num_bootstrap=num_bootstrap)
    return VerdictDifference(
        win_rate_before=rates[0],
        win_rate_after=rates[1],
        win_rate_change=compare_judgements(before, after, seed=seed, num_bootstrap=num_bootstrap),
        lc_win_rate_before=controlled[0],
        lc_win_rate_after=controlled[1],
        lc_win_rate_difference=controlled[2],
        counts=_counts(scores[1] - scores[0]),
        length_before=float(one.prompt_means(one.policy_lengths).mean()),
        length_after=float(other.prompt_means(other.policy_lengths).mean()),
    )


def accuracy_difference(
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    prompts: Mapping[str, str],
    seed: int,
    num_bootstrap: int,
) -> AccuracyDifference:
    """Compare two policies by the margins that they give to the same pairs.

    Args:
        before, after: Pair -> margin of the chosen response over the rejected one; the same pairs.
        prompts: Pair -> its prompt; pairs of one prompt are no independent evidence.
        seed: Seed of resamples and flips.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: If the pairs are not the same, there are none, or a margin is not finite.
    """
    if before.keys() != after.keys():
        raise DataError("the two evaluations have not the same pairs")
    names = sorted(before)
    margins = [np.array([side[name] for name in names]) for side in (before, after)]
    found = compare_preference_accuracy(
        *margins, prompts=[prompts[name] for name in names], seed=seed, num_bootstrap=num_bootstrap
    )
    counts = _counts(np.sign(margins[1]) - np.sign(margins[0]))
    return AccuracyDifference(found.before.accuracy, found.after.accuracy, found.change, counts)


def _counts(differences: Floats) -> OutcomeCounts:
    return OutcomeCounts(int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum()))


def _length_controlled(
    before: JudgementColumns, after: JudgementColumns, *, seed: int, num_bootstrap: int
) -> tuple[Interval, Interval, Interval]:
    """LC win rates and their difference; on an imagined prompt the sides differ as much as on any that was seen."""
    scores = before.prompt_scores(), after.prompt_scores()
    alone = [imagined_outcomes(side, centre=0.5, limit=0.5) for side in scores]
    change = imagined_outcomes(scores[1] - scores[0], centre=0.0, limit=1.0)
    together = [
        np.clip(side.mean() + sign * 0.5 * (change - change.mean()), 0, 1)
        for side, sign in zip(scores, (-1, 1), strict=True)
    ]
    sides = [(before, alone[0]), (after, alone[1]), (before, together[0]), (after, together[1])]
    designs = [_with_imagined(columns, outcomes) for columns, outcomes in sides]

    def statistics(counts: Floats) -> Floats:
        rates = [fit_length_model(design, counts).lc_win_rates for design in designs]
        return np.stack([rates[0], rates[1], rates[3] - rates[2]], axis=1)

    seen = np.ones((1, before.num_prompts + NUM_IMAGINED))
    seen[:, before.num_prompts :] = 0
    values = statistics(seen)[0]
    draws = bootstrap(statistics, num_prompts=before.num_prompts, num_bootstrap=num_bootstrap, seed=seed)
    first, second, difference = (
        interval_from_draws(float(value), column, num_prompts=before.num_prompts)
        for value, column in zip(values, draws.T, strict=True)
    )
    return first, second, difference


def _with_imagined(columns: JudgementColumns, outcomes: Floats) -> LengthDesign:
    """The length model's rows with the bootstrap's two imagined prompts, at equal lengths."""
    design = length_design(columns)
    return LengthDesign(
        win_probs=np.concatenate([design.win_probs, outcomes]),
        gaps=np.concatenate([design.gaps, np.zeros(NUM_IMAGINED)]),
        prompt_index=np.concatenate([design.prompt_index, columns.num_prompts + np.arange(NUM_IMAGINED)]),
        row_weights=np.concatenate([design.row_weights, np.ones(NUM_IMAGINED)]),
        scale=design.scale,
    )
