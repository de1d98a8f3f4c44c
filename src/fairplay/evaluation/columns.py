"""Judgements as arrays, checked once, sorted, with their weights within the prompt.

Left out: every statistic (`win_rates`, `length_control`, `oracle_gap`). Floor 5; pure numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from fairplay.errors import DataError
from fairplay.records import Judgement

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class JudgementColumns:
    """Judgements column by column, sorted by prompt id and sample, so that no statistic depends on their order.

    Attributes:
        prompt_ids: The prompts, [prompts], sorted and distinct.
        samples: Index of the sample pair within its prompt, [rows].
        prompt_index: The prompt each judgement belongs to, [rows], non-decreasing.
        row_weights: One over the number of judgements of the row's prompt, [rows]; a prompt's weights sum to 1.
        win_prob_first, win_prob_second: P(policy's response wins) when shown first and second, [rows].
        win_probs: Their mean, [rows].
        policy_lengths, opponent_lengths: Lengths of the responses, [rows].
    """

    prompt_ids: tuple[str, ...]
    samples: Integers
    prompt_index: Integers
    row_weights: Floats
    win_prob_first: Floats
    win_prob_second: Floats
    win_probs: Floats
    policy_lengths: Floats
    opponent_lengths: Floats

    @property
    def num_prompts(self) -> int:
        """Number of distinct prompts, the unit of every interval."""
        return len(self.prompt_ids)

    def prompt_means(self, values: Floats) -> Floats:
        """Mean of a per-judgement value over each prompt's judgements, [rows] -> [prompts]."""
        means = np.bincount(self.prompt_index, weights=values * self.row_weights, minlength=self.num_prompts)
        return means.astype(np.float64)

    def prompt_scores(self) -> Floats:
        """The policy's mean win probability on each prompt, [prompts], in [0, 1]; 1/2 up to rounding is exactly 1/2."""
        scores = np.clip(self.prompt_means(self.win_probs), 0, 1)
        return np.where(np.abs(scores - 0.5) < ROUNDING, 0.5, scores)


ROUNDING = 1e-12


def judgement_columns(judgements: Sequence[Judgement]) -> JudgementColumns:
    """Judgements as arrays.

    Args:
        judgements: At least one; a prompt may have several samples, in any order.

    Raises:
        DataError: If there is none, a sample of a prompt is there twice, a win probability is not a finite number in
            [0, 1], or a length is negative. A verdict that is not a number is never read as a tie.
    """
    if not judgements:
        raise DataError("there are no judgements to evaluate", hint="did the judge fail on every prompt?")
    rows = sorted(judgements, key=lambda judgement: (judgement.prompt_id, judgement.sample))
    for judgement in rows:
        _check(judgement)
    for one, other in pairwise(rows):
        if (one.prompt_id, one.sample) == (other.prompt_id, other.sample):
            raise DataError(f"prompt {one.prompt_id}: sample {one.sample} is judged twice")
    prompt_ids = tuple(dict.fromkeys(judgement.prompt_id for judgement in rows))
    number = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    prompt_index = np.array([number[judgement.prompt_id] for judgement in rows], dtype=np.int64)
    first = np.array([judgement.win_prob_first for judgement in rows], dtype=np.float64)
    second = np.array([judgement.win_prob_second for judgement in rows], dtype=np.float64)
    return JudgementColumns(
        prompt_ids=prompt_ids,
        samples=np.array([judgement.sample for judgement in rows], dtype=np.int64),
        prompt_index=prompt_index,
        row_weights=1.0 / np.bincount(prompt_index)[prompt_index],
        win_prob_first=first,
        win_prob_second=second,
        win_probs=0.5 * (first + second),
        policy_lengths=np.array([judgement.policy_length for judgement in rows], dtype=np.float64),
        opponent_lengths=np.array([judgement.opponent_length for judgement in rows], dtype=np.float64),
    )


def _check(judgement: Judgement) -> None:
    where = f"prompt {judgement.prompt_id}, sample {judgement.sample}"
    for win_prob in (judgement.win_prob_first, judgement.win_prob_second):
        if not (isfinite(win_prob) and 0 <= win_prob <= 1):
            raise DataError(
                f"{where}: the win probability {win_prob} is not a number in [0, 1]",
                hint="leave a failed judgement out and count it as dropped",
            )
    if min(judgement.policy_length, judgement.opponent_length) < 0:
        raise DataError(f"{where}: a length is negative")
