"""A sample is a function of policy, prompt and seed; ids, end token and finish reason are kept."""

import copy

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fairplay.errors import DataError, SettingsError
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.table import ENGINES, build_engine
from fairplay.generation.transformers_engine import TransformersEngine
from fairplay.models.chat import ChatEncoder
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from fairplay.records import Message, Prompt
from models.tiny import WORDS, make_model, make_tokenizer

SETTINGS = {"max_new_tokens": 12, "batch_size": 8}


def prompts(count):
    return [Prompt(f"p{i}", (Message("user", " ".join(WORDS[: 1 + i * 7 % 11])),)) for i in range(count)]


def seeds(count, k=3):
    return [[100 * i + sample for sample in range(k)] for i in range(count)]


def make_engine(family="llama", style="starter", *, end_bonus=0.0, generation_config=None, **changes):
    tokenizer = make_tokenizer(style)
    model = make_model(family, vocab_size=len(tokenizer))
    if end_bonus:  # a bias that makes responses end
        head = torch.nn.Linear(32, len(tokenizer), bias=True)
        head.weight = model.get_output_embeddings().weight
        head.bias.data.zero_()
        head.bias.data[tokenizer.eos_token_id] = end_bonus
        model.set_output_embeddings(head)
    model.generation_config = generation_config or GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    return TransformersEngine(Policy(model, tokenizer, "memory"), GenerationSettings(**(SETTINGS | changes)))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_a_sample_does_not_depend_on_its_neighbours(family):
    engine = make_engine(family, end_bonus=3.0)
    together = engine.respond(prompts(21), seeds(21))
    for index in (0, 5, 20):
        (alone,) = engine.respond([prompts(21)[index]], [seeds(21)[index][1:2]]).groups
        assert alone.responses == together.groups[index].responses[1:2]
    backwards = engine.respond(prompts(21)[::-1], seeds(21)[::-1])
    assert backwards.groups[::-1] == together.groups


def test_batch_size_changes_no_sample():
    results = {make_engine(end_bonus=3.0, batch_size=size).respond(prompts(9), seeds(9)) for size in (1, 4, 64)}
    assert len(results) == 1


def test_groups_keep_order_prompt_ids_seeds_and_tokens():
    engine = make_engine(end_bonus=3.0)
    generated = engine.respond(prompts(9), [list(range(i, i + 1 + i % 4)) for i in range(9)])
    assert [group.prompt for group in generated.groups] == prompts(9)
    assert not generated.dropped
    for index, group in enumerate(generated.groups):
        assert group.prompt_token_ids == ChatEncoder(engine.transcriber.tokenizer).prompt(group.prompt.messages)
        assert [response.seed for response in group.responses] == list(range(index, index + 1 + index % 4))


def test_the_end_token_is_kept_once_and_the_finish_reason_tells_ended_from_cut():
    engine = make_engine(end_bonus=3.0)
    end = engine.transcriber.tokenizer.eos_token_id
    responses = [r for group in engine.respond(prompts(21), seeds(21)).groups for r in group.responses]
    assert {response.finish_reason for response in responses} == {"stop", "length"}
    for response in responses:
        if response.finish_reason == "stop":
            assert response.token_ids[-1] == end
            assert response.token_ids.count(end) == 1
        else:
            assert len(response.token_ids) == 12
            assert end not in response.token_ids
        assert "<|end|>" not in response.text


def test_an_empty_response_is_allowed_and_is_its_end_token():
    engine = make_engine(end_bonus=50.0)
    (group,) = engine.respond(prompts(1), [[1]]).groups
    assert (group.responses[0].text, group.responses[0].finish_reason) == ("", "stop")
    assert group.responses[0].token_ids == (engine.transcriber.tokenizer.eos_token_id,)


def test_temperature_zero_takes_the_likeliest_token_whatever_the_seed():
    engine = make_engine(temperature=0.0)
    (group,) = engine.respond(prompts(1), [[1, 2]]).groups
    first, second = group.responses
    assert first.token_ids == second.token_ids
    ids = torch.tensor([[*group.prompt_token_ids, *first.token_ids]])
    likeliest = engine.model(input_ids=ids).logits[0, len(group.prompt_token_ids) - 1 : -1].argmax(-1)
    assert tuple(likeliest.tolist()) == first.token_ids


def test_samples_follow_the_policys_own_distribution():
    engine = make_engine(max_new_tokens=1, batch_size=500)
    (group,) = engine.respond(prompts(1), [list(range(4000))]).groups
    with torch.no_grad():
        ids = torch.tensor([group.prompt_token_ids])
        probs = engine.model(input_ids=ids).logits[0, -1].double().softmax(-1).numpy()
    counts = np.bincount([response.token_ids[0] for response in group.responses], minlength=len(probs))
    # Pearson's statistic over V tokens: mean V - 1, variance about 2 (V - 1)
    statistic = ((counts - 4000 * probs) ** 2 / (4000 * probs)).sum()
    assert abs(statistic - (len(probs) - 1)) < 6 * np.sqrt(2 * (len(probs) - 1))
    scores = score_rows(engine.model, [(group.prompt_token_ids, r.token_ids) for r in group.responses[:5]], tile=64)
    assert np.allclose(scores.logps.exp().detach(), [probs[r.token_ids[0]] for r in group.responses[:5]], rtol=1e-4)


