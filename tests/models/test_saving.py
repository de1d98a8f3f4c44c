"""Folders appear whole, load with plain transformers, and carry the same bytes wherever the policy came from."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from fairplay.errors import DataError, ResourceError, ServiceError, SettingsError
from fairplay.models.adapters import adapters_off, add_adapters, has_adapters, scoring_mode
from fairplay.models.loading import Policy, configure_threads, load_policy, load_tokenizer, resolve_device
from fairplay.models.saving import save_policy
from fairplay.models.settings import AdapterSettings, ModelSettings
from fairplay.models.token_logps import score_rows
from models.tiny import make_model, make_tokenizer

ROWS = [((5, 6, 7), (8, 9, 2)), ((11,), (12, 13))]
CPU = ModelSettings(device="cpu")


def policy(family="llama", style="chatml"):
    return Policy(make_model(family), make_tokenizer(style), source="memory")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@torch.no_grad()
def logps(model):
    return score_rows(model, ROWS, tile=64).logps


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_saved_folder_loads_with_plain_transformers(family, tmp_path):
    original = policy(family)
    save_policy(original, tmp_path / "a" / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a" / "model")
    assert torch.equal(logps(model.eval()), logps(original.model))
    assert tokenizer.chat_template == original.tokenizer.chat_template
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == original.model.generation_config.eos_token_id
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]
    names = {path.name for path in (tmp_path / "a" / "model").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}


def test_capped_scores_are_capped_in_a_loaded_model_and_change_what_it_says(tmp_path):
    original = policy("gemma2")
    for cap in (0.05, 50.0):
        original.model.config.attn_logit_softcapping = cap
        save_policy(original, tmp_path / str(cap))
    capped, plain = (load_policy(str(tmp_path / cap), CPU).model for cap in ("0.05", "50.0"))
    assert (logps(capped) - logps(plain)).abs().max() > 1e-3


def test_saving_what_was_loaded_gives_the_same_bytes_wherever_it_lay(tmp_path):
    save_policy(policy(), tmp_path / "first")
    save_policy(load_policy(str(tmp_path / "first"), CPU), tmp_path / "elsewhere" / "second")
    save_policy(load_policy(str(tmp_path / "elsewhere" / "second"), CPU), tmp_path / "third")
    assert contents(tmp_path / "elsewhere" / "second") == contents(tmp_path / "third")
    assert not any(str(tmp_path).encode() in data for data in contents(tmp_path / "third").values())


def test_a_folder_that_was_there_is_replaced_and_rests_of_a_kill_are_swept(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("x")
    (tmp_path / ".model.unfinished").mkdir()
    (tmp_path / ".model.unfinished" / "half").write_text("x")
    save_policy(policy(), tmp_path / "model")
    assert not (tmp_path / "model" / "old").exists()
    assert not (tmp_path / "model" / "half").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_folder_alone(tmp_path, monkeypatch):
    save_policy(policy(), tmp_path / "model")
    before = contents(tmp_path / "model")
    broken = policy("gpt2")
    monkeypatch.setattr(broken.tokenizer, "save_pretrained", lambda folder: (Path(folder) / "absent").read_text())
    with pytest.raises(FileNotFoundError):
        save_policy(broken, tmp_path / "model")
    assert contents(tmp_path / "model") == before


def test_a_generation_config_that_transformers_would_refuse_is_saved_and_the_policy_unchanged(tmp_path):
    original = policy()
    original.model.generation_config = GenerationConfig(eos_token_id=9, do_sample=False)
    original.model.generation_config.temperature = 0.6
    save_policy(original, tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").generation_config.eos_token_id == 9
    assert original.model.generation_config.do_sample is False


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapters_start_as_the_reference_learn_alone_and_merge_into_a_plain_folder(family, tmp_path):
    base = policy(family)
    start = logps(base.model)
    adapted = add_adapters(base, AdapterSettings(lora_r=4), seed=1)
    assert has_adapters(adapted.model)
    assert torch.equal(logps(adapted.model), start)
    learning = [name for name, parameter in adapted.model.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    optimizer = torch.optim.SGD([p for p in adapted.model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        score_rows(adapted.model, ROWS, tile=64).logps.sum().backward()
        optimizer.step()
    learned = logps(adapted.model)
    assert (learned - start).abs().max() > 1e-3
    with scoring_mode(adapted.model), adapters_off(adapted.model):
        assert torch.equal(logps(adapted.model), start)
    save_policy(adapted, tmp_path / "merged")
    assert torch.equal(logps(adapted.model), learned)
    merged = load_policy(str(tmp_path / "merged"), CPU)
    assert not has_adapters(merged.model)
    torch.testing.assert_close(logps(merged.model), learned, rtol=0, atol=1e-4)


def test_adapters_saved_alone_load_merged_over_their_base(tmp_path):
    save_policy(policy(), tmp_path / "base")
    adapted = add_adapters(load_policy(str(tmp_path / "base"), CPU), AdapterSettings(lora_r=4))
    for name, parameter in adapted.model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1
    save_policy(adapted, tmp_path / "adapter", merge_adapters=False)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    loaded = load_policy(str(tmp_path / "adapter"), CPU)
    torch.testing.assert_close(logps(loaded.model), logps(adapted.model), rtol=0, atol=1e-4)


def test_fresh_adapters_depend_on_their_seed_and_disturb_no_other_draw():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (
        {
            k: v.clone()
            for k, v in add_adapters(policy(), AdapterSettings(lora_r=2), seed=seed).model.state_dict().items()
        }
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], third[key]) for key in first if "lora_A" in key)


def test_adapter_modules_that_do_not_exist_are_refused():
    with pytest.raises(SettingsError, match="lora_target_modules"):
        add_adapters(policy(), AdapterSettings(lora_target_modules=("nothing_like_it",)))


def test_without_peft_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ResourceError) as refusal:
        add_adapters(policy(), AdapterSettings())
    assert "pip install 'fairplay[peft]'" in refusal.value.hint


def test_model_folders_that_are_not_there_or_not_models_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for source, reason in (
        (tmp_path / "absent", "no such model folder"),
        (tmp_path / "empty", "no config.json"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(DataError, match=reason) as refusal:
            load_policy(str(source), CPU)
        assert str(source) in refusal.value.message
        assert refusal.value.hint
    with pytest.raises(DataError, match="is empty"):
        load_tokenizer("")


def test_a_hub_that_cannot_be_reached_is_a_service_error_in_one_line():
    with pytest.raises(ServiceError, match="not in the cache, and access to the hub is switched off") as refusal:
        load_policy("nobody/nothing-like-it", CPU)
    assert "\n" not in refusal.value.message


def test_a_folder_without_a_chat_template_is_refused_at_once(tmp_path):
    original = policy()
    original.tokenizer.chat_template = None
    save_policy(original, tmp_path / "model")
    with pytest.raises(DataError, match="no chat template"):
        load_policy(str(tmp_path / "model"), CPU)


def test_settings_refuse_unknown_names_and_devices():
    with pytest.raises(SettingsError, match="did you mean `float32`"):
        ModelSettings(dtype="float23")
    with pytest.raises(SettingsError, match="lora_r"):
        AdapterSettings(lora_r=0)
    with pytest.raises(ResourceError, match="cuda:99"):
        resolve_device(ModelSettings(device="cuda:99"))
    with pytest.raises(SettingsError, match="not known to torch"):
        resolve_device(ModelSettings(device="gpu"))


def test_tiny_models_get_one_thread():
    configure_threads(460_000)
    assert torch.get_num_threads() == 1
