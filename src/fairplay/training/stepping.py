"""One optimiser step: from the indices of its examples to the gradient of its loss.

Left out: the optimiser, schedules, checkpoints (`steps.py`). Every micro-batch's loss is divided by the sizes of the
whole step, so the gradient accumulated over micro-batches and ranks is the whole batch's. Floor 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairplay.logps import PreferenceBatch, StepTotals
from fairplay.models.encoding import EncodedExample
from fairplay.models.token_logps import RowScores
from fairplay.objectives.anchors import State
from fairplay.objectives.evaluate import ObjectiveOutput, evaluate, token_gradient
from fairplay.objectives.objective import Objective
from fairplay.objectives.regression import Regression, regression
from fairplay.seeds import stable_seed
from fairplay.training.anchor_rows import mismatched
from fairplay.training.batches import (
    ReferenceLogps,
    TrainingSet,
    example_rows,
    num_input_tokens,
    preference_batch,
    step_totals,
)
from fairplay.training.distributed import ALONE, Ranks, sync_gradients
from fairplay.training.frozen import STATISTICS_OF_FROZEN_MODELS
from fairplay.training.guard import check_start
from fairplay.training.joining import gathered, joined, none_of
from fairplay.training.learning import StepOutcome
from fairplay.training.metrics import MetricWindow
from fairplay.training.plan import Divide, Step, undivided
from fairplay.training.reading import Reading

STATISTICS = "statistics:"

_Computed = tuple[Tensor, list[tuple[list[str], Tensor]], State]


@dataclass(frozen=True)
class Learner:
    """Everything that a step's gradient depends on besides the weights.

    Attributes:
        model: The policy that is trained.
        data: Examples and the reference's log-probs.
        objective: What is minimised.
        seed: The run's seed.
        reading: How models read rows.
        has_dropout: Whether the model draws (LoRA dropout); the draws are then seeded by step and micro-batch.
        divide: From a step to each rank's micro-batches.
        ranks: Who computes a step together.
        live_reference: The reference's model, for objectives that read its whole distributions; others have none.
        steps_at_reference: Numbers of the steps, from 0, before which the policy is the reference; that is checked.
    """

    model: PreTrainedModel
    data: TrainingSet
    objective: Objective
    seed: int
    reading: Reading
    has_dropout: bool
    steps_at_reference: frozenset[int]
    divide: Divide = undivided
    ranks: Ranks = ALONE
    live_reference: PreTrainedModel | None = None

    @property
    def initial_state(self) -> State:
        """The objective's state before the first step."""
        return self.objective.initial_state

    @property
    def reference(self) -> ReferenceLogps:
        """The reference's log-probs that are in force."""
        return self.data.reference

    def with_reference(self, reference: ReferenceLogps) -> Self:
        """The same with other log-probs of the reference."""
        return replace(self, data=replace(self.data, reference=reference))

    def accumulate(self, step: Step, *, number: int, epoch: int, state: State, window: MetricWindow) -> StepOutcome:
        """Add the gradient of the step's loss to the parameters; see `learning.Learns`."""
        examples = [self.data.examples[index] for index in chain(*step)]
        rows: tuple[EncodedExample, ...] = ()
        if "anchors" in self.objective.needs:
            rows = mismatched(self.data.examples, step, longest=self.data.longest_row)
        work = _Work(
            shares=self.divide(step),
            rank=self.ranks.rank,
            examples=self.data.examples,
            anchors=rows,
            totals=step_totals(examples, prompt_loss_weight=self.data.prompt_loss_weight),
            number=number,
            epoch=epoch,
            state=state,
            window=window,
        )
        is_divided = sum(map(len, work.shares)) > 1
        loss, losses, state = (self._coupled if self.objective.couples_examples and is_divided else self._split)(work)
        num_tokens = num_input_tokens([*examples, *rows])
        return StepOutcome(loss=loss, example_losses=losses, num_tokens=num_tokens, state=state)

    def _split(self, work: "_Work") -> _Computed:
        """Micro-batch by micro-batch; each loss is a share of the step's."""
        losses: list[Tensor] = []
        example_losses: list[tuple[list[str], Tensor]] = []
        state = work.state
        for place, (indices, part) in enumerate(zip(work.own, work.parts, strict=True)):
            sync_gradients(self.model, is_last=place == len(work.parts) - 1)
            scores = self._score(part, work, place)
            if part:
                batch = self._batch(
                    work, indices, joined([scores, *self._score_anchors(work)], [part, *work.anchor_parts])
                )
                output = evaluate(self.objective, batch, work.totals, seed=self.seed, state=state)
                example_losses.append(([example.example.id for example in part], output.example_losses.detach()))
                work.window.add(output, batch, self._targets(batch, state))
                state = output.state
            loss = output.loss if part else scores.logps.sum()
            if place == 0:
                self._check_start(work, [(batch, output)] if part else [], part)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return self.ranks.sum(torch.stack(losses).sum()), example_losses, state

    def _coupled(self, work: "_Work") -> _Computed:
        """For objectives whose examples depend on each other: score all, take the gradient per token, score again.

        Every rank takes the gradient of the whole step and goes back through the tokens of its share.
        """
        with torch.no_grad():
            scores = [self._score(part, work, place) for place, part in enumerate(work.parts)]
        every, first = gathered(self.ranks, joined(scores, work.parts), first_row=work.num_rows_before)
        if work.anchors:
            of_anchors = joined(self._score_anchors(work), work.anchor_parts)
            known, _ = gathered(self.ranks, of_anchors, first_row=work.num_anchors_before)
            every = joined([every, known], [[self.data.examples[i] for i in work.order], work.anchors])
        batch = self._batch(work, work.order, every)
        gradient, output = token_gradient(self.objective, batch, work.totals, seed=self.seed, state=work.state)
        examples = [self.data.examples[index] for index in work.order]
        self._check_start(work, [(batch, output)], examples)
        for place, (part, known) in enumerate(zip(work.parts, scores, strict=True)):
            share = gradient[first : first + len(known.logps)]
            first += len(known.logps)
            sync_gradients(self.model, is_last=place == len(work.parts) - 1)
            (self._score(part, work, place).logps * share).sum().backward()  # type: ignore[no-untyped-call]
        if self.ranks.is_first:
            work.window.add(output, batch, self._targets(batch, work.state))
        ids = [example.example.id for example in examples]
        return output.loss.detach(), [(ids, output.example_losses.detach())], output.state

    def _targets(self, batch: PreferenceBatch, state: State) -> Regression | None:
        """What a regression objective asks for, for the metrics."""
        return regression(self.objective, batch, seed=self.seed, state=state) if self.objective.is_regression else None

    def _score_anchors(self, work: "_Work") -> list[RowScores]:
        with torch.no_grad():
            first = len(work.parts)  # their dropout is drawn by places of their own
            return [self._score(part, work, first + place) for place, part in enumerate(work.anchor_parts)]

    def _score(self, examples: Sequence[EncodedExample], work: "_Work", place: int) -> RowScores:
        """Scores of a micro-batch; an empty one has none, but takes part in what all ranks do together."""
        if self.has_dropout:
            place_of_all = place * self.ranks.size + self.ranks.rank
            torch.manual_seed(stable_seed(self.seed, "dropout", work.number, place_of_all))
        needed = frozenset(need.removeprefix(STATISTICS) for need in self.objective.needs if STATISTICS in need)
        scores = self.reading.score(
            self.model,
            example_rows(examples or self.data.examples[:1]),
            prompt_tokens=self.data.prompt_loss_weight > 0,
            statistics=needed - STATISTICS_OF_FROZEN_MODELS.keys(),
            reference=self.live_reference,
        )
        return scores if examples else none_of(scores)

    def _batch(self, work: "_Work", indices: Sequence[int], scores: RowScores) -> PreferenceBatch:
        anchors = self.data.reference.anchors[work.number] if work.anchors else ()
        return preference_batch(self.data, indices, scores, epoch=work.epoch, anchors=anchors)

    def _check_start(
        self, work: "_Work", found: Sequence[tuple[PreferenceBatch, ObjectiveOutput]], of: Sequence[EncodedExample]
    ) -> None:
        """Check what was found first of all, on every rank: nothing where its micro-batch is empty."""
        if work.number not in self.steps_at_reference:
            return
        with self.ranks.same_fate():
            for batch, output in found:
                check_start(
                    self.objective,
                    batch,
                    output,
                    work.totals,
                    seed=self.seed,
                    example_ids=[example.example.id for example in of],
                    compute_dtype=torch.bfloat16 if self.reading.bf16 else next(self.model.parameters()).dtype,
                    step=work.number + 1,
                )


