"""TRL's loss code on given log-probs: its trainers without their constructors, on a stand-in for the model.

Left out: what it is compared with (`objectives_vs_trl.py`). Needs trl. Written against trl 1.16.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

PAIRS, MOST_TOKENS = 8, 24
Loss = Callable[["Pairs"], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Random pairs as grids [2 * pairs, tokens], chosen responses first; and the sums of KTO's mismatched rows."""

    mask: Tensor
    policy: Tensor
    reference: Tensor
    log_sum_sq: Tensor
    kl_policy: Tensor
    kl_reference: Tensor


class StandIn(torch.nn.Module):
    """In the place of a model: gives the log-probs, as TRL's fused head or as logits over {other, this token}."""

    is_gradient_checkpointing = False

    def __init__(self, logps: Tensor, log_sum_sq: Tensor, kl_logps: Tensor) -> None:
        super().__init__()
        self.logps, self.log_sum_sq, self.kl_logps = logps, log_sum_sq, kl_logps

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logps = self.logps if int(input_ids.max()) == 1 else self.kl_logps  # rows of token 2 are KTO's mismatched ones
        scores, zeros = torch.zeros_like(logps), torch.zeros_like(self.logps)
        other = torch.log(-torch.expm1(self.logps.clamp(max=-1e-12)))
        logits = torch.stack([other, self.logps], dim=-1)
        return SimpleNamespace(
            log_probs=logps,
            entropy=scores,
            mean_logits=scores,
            is_top1=scores.bool(),
            log_sum_sq_probs=self.log_sum_sq,
            logits=torch.cat([logits, zeros[:, :1, None].expand(-1, 1, 2)], dim=1),
        )


def random_pairs(seed: int, dtype: torch.dtype) -> Pairs:
    """Responses of 1 to 24 tokens, log-ratios of a few nats; two prompt tokens of log-prob -1 stand before ORPO's."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, MOST_TOKENS + 1, (2 * PAIRS, 1), generator=generator)
    mask = torch.arange(MOST_TOKENS) < lengths
    reference = uniform(-3.0, -0.05, 2 * PAIRS, MOST_TOKENS)
    policy = torch.clamp(reference + uniform(-0.6, 0.3, 2 * PAIRS, MOST_TOKENS), max=-1e-3)
    log_sum_sq = uniform(-2.0, -0.3, 2 * PAIRS, MOST_TOKENS)
    kl_reference = uniform(-30.0, -5.0, 2 * PAIRS)
    kl_policy = kl_reference + uniform(-0.5, 2.0, 2 * PAIRS)
    grids = ((grid * mask).to(dtype) for grid in (policy, reference, log_sum_sq))
    return Pairs(mask, *grids, kl_policy.to(dtype), kl_reference.to(dtype))


def bare(trainer: type, **attributes: Any) -> Any:
    """A trainer of TRL's with these attributes and nothing else: no model, data or configuration is made."""
    made = object.__new__(trainer)
    same = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    common = {"accelerator": same, "aux_loss_enabled": False, "_metrics": defaultdict(lambda: defaultdict(list))}
    made.__dict__.update(common | {"_total_train_tokens": 0, "_tp_size": 1} | attributes)
    return made


def models(pairs: Pairs) -> dict[str, StandIn]:
    """Policy and reference."""
    kl = [pad(sums[:, None], (0, MOST_TOKENS - 1)) for sums in (pairs.kl_policy, pairs.kl_reference)]
    return {
        "model": StandIn(pairs.policy, pairs.log_sum_sq, kl[0]),
        "ref_model": StandIn(pairs.reference, pairs.log_sum_sq, kl[1]),
    }


def inputs(pairs: Pairs) -> dict[str, Tensor]:
    """One prompt token before each response."""
    mask = pad(pairs.mask.long(), (1, 0))
    ids = torch.ones_like(mask)
    return {"input_ids": ids, "attention_mask": ids, "completion_mask": mask}


def dpo(*loss_types: str, **settings: Any) -> Loss:
    """DPOTrainer's loss."""
    defaults = {
        "beta": 0.1, "label_smoothing": 0.0, "ld_alpha": None, "use_weighting": False, "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5, "loss_weights": [1.0] * len(loss_types),
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
    }  # fmt: skip

    def compute(pairs: Pairs) -> Tensor:
        trainer = bare(DPOTrainer, loss_types=list(loss_types), **models(pairs), **(defaults | settings))
        return trainer._compute_loss(trainer.model, inputs(pairs), False)

    return compute


def kto(loss_type: str, **settings: Any) -> Loss:
    """KTOTrainer's loss: chosen responses are desirable, rejected ones are not."""

    def compute(pairs: Pairs) -> Tensor:
        attributes = {"precompute_ref_logps": False, "calculate_KL": loss_type == "kto", "loss_type": loss_type}
        args = SimpleNamespace(gradient_checkpointing_kwargs=None)
        trainer = bare(KTOTrainer, args=args, **models(pairs), **attributes, **settings)
        ids = inputs(pairs)["input_ids"]
        kl = {"KL_input_ids": 2 * ids, "KL_attention_mask": ids, "KL_completion_mask": ids}
        label = torch.arange(2 * PAIRS) < PAIRS
        return trainer._compute_loss(trainer.model, inputs(pairs) | kl | {"label": label.long()}, False)

    return compute


def from_logits(pairs: Pairs, trainer: type, prompt: int, **settings: Any) -> Tensor:
    """The loss of CPOTrainer or ORPOTrainer, which read logits; the prompt has this many tokens."""
    padded = (pad(grid, (prompt - 1, 0), value=-1.0) for grid in (pairs.policy, pairs.log_sum_sq))
    mask = pad(pairs.mask.long(), (prompt, 0))
    attended = pad(pairs.mask.long(), (prompt, 0), value=1)
    batch: dict[str, Tensor] = {}
    for side, rows in (("chosen", slice(0, PAIRS)), ("rejected", slice(PAIRS, None))):
        batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"] = torch.ones_like(mask[rows]), attended[rows]
        batch[f"{side}_labels"] = torch.where(mask[rows] == 1, 1, -100)
    made = bare(trainer, is_encoder_decoder=False, pad_token_id=0, padding_value=0, **settings)
    return made.get_batch_loss_metrics(StandIn(*padded, pairs.kl_policy), batch)[0]


def cpo(loss_type: str, **settings: Any) -> Loss:
    """CPOTrainer's loss."""

    def compute(pairs: Pairs) -> Tensor:
        defaults = {"beta": 0.1, "cpo_alpha": 0.0, "simpo_gamma": 1.0, "alpha": 0.0, "label_smoothing": 0.0}
        return from_logits(pairs, CPOTrainer, 1, loss_type=loss_type, **(defaults | settings))

    return compute


def orpo(beta: float, *, prompt: int) -> Loss:
    """ORPOTrainer's loss."""

    def compute(pairs: Pairs) -> Tensor:
        return from_logits(pairs, ORPOTrainer, prompt, beta=beta)

    return compute
