"""The settings of `rule`: a function of one's own that scores a text.

Left out: the oracle (`oracles/rule.py`). Floor 4; no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.rule import RuleOracle, function_source, load_function
from fairplay.oracles.source import Source


@dataclass(frozen=True)
class RuleSettings(KindSettings):
    """A function.

    Attributes:
        function: `package.module:name`, a callable (Prompt, text) -> float; of the prompt it can read `id` and
            `messages`.
    """

    about: ClassVar[str] = "a function (Prompt, text) -> float; `function` is `package.module:name`"

    kind: Literal["rule"] = "rule"
    function: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs("function")

    def scores(self) -> bool:
        return True

    def build(self) -> PreferenceOracle:
        return RuleOracle(load_function(self.function), identity=self.function, temperature=self.temperature)

    def sources(self) -> Mapping[str, Source]:
        return {"code": Source(function_source(self.function))}
