"""How AlpacaEval's numbers are computed from annotations.

Left out: the numbers. Floor 5; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from fairplay.errors import SettingsError
from fairplay.evaluation.settings import MIN_BOOTSTRAP
from fairplay.lookup import lookup

OFFICIAL_JUDGE = "weighted_alpaca_eval_gpt4_turbo"
"""Whose verdicts the official difficulties and gamed rows were fitted to."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the official length-control models.

    Attributes:
        uses_difficulty: Whether it has the instruction term (else psi is 0).
        uses_gamed: Whether the rows of the two gamed baselines pull phi and psi.
    """

    uses_difficulty: bool
    uses_gamed: bool


VARIANTS: Mapping[str, Variant] = {
    "v1": Variant(uses_difficulty=True, uses_gamed=True),
    "noreg": Variant(uses_difficulty=True, uses_gamed=False),
    "minimal": Variant(uses_difficulty=False, uses_gamed=False),
}
"""Names without the official prefix `length_controlled_`."""

LOOK_UPS: Mapping[str, str] = {
    "instruction": "a row's difficulty is that of its instruction",
    "official-rows": "a row's difficulty is that of its row number, as in the official code: shifted after a gap",
}


@dataclass(frozen=True, slots=True)
class AlpacaEvalSettings:
    """What is computed.

    Attributes:
        variant: Name in `VARIANTS`; `v1` is the leaderboard's.
        cost: C, the weight of the data against |coefficients|_1; 0 chooses it by cross-validation.
        look_up: Name in `LOOK_UPS`.
        num_bootstrap: Resamples of the instructions behind each interval, each with a refit at the same C; 0 for none.
        seed: Seed of the resamples.
    """

    variant: str = "v1"
    cost: float = 0.0
    look_up: str = "instruction"
    num_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        lookup(VARIANTS, self.variant, "length control")
        lookup(LOOK_UPS, self.look_up, "look-up of difficulties")
        if not (isfinite(self.cost) and self.cost >= 0):
            raise SettingsError(f"C is {self.cost}; it is a positive number, such as 2.78 or 100")
        if self.num_bootstrap and self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"{self.num_bootstrap} resamples are too few", hint=f"at least {MIN_BOOTSTRAP}, or 0")
