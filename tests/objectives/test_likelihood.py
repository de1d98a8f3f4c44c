"""The likelihood term: its reductions, its weights, and whom it learns from."""

from dataclasses import replace

import pytest
import torch

from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.likelihood import REDUCTIONS, batch_totals
from fairplay.objectives.table import build_objective

from .batches import assemble, random_examples


def batch_of(lengths_and_logps):
    """One response an example, all of its tokens with one log-prob."""
    examples = random_examples(0, count=len(lengths_and_logps), responses=1, most_tokens=1)
    grown = [
        replace(
            example,
            policy=(torch.full((length,), logp, dtype=torch.float64),),
            reference=(torch.zeros(length, dtype=torch.float64),),
            statistics={name: (tokens[0].expand(length),) for name, tokens in example.statistics.items()},
            columns={name: values[:1] for name, values in example.columns.items()},
            pairs=(),
        )
        for example, (length, logp) in zip(examples, lengths_and_logps, strict=True)
    ]
    return assemble(grown)


def nll(batch, reduction):
    return float(evaluate(build_objective("sft", {"reduction": reduction}), batch, batch_totals(batch)).loss)


@pytest.mark.parametrize(("reduction", "expected"), [("sequence", (1 + 3) / 2), ("token", 10 / 6), ("sum", 10 / 2)])
def test_the_three_reductions_are_three_different_numbers(reduction, expected):
    assert nll(batch_of([(4, -1.0), (2, -3.0)]), reduction) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_token_of_weight_zero_is_not_there(reduction):
    whole, half = batch_of([(4, -1.0), (2, -3.0)]), batch_of([(2, -1.0), (2, -3.0)])
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    masked = replace(whole, logps=replace(whole.logps, statistics={"weight": weight}))
    assert nll(masked, reduction) == pytest.approx(nll(half, reduction), rel=1e-12)


def test_the_token_mean_of_micro_batches_is_the_token_mean_of_the_step():
    parts = [batch_of([(4, -1.0), (1, -5.0)]), batch_of([(2, -3.0)])]
    whole = batch_of([(4, -1.0), (1, -5.0), (2, -3.0)])
    totals, objective = batch_totals(whole), build_objective("sft", {})
    assert totals.num_chosen_tokens == 7
    assert sum(float(evaluate(objective, part, totals).loss) for part in parts) == pytest.approx(15 / 7, rel=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_chosen_response_counts_once_however_many_pairs_it_wins(reduction):
    batch = assemble(random_examples(0, responses=3))
    best_only = replace(batch, pairs=batch.pairs[::2])
    assert len(batch.pairs) == 2 * len(best_only.pairs)
    parameters = {"beta": 0.1, "alpha": 1.0, "reduction": reduction}
    with_nll, without = (build_objective("cpo", {**parameters, "alpha": alpha}) for alpha in (1.0, 0.0))
    totals = batch_totals(batch)
    assert totals.num_chosen_tokens == batch_totals(best_only).num_chosen_tokens
    of_all, of_best = (
        float(evaluate(with_nll, part, totals).loss - evaluate(without, part, totals).loss)
        for part in (batch, best_only)
    )
    assert of_all == pytest.approx(of_best, rel=1e-9)
    assert of_all == pytest.approx(nll(batch, reduction), rel=1e-9)
