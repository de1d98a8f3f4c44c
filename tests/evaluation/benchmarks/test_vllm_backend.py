"""The harness on vLLM gives what it gives on transformers; runs where vLLM is, see `test_with_vllm.py`."""

import json

import pytest
import torch

pytest.importorskip("vllm", reason="vllm is not installed here; test_with_vllm.py runs this file where it is")
from lm_eval.api.instance import Instance
from transformers import LlamaConfig, LlamaForCausalLM

from evaluation.benchmarks.worlds import write_benchmark_data
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.benchmarks.harness import Harness, harness_versions
from fairplay.evaluation.benchmarks.loaded_model import LoadedModel
from fairplay.evaluation.benchmarks.results import run_benchmarks
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from models.tiny import ROPE, WORDS, make_tokenizer

GREEDY = {"until": ["###"], "max_gen_toks": 24, "do_sample": False, "temperature": 0}
TASKS = ("piqa", "truthfulqa_mc1", "gsm8k")


def save(folder, *, damage=False):
    tokenizer = make_tokenizer("starter")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(
        **{**ROPE, "hidden_size": 64, "max_position_embeddings": 1024}, vocab_size=len(tokenizer), **ids
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        if damage:
            model.lm_head.weight[5, 0] = float("nan")
    save_policy(Policy(model, tokenizer, "memory"), folder)
    return str(folder)


def adapter_of(policy, folder):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    wrapped = get_peft_model(
        LlamaForCausalLM.from_pretrained(policy), LoraConfig(r=8, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    wrapped.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmark_data(folder / "data")
    return folder, save(folder / "policy")


def settings(world, backend, *tasks):
    shots = {"gsm8k": 1} if "gsm8k" in tasks else {}
    return BenchmarkSettings(
        tasks=tasks, data=str(world[0] / "data"), backend=backend, dtype="float32", num_fewshot=shots, batch_size=4
    )


def instances(kind, more):
    texts = [" ".join(WORDS[start : start + 4 + start % 3]) for start in range(8)]
    return [Instance(kind, {}, (text, more(number)), number) for number, text in enumerate(texts)]


def log_probs(model):
    asked = instances("loglikelihood", lambda number: f" {WORDS[number]} {WORDS[-number - 1]}")
    return [value for value, _ in model.lm.loglikelihood(asked)]


def told_text(text):
    """An answer without what the harness decodes in two ways: control tokens, and a character that the limit cut."""
    return text.replace("<pad>", "").rstrip("\N{REPLACEMENT CHARACTER}")


def loaded_log_probs(source, chosen, work):
    model = LoadedModel(source, chosen, work)
    try:
        return log_probs(model)
    finally:
        model.close()


def test_every_value_item_log_prob_and_greedy_answer_is_that_of_transformers(world, tmp_path):
    found, told, answers = {}, {}, {}
    for backend in ("hf", "vllm"):
        chosen = settings(world, backend, *TASKS)
        model, harness = LoadedModel(world[1], chosen, tmp_path), Harness(chosen, tmp_path / backend)
        found[backend] = [harness.run(model, task) for task in TASKS]
        told[backend] = log_probs(model)
        answers[backend] = model.lm.generate_until(instances("generate_until", lambda _: dict(GREEDY)))
        model.close()
    assert [(one.value, one.items, one.others) for one in found["vllm"]] == [
        (one.value, one.items, one.others) for one in found["hf"]
    ]
    assert [one.num_fewshot for one in found["vllm"]] == [0, 0, 1]
    assert told["vllm"] == pytest.approx(told["hf"], abs=1e-4)
    assert list(map(told_text, answers["vllm"])) == list(map(told_text, answers["hf"]))
    assert len(set(answers["hf"])) > 4
    assert harness_versions("vllm")["vllm"]


def test_an_adapter_is_put_on_its_base_model(world, tmp_path):
    adapter = adapter_of(world[1], tmp_path / "adapter")
    told = {
        backend: loaded_log_probs(adapter, settings(world, backend, "piqa"), tmp_path) for backend in ("hf", "vllm")
    }
    base = loaded_log_probs(world[1], settings(world, "hf", "piqa"), tmp_path)
    assert told["vllm"] == pytest.approx(told["hf"], abs=1e-4)
    assert max(abs(one - other) for one, other in zip(told["hf"], base, strict=True)) > 0.05


@pytest.mark.parametrize("task", ["piqa", "gsm8k"])
def test_broken_weights_give_no_number(world, tmp_path, task):
    damaged = save(tmp_path / "damaged", damage=True)
    with pytest.raises(DataError, match=task):
        run_benchmarks(damaged, settings(world, "vllm", task), tmp_path / "out", seed=0, should_stop=lambda: False)
    assert not (tmp_path / "out" / f"{task}.json").exists()


def test_a_device_that_this_build_does_not_use_is_refused(world, tmp_path):
    from dataclasses import replace

    with pytest.raises(SettingsError, match="--device: vLLM can't be put on"):
        LoadedModel(world[1], replace(settings(world, "vllm", "piqa"), device="xpu"), tmp_path)


def test_the_verb_prints_results_alone(world, tmp_path, capfd):
    from fairplay.cli.main import run

    line = ["benchmarks", world[1], "--task", "piqa", "--data", str(world[0] / "data"), "--backend", "vllm"]
    assert run([*line, "--out", str(tmp_path / "out"), "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["benchmarks"][0]["task"] == "piqa"