@dataclass(frozen=True)
class _Work:
    """One step, as both ways to compute it read it.

    Attributes:
        shares: Each rank's micro-batches of indices.
        rank: Whose share is one's own.
        examples: All examples of the training.
        anchors: The step's anchor rows; empty where the objective needs none.
        totals: Sizes of the whole step.
        number, epoch: Number of the step and of the pass over the data, from 0.
        state: The objective's state from the last step.
        window: Metrics to count the step in.
    """

    shares: tuple[Step, ...]
    rank: int
    examples: Sequence[EncodedExample]
    anchors: tuple[EncodedExample, ...]
    totals: StepTotals
    number: int
    epoch: int
    state: State
    window: MetricWindow

    @property
    def own(self) -> Step:
        """This rank's micro-batches."""
        return self.shares[self.rank]

    @cached_property
    def order(self) -> list[int]:
        """The step's examples, rank by rank."""
        return [index for share in self.shares for index in chain(*share)]

    @cached_property
    def parts(self) -> list[tuple[EncodedExample, ...]]:
        """The examples of one's own micro-batches."""
        return [tuple(self.examples[index] for index in micro_batch) for micro_batch in self.own]

    @property
    def num_rows_before(self) -> int:
        """Responses of the ranks before this one."""
        before = chain(*chain(*self.shares[: self.rank]))
        return sum(len(self.examples[index].response_ids) for index in before)

    @property
    def num_anchors_before(self) -> int:
        """Anchor rows of the ranks before this one: as many as examples."""
        return sum(map(len, chain(*self.shares[: self.rank])))

    @cached_property
    def anchor_parts(self) -> list[tuple[EncodedExample, ...]]:
        """One's own anchor rows, in parts as large as one's micro-batches."""
        if not self.anchors:
            return []
        rows = iter(self.anchors[self.num_anchors_before :])
        return [tuple(islice(rows, len(micro_batch))) for micro_batch in self.own]
