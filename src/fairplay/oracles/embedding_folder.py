"""What lies in the folder of a general preference model (GPM), and how it is read.

    config.json, *.safetensors, tokenizer   the backbone in Hugging Face format, a causal language model or its body
    preference_head.safetensors             `value_head.weight` [2k, size], and `prompt_head.weight` [k, size] if how
                                            much each of the k planes counts depends on the prompt
    oracle.json                             `temperature` (published as tau); 0.1 where there is none

Published checkpoints keep the two heads among the backbone's own weights; they are found there too. Left out: what is
done with it (`general_preference.py`). Floor 4.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoModel

from fairplay.errors import DataError
from fairplay.models.loading import keep_caps, load_tokenizer
from fairplay.oracles.facts import read_facts
from fairplay.oracles.source import Source

HEAD_FILE = "preference_head.safetensors"
PUBLISHED_TEMPERATURE = 0.1
_VALUE, _PROMPT = "value_head.weight", "prompt_head.weight"


@dataclass(frozen=True)
class EmbeddingFolder:
    """A general preference model as it was found.

    Attributes:
        body: The backbone without a vocabulary head.
        tokenizer: Its tokenizer, with a chat template.
        value_head: From a state to an embedding, [2k, size], float32.
        prompt_head: From a state to the weights of the k planes before their softmax, [k, size], float32; None where
            every plane counts once.
        temperature: What scores are divided by.
    """

    body: Any
    tokenizer: Any
    value_head: Tensor
    prompt_head: Tensor | None
    temperature: float


def read_embedding_folder(source: Source, *, dtype: str) -> EmbeddingFolder:
    """The general preference model of a folder or hub id.

    Args:
        source: Where it is; a revision is a commit.
        dtype: Floating-point type of the backbone; the heads stay float32.

    Raises:
        DataError: If it is no general preference model, or a part of it can't be used.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
    """
    tokenizer = load_tokenizer(source.place, revision=source.revision)
    if not tokenizer.chat_template or tokenizer.eos_token_id is None:
        raise DataError(f"{source.place}: the tokenizer has no chat template, or no EOS token")
    try:
        body, info = AutoModel.from_pretrained(
            source.place,
            dtype=getattr(torch, dtype),
            revision=source.revision or None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        heads = _heads(_folder(source))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{source.place}: no general preference model could be loaded: {told}") from error
    if info["missing_keys"]:
        raise DataError(f"{source.place}: the backbone has no {sorted(info['missing_keys'])[0]}")
    keep_caps(body)
    value, prompt = heads.get(_VALUE), heads.get(_PROMPT)
    if value is None:
        raise DataError(f"{source.place}: no {_VALUE}", hint=f"it lies in {HEAD_FILE}, or among the backbone's weights")
    size = int(body.config.hidden_size)
    planes = value.shape[0] // 2
    if value.shape != (2 * planes, size) or not planes or (prompt is not None and prompt.shape != (planes, size)):
        raise DataError(
            f"{source.place}: heads of {tuple(value.shape)} and {None if prompt is None else tuple(prompt.shape)} "
            f"do not fit a backbone of size {size}",
            hint="value_head.weight is [2k, size], prompt_head.weight [k, size]",
        )
    kept = read_facts(source, temperature=PUBLISHED_TEMPERATURE).temperature
    return EmbeddingFolder(body.eval(), tokenizer, value, prompt, kept)


def _folder(source: Source) -> Path:
    if source.is_local:
        return Path(source.place).expanduser()
    return Path(snapshot_download(source.place, revision=source.revision, allow_patterns=["*.safetensors", "*.json"]))


def _heads(folder: Path) -> dict[str, Tensor]:
    """The head's weights by name, from a file of their own or from among the others."""
    own = folder / HEAD_FILE
    found: dict[str, Tensor] = {}
    for path in [own] if own.is_file() else sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in {_VALUE, _PROMPT}.intersection(file.keys()):
                found[name] = file.get_tensor(name).float()
    return found
