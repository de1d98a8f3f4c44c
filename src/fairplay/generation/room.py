"""Whether memory is enough for sampling, before it begins: for a model's weights, and for what it keeps of its rows.

What can't fit is refused; what may not fit, since responses can end early, is warned of. Left out: what is free
(`models/free_memory.py`), vLLM's own cache, which it takes at its start or says why it can't. Floor 4.
"""

import json
import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch

from fairplay.errors import ResourceError
from fairplay.generation.settings import GenerationSettings
from fairplay.models.adapters import base_of_adapter, is_adapter_folder
from fairplay.models.free_memory import free_bytes
from fairplay.models.loading import resolve_device
from fairplay.models.settings import ModelSettings

logger = logging.getLogger(__name__)
GIB = 2**30
_HALF_A_BYTE = 0.5  # a weight of 4 bits


def check_weights(model: str, settings: ModelSettings) -> None:
    """Refuse a model whose weights are larger than what is free where they are to be.

    Args:
        model: Folder or hub id; of a hub id nothing is known here.
        settings: Its type and device.

    Raises:
        ResourceError: If they are.
    """
    source = base_of_adapter(model) if is_adapter_folder(model) else model
    device = resolve_device(settings)
    each = _HALF_A_BYTE if settings.load_in_4bit else getattr(torch, settings.dtype).itemsize
    needed, free = _stored_parameters(Path(source).expanduser()) * each, free_bytes(device)
    if free is not None and needed > free:
        remedy = "" if each <= torch.bfloat16.itemsize else "set `loading.dtype: bfloat16`, or "
        raise ResourceError(
            f"{model}: its weights take {needed / GIB:.3g} GiB, and {free / GIB:.3g} are free on {device}",
            hint=f"{remedy}end what else holds memory there",
        )


def _stored_parameters(folder: Path) -> int:
    """Parameters in the safetensors files that transformers reads of a folder, by what these say at their beginning."""
    number = 0
    for path in folder.glob("model*.safetensors"):  # some hold the same weights again, in `consolidated.safetensors`
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        number += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return number


def token_bytes(config: Any, itemsize: int) -> int:
    """Bytes that the keys and values of a token take; 0 for a model that keeps none.

    Args:
        config: Of the text model.
        itemsize: Bytes of a number.
    """
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 0)
    if not heads:
        return 0
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * itemsize)


def check_rows(model: Any, lengths: Sequence[int], settings: GenerationSettings, free: int | None) -> None:
    """Refuse rows whose prompts' keys and values can't be kept at once; warn where whole responses may not fit.

    Args:
        model: What reads them.
        lengths: Tokens of each prompt that is going to be read.
        settings: `num_responses`, `batch_size` and `max_new_tokens`.
        free: Bytes beside the weights; None where they are not known.

    Raises:
        ResourceError: If the prompts alone take more than is free.
    """
    config = model.config.get_text_config()
    rows = min(settings.batch_size, len(lengths) * settings.num_responses)
    each = rows * token_bytes(config, model.dtype.itemsize)
    if free is None or not each:
        return
    longest = max(lengths)
    kept = min(longest, getattr(config, "sliding_window", None) or longest)
    hint = "lower generation.batch_size"
    if each * kept > free:
        raise ResourceError(
            f"memory: {rows} prompts of {longest} tokens take {each * kept / GIB:.3g} GiB beside the weights, and "
            f"{free / GIB:.3g} are free",
            hint=hint,
        )
    if each * (kept + settings.max_new_tokens) > free:
        logger.warning(
            "memory: %d rows take up to %.3g GiB beside the weights, and %.3g are free; it may not be enough: %s",
            *(rows, each * (kept + settings.max_new_tokens) / GIB, free / GIB, hint),
        )
