"""Anchors with state: what they remember from step to step."""

import pytest
import torch

from fairplay.objectives.evaluate import evaluate, token_gradient
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
