"""The settings of `recorded`: preferences that somebody gave before, read from a file.

Left out: the file's forms (`oracles/recorded.py`). Floor 4; no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.source import Source

MISSING: Mapping[str, str] = {
    "refuse": "a pair without a record is an error that names it",
    "drop": "a prompt with such a pair is left out, and counted",
}


@dataclass(frozen=True)
class RecordedSettings(KindSettings):
    """Recorded preferences.

    Attributes:
        records: The file (json, jsonl, parquet), in one of the forms that `oracles/recorded.py` lists.
        prompt_column: Where a row has its prompt.
        missing: What becomes of a pair that nobody judged, a name in `MISSING`; it is never a tie.
        max_prob: Probabilities are held within 1 - max_prob and max_prob, in (1/2, 1): a label is a probability of 1,
            whose logit has no end.
    """

    about: ClassVar[str] = "`records`, a file of pair logits, win probabilities, labels or scores that somebody gave"

    kind: Literal["recorded"] = "recorded"
    records: str = ""
    prompt_column: str = "prompt"
    missing: str = "refuse"
    max_prob: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs("records")
        lookup(MISSING, self.missing, "choice for what is missing")
        if not 0.5 < self.max_prob < 1:
            raise SettingsError(f"max_prob: {self.max_prob} is not between 1/2 and 1")

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.recorded import RecordedOracle

        return RecordedOracle.load(self)

    def sources(self) -> Mapping[str, Source]:
        return {"records": Source(self.records)}
