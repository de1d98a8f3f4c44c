"""ArmoRM's layout is scored as its formula says, by a gate that reads the prompt and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaModel

from fairplay.errors import DataError
from fairplay.oracles.calibrating import fitted_temperature
from fairplay.oracles.facts import OracleFacts, write_facts
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.reward_model import RewardModelOracle
from models.tiny import LLAMA3, ROPE, make_tokenizer
from oracles.tiny import group_of, make_groups

OBJECTIVES, WIDTH, TEMPERATURE = 5, 12, 2.5
HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
SHAPES = {
    "regression_layer.weight": (OBJECTIVES, 32),
    "reward_transform_matrix": (OBJECTIVES, OBJECTIVES),
    "gating.layers.0.weight": (WIDTH, 32),
    "gating.layers.0.bias": (WIDTH,),
    "gating.layers.1.weight": (WIDTH, WIDTH),
    "gating.layers.1.bias": (WIDTH,),
    "gating.layers.2.weight": (OBJECTIVES, WIDTH),
    "gating.layers.2.bias": (OBJECTIVES,),
    "gating.logit_scale": (1,),
}


def save_armo(folder: Path, *, template: str = LLAMA3, style: str = "llama3", **changes) -> Path:
    """A random checkpoint by the published names; the file is written tensor by tensor, not by the code under test."""
    tokenizer = make_tokenizer(style, template=template)
    config = LlamaConfig(**ROPE, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    draw = torch.Generator().manual_seed(4)
    body = {f"model.{name}": value.clone() for name, value in LlamaModel(config).state_dict().items()}
    heads = {name: torch.empty(shape) for name, shape in SHAPES.items()}
    for name, value in (body | heads).items():
        value.normal_(std=0.3 if value.dim() == 2 else 0.1, generator=draw)
        value += 1.0 if "norm" in name or "scale" in name else 0.0
    folder.mkdir()
    save_file(body | heads, folder / "model.safetensors", metadata={"format": "pt"})
    about = config.to_dict() | {
        "architectures": ["LlamaForRewardModelWithGating"],
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
        "num_objectives": OBJECTIVES,
        "gating_hidden_dim": WIDTH,
        "gating_n_hidden": 2,
        "gating_temperature": TEMPERATURE,
    }
    (folder / "config.json").write_text(json.dumps(about | changes))
    (folder / "modeling_custom.py").write_text("raise SystemExit('the code beside the weights was run')\n")
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path, **options) -> RewardModelOracle:
    return RewardModelOracle.load(RewardModelSettings(model=str(folder), **options))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def score_by_hand(folder: Path, text: str) -> float:
    """The published formula on one unpadded row, all in float64, from transformers' own body."""
    weights = {name: value.double().numpy() for name, value in load_file(folder / "model.safetensors").items()}
    rendered = f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nwhat is the red cat?<|eot_id|>{HEADER}"
    tokenizer = make_tokenizer("llama3")
    prompt = tokenizer(rendered, add_special_tokens=False).input_ids
    place = len(prompt) - len(tokenizer(f"<|eot_id|>{HEADER}", add_special_tokens=False).input_ids)
    ids = tokenizer(f"{rendered}{text}<|eot_id|>", add_special_tokens=False).input_ids
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(ids[place]) == "<|eot_id|>"
    body = LlamaModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        states = body(torch.tensor([ids])).last_hidden_state[0].numpy()
    inner = states[place]
    for number in (0, 1):
        layer = f"gating.layers.{number}"
        inner = np.maximum(weights[f"{layer}.weight"] @ inner + weights[f"{layer}.bias"], 0)
    logits = (weights["gating.layers.2.weight"] @ inner + weights["gating.layers.2.bias"]) / TEMPERATURE
    gate = np.exp(logits) / np.exp(logits).sum() * weights["gating.logit_scale"][0]
    rewards = (weights["regression_layer.weight"] @ states[-1]) @ weights["reward_transform_matrix"]
    return float(gate @ rewards)


TEXTS = ("red", "green green cat " * 6, "seven")


def test_the_score_is_the_published_formula_whatever_stands_beside_it(tmp_path):
    folder = save_armo(tmp_path / "armo")
    oracle = load(folder)
    expected = [score_by_hand(folder, text.strip()) for text in TEXTS]
    group = group_of(*(text.strip() for text in TEXTS))
    rows = [oracle.row(group.prompt, response.text) for response in group.responses]
    with torch.no_grad():
        together = oracle.rewards(rows)
        alone = torch.cat([oracle.rewards([row]) for row in rows])
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0.1
    (judged,) = oracle.pair_logits([group])
    np.testing.assert_allclose(judged.pair_logits, np.subtract.outer(expected, expected), atol=1e-4)


