"""A prompt is read once for all of its samples, and no sample knows: where a model keeps keys and values alone."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from fairplay.generation.settings import GenerationSettings
from fairplay.generation.transformers_engine import TransformersEngine
from fairplay.models.loading import Policy
from fairplay.records import Message, Prompt
from models.tiny import FAMILIES, WORDS, make_model, make_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 384}
HEADS = {**SIZES, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
OTHERS = {
    "gemma3_text": {
        **HEADS, "head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]
    },
    "mamba": {**SIZES, "state_size": 4},
    "lfm2": {**HEADS, "layer_types": ["conv", "full_attention"]},
}  # fmt: skip
KEEPS_MORE = {"mamba", "lfm2"}


def make_engine(family):
    tokenizer = make_tokenizer("starter")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if family in FAMILIES:
            model = make_model(family)
        else:
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **OTHERS[family], **ids))
    model.resize_token_embeddings(len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    settings = GenerationSettings(max_new_tokens=10, batch_size=8)
    return TransformersEngine(Policy(model.eval(), tokenizer, "memory"), settings)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_samples_are_those_of_prompts_that_are_read_for_each_of_them(family):
    engine = make_engine(family)
    prompts = [Prompt(f"p{i}", (Message("user", " ".join(WORDS[: 1 + 3 * i])),)) for i in range(4)]
    rows = []
    hook = engine.model.get_input_embeddings().register_forward_hook(lambda _, ids, __: rows.append(len(ids[0])))
    together = engine.respond(prompts, [[10 * i + k for k in range(4)] for i in range(4)])
    read = rows[:]
    for k in range(4):
        apart = engine.respond(prompts, [[10 * i + k] for i in range(4)])
        for one, all_of_it in zip(apart.groups, together.groups, strict=True):
            assert one.responses[0] == all_of_it.responses[k]
    hook.remove()
    first, *rest = read
    assert set(rest) <= {2, 8}
    assert first == (8 if family in KEEPS_MORE else 2)  # of 8 rows that are 4 samples of 2 prompts


def test_the_model_is_left_without_a_hook():
    engine = make_engine("llama")
    engine.respond([Prompt("p", (Message("user", "red cat"),))], [[1, 2, 3]])
    assert not engine.model._forward_hooks
    assert not engine.model._forward_pre_hooks
