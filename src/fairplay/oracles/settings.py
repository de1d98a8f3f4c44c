"""Which oracle is asked, and how: every kind has settings of its own, told apart by `kind`.

Left out: what the kinds' settings mean (`kinds/`, a file each) and the oracles. Floor 4; imports no torch.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.kinds.general_preference import GeneralPreferenceSettings
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.oracles.kinds.pair_lm import PairLmSettings
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.kinds.verifier import VerifierSettings

OracleSettings = (
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
"""The settings of an oracle; a settings file picks the class by `kind`, and takes that kind's keys only."""

KINDS: Mapping[str, type[KindSettings]] = MappingProxyType({one.kind: one for one in get_args(OracleSettings)})
