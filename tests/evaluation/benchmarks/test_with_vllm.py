"""Benchmarks on vLLM for real, on a CPU, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def test_the_harness_gives_the_same_on_vllm(vllm_python):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = ["-m", "pytest", "-q", "-o", "filterwarnings=default", "tests/evaluation/benchmarks/test_vllm_backend.py"]
    done = subprocess.run(
        [vllm_python, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
