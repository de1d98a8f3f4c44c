"""Where a win rate's uncertainty comes from: prompts that differ, or samples of one prompt that differ.

    Var(win rate) = between / prompts + within / (prompts * samples),  for equally many samples of each prompt

Left out: intervals, which resample whole prompts and so hold both parts already (`intervals`). Floor 5; pure numpy.
"""

from dataclasses import dataclass

import numpy as np

from fairplay.evaluation.columns import JudgementColumns


@dataclass(frozen=True, slots=True)
class VarianceParts:
    """Variance components of the policy's win probability.

    Attributes:
        between: Of a prompt's true win probability over prompts, >= 0.
        within: Of a sample's outcome around its prompt's, >= 0.
    """

    between: float
    within: float


def variance_parts(columns: JudgementColumns) -> tuple[VarianceParts, ...]:
    """Both components by the method of moments; none where no prompt has two samples, or there is one prompt.

    `between` is 0 where the prompts' means differ no more than their samples explain.

    Source: Searle, Casella and McCulloch 1992, chapter 3 (one-way random model, unbalanced).
    """
    num_rows, num_prompts = len(columns.win_probs), columns.num_prompts
    if num_rows == num_prompts or num_prompts == 1:
        return ()
    means = columns.prompt_means(columns.win_probs)
    within = float(((columns.win_probs - means[columns.prompt_index]) ** 2).sum()) / (num_rows - num_prompts)
    noise = within * float(columns.prompt_means(columns.row_weights).mean())  # mean of 1 / samples over prompts
    return (VarianceParts(between=max(0.0, float(np.var(means, ddof=1)) - noise), within=within),)
