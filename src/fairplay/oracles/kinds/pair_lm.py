"""The settings of `pair_lm`: a language model that is asked which of two responses is better.

Left out: the oracle (`oracles/pair_lm.py`) and what it reads (`oracles/lm_encoding.py`). Floor 4; no torch.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import PairSettings, check_max_length


@dataclass(frozen=True)
class PairLmSettings(PairSettings):
    """A pair-preference language model of RLHFlow's making.

    Attributes:
        max_length: Tokens of a whole row. The conversation takes at most half of it and loses its beginning, a response
            at most half of what that leaves and loses its end; what is cut is flagged.
    """

    about: ClassVar[str] = (
        "a language model that says A or B; `model` is its folder or hub id, such as "
        "RLHFlow/pair-preference-model-LLaMA3-8B"
    )

    kind: Literal["pair_lm"] = "pair_lm"
    max_length: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_length(self.max_length)

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.pair_lm import load_pair_lm

        return load_pair_lm(self)
