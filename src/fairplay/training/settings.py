"""Settings of one training, with the names that transformers' users know.

Left out: what is learned (the objective), which model (`models.settings`), where files go (arguments of `loop.train`).
Imports no torch. Floor 5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairplay.lookup import nearest_hint

OPTIMIZER_NAMES = (
    "adafactor",
    "adagrad",
    "adamw_torch",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_torch_fused",
    "rmsprop",
    "sgd",
)
SCHEDULE_NAMES = (
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_min_lr",
    "cosine_with_restarts",
    "inverse_sqrt",
    "linear",
    "polynomial",
    "warmup_stable_decay",
)
REFERENCE_SCHEDULE_NAMES = ("fixed", "every_epoch", "every_steps")
TRACKER_NAMES = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Defaults are those of the SPPO and SimPO recipes where these agree (arXiv 2405.00675, 2405.14734).

    Attributes:
        learning_rate: Highest learning rate of the schedule.
        lr_scheduler_type: A schedule of transformers by name. Linear decay to a floor is `polynomial` with
            `lr_scheduler_kwargs: {lr_end: FLOOR}`.
        lr_scheduler_kwargs: Further arguments of that schedule, such as `min_lr_rate`.
        warmup_ratio: Share of all steps during which the rate rises from 0.
        num_train_epochs: Passes over the examples; a fraction ends within a pass.
        max_steps: Optimiser steps in all; above 0 it overrides `num_train_epochs`, -1 leaves it in force.
        per_device_train_batch_size: Examples (all their responses) in one micro-batch.
        gradient_accumulation_steps: Micro-batches in one optimiser step, on each of several processes.
        max_tokens_per_micro_batch: Above 0, the examples of a step (as many as the two settings above give) are packed
            into micro-batches of so many tokens, an example's prompt counted once; 0 counts examples.
        dp_replicate_size: Where several processes train: copies of the weights, each spread over as many processes as
            there are for a copy. The number of machines keeps what layers send within one machine (HSDP); 1 spreads
            the weights over all processes. Moves no result.
        optim: Name of the optimiser, see `optimizers.OPTIMIZERS`. Those of 8 and 4 bits keep Adam's states in a fourth
            and an eighth of the memory, and need torchao.
        adam_beta1, adam_beta2, adam_epsilon: Of the Adam family; `rmsprop` and `adagrad` take the epsilon.
        weight_decay: On weight matrices; biases and norms are never decayed.
        max_grad_norm: Gradients are scaled down to this norm; 0 switches it off.
        max_length, max_prompt_length: Tokens of prompt and response, and of the prompt; longer examples are dropped.
        prompt_loss_weight: Weight of prompt tokens in the likelihood, for the objective `sft` only.
        reference_schedule: When the reference is renewed from the policy: never (`fixed`), at the start of each pass
            (`every_epoch`, Iterative SamPO, arXiv 2406.10957), or `every_steps` (TR-DPO, arXiv 2404.09656). Held-out
            margins stay measured against the reference that the training began with.
        reference_sync_steps: Optimiser steps between renewals, for `every_steps` (TRL: `ref_model_sync_steps`).
        reference_mixup_alpha: The policy's share in a renewed reference, for `every_steps`; 1 replaces it, below 1
            (TR-DPO: 0.6) a second set of weights is kept (TRL: `ref_model_mixup_alpha`).
        bf16: Compute in bfloat16 by autocast; weights and optimiser stay in the model's dtype. Half the memory for
            weights and gradients is `dtype: bfloat16` of the model, which the optimiser still steps in float32.
        gradient_checkpointing: Recompute layers in the backward pass: less memory, a third more time.
        gradient_checkpointing_share: Share of the layers that are recomputed; 0.25 costs a quarter of the time, and
            keeps three quarters of the memory.
        logging_steps: Optimiser steps a record of `metrics.jsonl` covers.
        save_steps: Optimiser steps between checkpoints; 0 saves only when asked to stop.
        report_to: Trackers that get every record too.
        use_peft: Train LoRA adapters instead of all weights: fresh ones, or where the policy is an adapter's folder,
            this one. The reference is read from the policy's own weights where it is what these are without adapters.
        merge_adapters: Merge trained adapters into the saved policy, which is then a model as any other; false saves
            the adapters alone, a folder for peft that names its base model.
        lora_r, lora_alpha, lora_dropout, lora_target_modules: As in peft; without modules, every linear layer.
    """

    learning_rate: float = 5e-7
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: Mapping[str, float | str] = field(default_factory=dict)
    warmup_ratio: float = 0.1
    num_train_epochs: float = 1.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_tokens_per_micro_batch: int = 0
    dp_replicate_size: int = 1
    optim: str = "adamw_torch_fused"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 2048
    max_prompt_length: int = 1024
    prompt_loss_weight: float = 0.0
    reference_schedule: str = "fixed"
    reference_sync_steps: int = 0
    reference_mixup_alpha: float = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    gradient_checkpointing_share: float = 1.0
    logging_steps: int = 10
    save_steps: int = 500
    report_to: tuple[str, ...] = ()
    use_peft: bool = False
    merge_adapters: bool = True
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values out of range, all at once.

        Raises:
            ValueError: With every fault; the door turns it into a `SettingsError`.
        """
        faults = [*_range_faults(self), *_name_faults(self), *_conflicts(self), *_reference_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def examples_per_step(self) -> int:
        """Examples of a full optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def recomputed_share(self) -> float:
        """Share of the layers that are computed again in the backward pass."""
        return self.gradient_checkpointing_share if self.gradient_checkpointing else 0.0


