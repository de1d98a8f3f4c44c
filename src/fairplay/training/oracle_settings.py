"""How a pair model is trained; the defaults are those that work on the embedded world.

Left out: the training (`oracle_training.py`). Floor 5; imports no torch.
"""

from dataclasses import dataclass
from math import isfinite

from fairplay.errors import SettingsError


@dataclass(frozen=True, slots=True)
class PairTrainingSettings:
    """How a pair model learns from labelled pairs.

    Attributes:
        learning_rate: Peak of a linear schedule that ends at 0.
        max_steps: Optimiser steps.
        warmup_steps: Steps of linear rise at the start.
        per_device_train_batch_size: Pairs a step, each in one presentation order drawn anew every epoch.
        weight_decay: AdamW's, on all parameters.
        max_grad_norm: Gradients are clipped to this norm.
        max_length: Longest row in tokens (prompt and both responses); longer input is cut, for each pair alone.
        held_out_share: Share of the prompts kept for accuracy and temperature, in (0, 1); at least one prompt.
    """

    learning_rate: float = 1e-3
    max_steps: int = 700
    warmup_steps: int = 20
    per_device_train_batch_size: int = 16
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_length: int = 1024
    held_out_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("max_steps", "per_device_train_batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise SettingsError(f"pair training: {name}: {getattr(self, name)} is less than 1")
        for name in ("learning_rate", "max_grad_norm"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise SettingsError(f"pair training: {name}: {getattr(self, name)} is not a positive number")
        for name in ("warmup_steps", "weight_decay"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise SettingsError(f"pair training: {name}: {getattr(self, name)} is less than 0")
        if not 0 < self.held_out_share < 1:
            raise SettingsError(f"pair training: held_out_share: {self.held_out_share} is not between 0 and 1")
