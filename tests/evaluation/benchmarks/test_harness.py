"""Benchmarks through the harness on a tiny model with local data, beside the harness's own command."""

import json
import subprocess
import sys

import pytest
import torch

from evaluation.benchmarks.worlds import write_benchmark_data, write_lines, write_punkt
from fairplay.errors import DataError, Preempted, ResourceError, SettingsError
from fairplay.evaluation.benchmarks.harness import Harness
from fairplay.evaluation.benchmarks.loaded_model import LoadedModel
from fairplay.evaluation.benchmarks.results import alignment_tax, run_benchmarks
from fairplay.evaluation.benchmarks.settings import BenchmarkSettings
from fairplay.models.loading import Policy
from fairplay.models.saving import save_policy
from models.tiny import make_model, make_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def save(folder, *, seed=0, damage=False):
    torch.manual_seed(seed)
    model = make_model("llama")
    model.config.max_position_embeddings = 4096
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        if damage:
            next(model.parameters())[0, 0] = float("nan")
    save_policy(Policy(model, make_tokenizer("starter"), "memory"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmark_data(folder / "data")
    return folder, save(folder / "policy"), save(folder / "start", seed=1)


@pytest.fixture(autouse=True)
def nltk_data(tmp_path_factory, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(write_punkt(tmp_path_factory.mktemp("nltk")))])


def settings(world, *tasks, **options):
    return BenchmarkSettings(**{"tasks": tasks, "data": str(world[0] / "data"), "device": "cpu", **options})


def run(world, model, folder, *tasks, **options):
    return run_benchmarks(model, settings(world, *tasks, **options), folder, seed=0, should_stop=lambda: False)


def test_items_values_and_shots_of_multiple_choice(world, tmp_path):
    found = run(world, world[1], tmp_path, "piqa", "truthfulqa_mc1", num_fewshot={"piqa": 3})
    piqa, truthful = found["benchmarks"]
    assert (piqa["n"], piqa["num_fewshot"], truthful["num_fewshot"]) == (6, 3, 0)
    assert "acc_norm,none" in piqa["others"]
    assert all(row["value_ci"][0] <= row["value"] <= row["value_ci"][1] for row in found["benchmarks"])
    assert found["versions"]["lm_eval"]


def test_without_a_device_a_machine_without_cuda_computes_on_its_cpu(world, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert LoadedModel(world[1], settings(world, "piqa", device=""), tmp_path).lm.device == torch.device("cpu")


def test_the_difference_of_two_checkpoints_is_paired(world, tmp_path):
    for name, model in (("a", world[1]), ("b", world[2])):
        run(world, model, tmp_path / name, "piqa")
    (row,) = alignment_tax(tmp_path / "a", tmp_path / "b", ("piqa",), num_bootstrap=500, seed=0)
    assert row["difference"] == pytest.approx(row["ours"] - row["theirs"])
    assert row["difference_ci"][0] <= row["difference"] <= row["difference_ci"][1]


def test_finished_benchmarks_are_kept_until_something_changes(world, tmp_path):
    first = run(world, world[1], tmp_path, "piqa")
    stopped = settings(world, "piqa")
    again = run_benchmarks(world[1], stopped, tmp_path, seed=0, should_stop=lambda: True)
    assert again == first
    with pytest.raises(Preempted, match="piqa"):  # another model is not answered for by the first
        run_benchmarks(world[2], stopped, tmp_path, seed=0, should_stop=lambda: True)
    with pytest.raises(Preempted, match="piqa"):
        run_benchmarks(
            world[1], settings(world, "piqa", num_fewshot={"piqa": 1}), tmp_path, seed=0, should_stop=lambda: True
        )


@pytest.mark.parametrize("task", ["ifeval", "truthfulqa_mc1"])
def test_shots_that_the_harness_would_ignore_are_refused(world, tmp_path, task):
    with pytest.raises(SettingsError, match="pins 0"):
        Harness(settings(world, task, num_fewshot={task: 3}), tmp_path)


def test_log_probs_that_are_no_numbers_invalidate_a_benchmark(world, tmp_path):
    damaged = save(tmp_path / "damaged", damage=True)
    with pytest.raises(DataError, match="truthfulqa_mc1: the log-prob of an answer to item 0"):
        run(world, damaged, tmp_path / "out", "truthfulqa_mc1")
    assert not (tmp_path / "out" / "truthfulqa_mc1.json").exists()


def test_logits_that_are_no_numbers_invalidate_generated_answers(world, tmp_path):
    chosen = settings(world, "gsm8k", limit=1, num_fewshot={"gsm8k": 1})
    model = LoadedModel(save(tmp_path / "damaged", damage=True), chosen, tmp_path)
    with pytest.raises(DataError, match="gsm8k: the model's logits are not finite"):
        Harness(chosen, tmp_path / "work").run(model, "gsm8k")


def test_an_adapter_gives_what_its_merged_model_gives_and_not_what_its_base_gives(world, tmp_path):
    from lm_eval.api.instance import Instance
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(3)
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(world[1]), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter += torch.randn_like(parameter)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = Policy(wrapped.merge_and_unload(), AutoTokenizer.from_pretrained(world[1]), "memory")
    save_policy(merged, tmp_path / "merged")

    def told(source):
        asked = [Instance("loglikelihood", {}, (f"red {word}", " cat two"), 0) for word in ("blue", "one", "dog")]
        return [value for value, _ in LoadedModel(source, settings(world, "piqa"), tmp_path).lm.loglikelihood(asked)]

    adapted, whole, base = (told(str(source)) for source in (tmp_path / "adapter", tmp_path / "merged", world[1]))
    assert adapted == pytest.approx(whole, abs=1e-4)
    assert max(abs(one - other) for one, other in zip(adapted, base, strict=True)) > 0.05
    row = run(world, str(tmp_path / "adapter"), tmp_path / "out", "piqa")["benchmarks"][0]
    again = run(world, str(tmp_path / "merged"), tmp_path / "again", "piqa")["benchmarks"][0]
    assert (row["value"], row["others"]) == (again["value"], again["others"])


def test_a_cut_prompt_is_counted(world, tmp_path):
    data = tmp_path / "data"
    rows = [{"goal": "red " * length, "sol1": "cat", "sol2": "two", "label": 0} for length in (2, 5000, 3)]
    for split in ("train", "validation"):
        write_lines(data / "piqa" / f"{split}.jsonl", rows)
    (row,) = run(world, world[1], tmp_path / "out", "piqa", data=str(data))["benchmarks"]
    assert (row["num_truncated"], row["n"]) == (1, 3)


def test_missing_data_unknown_tasks_and_missing_punkt_are_named(world, tmp_path, monkeypatch):
    import nltk

    with pytest.raises(DataError, match="no such folder"):
        Harness(settings(world, "piqa", data=str(tmp_path)), tmp_path / "work")
    (tmp_path / "piqa").mkdir()
    with pytest.raises(DataError, match="no data of `piqa`"):
        Harness(settings(world, "piqa", data=str(tmp_path)), tmp_path / "work")
    write_lines(tmp_path / "piqa" / "train.jsonl", [{"goal": "a"}])
    with pytest.raises(DataError, match="split `validation`"):
        Harness(settings(world, "piqa", data=str(tmp_path)), tmp_path / "work")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(ResourceError, match="punkt_tab"):
        Harness(settings(world, "ifeval"), tmp_path / "work")


def test_settings_are_checked():
    for wrong in (
        {"backend": "tpu"},
        {"tasks": ("piqa", "piqa")},
        {"num_fewshot": {"arc": 1}},
        {"num_fewshot": {"piqa": -1}},
        {"limit": -1},
        {"batch_size": 0},
        {"num_bootstrap": 10},
    ):
        with pytest.raises(SettingsError):
            BenchmarkSettings(**wrong)


HARNESS = """
import sys, nltk
nltk.data.path[:] = [sys.argv.pop(1)]
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
"""


@pytest.mark.slow
def test_all_five_equal_the_harnesss_own_command(world, tmp_path):
    tasks = ("gsm8k", "ifeval", "piqa", "mmlu", "truthfulqa_mc1")
    found = run(world, world[1], tmp_path / "ours", *tasks, num_fewshot={"gsm8k": 2, "piqa": 3}, limit=2)
    ours = {row["task"]: row for row in found["benchmarks"]}
    punkt = write_punkt(tmp_path / "nltk")
    for task in tasks:
        shots = ["--num_fewshot", str(ours[task]["num_fewshot"])] if task in ("gsm8k", "piqa") else []
        command = ["--model", "hf", "--model_args", f"pretrained={world[1]},dtype=float32", "--tasks", task]
        command += ["--device", "cpu", "--batch_size", "8", "--limit", "2", "--output_path", str(tmp_path / task)]
        command += ["--include_path", str(tmp_path / "ours" / ".task-files"), *shots]
        subprocess.run([sys.executable, "-c", HARNESS, str(punkt), *command], check=True, capture_output=True)
        (path,) = (tmp_path / task).rglob("results_*.json")
        theirs = json.loads(path.read_text())["results"][task]
        numbers = {f"{ours[task]['metric']},{ours[task]['filter']}": ours[task]["value"], **ours[task]["others"]}
        assert {key: theirs[key] for key in numbers} == numbers, task
