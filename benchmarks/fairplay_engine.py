"""Fairplay's core as an engine on the groups of one optimiser step: rows in a layout, log-probs, objective, step."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import group_tokens
from fairplay.models.packing import pack
from fairplay.models.token_logps import score_rows
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.table import build_objective
from fairplay.training.batches import ReferenceLogps, TrainingSet, example_rows, preference_batch, step_totals
from fairplay.training.optimizers import build_optimizer
from fairplay.training.reading import TILE
from fairplay.training.settings import TrainingSettings
from fairplay.training.trainable import checkpoint_layers
from workloads import make_model

PARAMETERS = {"dpo": {"beta": 0.1}}


class GivenModel:
    """The steps of one model.

    Args:
        model: On its device, in its type.
        examples: The groups of a step.
        layout: How rows lie.
        budget: Tokens of an input.
        lr: Learning rate; None takes the gradient and no step.
        optim: An optimiser of fairplay by name.
        objective: An objective by name.
        bf16: Compute in bfloat16 by autocast.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        examples: Sequence[EncodedExample],
        *,
        layout: str,
        budget: int = 8192,
        lr: float | None,
        optim: str = "adamw_torch_fused",
        objective: str = "dpo",
        bf16: bool = False,
    ) -> None:
        self.model, self.bf16, self.layout = model, bf16, layout
        sizes = [group_tokens(layout, len(e.prompt_ids), [len(r) for r in e.response_ids]) for e in examples]
        self.num_tokens = sum(sizes)
        self.parts = pack(sizes, max(budget, *sizes, 1), names=[e.example.id for e in examples])
        self.objective = build_objective(objective, PARAMETERS.get(objective, {}))
        self.totals = step_totals(examples, prompt_loss_weight=0.0)
        with torch.no_grad():
            reference = {index: self._score([example]).logps.cpu() for index, example in enumerate(examples)}
        self.data = TrainingSet(tuple(examples), ReferenceLogps(reference), 0.0)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = None
        if lr is not None:
            self.optimizer = build_optimizer(self.parameters, TrainingSettings(learning_rate=lr, optim=optim))

    def _score(self, examples: Sequence[EncodedExample]):  # noqa: ANN202
        with self._autocast():
            return score_rows(self.model, example_rows(examples), tile=TILE, layout=self.layout)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16)

    def flops(self) -> float:
        """Of a step's matrix products that involve weights, forward and backward, nothing made again."""
        body = sum(p.numel() for p in self.model.parameters()) - self._head_size() * (2 - self._is_tied())
        scored = sum(len(response) for example in self.data.examples for response in example.response_ids)
        return 6.0 * (body * self.num_tokens + self._head_size() * scored)

    def _head_size(self) -> int:
        return self.model.get_output_embeddings().weight.numel()

    def _is_tied(self) -> int:
        return int(self.model.get_output_embeddings().weight is self.model.get_input_embeddings().weight)

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair."""
        found = []
        for index, example in enumerate(self.data.examples):
            lengths = [len(response) for response in example.response_ids]
            sums = [float(part.double().sum()) for part in torch.split(self.data.reference.examples[index], lengths)]
            found += [(sums[chosen], sums[rejected]) for chosen, rejected in example.example.pairs]
        return found

    def step(self, *, read_loss: bool = True) -> float:
        """One optimiser step; its loss, or 0 where it is not to be read."""
        losses: list[Tensor] = []
        for part in self.parts:
            scores = self._score([self.data.examples[index] for index in part])
            batch = preference_batch(self.data, part, scores, epoch=0)
            output = evaluate(self.objective, batch, self.totals)
            output.loss.backward()
            losses.append(output.loss.detach())
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if self.optimizer is not None:
            self.optimizer.step()
        self.model.zero_grad(set_to_none=True)
        return float(torch.stack(losses).sum()) if read_loss else 0.0


class FairplayEngine(GivenModel):
    """The same on a model of `workloads.MODELS`, with the optimiser that TRL's engine has."""

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        model: str,
        *,
        bf16: bool,
        layout: str,
        budget: int,
        checkpointed: float = 0.0,
    ) -> None:
        made = make_model(model)
        if checkpointed:
            checkpoint_layers(made.eval(), checkpointed)
        super().__init__(made, examples, layout=layout, budget=budget, lr=None, bf16=bf16)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, weight_decay=0.0)
