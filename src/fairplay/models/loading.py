"""Loading a policy: a Hugging Face folder or hub id becomes a model in evaluation mode with its tokenizer.

Left out: what is written back (`saving.py`), adapters that are trained (`adapters.py`), remote code (never run).
Floor 3.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from fairplay.errors import DataError, FairplayError, ResourceError, SettingsError
from fairplay.hub import meet_hub, told_by_hub
from fairplay.models.adapters import base_of_adapter, is_adapter_folder, kept_adapter, merge_adapter
from fairplay.models.chat import ChatEncoder
from fairplay.models.quantised import keep_packing, quantisation
from fairplay.models.settings import AdapterSettings, ModelSettings
from fairplay.models.token_logps import check_head
from fairplay.storage.model_folders import MODEL_FILES, not_a_model_hint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # ours is the only one shown

# Below this size threads cost more than they bring, and beside another busy process they cost a factor of 30.
ONE_THREAD_BELOW = 5_000_000
_STARTING_THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Policy:
    """A causal language model with its tokenizer.

    Attributes:
        model: In evaluation mode as loaded; a peft model where adapters were added.
        tokenizer: A fast tokenizer.
        source: The folder or hub id it came from.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    source: str


def configure_threads(num_parameters: int) -> None:
    """Let torch use one thread for a tiny model, and as many as the process started with for any other.

    Args:
        num_parameters: Parameters of the model that is about to work.
    """
    threads = 1 if num_parameters < ONE_THREAD_BELOW else _STARTING_THREADS
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def resolve_device(settings: ModelSettings) -> torch.device:
    """The device that the settings name; where they name none, cuda if there is one.

    Raises:
        SettingsError: If there is no such device.
        ResourceError: If cuda is asked for and this machine has none.
    """
    if not settings.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
    except RuntimeError as error:
        raise SettingsError(f"device `{settings.device}` is not known to torch", hint="cpu, cuda, cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"device `{settings.device}` is not there", hint="leave `device` empty, or set it to cpu")
    return device


def check_source(source: str, *, policy: bool = True) -> None:
    """Refuse a path at which there is no model folder; a hub id passes.

    Args:
        source: Folder or hub id.
        policy: Whether a policy is wanted, for the hint; else any model.

    Raises:
        DataError: If the source is a path and there is no folder with a config.json.
    """
    if not source:
        raise DataError("the name of the model is empty", hint="name a folder, or a hub id `owner/name`")
    path = Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source
    if path.is_dir():
        if not any((path / name).is_file() for name in MODEL_FILES):
            raise DataError(f"{source}: the folder has no config.json", hint=not_a_model_hint(path, policy=policy))
    elif path.exists():
        raise DataError(f"{source}: is a file, not a model folder", hint="name the folder that holds config.json")
    elif looks_like_path:
        raise DataError(f"{source}: no such model folder", hint="name a folder, or a hub id `owner/name`")


def find_source(source: str) -> None:
    """As `check_source` of any model; for a hub id, see besides whether the hub is within reach.

    Raises:
        DataError: As `check_source`.
    """
    check_source(source, policy=False)
    if not Path(source).expanduser().is_dir():
        meet_hub()


def load_tokenizer(source: str, *, revision: str = "") -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder or hub id.

    Raises:
        DataError: If there is none, or it is not a fast one (only these keep control tokens in text apart).
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
    """
    find_source(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or None, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(source, "tokenizer", error) from error
    if not tokenizer.is_fast:
        raise DataError(f"{source}: the tokenizer is not a fast one", hint="convert it: it must hold a tokenizer.json")
    return tokenizer


def load_model(source: str, settings: ModelSettings, *, adapter: AdapterSettings | None = None) -> "PreTrainedModel":
    """The causal language model of a folder or hub id, in evaluation mode, on its device.

    A folder with nothing but a LoRA adapter is loaded over its base model, and merged unless that is in 4 bits.

    Args:
        source: Folder or hub id.
        settings: How to load it.
        adapter: What the adapter of such a folder must be like to go on learning; None for one that learns no more.

    Raises:
        DataError: If there is no model that could be loaded.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
        ResourceError: If memory ran out, or the attention implementation is not installed.
    """
    find_source(source)
    if is_adapter_folder(source):
        base = load_model(base_of_adapter(source), settings)
        return merge_adapter(base, source) if adapter is None else kept_adapter(base, source, adapter)
    extra = _in_4bit(settings) if settings.load_in_4bit else {}
    try:
        model = _from_pretrained(source, settings, settings.attn_implementation, extra)
    except ImportError as error:
        raise ResourceError(f"{source}: {_first_line(error)}", hint="set `attn_implementation: sdpa`") from error
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(source, "model", error) from error
    keep_packing(model)
    keep_caps(model)
    try:
        model = model if extra else model.to(resolve_device(settings))
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{source}: does not fit in memory", hint="set `dtype: bfloat16`") from error
    return model.eval()  # type: ignore[no-any-return]


def _in_4bit(settings: ModelSettings) -> dict[str, Any]:
    """Weights are rounded where they will live."""
    return {"quantization_config": quantisation(settings), "device_map": {"": str(resolve_device(settings))}}


def _from_pretrained(source: str, settings: ModelSettings, attention: str, extra: Mapping[str, Any]) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, settings.dtype),
            attn_implementation=attention,
            revision=settings.revision or None,
            use_safetensors=True,
            trust_remote_code=False,
            **extra,
        )
    except ValueError as error:
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        logger.info("%s has no sdpa attention (Gemma 2 caps its scores); eager is used", source)
        return _from_pretrained(source, settings, "eager", extra)


def keep_caps(model: "PreTrainedModel") -> None:
    """Attention takes `eager` where scores are capped and sdpa, which knows no caps, would leave them as they are.

    Some versions of transformers refuse sdpa for such models (Gemma 2), others, 5.17 among them, say nothing.
    """
    config = model.config.get_text_config()
    if config._attn_implementation == "sdpa" and getattr(config, "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")


def load_policy(source: str, settings: ModelSettings, *, adapter: AdapterSettings | None = None) -> Policy:
    """A policy that can be scored, trained and sampled from, in evaluation mode.

    Args:
        source: Folder in Hugging Face format, or hub id.
        settings: How to load it.
        adapter: What the adapter of an adapter's folder must be like to go on learning; None merges it.

    Raises:
        DataError: If it can't be loaded, has no chat template, or its head does something fairplay does not know.
        ResourceError: If memory ran out, or an optional package is missing.
    """
    check_source(source)
    tokenizer = load_tokenizer(source, revision=settings.revision)
    ChatEncoder(tokenizer)
    model = load_model(source, settings, adapter=adapter)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    if model.device.type == "cpu":
        configure_threads(num_parameters)
    check_head(model)
    logger.info("loaded %s: %d parameters, %s, %s", source, num_parameters, settings.dtype, model.device)
    return Policy(model=model, tokenizer=tokenizer, source=source)


_LOAD_HINT = "name a folder in Hugging Face format with safetensors weights, or a hub id that this machine can reach"


def _not_loaded(source: str, what: str, error: BaseException) -> FairplayError:
    """What failed loading is told as; transformers hides what the hub said behind an OSError of its own."""
    told = told_by_hub(source, error.__cause__)
    return told or DataError(f"{source}: no {what} could be loaded: {_first_line(error)}", hint=_LOAD_HINT)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
