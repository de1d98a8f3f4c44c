"""Anchors with state: what they remember from step to step."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from fairplay.objectives.evaluate import compare, evaluate, token_gradient
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import build_objective

from .batches import assemble, random_examples, with_policy


def pair_batch(seed):
    return assemble(random_examples(seed, responses=2))


def test_bco_remembers_the_mean_reward_of_all_responses_seen():
    objective, state, rewards = build_objective("bco_pair", {"beta": 0.5}), None, []
    for seed in range(3):
        batch = pair_batch(seed)
        output = evaluate(objective, batch, batch_totals(batch), state=state)
        state = output.state
        rewards.append(output.rewards[batch.pairs.flatten()])
        assert state["mean_reward"] == pytest.approx(float(torch.cat(rewards).mean()), rel=1e-12)


def test_beta_dpo_remembers_a_moving_average_of_margins():
    parameters = {"beta": 0.5, "alpha": 0.6, "m0": 0.3, "momentum": 0.8}
    objective, state, average = build_objective("beta_dpo", parameters), None, 0.3
    for seed in range(3):
        batch = pair_batch(seed)
        output = evaluate(objective, batch, batch_totals(batch), state=state)
        average = 0.8 * average + 0.2 * float(output.margins.mean()) / 0.5
        state = output.state
        assert state["mean_margin"] == pytest.approx(average, rel=1e-12)


@pytest.mark.parametrize("drop", [0.2, 0.5])
def test_beta_dpo_with_its_filter_is_the_mean_over_kept_pairs_of_the_dynamic_dpo_loss(drop):
    """Which pairs are kept is read off the gradient; mean, deviation, scale and loss then follow by hand."""
    parameters = {"beta": 0.5, "alpha": 0.6, "m0": 0.3, "momentum": 0.8, "drop": drop}
    objective, state = build_objective("beta_dpo", parameters), None
    average, deviation = 0.3, 0.0
    for seed in range(4):
        batch = assemble(random_examples(seed, count=9, responses=2))
        gradient, output = token_gradient(objective, batch, batch_totals(batch), state=state)
        moved = torch.zeros(batch.logps.num_responses, dtype=torch.float64)
        moved.index_add_(0, batch.logps.response_index, gradient.abs())
        kept = (moved[batch.pairs] > 0).all(dim=1)
        assert int(kept.sum()) == int(9 * (1 - drop))
        margins = output.margins / 0.5
        average = 0.8 * average + 0.2 * float(margins.mean())
        deviation = 0.8 * deviation + 0.2 * float(margins.std())
        scale = max(1 + 0.6 * (float(margins[kept].mean()) - average), 1e-3 / 0.5)
        expected = softplus(-0.5 * scale * margins[kept]).mean()
        assert float(output.loss) == pytest.approx(float(expected), rel=1e-12)
        state = output.state
        assert state == pytest.approx({"mean_margin": average, "margin_deviation": deviation}, rel=1e-12)


def test_the_filter_draws_without_replacement_by_gaussian_weights():
    """Shares of 2000 seeds beside the exact probabilities of keeping 2 of 4 pairs one after the other."""
    objective = build_objective("beta_dpo", {"drop": 0.5, "momentum": 0.5})
    batch = assemble(random_examples(3, count=4, responses=2))
    state, counts = {"mean_margin": 1.0, "margin_deviation": 1.5}, torch.zeros(4)
    for seed in range(2000):
        comparisons, after = compare(objective, batch, seed=seed, state=state)
        counts += (comparisons.anchor > 0).float()
    margins = (comparisons.chosen.logratios - comparisons.rejected.logratios).numpy()
    after = {name: float(value) for name, value in after.items()}
    weights = np.exp(-0.5 * ((margins - after["mean_margin"]) / after["margin_deviation"]) ** 2)
    exact = np.zeros(4)
    for first, second in permutations(range(4), 2):
        chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
        exact[[first, second]] += chance
    assert np.ptp(exact) > 0.2
    np.testing.assert_allclose(counts.numpy() / 2000, exact, atol=4 * 0.5 / 2000**0.5)


def test_the_filter_depends_on_no_layout_and_keeps_one_pair_at_least():
    examples = random_examples(5, count=6, responses=2)
    objective = build_objective("beta_dpo", {"drop": 0.4})
    forwards, backwards = (assemble(part) for part in (examples, examples[::-1]))
    losses = [evaluate(objective, batch, batch_totals(batch), seed=7).example_losses for batch in (forwards, backwards)]
    torch.testing.assert_close(losses[0], losses[1].flip(0), rtol=1e-12, atol=0)
    lone = assemble(examples[:1])
    (loss,) = evaluate(build_objective("beta_dpo", {"drop": 0.9}), lone, batch_totals(lone)).example_losses
    assert float(loss) > 0


def test_state_changes_the_next_loss_and_evaluating_changes_no_state():
    objective, batch = build_objective("bco_pair", {"beta": 0.5}), pair_batch(0)
    remembered = {"num_rewards": 100.0, "mean_reward": 2.0}
    fresh = float(evaluate(objective, batch, batch_totals(batch)).loss)
    later = float(evaluate(objective, batch, batch_totals(batch), state=remembered).loss)
    assert abs(later - fresh) > 1e-3
    assert remembered == {"num_rewards": 100.0, "mean_reward": 2.0}
    assert float(evaluate(objective, batch, batch_totals(batch)).loss) == fresh


@pytest.mark.parametrize("name", ["aot_paired", "dr_dpo", "kto", "bco_pair", "beta_dpo", "alpha_dpo", "kto_pair_old"])
def test_token_gradients_of_the_step_carry_a_coupled_loss_through_any_micro_batches(name):
    """What `token_gradient` promises: back-propagating (gradient * logps).sum() by parts is the step's gradient."""
    objective, batch = build_objective(name, {}), pair_batch(0)
    direction = torch.linspace(-1, 1, len(batch.logps.policy), dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    gradient, _ = token_gradient(objective, batch, batch_totals(batch))
    for part in torch.arange(len(direction)).split(5):
        (gradient[part] * (batch.logps.policy + weight * direction)[part]).sum().backward()
    by_parts = float(weight.grad)
    weight.grad = None
    whole = with_policy(batch, batch.logps.policy + weight * direction)
    evaluate(objective, whole, batch_totals(batch)).loss.backward()
    assert by_parts == pytest.approx(float(weight.grad), rel=1e-10)
