"""From judgements to an evaluation result: win rate and length-controlled win rate with intervals, ties, position bias.

Left out: asking the judge (`judging`), tests between policies (`paired_tests`). Floor 5; pure numpy.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.evaluation.columns import JudgementColumns, judgement_columns
from fairplay.evaluation.comparison_notes import SMALL_OVERLAP, comparison_notes
from fairplay.evaluation.intervals import NUM_IMAGINED, bootstrap, imagined_outcomes, interval_from_draws
from fairplay.evaluation.length_control import (
    DRAW_STEP,
    LAST_STEP,
    LengthDesign,
    fit_length_model,
    length_design,
    overlap_share,
)
from fairplay.evaluation.paired_tests import (
    PairedDifference,
    minimum_detectable_gap,
    paired_difference,
    sign_flip_p_value,
)
from fairplay.evaluation.variance import variance_parts
from fairplay.records import ComparisonStatistics, Dropped, EvaluationResult, Interval, Judgement

Floats = NDArray[np.float64]

ENOUGH_DECIDED = 30
"""Prompts won, and prompts lost, from which the intervals of the length's effect and slope keep their word."""


@dataclass(frozen=True, slots=True)
class WinRates:
    """Headline numbers of one comparison, all from the same resamples of the prompts.

    Attributes:
        win_rate: Mean over prompts of the policy's win probability, in [0, 1].
        lc_win_rate: What remains of it at equal lengths, in [0, 1].
        length_effect: win_rate - lc_win_rate. Its interval and the slope's are somewhat narrow (90 to 93 % instead of
            95 % coverage) where fewer than `ENOUGH_DECIDED` prompts are lost, or won.
        length_slope: phi of the length model, nats of log-odds per unit of tanh(gap / scale); positive where the judge
            rewards length.
        length_scale: The length gap that counts as one unit, in the unit of the lengths; 0 if all are equal.
        first_position_bias: Mean of P(the first-shown wins) - 1/2.
    """

    win_rate: Interval
    lc_win_rate: Interval
    length_effect: Interval
    length_slope: Interval
    length_scale: float
    first_position_bias: Interval


def evaluate_judgements(
    judgements: Sequence[Judgement],
    *,
    policy: str,
    opponent: str,
    judge: str,
    dropped: Sequence[Dropped],
    seed: int,
    num_bootstrap: int = 2000,
    notes: Sequence[str] = (),
) -> EvaluationResult:
    """The evaluation result of one policy against one opponent.

    Args:
        judgements: At least one, in any order; the result does not depend on it.
        policy, opponent, judge: Names for the result.
        dropped: What was asked for and not judged; counted by reason.
        seed: Seed of the run; results on the same prompts share their resamples.
        num_bootstrap: Resamples of whole prompts; the length model is refitted in each.
        notes: What the reader must know already, such as `Judged.notes` (it says the unit of the lengths).

    Raises:
        DataError: If there is no judgement, one is there twice, or a win probability is not a number in [0, 1].
    """
    columns = judgement_columns(judgements)
    scores = columns.prompt_scores()
    rates = win_rates(columns, seed=seed, num_bootstrap=num_bootstrap)
    statistics = comparison_statistics(columns, rates, seed=seed)
    result = EvaluationResult(
        policy=policy,
        opponent=opponent,
        judge=judge,
        num_prompts=columns.num_prompts,
        num_judgements=len(judgements),
        win_rate=rates.win_rate,
        lc_win_rate=rates.lc_win_rate,
        wins=int((scores > 0.5).sum()),
        ties=int((scores == 0.5).sum()),
        losses=int((scores < 0.5).sum()),
        position_consistency=position_consistency(columns),
        first_position_bias=rates.first_position_bias.value,
        mean_length=float(columns.prompt_means(columns.policy_lengths).mean()),
        opponent_mean_length=float(columns.prompt_means(columns.opponent_lengths).mean()),
        overlap=overlap_share(columns),
        dropped=dict(sorted(Counter(item.reason for item in dropped).items())),
        statistics=statistics,
        worst_case=worst_case(judgements, num_missing=len(dropped)),
    )
    return replace(result, notes=(*notes, *comparison_notes(result, statistics)))


def worst_case(judgements: Sequence[Judgement], *, num_missing: int) -> dict[str, float]:
    """The win rate if everything missing were lost (`low`), and if it were won (`high`); pairs count alike."""
    wins = fsum(item.win_prob for item in judgements)
    total = len(judgements) + num_missing
    return {"low": wins / total, "high": (wins + num_missing) / total}


