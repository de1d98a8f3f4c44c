"""What the settings of all kinds of oracles share, of those with weights, and of those that read pairs.

Left out: the kinds (one file each beside this one) and the table of them (`oracles/settings.py`). Floor 4; no torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar, Self

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.source import Source
from fairplay.storage.faults import placed
from fairplay.storage.settings_file import settings_document, without

ORDERS: Mapping[str, str] = {
    "both": "every pair twice, each response shown first once",
    "one": "every pair once, at half the cost; a hash of what is read says which response is shown first, so that an "
    "order bias averages out over many pairs, but stays in each",
}
DTYPES = ("float32", "bfloat16", "float16")
MIN_LENGTH = 16


@dataclass(frozen=True)
class KindSettings(ABC):
    """What every oracle's settings have.

    Attributes:
        kind: A name in `oracles.settings.KINDS`.
        temperature: Divides the oracle's logits, on top of a temperature that is kept with its weights; 1 leaves the
            oracle as it is. For scores: points of score that make odds of e to 1.
    """

    about: ClassVar[str]
    """What this kind is and what it needs, in a line."""

    kind: str
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise SettingsError(f"temperature: {self.temperature} is not a positive number")

    @abstractmethod
    def build(self) -> PreferenceOracle:
        """The oracle, ready to judge.

        Raises:
            SettingsError: If its folder or function does not exist.
            DataError: If what lies there is not what the kind needs.
        """

    def sources(self) -> Mapping[str, Source]:
        """What decides its verdicts besides these settings, by name; under a setting's key where that is the place."""
        return {}

    def idle_keys(self) -> Collection[str]:
        """Settings that move no verdict, inner ones as `server.timeout`: they may change when a run goes on."""
        return ()

    def identity(self) -> dict[str, Any]:
        """What of these settings decides the verdicts: all but places and idle keys, as plain data."""
        return without(settings_document(self), {*self.sources(), *self.idle_keys()})

    def as_judge(self) -> Self:
        """The same oracle, reading every pair in both orders."""
        return self

    def economies(self) -> Mapping[str, object]:
        """The settings by which it reads less than every pair in both orders: key -> value."""
        return {}

    def num_readings(self, num_responses: int) -> int:
        """Ordered pairs of a prompt on which it gives a verdict of its own."""
        return num_responses * (num_responses - 1)

    def asks_server(self) -> bool:
        """Whether its verdicts come from a server."""
        return False

    def num_questions(self, num_responses: int) -> int:
        """How often it asks a server about a prompt's responses, at most."""
        return self.num_readings(num_responses) if self.asks_server() else 0

    def with_cache(self, path: str) -> Self:
        """The same oracle, keeping what a server replies in this file unless the settings name another."""
        del path
        return self

    def scores(self) -> bool:
        """Whether it scores each response alone: its temperature is then in points of score."""
        return False

    def has_weights(self) -> bool:
        """Whether a model is loaded for it, on a GPU if there is one."""
        return False

    def needs(self, key: str) -> None:
        """Refuse a setting that is empty.

        Raises:
            SettingsError: If it is.
        """
        if not getattr(self, key):
            raise SettingsError(f"{key}: `{self.kind}` needs one", hint=self.about)


@contextmanager
def told_under(place: str, settings: KindSettings) -> Iterator[None]:
    """What is wrong with an oracle's settings, told under the key at which they stand.

    Args:
        place: The key, such as `evaluation.judge` or `members.1`.
        settings: The settings that are at work.
    """
    try:
        yield
    except SettingsError as error:
        raise SettingsError(placed(place, error.message, settings), hint=error.hint) from error


@dataclass(frozen=True)
class WeightsSettings(KindSettings):
    """An oracle with weights.

    Attributes:
        model: Folder or hub id.
        revision: Branch, tag or commit of a hub id; the commit is part of the oracle's name and of what identifies it.
        batch_size: Longest rows in one forward pass; more where they are shorter.
        dtype: Floating-point type of the weights.
    """

    model: str = ""
    revision: str = ""
    batch_size: int = 64
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.needs("model")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size: {self.batch_size} is less than 1")
        if self.dtype not in DTYPES:
            raise SettingsError(f"dtype: unknown dtype `{self.dtype}`", hint=f"known: {', '.join(DTYPES)}")
        super().__post_init__()

    @property
    def source(self) -> Source:
        """Where the weights lie."""
        return Source(self.model, self.revision)

    def sources(self) -> Mapping[str, Source]:
        return {"model": self.source}

    def has_weights(self) -> bool:
        return True

    def full_name(self) -> str:
        """Kind, and what identifies the weights: `kind:folder@content` or `kind:owner/name@commit`."""
        return f"{self.kind}:{self.source.name}@{self.source.short_digest()}"


@dataclass(frozen=True)
class PairSettings(WeightsSettings):
    """An oracle that reads two responses at once.

    Attributes:
        orders: In which orders a pair is shown, a name in `ORDERS`.
        num_anchors: Responses of each prompt, drawn by a hash, with which all others are compared; 0 compares all
            pairs. In both orders m anchors cost m (2 K - m - 1) readings of K responses, and all pairs K (K - 1).
    """

    orders: str = "both"
    num_anchors: int = 0

    def __post_init__(self) -> None:
        lookup(ORDERS, self.orders, "choice of orders")
        if self.num_anchors < 0:
            raise SettingsError(f"num_anchors: {self.num_anchors} is less than 0")
        super().__post_init__()

    def as_judge(self) -> Self:
        return replace(self, orders="both", num_anchors=0)

    def economies(self) -> Mapping[str, object]:
        own = {"orders": self.orders, "num_anchors": self.num_anchors}
        return {key: value for key, value in own.items() if value not in ("both", 0)}

    def num_readings(self, num_responses: int) -> int:
        anchors = min(self.num_anchors or num_responses, num_responses)
        pairs = anchors * (2 * num_responses - anchors - 1) // 2
        return pairs * (2 if self.orders == "both" else 1)


def check_max_length(max_length: int) -> None:
    """Refuse a length that has no room for prompt and response.

    Raises:
        SettingsError: If it has none.
    """
    if max_length < MIN_LENGTH:
        raise SettingsError(f"max_length: {max_length} is less than {MIN_LENGTH}")
