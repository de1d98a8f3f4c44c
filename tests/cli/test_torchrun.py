"""Under torchrun and accelerate the first process runs the command, all train, and every failure ends all."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fairplay.data.writing import write_examples
from training.tiny import make_examples, save_tiny_policy

RECIPE = """
name: together
model: start
objective: {name: dpo}
training: {learning_rate: 1.0e-3, per_device_train_batch_size: 4, max_length: 96, max_prompt_length: 48}
loading: {device: cpu}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    save_tiny_policy(tmp_path / "start")
    examples = [replace(example, win_rates=(), labels=(), scores=()) for example in make_examples(20)]
    write_examples(examples, tmp_path / "data.jsonl")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
}


def fairplay(folder, *arguments, launcher="torchrun"):
    places = [str(Path(__file__).parents[2] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "fairplay", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_training_is_started_by_a_launcher_takes_both_processes_and_prints_its_figures_once(launcher, folder):
    done = fairplay(folder, "train", "recipe.yaml", "--data", "data.jsonl", "--out", "out", launcher=launcher)
    assert done.returncode == 0, done.stderr
    known = json.loads((folder / "out" / "iteration-1" / "5-checkpoint" / "processes.json").read_text())
    assert known["num_processes"] == 2
    assert (folder / "out" / "iteration-1" / "5-checkpoint" / "model" / "config.json").is_file()
    assert done.stdout.count("loss") == 1
    assert "3 steps" in done.stdout  # 20 examples, 8 a step


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "missing.jsonl"), "missing.jsonl: no such file"),
        (("--data", "data.jsonl", "--set", "training.max_tokens_per_micro_batch=9"), "more than the budget of 9"),
    ],
)
def test_bad_input_ends_every_process_with_its_reason(folder, arguments, told):
    done = fairplay(folder, "train", "recipe.yaml", *arguments, "--out", "out")
    assert done.returncode != 0
    assert told in done.stderr
