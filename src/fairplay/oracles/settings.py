"""Which oracle is asked, and how: every kind has settings of its own, told apart by `kind`.

Left out: what the kinds' settings mean (`kinds/`, a file each) and the oracles. Floor 4; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings, told_under
from fairplay.oracles.kinds.general_preference import GeneralPreferenceSettings
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.oracles.kinds.pair_lm import PairLmSettings
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.kinds.verifier import VerifierSettings
from fairplay.oracles.source import Source

SingleSettings = (
    PairModelSettings
    | PairRankerSettings
    | PairLmSettings
    | GeneralPreferenceSettings
    | RewardModelSettings
    | RuleSettings
    | LlmJudgeSettings
    | VerifierSettings
    | RecordedSettings
)
"""The settings of an oracle that is no ensemble."""

COMBINATIONS: Mapping[str, str] = {
    "logits": "the mean of the members' logits, each divided by its own temperature",
    "probs": "the mean of their win probabilities: one member that is sure weighs less than with `logits`",
}


@dataclass(frozen=True)
class EnsembleSettings(KindSettings):
    """Several oracles as one.

    Attributes:
        members: Two or more, each with its own settings.
        combine: What is taken of their verdicts, a name in `COMBINATIONS`.
    """

    about: ClassVar[str] = "`members`, two or more oracles whose verdicts are averaged"

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[SingleSettings, ...] = ()
    combine: str = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup(COMBINATIONS, self.combine, "combination")
        if len(self.members) < 2:
            raise SettingsError(f"members: an ensemble has two or more, not {len(self.members)}")

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.ensemble import EnsembleOracle

        members = [member.build() for member in self.members]
        return EnsembleOracle(members, combine=self.combine, temperature=self.temperature)

    def sources(self) -> Mapping[str, Source]:
        found: dict[str, Source] = {}
        for place, member in enumerate(self.members):
            with told_under(f"members.{place}", member):
                found |= {f"members.{place}.{name}": source for name, source in member.sources().items()}
        return found

    def identity(self) -> dict[str, Any]:
        own = super().identity()  # asks each member for its sources
        return {**own, "members": [member.identity() for member in self.members]}

    def as_judge(self) -> Self:
        return replace(self, members=tuple(member.as_judge() for member in self.members))

    def economies(self) -> Mapping[str, object]:
        return {
            f"members.{place}.{key}": value
            for place, member in enumerate(self.members)
            for key, value in member.economies().items()
        }

    def num_readings(self, num_responses: int) -> int:
        return sum(member.num_readings(num_responses) for member in self.members)

    def asks_server(self) -> bool:
        return any(member.asks_server() for member in self.members)

    def num_questions(self, num_responses: int) -> int:
        return sum(member.num_questions(num_responses) for member in self.members)

    def with_cache(self, path: str) -> Self:
        return replace(self, members=tuple(member.with_cache(path) for member in self.members))

    def has_weights(self) -> bool:
        return any(member.has_weights() for member in self.members)


OracleSettings = SingleSettings | EnsembleSettings
"""The settings of an oracle; a settings file picks the class by `kind`, and takes that kind's keys only."""

KINDS: Mapping[str, type[KindSettings]] = MappingProxyType({one.kind: one for one in get_args(OracleSettings)})
