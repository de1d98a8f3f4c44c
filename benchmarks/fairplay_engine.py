"""Fairplay's core as an engine on the groups of one optimiser step: rows in a layout, log-probs, objective, step."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import group_tokens
from fairplay.models.packing import pack
from fairplay.models.token_logps import score_rows
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.table import build_objective
from fairplay.training.batches import ReferenceLogps, TrainingSet, example_rows, preference_batch, step_totals
from fairplay.training.reading import TILE
from workloads import make_model


class FairplayEngine:
    """Fairplay's core on the groups of one optimiser step: rows in a layout, log-probs, objective, gradient, step."""

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        model: str,
        *,
        bf16: bool,
        layout: str,
        budget: int,
        checkpointing: bool = False,
    ) -> None:
        self.model, self.bf16, self.layout = make_model(model), bf16, layout
        if checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        sizes = [group_tokens(layout, len(e.prompt_ids), [len(r) for r in e.response_ids]) for e in examples]
        self.parts = pack(sizes, max(budget, *sizes, 1), names=[e.example.id for e in examples])
        self.objective = build_objective("dpo", {"beta": 0.1})
        self.totals = step_totals(examples, prompt_loss_weight=0.0)
        with torch.no_grad():
            reference = {index: self._score([example]).logps for index, example in enumerate(examples)}
        self.data = TrainingSet(tuple(examples), ReferenceLogps(reference), 0.0)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.0)

    def _score(self, examples: Sequence[EncodedExample]):  # noqa: ANN202
        with self._autocast():
            return score_rows(self.model, example_rows(examples), tile=TILE, layout=self.layout)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair."""
        found = []
        for index, example in enumerate(self.data.examples):
            lengths = [len(response) for response in example.response_ids]
            sums = [float(part.double().sum()) for part in torch.split(self.data.reference.examples[index], lengths)]
            found += [(sums[chosen], sums[rejected]) for chosen, rejected in example.example.pairs]
        return found

    def step(self) -> float:
        """One optimiser step; its loss."""
        losses: list[Tensor] = []
        for part in self.parts:
            scores = self._score([self.data.examples[index] for index in part])
            batch = preference_batch(self.data, part, scores, epoch=0)
            output = evaluate(self.objective, batch, self.totals)
            output.loss.backward()
            losses.append(output.loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(torch.stack(losses).sum())
