"""The settings of `reward_model`: a sequence classifier that scores each response alone.

Left out: the model (`oracles/reward_model.py`). Floor 4; no torch.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

from fairplay.errors import SettingsError
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import WeightsSettings, check_max_length


@dataclass(frozen=True)
class RewardModelSettings(WeightsSettings):
    """A reward model.

    Attributes:
        max_length: Tokens of prompt and response; longer input is cut for each sample alone, and flagged.
        label_weights: For a classifier with several labels (objectives): what each counts in the score, in the order
            of the labels; empty takes those of the folder's `oracle.json`. One label needs none.
    """

    about: ClassVar[str] = "a sequence classifier that scores a response; `model` is its folder or hub id"

    kind: Literal["reward_model"] = "reward_model"
    max_length: int = 1024
    label_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_length(self.max_length)
        if not all(map(isfinite, self.label_weights)):
            raise SettingsError(f"label_weights: {self.label_weights} are not all finite numbers")

    def scores(self) -> bool:
        return True

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.reward_model import RewardModelOracle

        return RewardModelOracle.load(self)
