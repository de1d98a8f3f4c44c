"""Weights of 4 bits with adapters over them: they learn, resume, and are saved as adapters or as whole weights."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from fairplay.errors import Preempted, ResourceError, SettingsError
from fairplay.models.adapters import has_adapters
from fairplay.models.loading import Policy, load_policy
from fairplay.models.probe import choose_layout
from fairplay.models.quantised import is_quantised, keep_packing, whole_copy
from fairplay.models.saving import save_policy
from fairplay.models.settings import ModelSettings
from fairplay.models.token_logps import score_rows
from models.tiny import make_tokenizer
from training.test_loop import records
from training.test_resume import result, stop_after
from training.tiny import CPU, run, save_tiny_policy

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
NF4 = ModelSettings(device="cpu", load_in_4bit=True)
QLORA = {"model_settings": NF4, "use_peft": True, "lora_r": 4, "learning_rate": 1e-2, "num_train_epochs": 2}
ROWS = [((5, 6, 7), (8, 9, 2)), ((5, 6, 7), (12, 13)), ((11, 4), (3, 9, 9))]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


@torch.no_grad()
def logps(model, **options):
    return score_rows(model, ROWS, tile=64, **options).logps


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_every_layout_scores_weights_of_4_bits_alike(family, tmp_path):
    policy = load_policy(save_tiny_policy(tmp_path / "start", family=family), NF4)
    assert is_quantised(policy.model)
    assert choose_layout(policy.model, longest=96, trains=True).layout == "shared"
    torch.testing.assert_close(logps(policy.model, layout="shared"), logps(policy.model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("numbers", [{}, {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False}], ids=str)
def test_a_whole_copy_computes_the_same(numbers, dtype, start):
    policy = load_policy(start, ModelSettings(device="cpu", load_in_4bit=True, dtype=dtype, **numbers))
    whole = whole_copy(policy.model)
    assert not is_quantised(whole)
    assert {parameter.dtype for parameter in whole.parameters()} == {getattr(torch, dtype)}
    tolerance = 1e-5 if dtype == "float32" else 0.05
    torch.testing.assert_close(logps(whole), logps(policy.model), rtol=0, atol=tolerance)
    assert (logps(whole) - logps(load_policy(start, CPU).model)).abs().max() > 0.01  # what 4 bits have lost


def test_products_are_computed_in_the_dtype_that_is_asked_for(start):
    exact, rough = (
        load_policy(start, ModelSettings(device="cpu", load_in_4bit=True, bnb_4bit_compute_dtype=dtype)).model
        for dtype in ("", "bfloat16")
    )
    assert rough.dtype == torch.float32
    assert 1e-5 < (logps(exact) - logps(rough)).abs().max() < 0.1


@pytest.mark.parametrize(
    "extra", [{}, {"gradient_checkpointing": True, "lora_dropout": 0.2, "objective": "tdpo1"}], ids=str
)
def test_adapters_learn_and_go_on_with_the_same_bytes(extra, start, tmp_path):
    options = {**QLORA, **extra}
    summary = run(tmp_path / "unbroken", start, **options)
    assert summary.last_loss < summary.first_loss - 0.01
    with pytest.raises(Preempted, match="after step"):
        run(tmp_path / "stopped", start, **options, should_stop=stop_after(3 + 2))
    run(tmp_path / "stopped", start, **options)
    assert result(tmp_path / "stopped") == result(tmp_path / "unbroken")


def test_merged_or_alone_the_saved_policy_is_the_trained_one(start, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    for name, merged in (("merged", True), ("alone", False)):
        run(tmp_path / name, start, **QLORA, merge_adapters=merged)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(start, quantization_config=config, dtype=torch.float32)
    keep_packing(base)
    alone = peft.PeftModel.from_pretrained(base, tmp_path / "alone" / "policy").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged" / "policy")
    assert not hasattr(merged.config, "quantization_config")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    torch.testing.assert_close(logps(merged), logps(alone), rtol=0, atol=1e-5)
    assert (logps(merged) - logps(load_policy(start, NF4).model)).abs().max() > 0.01


def test_an_adapter_over_4_bits_goes_on_learning_from_where_it_stood(start, tmp_path):
    run(tmp_path / "first", start, **QLORA, merge_adapters=False)
    adapter = str(tmp_path / "first" / "policy")
    laid_over = load_policy(adapter, NF4).model  # for all but training
    assert has_adapters(laid_over)
    assert is_quantised(laid_over)
    run(tmp_path / "second", adapter, reference=start, **QLORA)
    assert records(tmp_path / "second")[0]["rewards/margins"] > 0.01


def test_all_weights_of_4_bits_are_not_trained(start, tmp_path):
    with pytest.raises(SettingsError, match="weights of 4 bits can't be trained") as refusal:
        run(tmp_path, start, model_settings=NF4)
    assert "use_peft" in refusal.value.hint
    save_policy(Policy(load_policy(start, NF4).model, make_tokenizer("starter"), "memory"), tmp_path / "rounded")
    with pytest.raises(SettingsError, match="weights of 4 bits can't be trained"):
        run(tmp_path, str(tmp_path / "rounded"))


def test_settings_without_effect_and_dtypes_that_are_not_there_are_refused():
    with pytest.raises(SettingsError, match="without effect"):
        ModelSettings(bnb_4bit_quant_type="fp4")
    with pytest.raises(SettingsError, match="float64"):
        ModelSettings(load_in_4bit=True, dtype="float64")
    with pytest.raises(SettingsError, match="nf4"):
        ModelSettings(load_in_4bit=True, bnb_4bit_quant_type="nf5")


def test_without_bitsandbytes_the_command_that_installs_it_is_named(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ResourceError) as refusal:
        load_policy(start, NF4)
    assert "pip install 'fairplay[qlora]'" in refusal.value.hint