SURPRISES = {
    "repetition_penalty": 5.0,
    "top_k": 1,
    "top_p": 0.01,
    "temperature": 0.01,
    "do_sample": True,
    "min_new_tokens": 12,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(100, 300)),
    "begin_suppress_tokens": list(range(100, 300)),
    "bad_words_ids": [[i] for i in range(50, 90)],
    "forced_eos_token_id": 3,
    "num_beams": 4,
    "num_return_sequences": 4,
    "max_length": 3,
    "encoder_no_repeat_ngram_size": 1,
    "min_p": 0.9,
    "typical_p": 0.1,
    "sequence_bias": [[[100], 50.0]],
    "exponential_decay_length_penalty": (1, 5.0),
    "stop_strings": ["a", "e"],
    "prompt_lookup_num_tokens": 3,
    "max_time": 1e-9,
}


@pytest.mark.parametrize("rule", SURPRISES)
def test_the_checkpoints_own_sampling_rules_change_nothing(rule):
    plain = make_engine(end_bonus=3.0).respond(prompts(5), seeds(5))
    config = GenerationConfig(eos_token_id=make_tokenizer("starter").eos_token_id)
    setattr(config, rule, copy.copy(SURPRISES[rule]))
    assert make_engine(end_bonus=3.0, generation_config=config).respond(prompts(5), seeds(5)) == plain


def test_the_policy_is_left_as_it_was():
    engine = make_engine(generation_config=GenerationConfig(repetition_penalty=5.0))
    engine.model.train()
    engine.respond(prompts(1), seeds(1))
    assert engine.model.training
    assert engine.model.generation_config.repetition_penalty == 5.0


def test_the_checkpoints_end_tokens_do_end_responses():
    everything = GenerationConfig(eos_token_id=list(range(20, 360)))
    (group,) = make_engine(generation_config=everything).respond(prompts(1), [list(range(20))]).groups
    assert any(r.finish_reason == "stop" and r.token_ids[-1] >= 20 for r in group.responses)
    assert all(len(r.token_ids) < 12 for r in group.responses)


def test_top_p_and_temperature_change_the_samples():
    outcomes = [
        make_engine(**changes).respond(prompts(3), seeds(3)).groups
        for changes in ({}, {"temperature": 0.5}, {"top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5})
    ]
    assert len(set(outcomes)) == 4


def test_prompts_that_are_too_long_or_refused_are_dropped_with_a_reason():
    long = Prompt("long", (Message("user", "red cat " * 40),))
    engine = make_engine(max_prompt_length=30)
    generated = engine.respond([prompts(1)[0], long], seeds(2))
    assert [group.prompt.id for group in generated.groups] == ["p0"]
    assert [(item.id, item.reason) for item in generated.dropped] == [("long", "prompt too long")]
    system = Prompt("system", (Message("system", "be kind"), Message("user", "red")))
    (item,) = make_engine(style="gemma").respond([system], [[1]]).dropped
    assert (item.id, item.reason) == ("system", "refused by the chat template")


def test_prompt_and_response_never_leave_the_models_context():
    engine = make_engine("gpt2", max_new_tokens=100)  # learned positions: 128
    fits, too_long = (Prompt(str(n), (Message("user", "7" * n),)) for n in (25, 26))
    generated = engine.respond([fits, too_long], [[1], [1]])
    assert len(generated.groups[0].prompt_token_ids) == 28
    assert [item.id for item in generated.dropped] == ["26"]
    with pytest.raises(SettingsError, match="leaves no room for a prompt in the model's context of 128"):
        make_engine("gpt2", max_new_tokens=128)


def test_nothing_to_respond_to_gives_nothing():
    generated = make_engine().respond([], [])
    assert generated.groups == generated.dropped == ()
    with pytest.raises(DataError, match="1 prompts came with 0"):
        make_engine().respond(prompts(1), [])


def test_a_model_without_any_end_token_is_refused():
    tokenizer = make_tokenizer("starter", template="{{ messages[0].content }}")
    tokenizer.eos_token = None
    model = make_model("llama")
    model.generation_config = GenerationConfig()
    with pytest.raises(DataError, match="does not show the response"):
        TransformersEngine(Policy(model, tokenizer, "memory"), GenerationSettings())


def test_an_engine_is_built_by_name_from_a_folder(tmp_path):
    save_policy(Policy(make_model("llama"), make_tokenizer("starter"), "memory"), tmp_path / "model")
    settings = GenerationSettings(**SETTINGS)
    engine = build_engine(settings, str(tmp_path / "model"), ModelSettings(device="cpu"))
    assert len(engine.respond(prompts(2), seeds(2)).groups) == 2
    assert "transformers" in ENGINES
    with pytest.raises(SettingsError, match="did you mean `transformers`"):
        build_engine(GenerationSettings(engine="transformer"), "x", ModelSettings())


@pytest.mark.parametrize(
    "fault", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"num_responses": 0}, {"batch_size": 0}]
)
def test_settings_out_of_range_are_refused(fault):
    with pytest.raises(SettingsError, match=next(iter(fault))):
        GenerationSettings(**fault)
