"""vLLM for real, on a CPU, in an environment of its own: the engine's laws, and a whole run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from fairplay.generation.agreement import sampling_mismatch
from fairplay.models.loading import load_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import ResponseGroup
from fairplay.storage.shards import read_parts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SHORT = [
    "num_iterations=2",
    "prompts.num_per_iteration=40",
    "generation.engine=vllm",
    "generation.num_responses=3",
    "evaluation.num_prompts=30",
    "evaluation.num_samples=1",
    "evaluation.num_bootstrap=200",
]


def run(python, *arguments, timeout=1500):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def test_the_engine_keeps_its_laws_where_vllm_is_installed(vllm_python):
    told = run(
        vllm_python, "-m", "pytest", "-q", "-o", "filterwarnings=default", "tests/generation/test_vllm_engine.py"
    )
    assert "passed" in told.stdout
    assert "skipped" not in told.stdout


def test_a_run_with_vllm_samples_every_iteration_from_its_own_weights(vllm_python, tmp_path):
    overrides = [word for override in SHORT for word in ("--set", override)]
    told = run(vllm_python, "-m", "fairplay", "demo", "--short", "--out", str(tmp_path / "run"), *overrides)
    assert "vllm" not in told.stdout.replace(str(tmp_path), "").lower()  # stdout is for results, not for its log
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for row in results["iterations"]:
        assert row["sampling_mismatch"]["num_tokens"] > 500
        assert row["sampling_mismatch"]["max_abs"] < 1e-3
        assert f"Iteration {row['iteration']}: the engine’s log-probs of" in page
    second = read_parts(tmp_path / "run" / "iteration-2" / "2-responses", ResponseGroup)
    weights = {
        "start": tmp_path / "run" / "starter" / "policy",
        "iteration 1": tmp_path / "run" / "iteration-1" / "5-checkpoint" / "model",
    }
    found = {
        name: sampling_mismatch(load_policy(str(folder), ModelSettings()), second) for name, folder in weights.items()
    }
    assert found["iteration 1"].max_abs < 1e-3
    assert found["start"].mean_abs > 0.01
