"""The reward-model oracle reads what the classifier alone would read, one logit a text."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from fairplay.errors import DataError
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.reward_model import fit
from fairplay.oracles.table import build_oracle
from models.tiny import ROPE, SIZES, make_tokenizer
from oracles.tiny import group_of, make_groups


def save_reward_model(folder: Path, *, num_labels: int = 1, chat: bool = True, family: str = "llama") -> Path:
    tokenizer = make_tokenizer("starter")
    common = {"vocab_size": len(tokenizer), "num_labels": num_labels, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(**ROPE, **common) if family == "llama" else BertConfig(**SIZES, **common)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    if not chat:
        tokenizer.chat_template = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if family == "bert":
        path = folder / "tokenizer_config.json"
        names = ["input_ids", "token_type_ids", "attention_mask"]
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))
    return folder


def build(folder: Path, **options):
    return build_oracle(RewardModelSettings(model=str(folder), **options))


def reward(folder: Path, **inputs) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**{name: torch.tensor([ids]) for name, ids in inputs.items()}).logits.item()


def test_logits_are_differences_of_the_classifiers_own_rewards(tmp_path):
    folder = save_reward_model(tmp_path / "reward")
    tokenizer = make_tokenizer("starter")
    group = group_of("red", "green green cat", "seven")
    rewards = [
        reward(
            folder, input_ids=tokenizer(f"<|user|>what is the red cat?<|end|><|assistant|>{r.text}<|end|>").input_ids
        )
        for r in group.responses
    ]
    oracle = build(folder, temperature=2.0)
    (judged,) = oracle.pair_logits([group])
    np.testing.assert_allclose(judged.pair_logits, np.subtract.outer(rewards, rewards), atol=1e-5)
    assert oracle.name.startswith("reward_model:reward@")
    assert oracle.temperature == 2.0


def test_without_a_chat_template_prompt_and_response_are_a_pair_with_their_types(tmp_path):
    folder = save_reward_model(tmp_path / "reward", chat=False, family="bert")
    tokenizer = make_tokenizer("starter")
    group = group_of("red", "green green cat")
    rewards = []
    for response in group.responses:
        prompt_ids, response_ids = tokenizer("what is the red cat?").input_ids, tokenizer(response.text).input_ids
        types = [0] * len(prompt_ids) + [1] * len(response_ids)
        rewards.append(reward(folder, input_ids=prompt_ids + response_ids, token_type_ids=types))
    (judged,) = build(folder).pair_logits([group])
    assert judged.pair_logits[0][1] == pytest.approx(rewards[0] - rewards[1], abs=1e-5)


def test_long_texts_are_cut_for_each_alone_and_flagged(tmp_path):
    folder = save_reward_model(tmp_path / "reward")
    oracle = build(folder, max_length=24)
    (judged,) = oracle.pair_logits([group_of("red", "green cat " * 30)])
    assert judged.truncated == (False, True)
    (beside_another,) = oracle.pair_logits([group_of("red", "green cat " * 30, "seven apple " * 20)])
    np.testing.assert_allclose(np.asarray(beside_another.pair_logits)[:2, :2], judged.pair_logits, atol=1e-5)


def test_the_prompt_loses_its_beginning_and_the_response_its_end_but_not_the_last_token():
    assert fit((1, 2, 3), (4, 5), max_length=5).ids == (1, 2, 3, 4, 5)
    assert fit((1, 2, 3, 6), (4, 5), max_length=5).ids == (2, 3, 6, 4, 5)
    cut = fit((1, 2, 3, 4), (5, 6, 7, 8, 9), max_length=6)
    assert (cut.ids, cut.num_prompt_tokens, cut.cut) == ((2, 3, 4, 5, 6, 9), 3, True)
    assert fit((1,), tuple(range(2, 12)), max_length=4).ids == (1, 2, 3, 11)


def test_several_labels_are_no_preference(tmp_path):
    with pytest.raises(DataError, match="has 3 labels, a reward model has one"):
        build(save_reward_model(tmp_path / "classes", num_labels=3))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        build(tmp_path / "nowhere")


def test_a_reward_that_is_no_number_is_refused_naming_the_prompt(tmp_path):
    oracle = build(save_reward_model(tmp_path / "reward"))
    oracle.model.score.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p0: the score of response 0 is nan"):
        oracle.pair_logits(make_groups(2))
