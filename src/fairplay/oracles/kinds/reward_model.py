"""The settings of `reward_model`: a sequence classifier that scores each response alone.

Left out: the model (`oracles/reward_model.py`). Floor 4; no torch.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import WeightsSettings, check_max_length


@dataclass(frozen=True)
class RewardModelSettings(WeightsSettings):
    """A reward model.

    Attributes:
        max_length: Tokens of prompt and response; longer input is cut for each sample alone, and flagged.
    """

    about: ClassVar[str] = "a sequence classifier with one logit for a response; `model` is its folder or hub id"

    kind: Literal["reward_model"] = "reward_model"
    max_length: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_length(self.max_length)

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.reward_model import RewardModelOracle

        return RewardModelOracle.load(self)
