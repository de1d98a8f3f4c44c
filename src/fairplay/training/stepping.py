"""One optimiser step: from the indices of its examples to the gradient of its loss.

Left out: the optimiser, schedules, checkpoints (`loop.py`). Every micro-batch's loss is divided by the sizes of the
whole step, so the accumulated gradient is the whole batch's. Floor 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairplay.logps import PreferenceBatch, StepTotals
from fairplay.models.token_logps import RowScores, score_rows
from fairplay.objectives.anchors import State
from fairplay.objectives.evaluate import ObjectiveOutput, evaluate, token_gradient
from fairplay.objectives.objective import Objective
from fairplay.seeds import stable_seed
from fairplay.training.batches import (
    Step,
    TrainingSet,
    example_rows,
    num_input_tokens,
    preference_batch,
    step_totals,
)
from fairplay.training.guard import check_start
from fairplay.training.metrics import MetricWindow
from fairplay.training.reference import TILE, autocast

STATISTICS = "statistics:"


@dataclass(frozen=True)
class StepOutcome:
    """What one step computed; the gradient lies in the parameters.

    Attributes:
        loss: Loss of the whole step, a detached scalar on the device.
        example_losses: For each micro-batch the example ids and their losses, [examples].
        num_tokens: Tokens the model read, padding not counted.
        state: The objective's state for the next step.
    """

    loss: Tensor
    example_losses: list[tuple[list[str], Tensor]]
    num_tokens: int
    state: State


@dataclass(frozen=True)
class Learner:
    """Everything that a step's gradient depends on besides the weights.

    Attributes:
        model: The policy that is trained.
        data: Examples and the reference's log-probs.
        objective: What is minimised.
        seed: The run's seed.
        bf16: Compute in bfloat16 by autocast.
        has_dropout: Whether the model draws (LoRA dropout); the draws are then seeded by step and micro-batch.
        starts_at_reference: Whether the policy is the reference before the first step, which is then checked.
    """

    model: PreTrainedModel
    data: TrainingSet
    objective: Objective
    seed: int
    bf16: bool
    has_dropout: bool
    starts_at_reference: bool

    def accumulate(self, step: Step, *, number: int, epoch: int, state: State, window: MetricWindow) -> StepOutcome:
        """Add the gradient of the step's loss to the parameters.

        Args:
            step: Micro-batches of indices.
            number: Number of the step, from 0.
            epoch: Number of the pass over the data, from 0.
            state: The objective's state from the last step.
            window: Metrics to count the step in.
        """
        every = [self.data.examples[index] for micro_batch in step for index in micro_batch]
        totals = step_totals(every, prompt_loss_weight=self.data.prompt_loss_weight)
        if self.objective.couples_examples and len(step) > 1:
            loss, losses, state = self._coupled(step, totals, number=number, epoch=epoch, state=state, window=window)
        else:
            loss, losses, state = self._split(step, totals, number=number, epoch=epoch, state=state, window=window)
        return StepOutcome(loss=loss, example_losses=losses, num_tokens=num_input_tokens(every), state=state)

    def _split(
        self, step: Step, totals: StepTotals, *, number: int, epoch: int, state: State, window: MetricWindow
    ) -> tuple[Tensor, list[tuple[list[str], Tensor]], State]:
        """Micro-batch by micro-batch; each loss is a share of the step's."""
        parts: list[Tensor] = []
        example_losses: list[tuple[list[str], Tensor]] = []
        for place, indices in enumerate(step):
            batch = preference_batch(self.data, indices, self._score(indices, (number, place)), epoch=epoch)
            output = evaluate(self.objective, batch, totals, seed=self.seed, state=state)
            ids = [self.data.examples[index].example.id for index in indices]
            if number == 0 and place == 0 and self.starts_at_reference:
                self._check_start(batch, output, totals, ids)
            output.loss.backward()  # type: ignore[no-untyped-call]
            window.add(output, batch)
            parts.append(output.loss.detach())
            example_losses.append((ids, output.example_losses.detach()))
            state = output.state
        return torch.stack(parts).sum(), example_losses, state

    def _coupled(
        self, step: Step, totals: StepTotals, *, number: int, epoch: int, state: State, window: MetricWindow
    ) -> tuple[Tensor, list[tuple[list[str], Tensor]], State]:
        """For objectives whose examples depend on each other: score all, take the gradient per token, score again."""
        indices = [index for micro_batch in step for index in micro_batch]
        with torch.no_grad():
            scores = [self._score(micro_batch, (number, place)) for place, micro_batch in enumerate(step)]
        batch = preference_batch(self.data, indices, _joined(scores), epoch=epoch)
        gradient, output = token_gradient(self.objective, batch, totals, seed=self.seed, state=state)
        ids = [self.data.examples[index].example.id for index in indices]
        if number == 0 and self.starts_at_reference:
            self._check_start(batch, output, totals, ids)
        sizes = [len(part.logps) for part in scores]
        for place, (micro_batch, share) in enumerate(zip(step, torch.split(gradient, sizes), strict=True)):
            (self._score(micro_batch, (number, place)).logps * share).sum().backward()  # type: ignore[no-untyped-call]
        window.add(output, batch)
        return output.loss.detach(), [(ids, output.example_losses.detach())], output.state

    def _score(self, indices: Sequence[int], place: tuple[int, int]) -> RowScores:
        if self.has_dropout:
            torch.manual_seed(stable_seed(self.seed, "dropout", *place))
        examples = [self.data.examples[index] for index in indices]
        wanted = frozenset(need.removeprefix(STATISTICS) for need in self.objective.needs if STATISTICS in need)
        with autocast(self.model, bf16=self.bf16):
            return score_rows(
                self.model,
                example_rows(examples),
                tile=TILE,
                prompt_tokens=self.data.prompt_loss_weight > 0,
                statistics=wanted,
            )

    def _check_start(
        self, batch: PreferenceBatch, output: ObjectiveOutput, totals: StepTotals, ids: Sequence[str]
    ) -> None:
        dtype = torch.bfloat16 if self.bf16 else next(self.model.parameters()).dtype
        check_start(self.objective, batch, output, totals, seed=self.seed, example_ids=ids, compute_dtype=dtype)


def _joined(scores: Sequence[RowScores]) -> RowScores:
    """The scores of several micro-batches as one."""
    first, shifted = 0, []
    for part in scores:
        shifted.append(part.response_index + first)
        first += int(part.response_index[-1]) + 1
    return RowScores(
        logps=torch.cat([part.logps for part in scores]),
        response_index=torch.cat(shifted),
        position=torch.cat([part.position for part in scores]),
        statistics={name: torch.cat([part.statistics[name] for part in scores]) for name in scores[0].statistics},
    )
