"""Adapters that learn: the reference lies within the policy's own weights, and an adapter's folder goes on learning."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from fairplay.errors import Preempted, SettingsError
from fairplay.models.adapters import adapters_off, add_adapters
from fairplay.models.loading import load_policy
from fairplay.models.settings import AdapterSettings
from fairplay.models.token_logps import score_rows
from fairplay.training.settings import TrainingSettings
from training.test_loop import records
from training.test_resume import result, stop_after
from training.tiny import EXACT, run, save_tiny_policy

ROWS = [((5, 6, 7), (8, 9, 2)), ((11,), (12, 13))]
LORA = {"use_peft": True, "lora_r": 4, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


@pytest.fixture(scope="module")
def adapter(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    run(folder, start, **LORA, merge_adapters=False)
    return str(folder / "policy")


@pytest.fixture
def loads(monkeypatch):
    """The folders from which models were loaded."""
    found, load = [], AutoModelForCausalLM.from_pretrained

    def counted(source, **options):
        found.append(source)
        return load(source, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counted)
    return found


def twin(folder, source):
    """The same weights in a folder of another content, so that they count as another model."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "twin": 1}))
    return str(folder)


def learned(folder):
    """Weights, and losses and margins of all steps."""
    kept = ("loss", "rewards/margins", "grad_norm")
    told = [{name: record[name] for name in kept} for record in records(folder)]
    return result(folder)[0]["model.safetensors"], told


@pytest.mark.parametrize("extra", [{}, {"gradient_checkpointing": True, "lora_dropout": 0.3}], ids=str)
@pytest.mark.parametrize("objective", ["dpo", "tdpo2"])
def test_the_reference_of_fresh_adapters_takes_no_second_model(objective, extra, start, loads, tmp_path):
    options = {**LORA, "objective": objective, **extra}
    own = run(tmp_path / "own", start, **options)
    assert loads == [start]
    other = twin(tmp_path / "twin", start)
    second = run(tmp_path / "second", start, reference=other, **options)
    assert set(loads[1:]) == {start, other}
    assert learned(tmp_path / "own") == learned(tmp_path / "second")
    if objective == "tdpo2":  # whose reference stays in memory
        assert second.memory["weights"] > 1.8 * own.memory["weights"]


@pytest.mark.parametrize("objective", ["dpo", "tdpo2"])
def test_the_reference_below_an_adapter_takes_no_second_model(objective, start, adapter, loads, tmp_path):
    options = {**LORA, "objective": objective}
    run(tmp_path / "own", adapter, reference=start, **options)
    assert loads == [start]
    assert records(tmp_path / "own")[0]["rewards/margins"] > 0.01  # it begins where the adapter stands
    other = twin(tmp_path / "twin", start)
    run(tmp_path / "second", adapter, reference=other, **options)
    assert set(loads[1:]) == {start, other}
    assert learned(tmp_path / "own") == learned(tmp_path / "second")


def test_dropout_in_adapters_that_the_reference_has_too_is_refused_before_the_first_step(start, adapter, tmp_path):
    with pytest.raises(SettingsError, match="lora_dropout: the reference has the policy's adapters") as caught:
        run(tmp_path / "own", adapter, **LORA, lora_dropout=0.5)
    assert "lora_dropout: 0" in caught.value.hint
    assert not (tmp_path / "own" / "work" / "metrics.jsonl").exists()
    run(tmp_path / "below", adapter, **LORA, lora_dropout=0.5, reference=start)
    run(tmp_path / "free", adapter, **LORA, lora_dropout=0.5, objective="simpo")


def test_saved_alone_or_merged_adapters_are_the_same_policy(start, adapter, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    run(tmp_path, start, **LORA)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    alone = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(start), adapter)
    ids = torch.arange(3, 20)[None]
    torch.testing.assert_close(alone(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert not (Path(adapter) / "model.safetensors").exists()


def test_an_adapter_that_was_stopped_goes_on_with_the_same_bytes(start, adapter, tmp_path):
    options = {**LORA, "lora_dropout": 0.2, "objective": "tdpo2", "reference": start, "merge_adapters": False}
    run(tmp_path / "unbroken", adapter, **options)
    with pytest.raises(Preempted, match="after step"):
        run(tmp_path / "stopped", adapter, **options, should_stop=stop_after(3))
    run(tmp_path / "stopped", adapter, **options)
    assert result(tmp_path / "stopped") == result(tmp_path / "unbroken")


def test_an_adapter_of_another_shape_is_refused(start, adapter, tmp_path):
    with pytest.raises(SettingsError, match="lora_r 4, not 8"):
        run(tmp_path, adapter, use_peft=True, lora_r=8)
    with pytest.raises(SettingsError, match="lora_target_modules"):
        run(tmp_path, adapter, **LORA, lora_target_modules=("q_proj",))


def test_a_pass_without_adapters_stops_none_from_learning(tmp_path):
    start = save_tiny_policy(tmp_path / "start", family="qwen2")  # whose head is a weight of its own
    policy = add_adapters(
        load_policy(start, EXACT), AdapterSettings(lora_r=2, lora_target_modules=("q_proj", "lm_head"))
    )
    base = load_policy(start, EXACT).model
    plain = score_rows(base, ROWS, tile=2).logps
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data += torch.linspace(0, 1, parameter.numel()).reshape(parameter.shape)
    scores, beside = (
        score_rows(policy.model, ROWS, tile=2, statistics=frozenset({"kl_policy_ref"}), reference=reference)
        for reference in (policy.model, base)
    )
    with adapters_off(policy.model):
        assert torch.equal(score_rows(policy.model, ROWS, tile=2).logps, plain)
    assert (scores.logps - plain).abs().max() > 1e-3
    assert torch.equal(scores.statistics["kl_policy_ref"], beside.statistics["kl_policy_ref"])
    assert scores.statistics["kl_policy_ref"].max() > 1e-3
    scores.logps.sum().backward()
    assert all(p.grad is not None for n, p in policy.model.named_parameters() if "lora_" in n)


def test_to_save_adapters_alone_needs_adapters():
    with pytest.raises(ValueError, match="merge_adapters: without effect"):
        TrainingSettings(merge_adapters=False)
