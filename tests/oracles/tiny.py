"""Groups of responses, a tiny pair model, a tiny pair ranker and rules, for the tests of oracles."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

from fairplay.oracles.pair_model import PairModel, PairModelFacts
from fairplay.records import Message, Prompt, Response, ResponseGroup
from models.tiny import WORDS, make_model, make_tokenizer


def length_rule(prompt: Prompt, text: str) -> float:
    """Longer is better."""
    return float(len(text))


def vowel_rule(prompt: Prompt, text: str) -> float:
    """More vowels are better."""
    return float(sum(text.count(vowel) for vowel in "aeiou"))


def broken_rule(prompt: Prompt, text: str) -> float:
    """Fails to score a text with "cat" in it."""
    return float("nan") if "cat" in text else 1.0


def raising_rule(prompt: Prompt, text: str) -> float:
    """Raises on any text."""
    raise KeyError(text)


def text_rule(prompt: Prompt, text: str) -> str:
    """Gives a text instead of a number."""
    return "3"


NOT_A_FUNCTION = 3


def group_of(*texts: str, prompt_id: str = "p", question: str = "what is the red cat?") -> ResponseGroup:
    return ResponseGroup(Prompt(prompt_id, (Message("user", question),)), tuple(Response(text) for text in texts))


def make_groups(count: int, *, seed: int = 0, most_words: int = 8) -> list[ResponseGroup]:
    """Groups of 2 to 5 different texts of very different lengths."""
    draw = random.Random(seed)
    groups = []
    for number in range(count):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, most_words))) for _ in range(draw.randint(2, 5))]
        question = " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))
        groups.append(group_of(*dict.fromkeys([*texts, "yes"]), prompt_id=f"p{number}", question=question))
    return groups


def make_pair_model(*, family: str = "llama", temperature: float = 1.0, max_length: int = 96) -> PairModel:
    facts = PairModelFacts(temperature, max_length)
    return PairModel(make_model(family).base_model, make_tokenizer("starter"), facts, head_seed=1).eval()


def save_pair_model(folder: Path, **options) -> Path:
    folder.mkdir()
    make_pair_model(**options).save(folder)
    return folder


def save_pair_lm(folder: Path, *, style: str = "llama3", family: str = "llama") -> Path:
    make_model(family).save_pretrained(folder)
    make_tokenizer(style).save_pretrained(folder)
    return folder


def save_general_preference(
    folder: Path, *, planes: int = 2, by_prompt: bool = True, published: bool = False, style: str = "llama3"
) -> Path:
    """A random general preference model; `published` keeps the heads among the backbone's weights."""
    model = make_model("llama")
    draw = torch.Generator().manual_seed(7)
    size = model.config.hidden_size
    heads = {"value_head.weight": torch.randn(2 * planes, size, generator=draw)}
    if by_prompt:
        heads["prompt_head.weight"] = torch.randn(planes, size, generator=draw)
    model.save_pretrained(folder)
    if published:
        weights = load_file(folder / "model.safetensors")
        save_file(weights | heads, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        save_file(heads, folder / "preference_head.safetensors")
    make_tokenizer(style).save_pretrained(folder)
    return folder


def make_ranker_tokenizer() -> PreTrainedTokenizerFast:
    """Pieces and normalizer of DeBERTa-v3's kind: a space before every text, white space squeezed, letters composed."""
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    characters = sorted(set("".join(WORDS)) | set("<|>[]_:?.,0123456789") | set("abcdefghijklmnopqrstuvwxyzCLSEPURAMK"))
    pieces = [(word, -1.0) for word in dict.fromkeys(f"\N{LOWER ONE EIGHTH BLOCK}{word}" for word in WORDS)]
    pieces += [(character, -5.0) for character in ["\N{LOWER ONE EIGHTH BLOCK}", *characters]]
    vocabulary = [(special, 0.0) for special in specials] + pieces
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(" {2,}", " "), normalizers.NFKC(), normalizers.Strip(left=False, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = ("pad_token", "cls_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(names, specials, strict=True))
    )


def make_ranker_config(vocab_size: int) -> DebertaV2Config:
    return DebertaV2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )


def make_ranker_weights(num_embeddings: int) -> dict[str, torch.Tensor]:
    """Random weights by LLM-Blender's names; wide enough apart that logits are not all near 0."""
    draw = torch.Generator().manual_seed(3)
    backbone = DebertaV2Model(make_ranker_config(num_embeddings)).state_dict()
    weights = {f"pretrained_model.{name}": value.clone() for name, value in backbone.items()}
    for value in weights.values():
        if value.dim() == 2:
            value.normal_(std=0.3, generator=draw)
    for name, shape in (("1.weight", (32, 64)), ("1.bias", (32,)), ("4.weight", (1, 32)), ("4.bias", (1,))):
        weights[f"head_layer.{name}"] = torch.randn(shape, generator=draw) / 2
    return weights


def save_ranker(folder: Path, *, layout: str = "blender", prompt: int = 40, response: int = 20) -> Path:
    """A random pair ranker in LLM-Blender's layout (with its backbone beside it), or in that of DebertaV2PairRM."""
    tokenizer = make_ranker_tokenizer()
    folder.mkdir()
    num_embeddings = len(tokenizer) + 4
    lengths = {"source_maxlength": prompt, "candidate_maxlength": response, "n_tasks": 1, "drop_out": 0.05}
    if layout == "blender":
        base = folder.with_name(folder.name + "-base")
        tokenizer.save_pretrained(base)
        make_ranker_config(num_embeddings + 7).save_pretrained(base)  # with spare embeddings, as the published one has
        about = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": f"../{base.name}"}
        (folder / "config.json").write_text(json.dumps(about | lengths))
    else:
        tokenizer.add_tokens(["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"])
        tokenizer.save_pretrained(folder)
        names = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
        ids = dict(zip(names, range(num_embeddings - 4, num_embeddings), strict=True))
        about = make_ranker_config(num_embeddings).to_dict() | {"architectures": ["DebertaV2PairRM"]}
        (folder / "config.json").write_text(json.dumps(about | lengths | ids))
    save_file(make_ranker_weights(num_embeddings), folder / "model.safetensors")
    return folder