def test_the_gate_reads_the_prompt_only(tmp_path):
    oracle = load(save_armo(tmp_path / "armo"))
    seen: list[torch.Tensor] = []
    oracle.model.gating.register_forward_hook(lambda gate, states, weights: seen.append(weights))
    texts = ("red", "green cat " * 9, f"red<|eot_id|>{HEADER}seven")  # the last one only looks like another turn
    prompt = group_of("red").prompt
    rows = [oracle.row(prompt, text) for text in texts]
    rows.append(oracle.row(group_of("red", question="two apple please").prompt, "red"))
    with torch.no_grad():
        rewards = oracle.rewards(rows)
    (weights,) = seen
    assert rewards.unique().numel() == 4
    torch.testing.assert_close(weights[:3], weights[:1].expand(3, -1))
    assert (weights[3] - weights[0]).abs().max() > 1e-3


def test_of_several_turns_the_last_prompt_is_weighed(tmp_path):
    oracle = load(save_armo(tmp_path / "armo"))
    ids = oracle.row(group_of("red").prompt, "red").ids
    place = oracle.model.gate_place(ids)
    assert oracle.model.gate_place((*ids, *ids)) == place + len(ids)


def test_heads_stay_float32_beside_a_body_of_half_the_width(tmp_path):
    folder = save_armo(tmp_path / "armo")
    model = load(folder, dtype="bfloat16").model
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    weights, kept = load_file(folder / "model.safetensors"), model.state_dict()
    assert all(torch.equal(kept[name], weights[name]) for name in SHAPES)
    assert load(folder, dtype="bfloat16").pair_logits(make_groups(2))


def test_a_prompt_that_no_assistant_header_ends_is_refused_by_name(tmp_path):
    other = LLAMA3.replace("assistant<|end", "helper<|end").replace("{{ m.role }}", "{{ m.role[:6] }}")
    other = other.replace("{{ m.role[:6] }}", "{{ 'helper' if m.role == 'assistant' else m.role }}")
    oracle = load(save_armo(tmp_path / "armo", template=other))
    with pytest.raises(DataError, match="prompt p7: no assistant's turn begins in what is read"):
        oracle.pair_logits([group_of("red", "seven", prompt_id="p7")])


def test_a_tokenizer_without_llama_3s_control_tokens_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"the tokenizer has no <\|eot_id\|>"):
        load(save_armo(tmp_path / "armo", style="chatml"))


@pytest.mark.parametrize("name", SHAPES)
def test_a_checkpoint_without_one_of_its_tensors_is_refused(name, tmp_path):
    folder = save_armo(tmp_path / "armo")
    change_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(DataError, match=f"it has no {name}"):
        load(folder)


def test_a_checkpoint_with_a_tensor_too_many_or_of_another_shape_is_refused(tmp_path):
    folder = save_armo(tmp_path / "armo")
    change_weights(folder, lambda weights: weights.update({"gating.layers.3.bias": torch.zeros(3)}))
    with pytest.raises(DataError, match=r"has gating\.layers\.3\.bias, which is no part of LlamaForRewardModelWithG"):
        load(folder)
    quantiles = save_armo(tmp_path / "quantiles")
    change_weights(quantiles, lambda weights: weights.update({"regression_layer.weight": torch.zeros(10, 32)}))
    with pytest.raises(DataError, match="no reward model could be loaded"):
        load(quantiles)


def test_pickled_weights_are_not_read(tmp_path):
    folder = save_armo(tmp_path / "armo")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no reward model could be loaded"):
        load(folder)


@pytest.mark.parametrize("changes", [{"gating_temperature": 0}, {"gating_n_hidden": 2.5}, {"num_objectives": "5"}])
def test_a_config_that_cannot_be_is_refused_naming_the_key(changes, tmp_path):
    with pytest.raises(DataError, match=f"`{next(iter(changes))}` of its config is "):
        load(save_armo(tmp_path / "armo", **changes))


def test_objectives_are_weighed_by_the_gate_and_not_by_label_weights(tmp_path):
    with pytest.raises(DataError, match="has 1 labels, and label_weights for 5"):
        load(save_armo(tmp_path / "armo"), label_weights=(1.0,) * OBJECTIVES)


def test_a_fitted_temperature_is_kept_beside_it_and_applies(tmp_path):
    folder = save_armo(tmp_path / "armo")
    groups = [group_of("red", "green green cat", prompt_id=str(i), question=f"what is {i}?") for i in range(8)]
    labels = [(1.0, 0.0), (0.0, 1.0)] * 4
    write_facts(folder, OracleFacts(temperature=fitted_temperature(load(folder), groups, labels)))
    kept = json.loads((folder / "oracle.json").read_text())["temperature"]
    assert load(folder).temperature == kept != 1.0
