"""A run whose every iteration starts a real vLLM server on its own weights, asks it, and stops it before it trains."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from fairplay.generation.agreement import sampling_mismatch
from fairplay.models.loading import load_policy
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.demo import make_starter
from fairplay.records import ResponseGroup
from fairplay.storage.shards import read_parts

from .conftest import SMALL_RUN, TINY

pytestmark = pytest.mark.slow


def served_by_vllm(python):
    module = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}", "--port", "{port}"]
    options = ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "80", "--enforce-eager"]
    environment = ["env", "VLLM_CPU_KVCACHE_SPACE=1", "VLLM_NO_USAGE_STATS=1", "HF_HUB_OFFLINE=1"]
    return shlex.join([*environment, *module, *options, "--generation-config", "vllm"])


def test_iteration_2_is_sampled_by_a_server_from_iteration_1s_weights(vllm_python, tmp_path):
    wide = replace(
        TINY.policy, hidden_size=64, max_steps=40
    )  # vLLM on a CPU has no attention for heads of less than 32
    make_starter(tmp_path / "starter", replace(TINY, policy=wide), seed=0, should_stop=lambda: False)
    overrides = [
        *(*SMALL_RUN, "evaluation.num_prompts=2", "training.learning_rate=1e-2", "evaluation.opponents=[start]"),
        *("generation.engine=openai", f"generation.serve.command={served_by_vllm(vllm_python)}"),
    ]
    words = [word for override in overrides for word in ("--set", override)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fairplay",
            "run",
            tmp_path / "starter" / "recipe.yaml",
            *words,
            "--out",
            tmp_path / "run",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for row in results["iterations"]:
        assert row["sampling_mismatch"]["num_tokens"] > 100
        assert row["sampling_mismatch"]["max_abs"] < 1e-3
    second = read_parts(tmp_path / "run" / "iteration-2" / "2-responses", ResponseGroup)
    first_checkpoint = tmp_path / "run" / "iteration-1" / "5-checkpoint" / "model"
    found = {
        folder: sampling_mismatch(load_policy(str(folder), ModelSettings()), second)
        for folder in (tmp_path / "starter" / "policy", first_checkpoint)
    }
    assert found[first_checkpoint].max_abs < 1e-3
    assert found[tmp_path / "starter" / "policy"].mean_abs > 0.01
