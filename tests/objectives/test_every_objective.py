"""Laws that hold for every row of the table, on random batches with several pairs an example."""

import json
from dataclasses import replace

import pytest
import torch

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch
from fairplay.objectives.anchors import plain
from fairplay.objectives.evaluate import at_reference, evaluate, token_gradient
from fairplay.objectives.likelihood import Likelihood, batch_totals
from fairplay.objectives.objective import Objective
from fairplay.objectives.row import Row
from fairplay.objectives.seats import alike
from fairplay.objectives.table import OBJECTIVES

from .batches import RandomExample, assemble, random_examples, with_policy, with_reference


def built_alike(row: Row) -> bool:
    return row.objective({}).reference_tokens is alike


SEEDS = (0, 1)
EVERY = pytest.mark.parametrize("name", OBJECTIVES)
REFERENCED = pytest.mark.parametrize(  # where policy and reference are thinned apart, there are no log-ratios
    "name",
    [name for name, row in OBJECTIVES.items() if row.objective({}).reference and built_alike(row)],
)
DIFFERENTIABLE = pytest.mark.parametrize(  # the others hold a statistic of the policy fixed; see the golden gradients
    "name",
    [
        name
        for name, row in OBJECTIVES.items()
        if not row.objective({}).couples_examples and row.objective({}).weight == 1.0
    ],
)
EXTREMES = (-1e-8, -1.0, -1e4)


def built(name: str) -> Objective:
    return OBJECTIVES[name].objective({})


def loss_of(objective: Objective, batch: PreferenceBatch, *, seed: int = 0) -> float:
    return float(evaluate(objective, batch, batch_totals(batch), seed=seed).loss)


def gradient_of(objective: Objective, batch: PreferenceBatch) -> torch.Tensor:
    return token_gradient(objective, batch, batch_totals(batch))[0]


def reordered(example: RandomExample, order: list[int]) -> RandomExample:
    place = {old: new for new, old in enumerate(order)}
    return RandomExample(
        key=example.key,
        policy=tuple(example.policy[i] for i in order),
        reference=tuple(example.reference[i] for i in order),
        statistics={name: tuple(tokens[i] for i in order) for name, tokens in example.statistics.items()},
        columns={name: values[order] for name, values in example.columns.items()},
        pairs=tuple((place[chosen], place[rejected]) for chosen, rejected in reversed(example.pairs)),
    )


@EVERY
def test_permuting_the_examples_permutes_the_gradient(name):
    for seed in SEEDS:
        examples = random_examples(seed)
        order = [2, 0, 3, 1]
        batch, permuted = assemble(examples), assemble([examples[i] for i in order])
        assert loss_of(built(name), permuted) == pytest.approx(loss_of(built(name), batch), rel=1e-12)
        tokens = [sum(len(response) for response in example.policy) for example in examples]
        by_example = gradient_of(built(name), batch).split(tokens)
        expected = torch.cat([by_example[i] for i in order])
        torch.testing.assert_close(gradient_of(built(name), permuted), expected, rtol=1e-9, atol=1e-12)


@EVERY
def test_the_order_of_responses_and_pairs_does_not_matter(name):
    for seed in SEEDS:
        examples = random_examples(seed)
        shuffled = assemble([reordered(example, [3, 1, 0, 2]) for example in examples])
        assert loss_of(built(name), shuffled) == pytest.approx(loss_of(built(name), assemble(examples)), rel=1e-12)


@EVERY
def test_micro_batches_sum_to_the_step_or_are_refused(name):
    objective = built(name)
    for seed in SEEDS:
        examples = random_examples(seed)
        whole, parts = assemble(examples), [assemble(examples[:1]), assemble(examples[1:])]
        totals = batch_totals(whole)
        gradient, output = token_gradient(objective, whole, totals)
        if objective.couples_examples:
            with pytest.raises(DataError, match="couples the 4 examples"):
                evaluate(objective, parts[0], totals)
            continue
        losses, gradients = [], []
        for part in parts:
            of_part, part_output = token_gradient(objective, part, totals)
            losses.append(float(part_output.loss))
            gradients.append(of_part)
        assert sum(losses) == pytest.approx(float(output.loss), rel=1e-12)
        torch.testing.assert_close(torch.cat(gradients), gradient, rtol=1e-10, atol=1e-14)


@REFERENCED
def test_at_the_reference_every_logratio_is_zero_and_the_loss_is_a_constant(name):
    objective = replace(built(name), likelihood=Likelihood(), weight=1.0)
    batch = at_reference(assemble(random_examples(0)))
    elsewhere = torch.linspace(-3.0, -0.1, len(batch.logps.policy), dtype=torch.float64)
    other = at_reference(with_reference(batch, elsewhere))
    assert loss_of(objective, other) == pytest.approx(loss_of(objective, batch), rel=1e-12)
    output = evaluate(objective, batch, batch_totals(batch))
    assert torch.equal(output.margins, torch.zeros_like(output.margins))
    assert len(output.rewards.unique()) == 1


