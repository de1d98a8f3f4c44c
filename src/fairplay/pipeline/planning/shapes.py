"""How large models are: from a folder's config.json, or, for public models that recipes name, from a table.

Left out: loading anything. Floor 7; imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

CONFIG_NAME = "config.json"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that decide what a transformer computes and holds.

    Attributes:
        layers: Number of layers.
        hidden: Width of the residual stream.
        intermediate: Width of the feed-forward part, which is gated (three matrices).
        query: Width of all query heads together.
        key_value: Width of all key heads together, which is that of the values.
        vocabulary: Words.
        tied: Whether head and embedding are one matrix.
    """

    layers: int
    hidden: int
    intermediate: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool = False

    @property
    def body(self) -> int:
        """Parameters of the layers' matrices; every one is multiplied once a token."""
        attention = 2 * self.hidden * self.query + 2 * self.hidden * self.key_value
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Parameters of the head, multiplied for tokens that are scored or drawn."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All parameters, norms and biases aside."""
        return self.body + self.head * (1 if self.tied else 2)


_LLAMA_3_8B = ModelShape(32, 4096, 14336, 4096, 1024, 128256)
_LLAMA_3_8B_REWARD = replace(_LLAMA_3_8B, tied=True)
KNOWN: Mapping[str, ModelShape] = {
    "mistralai/Mistral-7B-Instruct-v0.2": ModelShape(32, 4096, 14336, 4096, 1024, 32000),
    "alignment-handbook/zephyr-7b-sft-full": ModelShape(32, 4096, 14336, 4096, 1024, 32000),
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA_3_8B,
    "princeton-nlp/Llama-3-Base-8B-SFT": _LLAMA_3_8B,
    "RLHFlow/LLaMA3-SFT": _LLAMA_3_8B,
    "google/gemma-2-9b-it": ModelShape(42, 3584, 14336, 4096, 2048, 256000, tied=True),
    "allenai/tulu-2-13b": ModelShape(40, 5120, 13824, 5120, 5120, 32000),
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": _LLAMA_3_8B_REWARD,
    "sfairXC/FsfairX-LLaMA3-RM-v0.1": _LLAMA_3_8B_REWARD,
    "llm-blender/PairRM": ModelShape(24, 1024, 2731, 1024, 1024, 128100, tied=True),
}
"""Public models by hub id, from their published configs. A reward model has no head of words, so one such matrix.
PairRM is DeBERTa-v3-large, whose feed-forward part is two matrices 4096 wide: as many parameters as three of 2731."""


def model_shape(source: str) -> ModelShape | None:
    """The shape of a model; None for a hub id that is neither in the table nor in the cache.

    Args:
        source: A folder with a config.json, or a hub id.
    """
    if source in KNOWN:
        return KNOWN[source]
    path = _config_path(source)
    return _of_config(json.loads(path.read_text(encoding="utf-8"))) if path else None


def is_here(source: str) -> bool:
    """Whether a model is on this machine, in a folder or in the hub's cache."""
    return _config_path(source) is not None


def _config_path(source: str) -> Path | None:
    path = Path(source).expanduser() / CONFIG_NAME
    if path.is_file():
        return path
    try:
        cached = try_to_load_from_cache(source, CONFIG_NAME)
    except HFValidationError:  # a path
        return None
    return Path(cached) if isinstance(cached, str) else None


def _of_config(document: Mapping[str, Any]) -> ModelShape | None:
    config = {**document, **document.get("text_config", {})}
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        width = int(config.get("head_dim") or hidden // heads)
        return ModelShape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            query=heads * width,
            key_value=int(config.get("num_key_value_heads") or heads) * width,
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError:
        return None
