"""The settings of `pair_ranker`: PairRM, and models of its making.

Left out: the model (`oracles/pair_ranker.py`) and its folder (`oracles/ranker_folder.py`). Floor 4; no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import PairSettings
from fairplay.oracles.source import Source, hub_file

SIDES = ("right", "left")
MIN_PART_LENGTH = 4


@dataclass(frozen=True)
class PairRankerSettings(PairSettings):
    """A pair ranker.

    Attributes:
        prompt_max_length, response_max_length: Tokens that it reads of the prompt, and of each response where the
            prompt takes all of its room (what it leaves is shared by the two responses). 0 takes those that the ranker
            was made with: 1224 and 412 for PairRM; Better-PairRM wants 2030 and 670.
        truncation_side: The side at which it loses what is too long, "right" or "left" (which keeps the end of a long
            prompt); empty takes the one of its tokenizer.
    """

    about: ClassVar[str] = (
        "PairRM, or a model of its making; `model` is its folder or hub id, such as llm-blender/PairRM"
    )

    kind: Literal["pair_ranker"] = "pair_ranker"
    prompt_max_length: int = 0
    response_max_length: int = 0
    truncation_side: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompt_max_length", "response_max_length"):
            if getattr(self, name) != 0 and getattr(self, name) < MIN_PART_LENGTH:
                raise SettingsError(
                    f"{name}: {getattr(self, name)} is less than {MIN_PART_LENGTH}",
                    hint="three of its tokens are marks; 0 takes the ranker's own length",
                )
        if self.truncation_side and self.truncation_side not in SIDES:
            raise SettingsError(f"truncation_side: unknown side `{self.truncation_side}`", hint="right or left")

    def build(self) -> PreferenceOracle:
        from fairplay.oracles.pair_ranker import load_pair_ranker

        return load_pair_ranker(self)

    def sources(self) -> Mapping[str, Source]:
        """The ranker, and the backbone's config and tokenizer where LLM-Blender's layout keeps them elsewhere."""
        source = self.source
        config = Path(self.model).expanduser() / "config.json" if source.is_local else hub_file(source, "config.json")
        document = read_document(config)
        if document.get("ranker_type") != "pairranker":
            return {"model": source}
        return {"model": source, "backbone": Source(backbone_of(config.parent, document))}


def backbone_of(folder: Path, document: Mapping[str, Any]) -> str:
    """Where the backbone's config and tokenizer are: relative to the ranker, to the current folder, or a hub id.

    Args:
        folder: The ranker's, in LLM-Blender's layout.
        document: Its config.json.

    Raises:
        DataError: If it is on no DeBERTa.
    """
    kind, name = document.get("model_type"), document.get("model_name")
    if not isinstance(kind, str) or not kind.startswith("deberta") or not isinstance(name, str) or not name:
        raise DataError(
            f"{folder}: a pair ranker on `{kind}`, of the model `{name}`, is not known here",
            hint="rankers on DeBERTa are: `model_type` is deberta and `model_name` names the backbone",
        )
    return str(folder / name) if (folder / name).is_dir() else name


def read_document(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: If there is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: holds no JSON object")
    return document
