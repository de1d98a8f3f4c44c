"""Which chat model judges, and how its replies are read.

Left out: the oracle of this making (`llm_judge.py`), a protocol's own rules (`evaluation/protocols`).
Floor 4; imports no torch.
"""

from dataclasses import dataclass, replace

from fairplay.errors import SettingsError
from fairplay.oracles.judge_template import load_template
from fairplay.oracles.pair_judge import PairJudge, Read
from fairplay.servers.client import ChatClient
from fairplay.servers.settings import ServerSettings

REPLIES_NAME = "replies.sqlite"
"""The cache of replies in the folder of a command, unless the settings name another file."""


_WORDS = "judge.log_probs=false (in a run oracle.log_probs, evaluation.judge.log_probs) has its words read instead"
_ITS_OWN = "this protocol reads log-probs: play another one with judge.log_probs=false, or ask another server"


@dataclass(frozen=True)
class JudgeSettings:
    """A chat model as a judge.

    Attributes:
        server: Where it is asked, and at what cost at most.
        template: A built-in template by name, or a YAML file of one's own; empty takes the protocol's, or `pair`.
        log_probs: Whether verdicts are weighed by their log-probs where the template allows it; a server that tells
            none ends the command after its first replies, and without it words are read.
        min_mass: Probability that the labels must have together for that; else words are read.
        max_tokens: Tokens of a reply; 0 takes the template's. Models that reason before they reply need more.
        seed: Of the codes in the marks around what is judged.
    """

    server: ServerSettings
    template: str = ""
    log_probs: bool = True
    min_mass: float = 0.5
    max_tokens: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_mass <= 1:
            raise SettingsError(f"min_mass: {self.min_mass} is not a probability")
        if self.max_tokens < 0:
            raise SettingsError(f"max_tokens: {self.max_tokens} is less than 0")

    def with_cache(self, path: str) -> "JudgeSettings":
        """The same judge, keeping replies in this file unless the settings name another."""
        return self if self.server.cache else replace(self, server=replace(self.server, cache=path))

    def without_key(self) -> "JudgeSettings":
        """The same judge for counting what would be sent: nothing is, so that no key is needed."""
        return replace(self, server=replace(self.server, api_key_env=""))


def build_judge(settings: JudgeSettings, *, template: str = "pair", read: Read | None = None) -> PairJudge:
    """The judge that the settings name; close its client when done.

    Args:
        settings: The judge.
        template: The template where the settings name none.
        read: How replies are read, where not as the template says.

    Raises:
        SettingsError: If the template is not there or not usable, or the key's variable is not set.
    """
    asked = load_template(settings.template or template)
    if settings.max_tokens:
        asked = replace(asked, max_tokens=settings.max_tokens)
    return PairJudge(
        ChatClient(settings.server, log_probs_hint=_ITS_OWN if read else _WORDS),
        asked,
        log_probs=settings.log_probs,
        min_mass=settings.min_mass,
        seed=settings.seed,
        read=read,
    )
