"""The policy made ready to learn: adapters, recomputation, and no dropout but the one that is asked for.

Left out: LoRA itself (`models.adapters`), optimisers (`optimizers.py`). Floor 5.
"""

import math

from torch.nn import Module
from transformers.modeling_layers import GradientCheckpointingLayer

from fairplay.errors import SettingsError
from fairplay.models.adapters import add_adapters, has_adapters
from fairplay.models.loading import Policy
from fairplay.models.quantised import is_quantised
from fairplay.models.settings import AdapterSettings, ModelSettings
from fairplay.training.distributed import check_ranks, current_ranks
from fairplay.training.optimizers import check_optimizer, check_schedule
from fairplay.training.settings import TrainingSettings
from fairplay.training.trackers import check_trackers


def check_settings(settings: TrainingSettings, model_settings: ModelSettings) -> None:
    """Refuse, before any long work, settings that would train wrongly or fail after it.

    Raises:
        SettingsError: If weights in float16 or 4 bits would be trained, the schedule does not take its arguments, or
            something does not go with several processes.
        ResourceError: If the package of an optimiser or a tracker is not installed.
    """
    if model_settings.dtype == "float16" and not settings.use_peft:
        raise SettingsError(
            "dtype: weights in float16 can't be trained: updates of a small learning rate round to nothing, and small "
            "gradients too",
            hint="set `dtype: bfloat16`, whose lower halves are kept beside the weights, or `use_peft: true`",
        )
    if model_settings.load_in_4bit and not settings.use_peft:
        raise _untrainable("loading.load_in_4bit: ")
    check_ranks(settings, current_ranks())
    check_schedule(settings)
    check_optimizer(settings)
    check_trackers(settings.report_to)


def _untrainable(where: str) -> SettingsError:
    return SettingsError(
        f"{where}weights of 4 bits can't be trained: a step would have to move each of them to another of 16 numbers",
        hint="set `training.use_peft: true` to train adapters over them (QLoRA), or load the weights whole",
    )


def adapter_settings(settings: TrainingSettings) -> AdapterSettings | None:
    """The adapters that are trained; None where all weights are."""
    if not settings.use_peft:
        return None
    return AdapterSettings(
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        lora_target_modules=settings.lora_target_modules,
    )


def make_trainable(policy: Policy, settings: TrainingSettings, *, seed: int) -> Policy:
    """The policy with adapters (fresh ones, unless it came with its own), recomputation and gradients as settings say.

    The model stays in evaluation mode, so that nothing is dropped out: the reference and the policy must agree before
    the first step. Only LoRA's own dropout is switched on, where it is asked for.

    Raises:
        SettingsError: If the model came with weights of 4 bits, and all weights are to be trained.
    """
    adapter = adapter_settings(settings)
    if adapter is None and is_quantised(policy.model):
        raise _untrainable(f"{policy.source}: ")
    if adapter is not None and not has_adapters(policy.model):
        policy = add_adapters(policy, adapter, seed=seed)
    model = policy.model
    if settings.lora_dropout:
        for name, module in model.named_modules():
            module.training = module.training or "lora_dropout" in name
    if settings.gradient_checkpointing:
        checkpoint_layers(model, settings.recomputed_share)
    return policy


def checkpoint_layers(model: Module, share: float = 1.0) -> None:
    """Recompute decoder layers in the backward pass; only they are in training mode, not the parts inside.

    Args:
        model: A language model in evaluation mode.
        share: Of the layers, rounded up. They are the first ones: when their turn comes in the backward pass, all that
            the others kept is gone, so that what is recomputed does not add to the peak.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers[: math.ceil(share * len(layers))]:
        layer.training = True
