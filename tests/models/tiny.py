"""Tiny tokenizers and models, made in memory: byte-level BPE trained on a few hundred lines, two-layer models."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

WORDS = ("red", "green", "cat", "horse", "apple", "seven", "two", "please", "sorry", "answer", "Größe", "naïve", "日本")
LINES = [f"what is the {a} {b}? the {b} is {a}\n\n{a}, {b} and 12{i}" for i, a in enumerate(WORDS) for b in WORDS]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
STARTER = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# name -> template, BOS, EOS, further control tokens
STYLES = {
    "chatml": (CHATML, None, "<|im_end|>", ("<|im_start|>", "<|endoftext|>")),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
    "gemma": (GEMMA, "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>")),
    "mistral": (MISTRAL, "<s>", "</s>", ()),
    "starter": (STARTER, None, "<|end|>", ("<|user|>", "<|assistant|>", "<|system|>")),
}


@cache
def _bpe(controls: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(controls),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer.to_str()


def make_tokenizer(style: str, *, adds_bos: bool = False, template: str | None = None) -> PreTrainedTokenizerFast:
    own_template, bos, eos, others = STYLES[style]
    if adds_bos and bos is None:
        bos = "<s>"
    controls = tuple(token for token in ("<pad>", bos, eos, *others) if token)
    backend = Tokenizer.from_str(_bpe(controls))
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token="<pad>")
    tokenizer.chat_template = own_template if template is None else template
    return tokenizer


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ROPE = {**SIZES, "num_key_value_heads": 1, "max_position_embeddings": 128}


def make_model(family: str, *, vocab_size: int = 384, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of a family with random weights, large enough that every part of it matters."""
    common = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = {
        "llama": lambda: LlamaConfig(**ROPE, **common, tie_word_embeddings=True),
        "qwen2": lambda: Qwen2Config(**ROPE, **common),
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, **common),
        "gemma2": lambda: Gemma2Config(
            **ROPE, **common, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, final_logit_softcapping=0.5
        ),
        "mistral": lambda: MistralConfig(**ROPE, **common, sliding_window=8),
        "cohere": lambda: CohereConfig(**ROPE, **common, logit_scale=0.3),
        "granite": lambda: GraniteConfig(**ROPE, **common, logits_scaling=0.25),
    }[family]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


FAMILIES = ("llama", "qwen2", "gpt2", "gemma2", "mistral", "cohere", "granite")
