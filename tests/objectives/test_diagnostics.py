"""Diagnostics, on numbers that can be checked by hand."""

import math
from dataclasses import replace

import pytest
import torch

from fairplay.logps import PreferenceBatch, TokenLogps
from fairplay.objectives.curves import LENGTHS, one_pair
from fairplay.objectives.diagnostics import chosen_drift, length_dependence, length_gaps, reach, regression
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import OBJECTIVES, build_objective

from .batches import assemble, random_examples, with_policy


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def single_tokens(policy, reference, *, win_rates=(1.0, 0.5, 0.0)) -> PreferenceBatch:
    """One example with one-token responses."""
    count = len(policy)
    return PreferenceBatch(
        logps=TokenLogps(
            policy=numbers(*policy),
            reference=numbers(*reference),
            response_index=torch.arange(count),
            position=torch.zeros(count, dtype=torch.int64),
            num_responses=count,
        ),
        example_index=torch.zeros(count, dtype=torch.int64),
        num_examples=1,
        pairs=torch.tensor([[0, count - 1]]),
        example_keys=torch.zeros(1, dtype=torch.int64),
        columns={"win_rates": numbers(*win_rates[:count])},
    )


def test_a_margin_of_one_nat_per_token_is_all_length():
    found = length_dependence(numbers(1, 2, 3, 4), numbers(0, 1, 2, 3))
    assert (found.slope, found.share) == (pytest.approx(1.0), pytest.approx(1.0))


def test_slope_and_share_of_margins_that_follow_length_in_part():
    found = length_dependence(numbers(0, 2, 1, 5), numbers(0, 1, 2, 3))
    assert found.slope == pytest.approx(7 / 5)
    assert found.share == pytest.approx(49 / (5 * 14))


def test_margins_that_know_nothing_of_length_have_no_slope():
    found = length_dependence(numbers(1, -1, 1, -1), numbers(0, 0, 1, 1))
    assert (found.slope, found.share) == (0.0, 0.0)


def test_what_does_not_vary_explains_nothing_and_is_not_called_zero():
    equal_lengths = length_dependence(numbers(1, 2), numbers(3, 3))
    assert math.isnan(equal_lengths.slope)
    assert math.isnan(equal_lengths.share)
    equal_margins = length_dependence(numbers(2, 2), numbers(3, 4))
    assert equal_margins.slope == 0
    assert math.isnan(equal_margins.share)


def test_gaps_are_tokens_of_the_chosen_above_those_of_the_rejected():
    assert length_gaps(one_pair(0.0)).tolist() == [LENGTHS[0] - LENGTHS[1]]


def test_at_one_nat_of_log_ratio_a_token_dpo_margins_are_length_and_normalised_ones_are_not():
    batch = assemble(random_examples(0, count=8, responses=2))
    shifted = with_policy(batch, batch.logps.reference - 1.0)
    dpo, normalised = (
        evaluate(build_objective(name, {"beta": 1.0}), shifted, batch_totals(shifted)).margins
        for name in ("dpo", "dpo_norm")
    )
    found = length_dependence(dpo, length_gaps(batch))
    assert (found.slope, found.share) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert length_dependence(normalised, length_gaps(batch)).slope == pytest.approx(0.0, abs=1e-12)


def test_drift_is_the_mean_change_of_the_chosen_log_probs():
    assert chosen_drift(numbers(-5, -7), numbers(-4, -2)) == pytest.approx(-3.0)


def test_reach_of_sppo_targets():
    """eta 4 and win rates 1, 1/2, 0 ask for +2, 0, -2; the responses have log-probs -1, -3, -1.5."""
    rows = regression(build_objective("sppo", {"eta": 4.0}), single_tokens((0.0, -3.0, -2.5), (-1.0, -3.0, -1.5)))
    assert rows.targets.tolist() == [2.0, 0.0, -2.0]
    assert rows.values.tolist() == [1.0, 0.0, -1.0]
    assert rows.room.tolist() == [1.0, 3.0, 1.5]
    found = reach(rows)
    assert found.ratio == pytest.approx(0.5)
    assert found.too_far == pytest.approx(2 / 3)
    assert found.impossible == pytest.approx(1 / 3)


def test_reach_of_a_pair_counts_the_room_of_both_sides():
    rows = regression(build_objective("ipo_sum", {"tau": 0.1}), single_tokens((-1.0, -3.0), (-2.0, -2.5)))
    assert (rows.targets.tolist(), rows.values.tolist(), rows.room.tolist()) == ([5.0], [1.5], [4.5])
    assert reach(rows).too_far == 1.0
    generous = regression(build_objective("ipo_sum", {"tau": 0.2}), single_tokens((-1.0, -3.0), (-2.0, -2.5)))
    assert reach(generous).too_far == 0.0


def test_the_squared_misses_of_the_rows_are_the_loss():
    batch = assemble(random_examples(0))
    for name in ("sppo", "ipo_sum", "ipo_mean", "sppo_log_z", "gpo_squared", "inpo"):
        objective = build_objective(name, {})
        rows = regression(objective, batch)
        misses = (rows.values - rows.targets).square().mean()
        loss = evaluate(objective, batch, batch_totals(batch)).loss
        assert float(misses) == pytest.approx(float(loss), rel=1e-12), name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_asked_and_only_regressions_have_rows(name):
    batch = assemble(random_examples(0))
    leaf = replace(batch, logps=replace(batch.logps, policy=batch.logps.policy.clone().requires_grad_()))
    objective = build_objective(name, {})
    rows = regression(objective, leaf)
    assert (len(rows.values) > 0) == objective.is_regression
    assert not rows.values.requires_grad
    found = reach(rows)
    assert math.isnan(found.ratio) != objective.is_regression
