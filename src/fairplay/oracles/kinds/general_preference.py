"""The settings of `general_preference`: a model that embeds each response alone, and may prefer in circles.

Left out: the model (`oracles/general_preference.py`). Floor 4; no torch.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import WeightsSettings, check_max_length


@dataclass(frozen=True)
class GeneralPreferenceSettings(WeightsSettings):
    """A general preference model (GPM).

    Attributes:
        max_length: Tokens of prompt and response; longer input is cut for each sample alone, and flagged.
    """

    about: ClassVar[str] = (
        "embeddings of the responses, compared by a skew-symmetric product; `model` is its folder or hub id, such as "
        "general-preference/GPM-Llama-3.1-8B"
    )

    kind: Literal["general_preference"] = "general_preference"
    max_length: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_length(self.max_length)

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.general_preference import GeneralPreferenceOracle

        return GeneralPreferenceOracle.load(self)