@dataclass(frozen=True)
class ImportanceSettings:
    """TIS-DPO's token weights: scale * exp(+-mu * clamp(log p+ - log p-, low, high)), + in chosen, - in rejected ones.

    Attributes:
        positive: The model that likes good tokens (p+): a folder or a hub id, such as a DPO policy of the same data.
        negative: The model that likes bad ones (p-), such as a DPO policy of the same data with sides exchanged.
        scale: Weight of a token on which the two agree; the paper's k.
        mu: Weight of their log-ratio in the exponent.
        low, high: Bounds of the log-ratio, in nats; the paper's L and U.

    Source: Liu et al. 2024, arXiv:2410.04350, section 4. Its code has none of these numbers; those of the paper are
        noted from memory and were not read again.
    """

    positive: str = ""
    negative: str = ""
    scale: float = 1.0
    mu: float = 1.0
    low: float = -0.5
    high: float = 1.5

    def __post_init__(self) -> None:
        """Refuse half of a pair of models, and values out of range.

        Raises:
            ValueError: With every fault; the door turns it into a `SettingsError`.
        """
        faults = []
        for name in ("scale", "mu"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                faults.append(f"{name}: must be above 0, is {value}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            faults.append(f"low: must be below high ({self.high}), is {self.low}")
        if bool(self.positive) != bool(self.negative):
            faults.append("positive, negative: name both models, or none")
        if faults:
            raise ValueError("; ".join(faults))


def _range_faults(settings: TrainingSettings) -> list[str]:
    faults = []
    for name in ("learning_rate", "num_train_epochs", "adam_epsilon"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            faults.append(f"{name}: must be above 0, is {value}")
    for name in ("weight_decay", "max_grad_norm"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            faults.append(f"{name}: must be at least 0, is {value}")
    for name in ("adam_beta1", "adam_beta2", "warmup_ratio", "lora_dropout"):
        value = getattr(settings, name)
        if not 0 <= value < 1:
            faults.append(f"{name}: must be in [0, 1), is {value}")
    at_least_one = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "max_prompt_length")
    for name in (*at_least_one, "dp_replicate_size", "logging_steps", "lora_r", "lora_alpha"):
        if getattr(settings, name) < 1:
            faults.append(f"{name}: must be at least 1, is {getattr(settings, name)}")
    if not 0 < settings.gradient_checkpointing_share <= 1:
        faults.append(f"gradient_checkpointing_share: must be in (0, 1], is {settings.gradient_checkpointing_share}")
    if not 0 <= settings.prompt_loss_weight <= 1:
        faults.append(f"prompt_loss_weight: must be in [0, 1], is {settings.prompt_loss_weight}")
    for name in ("save_steps", "max_tokens_per_micro_batch"):
        if getattr(settings, name) < 0:
            faults.append(f"{name}: must be at least 0, is {getattr(settings, name)}")
    if settings.max_steps < 1 and settings.max_steps != -1:
        faults.append(f"max_steps: must be at least 1, or -1 to go by num_train_epochs, is {settings.max_steps}")
    return faults


def _name_faults(settings: TrainingSettings) -> list[str]:
    asked = [
        ("optim", settings.optim, OPTIMIZER_NAMES),
        ("lr_scheduler_type", settings.lr_scheduler_type, SCHEDULE_NAMES),
        ("reference_schedule", settings.reference_schedule, REFERENCE_SCHEDULE_NAMES),
        *(("report_to", name, TRACKER_NAMES) for name in settings.report_to),
    ]
    return [
        f"{key}: unknown name `{name}`, {nearest_hint(name, known)}" for key, name, known in asked if name not in known
    ]


def _conflicts(settings: TrainingSettings) -> list[str]:
    faults = []
    if settings.max_prompt_length >= settings.max_length:
        faults.append(
            f"max_prompt_length: must be below max_length ({settings.max_length}), is {settings.max_prompt_length}"
        )
    if settings.warmup_ratio and settings.lr_scheduler_type == "constant":
        faults.append("warmup_ratio: `constant` has no warm-up; set it to 0, or take `constant_with_warmup`")
    if settings.lr_scheduler_kwargs and settings.lr_scheduler_type in ("constant", "constant_with_warmup"):
        faults.append(f"lr_scheduler_kwargs: `{settings.lr_scheduler_type}` takes none")
    if settings.gradient_checkpointing_share != 1 and not settings.gradient_checkpointing:
        faults.append("gradient_checkpointing_share: without effect unless `gradient_checkpointing: true`")
    if settings.lora_dropout and settings.reference_schedule != "fixed":
        faults.append(
            "lora_dropout: a renewed reference is the policy read once without dropout: what is dropped later would "
            "look like learning; set it to 0, or `reference_schedule: fixed`"
        )
    lora = ("merge_adapters", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
    defaults = {name: TrainingSettings.__dataclass_fields__[name].default for name in lora}
    changed = [name for name in lora if getattr(settings, name) != defaults[name]]
    if changed and not settings.use_peft:
        faults.append(f"{', '.join(changed)}: without effect unless `use_peft: true`")
    return faults


def _reference_faults(settings: TrainingSettings) -> list[str]:
    faults = []
    is_stepwise = settings.reference_schedule == "every_steps"
    if is_stepwise and settings.reference_sync_steps < 1:
        faults.append(f"reference_sync_steps: must be at least 1, is {settings.reference_sync_steps}")
    if not 0 < settings.reference_mixup_alpha <= 1:
        faults.append(f"reference_mixup_alpha: must be in (0, 1], is {settings.reference_mixup_alpha}")
    changed = {"reference_sync_steps": settings.reference_sync_steps != 0}
    changed["reference_mixup_alpha"] = settings.reference_mixup_alpha != 1
    without_effect = [name for name, is_changed in changed.items() if is_changed and not is_stepwise]
    if without_effect:
        faults.append(f"{', '.join(without_effect)}: without effect unless `reference_schedule: every_steps`")
    if settings.reference_mixup_alpha != 1 and settings.use_peft:
        faults.append("reference_mixup_alpha: adapters can't be mixed; set it to 1, or `use_peft: false`")
    if settings.reference_schedule == "every_epoch" and settings.max_steps == -1 and settings.num_train_epochs <= 1:
        faults.append("reference_schedule: `every_epoch` is without effect in a single pass; raise num_train_epochs")
    return faults
