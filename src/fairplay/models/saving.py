"""Saving a policy as a Hugging Face folder that appears whole or not at all.

The folder holds safetensors weights, config, generation config, tokenizer and chat template, and loads with plain
transformers. Left out: checkpoints within a training (`training/`), manifests (`storage/`). Floor 3.
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairplay.models.adapters import has_adapters
from fairplay.models.loading import Policy
from fairplay.models.quantised import is_quantised, whole_copy

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


def save_policy(policy: Policy, folder: Path, *, merge_adapters: bool = True) -> None:
    """Write a policy to a folder; a folder that was there is replaced.

    Everything is written to a sibling of another name, flushed to the disk, then renamed.

    Args:
        policy: What to save; it is not changed.
        folder: Where it should lie; its parents are made.
        merge_adapters: Add the adapters to the weights, so that the folder is a plain model (one copy of the weights
            is made for it; weights of 4 bits become whole ones). False writes the adapters alone, beside the name of
            their base model.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    model: Any = policy.model
    if has_adapters(model) and merge_adapters:
        model = whole_copy(model) if is_quantised(model) else copy.deepcopy(model).merge_and_unload()
    _save_model(model, unfinished)
    policy.tokenizer.save_pretrained(unfinished)
    forget_paths(unfinished)
    _replace(folder, unfinished)


def _save_model(model: "PreTrainedModel", folder: Path) -> None:
    config = model.generation_config
    if config is not None:
        model.generation_config = _valid(config)
    try:
        model.save_pretrained(folder)
    finally:
        model.generation_config = config


def _valid(config: "GenerationConfig") -> "GenerationConfig":
    """A config that transformers agrees to save: it refuses a temperature beside do_sample=False, as Llama 2 has it."""
    try:
        config.validate(strict=True)
    except ValueError:
        config = copy.deepcopy(config)
        config.do_sample = True
    return config


def forget_paths(folder: Path) -> None:
    """Drop the path a model came from out of its files: the same weights are the same bytes wherever they lay."""
    for name, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        path = folder / name
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop(key, None) is not None:
                path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _replace(folder: Path, finished: Path) -> None:
    for path in [*finished.rglob("*"), finished]:
        _flush(path)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        finished.rename(folder)
        shutil.rmtree(old)
    else:
        finished.rename(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
