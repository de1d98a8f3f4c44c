"""The settings of `llm_judge`: a chat model that is asked about every pair.

Left out: the oracle (`oracles/llm_judge.py`), the protocols of `fairplay judge`. Floor 4; no torch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.judge_settings import JudgeSettings, build_judge
from fairplay.oracles.judge_template import template_path
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.source import Source
from fairplay.servers.settings import PATIENCE, ServerSettings


@dataclass(frozen=True)
class LlmJudgeSettings(KindSettings):
    """A chat model on an OpenAI-compatible server.

    Attributes:
        server: Where it is asked, and at what cost at most; commands with a folder of their own keep its replies
            there unless `cache` names a file.
        template, log_probs, min_mass, max_tokens, seed: See `JudgeSettings`.
    """

    about: ClassVar[str] = (
        "a chat model on an OpenAI-compatible server; `server.model` is its name there, `server.base_url` its address"
    )

    kind: Literal["llm_judge"] = "llm_judge"
    server: ServerSettings = field(kw_only=True)
    template: str = "pair"
    log_probs: bool = True
    min_mass: float = 0.5
    max_tokens: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs("template")
        self.as_judge_settings()

    def as_judge_settings(self) -> JudgeSettings:
        """What `fairplay judge` calls the same."""
        return JudgeSettings(self.server, self.template, self.log_probs, self.min_mass, self.max_tokens, self.seed)

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.llm_judge import LlmJudgeOracle

        return LlmJudgeOracle(build_judge(self.as_judge_settings()), temperature=self.temperature)

    def sources(self) -> Mapping[str, Source]:
        """The template's file: its wording decides, whatever it is called."""
        return {"template": Source(str(template_path(self.template)))}

    def asks_server(self) -> bool:
        return True

    def with_cache(self, path: str) -> Self:
        return replace(self, server=self.as_judge_settings().with_cache(path).server)

    def idle_keys(self) -> Collection[str]:
        """Patience and cost; and the address, where `server.identity` says what is asked."""
        address = ("server.base_url",) if self.server.identity else ()
        return {*(f"server.{key}" for key in PATIENCE), *address}
