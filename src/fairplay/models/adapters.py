"""LoRA adapters through peft: added for training, switched off for the reference, merged or kept when loaded.

Left out: which layers learn what (`training/`). peft is an extra; without it every function here names the command
that installs it. Floor 3.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.pytorch_utils import Conv1D

from fairplay.errors import ResourceError, SettingsError
from fairplay.models.modes import evaluating
from fairplay.models.quantised import is_quantised
from fairplay.models.settings import AdapterSettings
from fairplay.seeds import stable_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fairplay.models.loading import Policy


def add_adapters(policy: "Policy", settings: AdapterSettings, *, seed: int = 0) -> "Policy":
    """The policy with fresh LoRA adapters, the only weights that learn; at first they change nothing.

    Args:
        policy: A policy without adapters; its model is wrapped in place.
        settings: Rank, scale, dropout and the modules that get one.
        seed: Seed of the adapters' first weights.

    Raises:
        ResourceError: If peft is not installed.
        SettingsError: If no module has one of the names.
    """
    peft = _peft()
    targets = list(settings.lora_target_modules) or "all-linear"
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in policy.model.modules()),  # GPT-2's layers
    )
    with torch.random.fork_rng():
        torch.manual_seed(stable_seed(seed, "adapters"))
        try:
            model: Any = peft.get_peft_model(policy.model, config)
        except ValueError as error:
            raise SettingsError(
                f"lora_target_modules: {str(error).splitlines()[0]}", hint="leave it empty for every linear layer"
            ) from error
    model.eval()
    return replace(policy, model=model)


def has_adapters(model: "PreTrainedModel") -> bool:
    """Whether the model was wrapped by `add_adapters`."""
    return hasattr(model, "disable_adapter")


@contextmanager
def scoring_mode(model: Any) -> Iterator[None]:
    """Dropout off and no gradients while the block runs; the model's mode comes back afterwards."""
    with evaluating(model), torch.no_grad():
        yield


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The model computes as it would without its adapters while the block runs; a model without any as ever.

    peft's own switch would also stop them from learning, in the middle of a pass that learns.
    """
    layers = [module for module in model.modules() if getattr(module, "_disable_adapters", True) is False]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def is_adapter_folder(source: str) -> bool:
    """Whether a model's source is a folder with an adapter, to be laid over its base model."""
    return (Path(source).expanduser() / "adapter_config.json").is_file()


def base_of_adapter(folder: str) -> str:
    """The model folder or hub id that an adapter folder is to be laid over.

    Raises:
        ResourceError: If peft is not installed.
    """
    return str(_peft().PeftConfig.from_pretrained(folder).base_model_name_or_path)


def merge_adapter(base: "PreTrainedModel", folder: str) -> "PreTrainedModel":
    """The base model with the adapter of a folder: merged into its weights, or laid over those of 4 bits.

    Raises:
        ResourceError: If peft is not installed.
    """
    laid_over: Any = _peft().PeftModel.from_pretrained(base, folder).eval()
    model: PreTrainedModel = laid_over if is_quantised(base) else laid_over.merge_and_unload()
    return model


def kept_adapter(base: "PreTrainedModel", folder: str, settings: AdapterSettings) -> "PreTrainedModel":
    """The base model with the adapter of a folder over it, which goes on learning.

    Args:
        base: The base model.
        folder: The adapter's folder.
        settings: What it must be like; its dropout may be another one than before.

    Raises:
        ResourceError: If peft is not installed.
        SettingsError: If it has another rank, scale or other modules, or is no LoRA adapter.
    """
    peft = _peft()
    config = peft.PeftConfig.from_pretrained(folder)
    found = {"lora_r": getattr(config, "r", None), "lora_alpha": getattr(config, "lora_alpha", None)}
    if settings.lora_target_modules:
        found["lora_target_modules"] = tuple(sorted(getattr(config, "target_modules", None) or ()))
    wanted = {**asdict(settings), "lora_target_modules": tuple(sorted(settings.lora_target_modules))}
    other = [f"{name} {value}, not {wanted[name]}" for name, value in found.items() if value != wanted[name]]
    if other:
        raise SettingsError(
            f"{folder}: the adapter that would go on learning has {', '.join(other)}",
            hint="set these to the adapter's own values, or merge it into its base model first",
        )
    config.lora_dropout, config.inference_mode = settings.lora_dropout, False
    model: PreTrainedModel = peft.PeftModel.from_pretrained(base, folder, config=config, is_trainable=True).eval()
    return model


def _peft() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it tells of kernels it would like
    try:
        import peft
    except ImportError as error:
        raise ResourceError("LoRA adapters need the package peft", hint="pip install 'fairplay[peft]'") from error
    return peft
