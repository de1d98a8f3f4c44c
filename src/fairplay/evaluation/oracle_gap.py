"""Where the training oracle and an independent judge part ways on the same pairs of responses.

A policy trained on an oracle's verdicts wins by that oracle for reasons good and bad; what the judge does not confirm
is over-optimisation. Left out: asking either (`judging`). Floor 5; pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairplay.errors import DataError
from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.paired_tests import paired_difference
from fairplay.records import Interval, Judgement


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One pair of samples and the policy's win probability by oracle and by judge."""

    prompt_id: str
    sample: int
    oracle_win_prob: float
    judge_win_prob: float


@dataclass(frozen=True, slots=True)
class OracleGap:
    """Oracle against judge.

    Attributes:
        oracle_win_rate, judge_win_rate: The policy's win rate by each, over the common pairs.
        gap: oracle_win_rate - judge_win_rate, paired by prompt, in [-1, 1].
        p_value: Sign-flip p-value of no gap.
        agreement: Share of pairs for which both name the same winner; where just one says tie it counts half.
        num_prompts: Prompts with common pairs.
        num_pairs: Common pairs.
        num_unmatched: Pairs that only one of them judged; left out.
        disagreements: The pairs whose win probabilities differ most, largest first, one a prompt.
    """

    oracle_win_rate: Interval
    judge_win_rate: Interval
    gap: Interval
    p_value: float
    agreement: float
    num_prompts: int
    num_pairs: int
    num_unmatched: int
    disagreements: tuple[Disagreement, ...]


def oracle_gap(
    oracle: Sequence[Judgement],
    judge: Sequence[Judgement],
    *,
    seed: int,
    num_bootstrap: int = 2000,
    num_disagreements: int = 10,
) -> OracleGap:
    """Compare two judges' verdicts on the same pairs of responses.

    Args:
        oracle: The training oracle's judgements.
        judge: The independent judge's judgements of the same responses.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.
        num_disagreements: How many disagreements to keep.

    Raises:
        DataError: As `judgement_columns`; or if they have no pair in common, or give one pair different lengths (then
            they did not judge the same responses).
    """
    by_oracle, by_judge = _by_pair(oracle), _by_pair(judge)
    common = sorted(by_oracle.keys() & by_judge.keys())
    if not common:
        raise DataError("oracle and judge have no pair of responses in common")
    for pair in common:
        if _lengths(by_oracle[pair]) != _lengths(by_judge[pair]):
            raise DataError(f"prompt {pair[0]}, sample {pair[1]}: oracle and judge saw responses of different lengths")
    oracle_columns = judgement_columns([by_oracle[pair] for pair in common])
    judge_columns = judgement_columns([by_judge[pair] for pair in common])
    oracle_scores, judge_scores = oracle_columns.prompt_scores(), judge_columns.prompt_scores()
    rates = [
        mean_interval(scores, centre=0.5, limit=0.5, seed=seed, num_bootstrap=num_bootstrap)
        for scores in (oracle_scores, judge_scores)
    ]
    difference = paired_difference(judge_scores, oracle_scores, seed=seed, num_bootstrap=num_bootstrap)
    verdicts = np.sign(oracle_columns.win_probs - 0.5), np.sign(judge_columns.win_probs - 0.5)
    return OracleGap(
        oracle_win_rate=rates[0],
        judge_win_rate=rates[1],
        gap=difference.difference,
        p_value=difference.p_value,
        agreement=float(np.mean(1 - 0.5 * np.abs(verdicts[0] - verdicts[1]))),
        num_prompts=oracle_columns.num_prompts,
        num_pairs=len(common),
        num_unmatched=len(by_oracle) + len(by_judge) - 2 * len(common),
        disagreements=_largest([(by_oracle[pair], by_judge[pair]) for pair in common], num_disagreements),
    )


def _by_pair(judgements: Sequence[Judgement]) -> dict[tuple[str, int], Judgement]:
    judgement_columns(judgements)
    return {(judgement.prompt_id, judgement.sample): judgement for judgement in judgements}


def _lengths(judgement: Judgement) -> tuple[int, int]:
    return judgement.policy_length, judgement.opponent_length


def _largest(pairs: Sequence[tuple[Judgement, Judgement]], number: int) -> tuple[Disagreement, ...]:
    """The largest differences of win probability, one a prompt; equal ones in the order of prompt id and sample."""
    largest: dict[str, Disagreement] = {}
    for oracle, judge in sorted(pairs, key=lambda pair: -abs(pair[0].win_prob - pair[1].win_prob)):
        if oracle.win_prob != judge.win_prob:
            found = Disagreement(oracle.prompt_id, oracle.sample, oracle.win_prob, judge.win_prob)
            largest.setdefault(oracle.prompt_id, found)
    return tuple(largest.values())[:number]
