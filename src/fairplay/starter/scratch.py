"""A model of any architecture with weights drawn from the seed, and a tokenizer fitted to given texts: where an oracle
starts from that has learnt nothing yet.

Left out: training (`training/oracle_training.py`), the tiny policy (`policy.py`). Floor 6.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from fairplay.errors import SettingsError
from fairplay.models.saving import forget_paths
from fairplay.seeds import stable_seed
from fairplay.starter.settings import ScratchSettings
from fairplay.starter.tokenizer import train_tokenizer
from fairplay.storage.atomic import folder_atomic

CLS, SEP, UNK, PAD = "[CLS]", "[SEP]", "[UNK]", "[PAD]"

# What transformers raises for a config that it can't build: it has no error of its own for that.
_REFUSALS = (StrictDataclassError, ValueError, KeyError, TypeError, AttributeError, AssertionError, RuntimeError)
_CLASSES: Mapping[str, Any] = MappingProxyType(
    {
        "reward_model": AutoModelForSequenceClassification,
        "pair_model": AutoModelForCausalLM,
        "pair_lm": AutoModelForCausalLM,
        "pair_ranker": AutoModel,
    }
)


def write_untrained(folder: Path, kind: str, settings: ScratchSettings, texts: Iterable[str], *, seed: int) -> None:
    """Write model and tokenizer in Hugging Face format, whole or not at all.

    Args:
        folder: Where they go.
        kind: The kind of oracle that is to be made of them; a pair ranker's tokenizer puts [CLS] and [SEP] around each
            text, the others' have a chat template.
        settings: Architecture and sizes.
        texts: What the tokenizer is fitted to.
        seed: Decides the weights.

    Raises:
        SettingsError: If there is no such architecture, it takes no such config, or makes no oracle of this kind.
    """
    make: Callable[[Iterable[str], int], Any] = train_encoder_tokenizer if kind == "pair_ranker" else train_tokenizer
    tokenizer = make(texts, settings.vocab_size)
    known = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if kind == "reward_model":
        known["num_labels"] = 1
    try:
        config = AutoConfig.for_model(settings.model_type, **{**settings.config, **known})
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(stable_seed(seed, "weights"))
            model = _CLASSES[kind].from_config(config)
    except (
        StrictDataclassError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(
            f"scratch: no `{kind}` can be made of a `{settings.model_type}` of this config: {reason}",
            hint="see the config of that architecture in transformers' documentation",
        ) from error
    with folder_atomic(folder) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        forget_paths(unfinished)


def train_encoder_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that puts each text between [CLS] and [SEP], as DeBERTa's does; no chat template.

    Args:
        texts: What it is fitted to; the same texts give the same tokenizer.
        vocab_size: The largest vocabulary, at least 260 (256 bytes and 4 control tokens).
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, CLS, SEP, UNK]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False, initial_alphabet=alphabet
    )
    core.train_from_iterator(texts, trainer)
    ends = [(token, core.token_to_id(token)) for token in (CLS, SEP)]
    core.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, pad_token=PAD, cls_token=CLS, sep_token=SEP, unk_token=UNK
    )
