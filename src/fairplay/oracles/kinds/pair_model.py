"""The settings of `pair_model`: a learned model that reads prompt and both responses.

Left out: the model (`oracles/pair_model.py`) and how it is asked (`oracles/pair_oracle.py`). Floor 4; no torch.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import PairSettings, check_max_length


@dataclass(frozen=True)
class PairModelSettings(PairSettings):
    """A pair model.

    Attributes:
        max_length: Tokens of a whole row; longer texts are cut for each sample alone, and flagged. The length that the
            model was trained to read holds too.
    """

    about: ClassVar[str] = "a learned model that reads prompt and both responses; `model` is its folder"

    kind: Literal["pair_model"] = "pair_model"
    max_length: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_length(self.max_length)

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.pair_model import load_pair_model

        return load_pair_model(self)
