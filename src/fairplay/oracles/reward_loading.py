"""A reward model's folder or hub id becomes a classifier, its tokenizer, and what is kept with them in `oracle.json`.

ArmoRM, whose code comes with its weights, is read by a module of our own (`armo.py`). Left out: other weights that need
their own code: it is never run (`trust_remote_code` is False), and never guessed at: a model of which a weight is
missing is refused. Floor 4.
"""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification

from fairplay.errors import DataError, ResourceError
from fairplay.models.loading import configure_threads, keep_caps, load_tokenizer, resolve_device
from fairplay.models.settings import ModelSettings
from fairplay.oracles.armo import ARCHITECTURE, ArmoRewardModel
from fairplay.oracles.facts import read_facts
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.source import Source


@dataclass(frozen=True)
class RewardClassifier:
    """A reward model as it was found.

    Attributes:
        model: A sequence classifier, on its device.
        tokenizer: Its tokenizer.
        label_weights: What each of its labels counts in the score.
        temperature: Kept with it; 1 where there is none.
        max_length: Kept with it: longest row in tokens that it was trained to read; 0 where that is not known.
    """

    model: Any
    tokenizer: Any
    label_weights: tuple[float, ...]
    temperature: float
    max_length: int = 0


def load_classifier(settings: RewardModelSettings) -> RewardClassifier:
    """The reward model that the settings name.

    Raises:
        DataError: If there is no such folder or repository, its architecture is neither in transformers nor ArmoRM's,
            a weight is missing, or it has several labels and no weights for them.
        ServiceError: If it is a hub id, not in the cache, and the hub can't be reached.
        ResourceError: If memory ran out.
    """
    source, revision = settings.model, settings.source.commit()
    tokenizer = load_tokenizer(source, revision=revision)
    model = _load_model(settings, revision)
    if isinstance(model, ArmoRewardModel):
        model.read_with(tokenizer)
    facts = read_facts(Source(source, revision))
    weights = settings.label_weights or facts.label_weights or (1.0,)
    num_labels = 1 if isinstance(model, ArmoRewardModel) else model.config.num_labels
    if len(weights) != num_labels:
        raise DataError(
            f"{source} has {num_labels} labels, and label_weights for {len(weights)}",
            hint="say what each label counts in the score by `label_weights`; classes are no preferences",
        )
    configure_threads(sum(parameter.numel() for parameter in model.parameters()))
    try:
        model = model.to(resolve_device(ModelSettings()))
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{source}: does not fit in memory", hint="set `dtype: bfloat16`") from error
    return RewardClassifier(model, tokenizer, weights, facts.temperature, facts.max_length)


def _load_model(settings: RewardModelSettings, revision: str) -> Any:
    """The classifier as it was saved, whole."""
    source = settings.model
    try:
        config = AutoConfig.from_pretrained(source, revision=revision or None, trust_remote_code=False)
        gated = list(config.architectures or ()) == [ARCHITECTURE]
        if not gated:
            _refuse_foreign(source, config)
        loader: Any = ArmoRewardModel if gated else AutoModelForSequenceClassification
        model, info = loader.from_pretrained(
            source,
            dtype=getattr(torch, settings.dtype),
            revision=revision or None,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{source}: no reward model could be loaded: {str(error).splitlines()[0]}") from error
    if info["missing_keys"]:
        raise DataError(
            f"{source}: is no reward model, it has no {sorted(info['missing_keys'])[0]}",
            hint="a language model has no score; train one, or name a sequence classifier",
        )
    if gated and info["unexpected_keys"]:
        raise DataError(
            f"{source}: has {sorted(info['unexpected_keys'])[0]}, which is no part of {ARCHITECTURE} as published",
            hint="score the responses where its own code runs, and read the scores with `kind: recorded`",
        )
    keep_caps(model)
    return model


def _refuse_foreign(source: str, config: Any) -> None:
    """Refuse an architecture that transformers would replace by its own of that `model_type`, with a random head."""
    foreign = [name for name in config.architectures or () if not hasattr(transformers, name)]
    if foreign:
        code = getattr(config, "auto_map", {}) or {}
        told = " (its code comes with its weights, and such code is never run)" if code else ""
        raise DataError(
            f"{source}: {foreign[0]} is no architecture of transformers{told}",
            hint="score the responses where its code runs, and read the scores with `kind: recorded`; "
            "or save it as a sequence classifier, with its temperature in oracle.json",
        )