def comparison_statistics(columns: JudgementColumns, rates: WinRates, *, seed: int) -> ComparisonStatistics:
    """What a comparison's judgements say beside its two win rates.

    Args:
        columns: Judgements as arrays.
        rates: Their win rates.
        seed: Seed of the run, for sign flips.
    """
    scores = columns.prompt_scores()
    imagined = imagined_outcomes(scores, centre=0.5, limit=0.5)  # prompts that all agree are no proof of no spread
    spread = float(np.concatenate([scores, imagined]).std(ddof=1))
    enough = min((scores > 0.5).sum(), (scores < 0.5).sum()) >= ENOUGH_DECIDED
    parts = variance_parts(columns)
    return ComparisonStatistics(
        p_value=sign_flip_p_value(scores - 0.5, seed=seed),
        minimum_detectable_gap=minimum_detectable_gap(spread, num_prompts=scores.size),
        first_position_bias=rates.first_position_bias,
        length_effect=rates.length_effect if enough else None,
        length_slope=rates.length_slope if enough else None,
        length_scale=rates.length_scale,
        lc_extrapolates=overlap_share(columns) < SMALL_OVERLAP,
        variance_between_prompts=parts[0].between if parts else None,
        variance_within_prompts=parts[0].within if parts else None,
    )


def win_rates(columns: JudgementColumns, *, seed: int, num_bootstrap: int = 2000) -> WinRates:
    """Win rate, LC win rate, length effect and position bias with 95 % bootstrap intervals over prompts.

    Every interval comes from the same resamples; the length model is refitted in each (its scale is kept, being only
    the unit of the slope). The two imagined prompts of `bootstrap` are a win and a loss at equal lengths.

    Args:
        columns: Judgements as arrays.
        seed: Seed of the run.
        num_bootstrap: Resamples of whole prompts.
    """
    bias = columns.prompt_means(0.5 * (columns.win_prob_first - columns.win_prob_second))
    outcomes = imagined_outcomes(columns.prompt_scores(), centre=0.5, limit=0.5)
    biases = np.concatenate([bias, imagined_outcomes(bias, centre=0.0, limit=0.5)])
    design = length_design(columns)
    extended = _with_imagined(design, outcomes, columns.num_prompts)
    scores = np.concatenate([columns.prompt_scores(), outcomes])

    def statistics(counts: Floats, slope: float = 0.0, last_step: float = LAST_STEP) -> Floats:
        fits = fit_length_model(extended, counts, start_slope=slope, last_step=last_step)
        totals = counts.sum(axis=1)
        rates = counts @ scores / totals
        return np.stack([rates, fits.lc_win_rates, rates - fits.lc_win_rates, fits.slopes, counts @ biases / totals], 1)

    seen = np.ones((1, columns.num_prompts + NUM_IMAGINED))
    seen[:, columns.num_prompts :] = 0
    values = statistics(seen)[0]
    draws = bootstrap(
        lambda counts: statistics(counts, float(values[3]), DRAW_STEP),
        num_prompts=columns.num_prompts,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    rate, lc_rate, effect, slope, position = (
        interval_from_draws(float(value), column, num_prompts=columns.num_prompts)
        for value, column in zip(values, draws.T, strict=True)
    )
    return WinRates(rate, lc_rate, effect, slope, design.scale, position)


def compare_judgements(
    before: Sequence[Judgement], after: Sequence[Judgement], *, seed: int, num_bootstrap: int = 2000
) -> PairedDifference:
    """Difference of two policies' win rates against the same opponent, paired by prompt.

    Args:
        before, after: Judgements of the two policies; prompts that only one has are left out (`num_prompts` says how
            many remain).
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: As `judgement_columns`; or if there is no common prompt.
    """
    one, other = judgement_columns(before), judgement_columns(after)
    common = sorted(set(one.prompt_ids) & set(other.prompt_ids))
    if not common:
        raise DataError("the two evaluations have no prompt in common", hint="evaluate both on the same prompts")
    scores = [dict(zip(side.prompt_ids, side.prompt_scores(), strict=True)) for side in (one, other)]
    paired = [np.array([side[prompt_id] for prompt_id in common]) for side in scores]
    return paired_difference(*paired, seed=seed, num_bootstrap=num_bootstrap)


def position_consistency(columns: JudgementColumns) -> float:
    """Share of judgements whose winner is the same in both presentation orders; a tie in both counts as the same."""
    same = np.sign(columns.win_prob_first - 0.5) == np.sign(columns.win_prob_second - 0.5)
    return float(same.mean())


def _with_imagined(design: LengthDesign, outcomes: Floats, num_prompts: int) -> LengthDesign:
    return LengthDesign(
        win_probs=np.concatenate([design.win_probs, outcomes]),
        gaps=np.concatenate([design.gaps, np.zeros(NUM_IMAGINED)]),
        prompt_index=np.concatenate([design.prompt_index, num_prompts + np.arange(NUM_IMAGINED)]),
        row_weights=np.concatenate([design.row_weights, np.ones(NUM_IMAGINED)]),
        scale=design.scale,
    )
