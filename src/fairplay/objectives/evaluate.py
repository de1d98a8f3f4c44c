"""The one evaluator: any objective on any batch.

Left out: which objectives there are (`table.py`), log-probs (`models/`), optimisation (`training/`). Floor 2.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, StepTotals
from fairplay.objectives.anchors import State
from fairplay.objectives.columns import value_of
from fairplay.objectives.comparisons import Pairs
from fairplay.objectives.linear import combined, scaled, shifted
from fairplay.objectives.objective import Objective, Term
from fairplay.objectives.requirements import check_batch
from fairplay.objectives.sides import Comparisons, Seating


@dataclass(frozen=True)
class ObjectiveOutput:
    """An objective's value on a batch.

    Attributes:
        loss: Scalar; over the micro-batches of a step it sums to the step's loss.
        example_losses: [examples]; the usual loss is their sum / `totals.num_examples`.
        rewards: beta * link(log-ratio) of each response by itself, [responses], detached.
        margins: Reward of chosen - rejected of each pair of the batch, [pairs], detached; with the objective's token
            weights, in expectation where they are drawn.
        state: The anchor's state for the next step.
    """

    loss: Tensor
    example_losses: Tensor
    rewards: Tensor
    margins: Tensor
    state: State


def evaluate(
    objective: Objective, batch: PreferenceBatch, totals: StepTotals, *, seed: int = 0, state: State | None = None
) -> ObjectiveOutput:
    """Evaluate an objective; differentiable in `batch.logps.policy` (and in statistics that carry a gradient).

    Args:
        objective: What is minimised.
        batch: Log-probs and preferences; all of the step's, or a part that holds whole examples.
        totals: Sizes of the whole step, which the loss is divided by.
        seed: The run's seed; draws are hashed from it, the epoch, the example's key and the token's position.
        state: The anchor's state from the last step; the initial one by default.

    Raises:
        DataError: If the batch lacks what the objective needs.
    """
    check_batch(objective, batch, totals)
    seating = _seating(objective, batch, seed)
    seated = seating.seat(objective.comparison(batch.structure))
    comparisons, next_state = _anchored(objective, seated, state)

    losses = torch.zeros_like(comparisons.chosen.rewards)
    for place, term in enumerate(objective.terms):
        of_term = _term_losses(term, comparisons)
        losses = losses + of_term if place else of_term
    losses = scaled(value_of(objective.weight, comparisons), losses)
    losses = shifted(losses, objective.likelihood(comparisons, totals))

    example_losses = _per_example(losses, comparisons)
    with torch.no_grad():
        expected = objective.in_expectation()
        expecting = seating if expected is objective else _seating(expected, batch, seed)
        paired = seated if expecting is seating and objective.comparison == Pairs() else None
        paired = paired or expecting.seat(Pairs()(batch.structure))
        margins = paired.chosen.rewards - paired.rejected.rewards
    return ObjectiveOutput(
        loss=objective.reduction(example_losses, totals),
        example_losses=example_losses,
        rewards=expecting.every.rewards.detach(),
        margins=margins,
        state=next_state,
    )


def compare(
    objective: Objective, batch: PreferenceBatch, *, seed: int, state: State | None
) -> tuple[Comparisons, State]:
    """The objective's rows with their rewards and anchor, as its terms read them, and the state for the next step.

    Args:
        objective: What is minimised.
        batch: A batch that has what the objective needs.
        seed: The run's seed.
        state: The anchor's state from the last step; the initial one by default.
    """
    return _anchored(objective, _seating(objective, batch, seed).seat(objective.comparison(batch.structure)), state)


def token_gradient(
    objective: Objective, batch: PreferenceBatch, totals: StepTotals, *, seed: int = 0, state: State | None = None
) -> tuple[Tensor, ObjectiveOutput]:
    """The gradient of a whole step's loss in every policy token log-prob.

    For objectives that couple examples: score all micro-batches without gradient, take this of the whole step, and
    back-propagate `(gradient * logps.policy).sum()` in any micro-batches; the sum is the step's exact gradient.

    Returns:
        d loss / d log pi_theta(y_t), [tokens], and the step's output, detached.
    """
    leaf = batch.logps.policy.detach().requires_grad_()
    with torch.enable_grad():
        logps = replace(batch.logps, policy=leaf)
        output = evaluate(objective, replace(batch, logps=logps), totals, seed=seed, state=state)
        (gradient,) = torch.autograd.grad(output.loss, leaf)
    return gradient, replace(output, loss=output.loss.detach(), example_losses=output.example_losses.detach())


def at_reference(batch: PreferenceBatch) -> PreferenceBatch:
    """The same batch with the policy's log-probs set to the reference's, so that every log-ratio is 0."""
    return replace(batch, logps=replace(batch.logps, policy=batch.logps.reference))


def _anchored(objective: Objective, seated: Comparisons, state: State | None) -> tuple[Comparisons, State]:
    """Rewards as the terms read them: with the step's anchor, and matched."""
    anchor, next_state = objective.anchor(seated, objective.initial_state if state is None else state)
    return objective.matching(replace(seated, anchor=anchor)), next_state


def _seating(objective: Objective, batch: PreferenceBatch, seed: int) -> Seating:
    def reward(policy: Tensor, reference: Tensor) -> Tensor:
        return scaled(objective.beta, objective.link(policy - reference if objective.reference else policy))

    return Seating(batch, objective.tokens, reward, seed, objective.reference_tokens)


def _per_example(losses: Tensor, comparisons: Comparisons) -> Tensor:
    """Sum of each example's rows by their shares, [rows] -> [examples]."""
    rows, num_examples = comparisons.rows, comparisons.batch.num_examples
    if rows.planned.are_examples(num_examples):
        return losses
    return losses.new_zeros(num_examples).index_add(0, rows.example, rows.share.to(losses.dtype) * losses)


def _term_losses(term: Term, comparisons: Comparisons) -> Tensor:
    """The term's loss of every row, [rows]."""
    rewards = (comparisons.chosen.rewards, comparisons.rejected.rewards)
    contrast = scaled(value_of(term.scale, comparisons), combined(term.contrast, rewards))
    margins = shifted(contrast, value_of(term.offset, comparisons), -1)
    return scaled(value_of(term.coefficient, comparisons), term.loss(margins, comparisons))
