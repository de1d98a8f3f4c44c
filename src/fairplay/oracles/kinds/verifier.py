"""The settings of `verifier`: responses are right or wrong, by a reference answer or an expression.

Left out: the checks (`oracles/verifier.py`). Floor 4; no torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.source import Source

CHECKS: Mapping[str, str] = {
    "exact": "the answer has the same words as the reference, in the same case; white space does not count",
    "numeric": "the last number (after the last `####` if there is one) is that of the reference, as in GSM8K",
    "regex": "the expression is found in the response; it is `pattern`, or the prompt's own in `answers`",
}


@dataclass(frozen=True)
class VerifierSettings(KindSettings):
    """A verifier.

    Attributes:
        temperature: Points that make odds of e to 1, a right response having one and a wrong one none: with 0.1, right
            beats wrong with a probability of 0.99995.
        check: A name in `CHECKS`.
        answers: Reference answers: a file (json, jsonl, parquet) with a prompt and its answer a row. A prompt is found
            by its messages; one that is not there is an error.
        prompt_column, answer_column: Where they stand, such as `question` and `answer` in GSM8K.
        pattern: For `regex`, the expression; for the others, where the answer stands in a response: the first group of
            the last match (the whole match where there is no group). No match is a wrong response.
    """

    about: ClassVar[str] = "right or wrong by `check` (exact, numeric, regex) against `answers`, a file of references"

    kind: Literal["verifier"] = "verifier"
    temperature: float = 0.1
    check: str = "exact"
    answers: str = ""
    prompt_column: str = "prompt"
    answer_column: str = "answer"
    pattern: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup(CHECKS, self.check, "check")
        if self.check != "regex":
            self.needs("answers")
        elif bool(self.answers) == bool(self.pattern):
            raise SettingsError("pattern: `regex` needs either `pattern`, for all prompts, or `answers`, one for each")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise SettingsError(f"pattern: no regular expression: {error}") from error

    def scores(self) -> bool:
        return True

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.verifier import build_verifier

        return build_verifier(self)

    def sources(self) -> Mapping[str, Source]:
        return {"answers": Source(self.answers)} if self.answers else {}
