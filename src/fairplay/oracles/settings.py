"""Which oracle is asked, and how.

Left out: the oracles (`table.py` names them). Floor 4; imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from fairplay.errors import SettingsError
from fairplay.lookup import lookup

KINDS: Mapping[str, str] = {
    "pair_model": "a learned model that reads prompt and both responses; `model` is its folder",
    "reward_model": "a sequence classifier with one logit for a response; `model` is its folder or hub id",
    "rule": "a function (Prompt, text) -> float; `function` is `package.module:name`",
}

DTYPES = ("float32", "bfloat16", "float16")
MIN_LENGTH = 16

_NEEDS: Mapping[str, str] = {"pair_model": "model", "reward_model": "model", "rule": "function"}


@dataclass(frozen=True, slots=True)
class OracleSettings:
    """An oracle by kind.

    Attributes:
        kind: A name in `KINDS`.
        model: Folder or hub id, for oracles with weights.
        function: `package.module:name`, for `rule`.
        temperature: Divides the oracle's logits, on top of the temperature that a `pair_model` keeps in its folder; 1
            leaves the oracle as it is. For scores: points of score that make odds of e to 1.
        batch_size: Longest sequences (of `max_length` tokens) in one forward pass; more where they are shorter.
        max_length: Tokens the oracle may read at once; longer input is cut for each sample alone, and flagged.
        dtype: Floating-point type of the weights.
    """

    kind: str
    model: str = ""
    function: str = ""
    temperature: float = 1.0
    batch_size: int = 64
    max_length: int = 1024
    dtype: str = "float32"

    def __post_init__(self) -> None:
        lookup(KINDS, self.kind, "oracle")
        needed = _NEEDS[self.kind]
        for name in ("model", "function"):
            given = bool(getattr(self, name))
            if given and name != needed:
                raise SettingsError(f"oracle.{name}: `{self.kind}` takes no {name}", hint=f"it needs `{needed}`")
            if not given and name == needed:
                raise SettingsError(f"oracle.{name}: `{self.kind}` needs one", hint=KINDS[self.kind])
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise SettingsError(f"oracle.temperature: {self.temperature} is not a positive number")
        if self.batch_size < 1:
            raise SettingsError(f"oracle.batch_size: {self.batch_size} is less than 1")
        if self.max_length < MIN_LENGTH:
            raise SettingsError(f"oracle.max_length: {self.max_length} is less than {MIN_LENGTH}")
        if self.dtype not in DTYPES:
            raise SettingsError(f"oracle.dtype: unknown dtype `{self.dtype}`", hint=f"known: {', '.join(DTYPES)}")