@EVERY
def test_the_reference_is_needed_or_ignored(name):
    objective, batch = built(name), assemble(random_examples(0))
    without = with_reference(batch, torch.full_like(batch.logps.reference, torch.nan), has_reference=False)
    if objective.needs_reference:
        with pytest.raises(DataError, match="needs reference log-probs"):
            loss_of(objective, without)
    else:
        assert loss_of(objective, without) == loss_of(objective, batch)
        assert torch.equal(gradient_of(objective, without), gradient_of(objective, batch))


@EVERY
def test_the_first_step_from_the_reference_raises_chosen_responses_where_the_row_claims_it(name):
    batch = assemble(random_examples(3, responses=2))
    is_chosen = torch.isin(batch.logps.response_index, batch.pairs[:, 0])
    is_rejected = torch.isin(batch.logps.response_index, batch.pairs[:, 1])
    unlikely = torch.where(is_chosen, -1.5, -1.0).to(torch.float64)
    step = -gradient_of(built(name), at_reference(with_reference(batch, unlikely)))
    upward, downward = float(step[is_chosen].sum()), float(step[is_rejected].sum())
    if OBJECTIVES[name].raises_chosen:
        assert upward > max(downward, 1e-12)
    else:
        assert upward < 1e-12


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_log_probs_give_finite_losses_and_gradients(name, dtype):
    batch = assemble(random_examples(0, count=6))
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor(EXTREMES, dtype=dtype)

    def extreme() -> torch.Tensor:
        return values[torch.randint(0, 3, (len(batch.logps.policy),), generator=generator)]

    batch = with_reference(with_policy(batch, extreme()), extreme())
    gradient, output = token_gradient(built(name), batch, batch_totals(batch))
    assert output.loss.dtype == torch.float32
    for values in (output.loss, output.example_losses, output.rewards, output.margins, gradient):
        assert values.isfinite().all()


@DIFFERENTIABLE
def test_the_gradient_is_the_central_difference_of_the_loss(name):
    objective, batch = built(name), assemble(random_examples(1, count=2))
    gradient, step = gradient_of(objective, batch), 1e-6
    for token in range(0, len(gradient), 5):
        change = torch.zeros_like(gradient)
        change[token] = step
        above = loss_of(objective, with_policy(batch, batch.logps.policy + change))
        below = loss_of(objective, with_policy(batch, batch.logps.policy - change))
        scale = max(1.0, abs(above))
        assert (above - below) / (2 * step) == pytest.approx(float(gradient[token]), rel=1e-5, abs=1e-8 * scale)


@EVERY
def test_anchor_rows_are_learned_from_by_no_term(name):
    batch = assemble(random_examples(0))
    is_anchor = batch.columns["anchors"][batch.logps.response_index] == 1
    assert gradient_of(built(name), batch)[is_anchor].abs().max() == 0


@EVERY
def test_what_a_row_needs_is_refused_where_it_is_absent(name):
    objective, batch = built(name), assemble(random_examples(0))
    bare = replace(
        batch,
        logps=replace(batch.logps, statistics={}, has_reference=False),
        pairs=batch.pairs[:0],
        columns={},
    )
    if objective.needs:
        with pytest.raises(DataError, match=f"objective `{name}` needs") as caught:
            loss_of(objective, bare)
        assert caught.value.hint
    else:
        assert loss_of(objective, bare) > 0


@EVERY
def test_state_survives_as_plain_data_and_the_example_losses_reduce_to_the_loss(name):
    objective, batch = built(name), assemble(random_examples(0))
    totals = batch_totals(batch)
    output = evaluate(objective, batch, totals)
    assert output.state.keys() == objective.initial_state.keys()
    restored = json.loads(json.dumps(plain(output.state)))
    kept, resumed = (evaluate(objective, batch, totals, state=state) for state in (output.state, restored))
    assert torch.equal(kept.example_losses, resumed.example_losses)
    assert plain(kept.state) == plain(resumed.state)
    assert float(objective.reduction(output.example_losses, totals)) == float(output.loss)
    assert output.rewards.shape == (batch.logps.num_responses,)
    assert output.margins.shape == (len(batch.pairs),)


@EVERY
def test_a_row_says_where_it_comes_from(name):
    row = OBJECTIVES[name]
    assert row.name == name
    assert row.title
    assert row.paper
    assert row.formula
    for parameter in row.parameters:
        assert parameter.domain.contains(parameter.default)
        assert parameter.published
