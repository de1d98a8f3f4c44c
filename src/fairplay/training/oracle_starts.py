"""Where each kind of oracle starts from: a checkpoint's weights with a fresh head, or an oracle of the kind itself.

Left out: models without any learnt weights (the starter writes their folders; they are loaded as any). Floor 5.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, DebertaV2Model

from fairplay.errors import DataError
from fairplay.lookup import lookup
from fairplay.models.loading import check_source, keep_caps, load_policy, load_tokenizer, resolve_device
from fairplay.models.probe import choose_layout
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from fairplay.oracles.facts import OracleFacts, write_facts
from fairplay.oracles.lm_encoding import QuestionEncoder
from fairplay.oracles.pair_model import FACTS_FILE, PairModel, PairModelFacts
from fairplay.oracles.pair_ranker import PairRanker, build_ranker
from fairplay.oracles.ranker_encoding import PREFIXES, RankerEncoder, RowLengths
from fairplay.oracles.ranker_folder import FACTS_FILE as RANKER_FACTS_FILE
from fairplay.oracles.ranker_folder import SAFE_WEIGHTS, read_ranker
from fairplay.oracles.reward_loading import RewardClassifier
from fairplay.oracles.reward_model import RewardModelOracle
from fairplay.seeds import stable_seed
from fairplay.training.oracle_pairs import TrainableOracle
from fairplay.training.oracle_readers import TrainablePairReader, TrainableRewardModel
from fairplay.training.oracle_settings import OracleTrainingSettings

ANSWERS_A_TILE = 256  # whose logits are held at a time
_PUBLISHED_PLACE = {"0": "1", "2": "4"}  # LLM-Blender's head has a dropout before each of its two layers
_MARK_NAMES = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")


def trainable_oracle(source: str, settings: OracleTrainingSettings, *, seed: int) -> TrainableOracle:
    """An oracle ready to learn, in training mode, on its device.

    Args:
        source: Folder or hub id of what it starts from.
        settings: Its kind, how long its rows are, and of which type its weights.
        seed: Seeds the weights of a fresh head; torch's global generator is left alone.

    Raises:
        SettingsError: If there is no such kind.
        DataError: If there is nothing of that kind that could be loaded.
    """
    check_source(source, policy=False)
    with torch.random.fork_rng():
        torch.manual_seed(stable_seed(seed, "oracle head"))
        oracle = lookup(STARTS, settings.kind, "kind of oracle that can be trained")(source, settings, seed)
    oracle.model.train()
    return oracle


def _reward_model(source: str, settings: OracleTrainingSettings, seed: int) -> TrainableOracle:
    tokenizer = load_tokenizer(source)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=1, dtype=getattr(torch, settings.dtype), use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(
            f"{source}: no sequence classifier could be made of it: {str(error).splitlines()[0]}",
            hint="name a language model, an encoder, or a reward model with one label",
        ) from error
    keep_caps(model)
    oracle = RewardModelOracle(
        RewardClassifier(model.to(resolve_device(ModelSettings())), tokenizer, (1.0,), temperature=1.0),
        name=f"reward_model:{Path(source).name}",
        temperature=1.0,
        max_length=_longest(settings.max_length, model.config),
        max_tokens=settings.max_length,
    )
    return TrainableRewardModel(oracle)


def _pair_model(source: str, settings: OracleTrainingSettings, seed: int) -> TrainableOracle:
    if (Path(source) / FACTS_FILE).is_file():
        model = PairModel.load(Path(source), dtype=settings.dtype)
    else:
        policy = load_policy(source, ModelSettings(dtype=settings.dtype))
        body = policy.model.base_model
        facts = PairModelFacts(temperature=1.0, max_length=settings.max_length)
        model = PairModel(body, policy.tokenizer, facts, head_seed=stable_seed(seed, "pair model", "head"))
        model.to(policy.model.device)
    longest = _longest(settings.max_length, model.body.config)
    model.facts = PairModelFacts(temperature=1.0, max_length=longest)

    def write(folder: Path, temperature: float) -> None:
        model.facts = PairModelFacts(temperature=temperature, max_length=longest)
        model.save(folder)

    return TrainablePairReader("pair_model", model, model.body, model.encoder(longest), model, write)


def _pair_lm(source: str, settings: OracleTrainingSettings, seed: int) -> TrainableOracle:
    policy = load_policy(source, ModelSettings(dtype=settings.dtype))
    longest = _longest(settings.max_length, policy.model.config)
    encoder = QuestionEncoder(policy.tokenizer, max_length=longest)
    layout = choose_layout(policy.model, longest=longest, trains=True).layout

    def logits_of(rows: Sequence[tuple[int, ...]]) -> Tensor:
        answers = [(row, (label,)) for row in rows for label in encoder.label_ids]
        logps = score_rows(policy.model, answers, tile=ANSWERS_A_TILE, layout=layout).logps.view(-1, 2)
        return logps[:, 0] - logps[:, 1]

    def write(folder: Path, temperature: float) -> None:
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        write_facts(folder, OracleFacts(temperature, max_length=longest))

    return TrainablePairReader("pair_lm", policy.model, policy.model, encoder, logits_of, write)


def _pair_ranker(source: str, settings: OracleTrainingSettings, seed: int) -> TrainableOracle:
    lengths = RowLengths(settings.prompt_max_length, settings.response_max_length, settings.truncation_side)
    config = AutoConfig.from_pretrained(source)
    if config.model_type != "deberta-v2":
        raise DataError(
            f"{source}: a pair ranker's backbone is a DeBERTa-v2 or -v3, not `{config.model_type}`",
            hint="name one, such as microsoft/deberta-v3-base, or a pair ranker; other models make a `pair_model`",
        )
    if _is_ranker(source):
        found = read_ranker(source)
        model, tokenizer = build_ranker(found, source, dtype=settings.dtype), found.tokenizer
    else:
        tokenizer = load_tokenizer(source)
        backbone = DebertaV2Model.from_pretrained(source, dtype=getattr(torch, settings.dtype))
        tokenizer.add_tokens(list(PREFIXES))
        if len(tokenizer) > config.vocab_size:
            backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model = PairRanker(backbone, num_tasks=1, pad_id=int(tokenizer.pad_token_id or 0))
    model.to(resolve_device(ModelSettings()))
    encoder = RankerEncoder(tokenizer, lengths)

    def write(folder: Path, temperature: float) -> None:
        _write_ranker(folder, model, tokenizer, lengths, temperature)

    return TrainablePairReader("pair_ranker", model, model.backbone, encoder, model, write)


def _is_ranker(source: str) -> bool:
    try:
        document = AutoConfig.from_pretrained(source).to_dict()
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: its config.json can't be read: {str(error).splitlines()[0]}") from error
    is_published = document.get("ranker_type") == "pairranker"
    return is_published or "DebertaV2PairRM" in (document.get("architectures") or ())


def _write_ranker(folder: Path, model: PairRanker, tokenizer: Any, lengths: RowLengths, temperature: float) -> None:
    """The layout of `llm-blender/PairRM-hf`, which `ranker_folder.py` and the class of its card read."""
    config = model.backbone.config.to_dict()
    config |= dict(zip(_MARK_NAMES, tokenizer.convert_tokens_to_ids(list(PREFIXES)), strict=True))
    config |= {"architectures": ["DebertaV2PairRM"], "n_tasks": _num_tasks(model.head), "drop_out": 0.05}
    config |= {"source_maxlength": lengths.prompt, "candidate_maxlength": lengths.response}
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    tokenizer.truncation_side = lengths.side
    tokenizer.save_pretrained(folder)
    weights = {f"pretrained_model.{name}": value for name, value in model.backbone.state_dict().items()}
    for name, value in model.head.state_dict().items():
        place, _, part = name.partition(".")
        weights[f"head_layer.{_PUBLISHED_PLACE[place]}.{part}"] = value
    save_file({name: value.contiguous().cpu() for name, value in weights.items()}, folder / SAFE_WEIGHTS)
    facts = {"temperature": temperature}
    (folder / RANKER_FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _num_tasks(head: nn.Sequential) -> int:
    return len(head.state_dict()["2.bias"])


def _longest(asked: int, config: Any) -> int:
    return min(asked, getattr(config, "max_position_embeddings", asked) or asked)


Start = Callable[[str, OracleTrainingSettings, int], TrainableOracle]
STARTS: Mapping[str, Start] = MappingProxyType(
    {"reward_model": _reward_model, "pair_model": _pair_model, "pair_ranker": _pair_ranker, "pair_lm": _pair_lm}
)
