"""What lies in a pair ranker's folder: LLM-Blender's own layout, and that of its `DebertaV2PairRM`.

    LLM-Blender's     config.json (`ranker_type: pairranker`; `model_name`: where backbone config and tokenizer are)
    DebertaV2PairRM   config.json (of the backbone, with the ids of the marks), the tokenizer
    both              model.safetensors, else pytorch_model.bin; `pair_ranker.json` if there is a fitted `temperature`

Weights in pickles are read as tensors only; no code in them runs. Left out: the model (`pair_ranker.py`). Floor 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from fairplay.errors import DataError
from fairplay.hub import meet_hub, told_by_hub
from fairplay.models.loading import check_source, load_tokenizer
from fairplay.oracles.kinds.pair_ranker import backbone_of, read_document
from fairplay.oracles.ranker_encoding import PREFIXES

SAFE_WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.pt")
FACTS_FILE = "pair_ranker.json"
PUBLISHED_LENGTHS = (1224, 412)
"""Tokens of prompt and response in llm-blender/PairRM, and the defaults of LLM-Blender's `tokenize_pair`."""

_ID_NAMES = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")


@dataclass(frozen=True)
class RankerFolder:
    """A pair ranker as it was found.

    Attributes:
        config: The backbone's config; its vocabulary has the size of the weights' embeddings.
        tokenizer: With the four marks added.
        weights: By LLM-Blender's names: `pretrained_model.*` of the backbone, `head_layer.*` of the head.
        prompt_max_length, response_max_length: The lengths that it was made with, in tokens.
        num_tasks: Outputs of the head; the logit is their mean.
        temperature: The fitted temperature that is kept with it; 1 where there is none.
    """

    config: Any
    tokenizer: Any
    weights: dict[str, Tensor]
    prompt_max_length: int
    response_max_length: int
    num_tasks: int
    temperature: float


def read_ranker(source: str, *, revision: str = "") -> RankerFolder:
    """The pair ranker of a folder, or of a hub id at a revision (empty: its main branch).

    Raises:
        DataError: If it is no pair ranker, or a part of it can't be used.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
    """
    check_source(source, policy=False)
    folder = _local(source, revision)
    document = read_document(folder / "config.json")
    if document.get("ranker_type") == "pairranker":
        base = backbone_of(folder, document)
    elif "DebertaV2PairRM" in document.get("architectures", ()):
        base = str(folder)
    else:
        raise DataError(
            f"{source}: its config.json is of no pair ranker",
            hint="it has `ranker_type: pairranker`, or DebertaV2PairRM among its `architectures`",
        )
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(list(PREFIXES))
    weights = _weights(folder)
    config = _backbone_config(source, base, weights)
    _check_marks(source, tokenizer, document, config.vocab_size)
    prompt_max_length, response_max_length = (
        int(document.get(name) or published)
        for name, published in zip(("source_maxlength", "candidate_maxlength"), PUBLISHED_LENGTHS, strict=True)
    )
    return RankerFolder(
        config=config,
        tokenizer=tokenizer,
        weights=weights,
        prompt_max_length=prompt_max_length,
        response_max_length=response_max_length,
        num_tasks=int(document.get("n_tasks", 1)),
        temperature=_temperature(folder / FACTS_FILE),
    )


def _local(source: str, revision: str) -> Path:
    """The folder itself, or the hub's files in the cache; pickled weights only where there are no others."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    meet_hub()
    try:
        folder = Path(
            snapshot_download(source, revision=revision or None, allow_patterns=["*.json", "*.model", SAFE_WEIGHTS])
        )
        if not (folder / SAFE_WEIGHTS).is_file():
            folder = Path(
                snapshot_download(
                    source, revision=revision or None, allow_patterns=["*.json", "*.model", *PICKLED_WEIGHTS]
                )
            )
    except (HfHubHTTPError, OSError, ValueError) as error:
        told = told_by_hub(source, error)
        raise told or DataError(f"{source}: no pair ranker could be fetched: {_first_line(error)}") from error
    return folder


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / SAFE_WEIGHTS).is_file():
            weights = load_file(folder / SAFE_WEIGHTS)
        else:
            pickled = next((folder / name for name in PICKLED_WEIGHTS if (folder / name).is_file()), None)
            if pickled is None:
                raise DataError(
                    f"{folder}: no weights", hint=f"they lie in {', '.join((SAFE_WEIGHTS, *PICKLED_WEIGHTS))}"
                )
            weights = torch.load(pickled, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, UnpicklingError) as error:
        raise DataError(f"{folder}: the weights can't be read: {_first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{folder}: the weights are no table of tensors by name")
    return {name: value for name, value in weights.items() if not name.endswith("embeddings.position_ids")}


def _backbone_config(source: str, base: str, weights: Mapping[str, Tensor]) -> Any:
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{base}: the backbone's config can't be read: {_first_line(error)}") from error
    embeddings = weights.get("pretrained_model.embeddings.word_embeddings.weight")
    if config.model_type != "deberta-v2" or embeddings is None:
        raise DataError(
            f"{source}: no DeBERTa-v2 or -v3 backbone, but `{config.model_type}`, or one without embeddings"
        )
    config.vocab_size = len(embeddings)  # resized for the marks; the published backbone has spare rows
    return config


def _check_marks(source: str, tokenizer: Any, document: Mapping[str, Any], num_embeddings: int) -> None:
    ids = tokenizer.convert_tokens_to_ids(list(PREFIXES))
    said = [document.get(name, number) for name, number in zip(_ID_NAMES, ids, strict=True)]
    if said != ids or max(ids) >= num_embeddings:
        raise DataError(
            f"{source}: the tokenizer has the marks at {ids}, the ranker at {said} of {num_embeddings} embeddings",
            hint="is it the tokenizer that the ranker was made with?",
        )


def _temperature(path: Path) -> float:
    if not path.is_file():
        return 1.0
    value = read_document(path).get("temperature")
    if not isinstance(value, int | float) or isinstance(value, bool) or not (isfinite(value) and value > 0):
        raise DataError(f"{path}: the temperature must be a positive number, not {value!r}")
    return float(value)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
