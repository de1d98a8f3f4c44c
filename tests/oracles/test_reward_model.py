"""The reward-model oracle reads what the classifier alone would read, one logit a text."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from fairplay.errors import DataError
from fairplay.oracles.calibrating import fitted_temperature
from fairplay.oracles.facts import OracleFacts, write_facts
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.reward_model import fit
from fairplay.oracles.rule import RuleOracle
from fairplay.oracles.table import build_oracle
from models.tiny import ROPE, SIZES, make_model, make_tokenizer
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


def test_several_labels_are_no_preference_without_weights(tmp_path):
    with pytest.raises(DataError, match="has 3 labels, and label_weights for 1"):
        build(save_reward_model(tmp_path / "classes", num_labels=3))


def test_several_labels_are_summed_by_their_weights(tmp_path):
    folder = save_reward_model(tmp_path / "objectives", num_labels=3)
    group = group_of("red", "green green cat", "seven")
    weights = (0.5, 2.0, -1.0)
    parts = [build(folder, label_weights=one).pair_logits([group])[0] for one in np.eye(3).tolist()]
    (judged,) = build(folder, label_weights=weights).pair_logits([group])
    expected = sum(weight * np.asarray(part.pair_logits) for weight, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(judged.pair_logits, expected, atol=1e-5)


def test_what_oracle_json_says_is_kept_with_the_weights(tmp_path):
    folder = save_reward_model(tmp_path / "objectives", num_labels=2)
    write_facts(folder, OracleFacts(temperature=0.02, label_weights=(1.0, -1.0)))
    kept, said = build(folder, temperature=3.0), build(folder, label_weights=(1.0, -1.0))
    assert kept.temperature == pytest.approx(0.06)
    group = group_of("red", "green")
    assert kept.pair_logits([group]) == said.pair_logits([group])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"temperature": 0}', "temperature must be a positive number, not 0"),
        ('{"temperature": "1"}', "temperature must be a positive number"),
        ('{"temperatur": 1}', "unknown key `temperatur`"),
        ('{"label_weights": [1, "x"]}', "label_weights must be a list of numbers"),
        ("[1]", "holds no JSON object"),
        ("{", "can't be read"),
    ],
)
def test_a_damaged_oracle_json_is_refused(text, message, tmp_path):
    folder = save_reward_model(tmp_path / "reward")
    (folder / "oracle.json").write_text(text)
    with pytest.raises(DataError, match=message):
        build(folder)


def test_a_bounded_score_gets_probabilities_by_a_fitted_temperature(tmp_path):
    """Scores within [0, 1], labels that follow a Bradley-Terry model of 50 nats a point: T is near 1 / 50."""
    draw = np.random.default_rng(0)
    quality = {f"text {number}": float(score) for number, score in enumerate(draw.uniform(0.4, 0.6, 400))}
    oracle = RuleOracle(lambda prompt, text: quality[text], identity="bounded")
    groups, labels = [], []
    for number in range(0, 400, 2):
        one, other = f"text {number}", f"text {number + 1}"
        wins = draw.random() < 1 / (1 + np.exp(-50 * (quality[one] - quality[other])))
        groups.append(group_of(one, other, prompt_id=str(number)))
        labels.append((1.0, 0.0) if wins else (0.0, 1.0))
    assert fitted_temperature(oracle, groups, labels) == pytest.approx(1 / 50, rel=0.35)
    with pytest.raises(DataError, match="no pair is labelled"):
        fitted_temperature(oracle, groups, [(1.0, 1.0)] * len(groups))


def test_an_architecture_that_is_not_in_transformers_is_never_replaced_by_another(tmp_path):
    folder = save_reward_model(tmp_path / "qrm")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["LlamaForRewardModelWithGating31"],
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating31"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        DataError, match="LlamaForRewardModelWithGating31 is no architecture of transformers"
    ) as refused:
        build(folder)
    assert "never run" in refused.value.message
    assert "kind: recorded" in refused.value.hint


def test_a_language_model_is_no_reward_model_with_a_random_head(tmp_path):
    tokenizer = make_tokenizer("starter")
    make_model("llama").save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    with pytest.raises(DataError, match=r"is no reward model, it has no score\.weight"):
        build(tmp_path / "policy")


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        build(tmp_path / "nowhere")


def test_a_reward_that_is_no_number_is_refused_naming_the_prompt(tmp_path):
    oracle = build(save_reward_model(tmp_path / "reward"))
    oracle.model.score.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="prompt p0: the score of response 0 is nan"):
        oracle.pair_logits(make_groups(2))


def test_the_block_on_the_page_keeps_a_fitted_temperature(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    folder = save_reward_model(tmp_path / "my-reward-model")
    monkeypatch.chdir(tmp_path)
    groups = make_groups(12)
    scores = [tuple(len(response.text) for response in group.responses) for group in groups]
    exec(block, {"groups": groups, "scores": scores})
    kept = json.loads((folder / "oracle.json").read_text())["temperature"]
    assert build(folder).temperature == kept
    assert kept != 1.0
