"""What an objective may need of a batch, how to see that it is there, and what to do where it is not.

Left out: the declarations themselves (each part of an objective says what it needs). Floor 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch, StepTotals
from fairplay.lookup import lookup
from fairplay.objectives.objective import Objective


@dataclass(frozen=True)
class Requirement:
    """One kind of data.

    Attributes:
        is_met: (batch, detail) -> whether the batch has it; the detail is what follows the colon in "kind:detail".
        lack: What a batch without it lacks, in words.
        hint: How to mend it.
    """

    is_met: Callable[[PreferenceBatch, str], bool]
    lack: str
    hint: str


def _column(name: str) -> Callable[[PreferenceBatch, str], bool]:
    return lambda batch, _: name in batch.columns


def _has_probabilities(batch: PreferenceBatch, _: str) -> bool:
    rates = batch.structure.columns.get("win_rates")
    return rates is not None and bool((np.abs(rates - 0.5) <= 0.5).all())


def _every_example_has_a_pair(batch: PreferenceBatch, _: str) -> bool:
    known = batch.structure
    return len(set(known.example_index[known.pairs[:, 0]].tolist())) == known.num_examples


def _is_score_ordered(batch: PreferenceBatch, _: str) -> bool:
    scores, pairs = batch.structure.columns.get("scores"), batch.structure.pairs
    return scores is None or bool((scores[pairs[:, 0]] > scores[pairs[:, 1]]).all())


REQUIREMENTS: Mapping[str, Requirement] = {
    "reference": Requirement(
        lambda batch, _: batch.logps.has_reference,
        "reference log-probs",
        "score the batch under the reference policy, or choose a reference-free objective such as `simpo`",
    ),
    "pairs": Requirement(
        _every_example_has_a_pair,
        "a (chosen, rejected) pair in every example",
        "select pairs first, or choose an objective over single responses, such as `kto` or `sft`",
    ),
    "labels": Requirement(
        lambda batch, _: "labels" in batch.columns or len(batch.pairs) > 0,
        "labels or pairs",
        "label each response as desirable or not",
    ),
    "scores": Requirement(_column("scores"), "scores", "give every response a score"),
    "ordered scores": Requirement(
        _is_score_ordered,
        "a higher score for the chosen than for the rejected response of every pair",
        "drop ties and pairs that contradict their scores",
    ),
    "win_rates": Requirement(_has_probabilities, "win rates in [0, 1]", "rank the responses with a preference oracle"),
    "anchors": Requirement(
        lambda batch, _: "anchors" in batch.columns and bool((batch.structure.columns["anchors"] == 1).any()),
        "anchor rows (prompts with other prompts' responses)",
        "add such rows and mark them in the column `anchors`, or use `apo_zero`, which needs none",
    ),
    "statistics": Requirement(
        lambda batch, detail: detail in batch.logps.statistics,
        "a per-token statistic",
        "ask the scorer for it by name",
    ),
}


def check_batch(objective: Objective, batch: PreferenceBatch, totals: StepTotals) -> None:
    """Refuse a batch that the objective can't be evaluated on.

    Raises:
        DataError: If the batch lacks data, or is only a part of a step whose examples the objective couples.
    """
    for need in sorted(objective.needs):
        kind, _, detail = need.partition(":")
        requirement = lookup(REQUIREMENTS, kind, "requirement")
        if not requirement.is_met(batch, detail):
            lack = f"{requirement.lack} `{detail}`" if detail else requirement.lack
            raise DataError(f"objective `{objective.name}` needs {lack}", hint=requirement.hint)
    if objective.couples_examples and batch.num_examples != totals.num_examples:
        raise DataError(
            f"objective `{objective.name}` couples the {totals.num_examples} examples of a step, "
            f"but the batch has only {batch.num_examples} of them",
            hint="set gradient_accumulation_steps to 1, or take `token_gradient` of the whole step",
        )
