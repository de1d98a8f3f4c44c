"""Asking a pair model about whole groups; equal texts have a logit of 0 and cost nothing.

Left out: the model itself (`pair_model.py`) and the queue of pairs (`pair_queue.py`). Floor 4.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch

from fairplay.models.loading import configure_threads
from fairplay.oracles.batching import token_budget
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.pair_model import PairModel
from fairplay.oracles.pair_queue import judge_pairs
from fairplay.records import PreferenceGroup, ResponseGroup


class PairModelOracle:
    """A learned pair model as an oracle.

    Args:
        model: The model, on its device.
        name: Kind and identity.
        temperature: The model's fitted temperature, times the one set by the user.
        max_length: Tokens of a row; the model's own limit holds too.
        max_tokens: Tokens of one forward pass, padding included.
        orders: In which orders a pair is read, a name in `kinds.base.ORDERS`.
        num_anchors: Responses of a prompt with which all others are compared; 0 compares all pairs.
    """

    def __init__(
        self,
        model: PairModel,
        *,
        name: str,
        temperature: float,
        max_length: int,
        max_tokens: int,
        orders: str = "both",
        num_anchors: int = 0,
    ) -> None:
        self.model, self.name, self.temperature = model.eval(), name, temperature
        self.max_tokens, self.orders, self.num_anchors = max_tokens, orders, num_anchors
        self.encoder = model.encoder(max_length)

    @classmethod
    def load(cls, settings: PairModelSettings) -> Self:
        """The oracle in the folder that the settings name.

        Raises:
            SettingsError: If there is no such folder.
            DataError: If the folder holds no pair model.
        """
        folder = Path(settings.model)
        model = PairModel.load(folder, dtype=settings.dtype)
        configure_threads(sum(parameter.numel() for parameter in model.parameters()))
        return cls(
            model,
            name=settings.full_name(),
            temperature=model.facts.temperature * settings.temperature,
            max_length=settings.max_length,
            max_tokens=token_budget(settings.batch_size, settings.max_length, model.body.device),
            orders=settings.orders,
            num_anchors=settings.num_anchors,
        )

    @torch.inference_mode()
    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge the ordered pairs of each group; see `PreferenceOracle`."""
        return judge_pairs(
            groups,
            self.encoder,
            self.model,
            max_tokens=self.max_tokens,
            orders=self.orders,
            num_anchors=self.num_anchors,
        )
