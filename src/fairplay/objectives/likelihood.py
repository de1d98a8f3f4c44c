"""The likelihood term: negative log-likelihood of the chosen responses, with its reduction by name.

Left out: preference terms. Floor 2. Per-token weights are the statistic "weight" where the batch has one (masked
formatting tokens, a prompt's share in supervised fine-tuning), 1 elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, StepTotals, to_device
from fairplay.objectives.comparisons import Chosen
from fairplay.objectives.sides import Comparisons


def _sequence(sums: Tensor, sizes: Tensor, _: Comparisons, __: StepTotals) -> Tensor:
    """Mean over the response's tokens, then over examples."""
    return sums / sizes


def _token(sums: Tensor, _: Tensor, comparisons: Comparisons, totals: StepTotals) -> Tensor:
    """Mean over all chosen tokens of the step; a response that sits in several rows counts once."""
    rows = comparisons.rows.planned
    seats = to_device(np.bincount(rows.chosen)[rows.chosen] * rows.share, sums.device)
    return sums / seats.to(sums.dtype) * (totals.num_examples / totals.num_chosen_tokens)


def _sum(sums: Tensor, _: Tensor, __: Comparisons, ___: StepTotals) -> Tensor:
    """Sum over the response's tokens, then the mean over examples."""
    return sums


REDUCTIONS: Mapping[str, Callable[[Tensor, Tensor, Comparisons, StepTotals], Tensor]] = {
    "sequence": _sequence,
    "token": _token,
    "sum": _sum,
}


@dataclass(frozen=True)
class Likelihood:
    """`coefficient` times the negative log-likelihood of every row's chosen response, in nats."""

    coefficient: float = 0.0
    reduction: str = "sequence"

    def __call__(self, comparisons: Comparisons, totals: StepTotals) -> Tensor | float:
        if not self.coefficient:
            return 0.0
        logps = comparisons.batch.logps
        weights = _token_weights(comparisons.batch)
        response = comparisons.chosen.response
        sums = logps.sum_per_response(-weights * logps.policy.to(weights.dtype))[response]
        sizes = logps.sum_per_response(weights)[response]
        return self.coefficient * REDUCTIONS[self.reduction](sums, sizes, comparisons, totals)


def batch_totals(batch: PreferenceBatch) -> StepTotals:
    """The totals of a step that consists of this one batch."""
    responses = torch.from_numpy(Chosen()(batch.structure).chosen)
    sizes = batch.logps.sum_per_response(_token_weights(batch))
    return StepTotals(
        num_examples=batch.num_examples,
        num_pairs=len(batch.pairs),
        num_responses=batch.logps.num_responses,
        num_chosen_tokens=float(sizes[responses].sum()),
    )


def _token_weights(batch: PreferenceBatch) -> Tensor:
    dtype = torch.promote_types(batch.logps.policy.dtype, torch.float32)
    ones = torch.ones_like(batch.logps.policy, dtype=dtype)
    return batch.logps.statistics.get("weight", ones).to(dtype)
