"""TRL's DPOTrainer as an engine: its own collator, loss, training step and reference, one optimiser step a call."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from fairplay.models.encoding import EncodedExample

disable_progress_bars()


@dataclass(frozen=True)
class Mode:
    """How TRL is set.

    Attributes:
        pairs: Pairs a micro-batch.
        checkpointing: Gradient checkpointing, TRL's default.
        precomputed: Reference log-probs computed once, before the first step.
    """

    pairs: int = 4
    checkpointing: bool = False
    precomputed: bool = False

    @property
    def name(self) -> str:
        """As it is told."""
        reference = "reference precomputed" if self.precomputed else "reference every step"
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        return f"TRL, {pairs}, {reference}{', checkpointing' if self.checkpointing else ''}"


DEFAULT = Mode(checkpointing=True)
"""TRL's defaults but for the micro-batch: its own is 8 pairs, and larger ones were slower."""

MODES = (
    DEFAULT,
    Mode(),
    *(Mode(pairs=pairs, precomputed=True) for pairs in (4, 2, 1)),
    Mode(pairs=1, precomputed=True, checkpointing=True),
)


class _GivenIds(DPOTrainer):
    """The data are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: object, **__: object) -> Dataset:
        return dataset


class TrlEngine:
    """One trainer on the pairs of one optimiser step."""

    def __init__(
        self,
        mode: Mode,
        examples: Sequence[EncodedExample],
        build: Callable[[], PreTrainedModel],
        *,
        bf16: bool,
        on_cpu: bool = True,
        lr: float | None = 1e-6,
    ) -> None:
        self.mode = mode
        rows = [
            {"prompt_ids": e.prompt_ids, "chosen_ids": e.response_ids[a], "rejected_ids": e.response_ids[b]}
            for e in examples
            for a, b in e.example.pairs
        ]
        arguments = DPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=mode.pairs,
            gradient_checkpointing=mode.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            precompute_ref_log_probs=mode.precomputed,
            bf16=bf16,
            use_cpu=on_cpu,
            report_to=[],
            max_length=None,
            beta=0.1,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            loss_type=["sigmoid"],
        )
        self.trainer = _GivenIds(
            model=build(),
            ref_model=None if mode.precomputed else build(),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=_tokenizer(),
        )
        self.model = self.trainer.accelerator.prepare_model(self.trainer.model)
        if mode.checkpointing:
            self.trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        parameters = self.trainer.model.parameters()
        # Without a rate, only gradients are taken.
        chosen = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=not on_cpu) if lr else None
        self.optimizer = self.trainer.optimizer = chosen
        self.rows = [self.trainer.train_dataset[place] for place in range(len(rows))]
        self.parts = [self.rows[first : first + mode.pairs] for first in range(0, len(rows), mode.pairs)]

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair, where they are precomputed."""
        return [(float(row["ref_chosen_logps"]), float(row["ref_rejected_logps"])) for row in self.rows]

    def step(self) -> float:
        """One optimiser step; its loss."""
        self.trainer.current_gradient_accumulation_steps = len(self.parts)
        loss = 0.0
        for part in self.parts:
            loss += float(self.trainer.training_step(self.model, self.trainer.data_collator(part)))
        torch.nn.utils.clip_grad_norm_(self.trainer.model.parameters(), 1.0)
        if self.optimizer is not None:
            self.optimizer.step()
        self.trainer.model.zero_grad(set_to_none=True)
        return loss


def _tokenizer() -> PreTrainedTokenizerFast:
    """One that the trainer asks for no more than the pad token."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
