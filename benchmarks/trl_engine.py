"""TRL's DPOTrainer as an engine: its own collator, loss, training step and reference, one optimiser step a call.

Written against trl 1.16 and 0.24. Imports nothing of fairplay, whose transformers 0.24 cannot stand.
"""

import tempfile
from collections.abc import Callable, Sequence

import torch
import trl
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from trl_modes import Mode

disable_progress_bars()

IS_OLD = trl.__version__.startswith("0.")
COLUMNS = tuple(f"{text}_{'input_ids' if IS_OLD else 'ids'}" for text in ("prompt", "chosen", "rejected"))

Pair = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Token ids of a prompt, of its chosen and of its rejected response."""


class _GivenIds(DPOTrainer):
    """The data are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: object, **__: object) -> Dataset:
        return dataset


def _arguments(mode: Mode, *, bf16: bool, on_cpu: bool) -> DPOConfig:
    """A mode in TRL's words."""
    only_old = {
        "max_prompt_length": None,
        "use_logits_to_keep": mode.kept_logits,
        "padding_free": mode.padding_free,
        "use_liger_loss": mode.liger,
    }
    return DPOConfig(
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
        **(only_old if IS_OLD else {}),
    )


class TrlEngine:
    """One trainer on the pairs of one optimiser step.

    Args:
        mode: How it is set.
        pairs: Of a step.
        build: Makes the model, with the same weights every time.
        bf16: Compute in bfloat16 by autocast.
        on_cpu: Whether the model stays on the CPU.
        lr: Learning rate; None takes the gradient and no step.
    """

    def __init__(
        self,
        mode: Mode,
        pairs: Sequence[Pair],
        build: Callable[[], PreTrainedModel],
        *,
        bf16: bool,
        on_cpu: bool = True,
        lr: float | None = 1e-6,
    ) -> None:
        self.mode = mode
        self.trainer = _GivenIds(
            model=build(),
            ref_model=None if mode.precomputed else build(),
            args=_arguments(mode, bf16=bf16, on_cpu=on_cpu),
            train_dataset=Dataset.from_list([dict(zip(COLUMNS, pair, strict=True)) for pair in pairs]),
            processing_class=_tokenizer(),
        )
        if mode.precomputed and IS_OLD:
            self.trainer.get_train_dataloader()  # where it computes them
        self.model = self.trainer.accelerator.prepare_model(self.trainer.model)
        if mode.checkpointing:
            self.trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        parameters = self.trainer.model.parameters()
        # Without a rate, only gradients are taken.
        chosen = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=not on_cpu) if lr else None
        self.optimizer = self.trainer.optimizer = chosen
        self.rows = [self.trainer.train_dataset[place] for place in range(len(pairs))]
        self.parts = [self.rows[first : first + mode.pairs] for first in range(0, len(pairs), mode.pairs)]

    def reference_logps(self) -> list[tuple[float, float]]:
        """Log-probs of chosen and rejected response of each pair, as the trainer knows or computes them."""
        if self.mode.precomputed:
            return [(float(row["ref_chosen_logps"]), float(row["ref_rejected_logps"])) for row in self.rows]
        found, model = [], () if IS_OLD else (self.trainer.ref_model,)
        for part in self.parts:
            batch = self.trainer._prepare_inputs(self.trainer.data_collator(part))
            chosen, rejected = self.trainer.compute_ref_log_probs(*model, batch)
            found += zip(chosen.tolist(), rejected.tolist(), strict=True)
        return found

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
