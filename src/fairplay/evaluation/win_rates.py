"""From judgements to an evaluation result: win rate and length-controlled win rate with intervals, ties, position bias.

Left out: asking the judge (`judging`), tests between policies (`paired_tests`). Floor 5; pure numpy.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.evaluation.columns import JudgementColumns, judgement_columns
from fairplay.evaluation.intervals import NUM_IMAGINED, bootstrap, imagined_outcomes, interval_from_draws
from fairplay.evaluation.length_control import LengthDesign, fit_length_model, length_design, overlap_share
from fairplay.evaluation.paired_tests import PairedDifference, minimum_detectable_gap, paired_difference
from fairplay.records import Dropped, EvaluationResult, Interval, Judgement

Floats = NDArray[np.float64]

FEW_PROMPTS = 30
SMALL_OVERLAP = 0.1
DROPPED_WARNING = 0.01
DROPPED_LIMIT = 0.05
NOTABLE_BIAS = 0.05


@dataclass(frozen=True, slots=True)
class WinRates:
    """Headline numbers of one comparison, all from the same resamples of the prompts.

    Attributes:
        win_rate: Mean over prompts of the policy's win probability, in [0, 1].
        lc_win_rate: What remains of it at equal lengths, in [0, 1].
        length_effect: win_rate - lc_win_rate. Its interval and the slope's are somewhat narrow (about 90 % instead of
            95 % coverage) where fewer than about ten prompts are lost, or won.
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
    overlap = overlap_share(columns)
    by_reason = dict(sorted(Counter(item.reason for item in dropped).items()))
    found = (
        *_dropped_notes(len(dropped), len(judgements)),
        *_size_notes(scores, rates.win_rate),
        *_length_notes(columns, rates, overlap),
        *_position_notes(rates.first_position_bias),
    )
    return EvaluationResult(
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
        overlap=overlap,
        dropped=by_reason,
        notes=(*notes, *found),
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

    def statistics(counts: Floats) -> Floats:
        fits, totals = fit_length_model(extended, counts), counts.sum(axis=1)
        rates = counts @ scores / totals
        return np.stack([rates, fits.lc_win_rates, rates - fits.lc_win_rates, fits.slopes, counts @ biases / totals], 1)

    seen = np.ones((1, columns.num_prompts + NUM_IMAGINED))
    seen[:, columns.num_prompts :] = 0
    values = statistics(seen)[0]
    draws = bootstrap(statistics, num_prompts=columns.num_prompts, num_bootstrap=num_bootstrap, seed=seed)
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


def _dropped_notes(num_dropped: int, num_judged: int) -> list[str]:
    share = num_dropped / (num_dropped + num_judged)
    count = f"{num_dropped} of {num_dropped + num_judged} judgements are missing ({_percent(share)})"
    if share > DROPPED_LIMIT:
        return [f"{count}: too many for a headline, because the missing ones need not be like the others."]
    return [f"{count}."] if share > DROPPED_WARNING else []


def _size_notes(scores: Floats, win_rate: Interval) -> list[str]:
    notes = []
    if scores.size < FEW_PROMPTS:
        notes.append(f"There are only {scores.size} prompts: the intervals are rough.")
    if win_rate.low <= 0.5 <= win_rate.high and scores.size > 1 and np.ptp(scores) > 0:
        gap = minimum_detectable_gap(float(scores.std(ddof=1)), num_prompts=scores.size)
        notes.append(
            "Policy and opponent are not distinguishable by win rate; so many prompts find a true distance from 50 % of"
            f" {_points(gap)} in four of five evaluations."
        )
    return notes


def _length_notes(columns: JudgementColumns, rates: WinRates, overlap: float) -> list[str]:
    notes = []
    if overlap < SMALL_OVERLAP:
        notes.append(
            f"The two responses are nearly equal in length (within 10 %) on only {_percent(overlap)} of the prompts:"
            " the length-controlled win rate extrapolates to equal lengths that were hardly seen."
        )
    effect = rates.length_effect
    if effect.low > 0 or effect.high < 0:
        direction = "longer" if rates.length_slope.value > 0 else "shorter"
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
