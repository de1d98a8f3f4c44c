"""Fixtures for all tests: one thread (tiny models), and the folder of golden values."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden values: `FAIRPLAY_GOLDEN`, by default the folder `shared` beside the checkout."""
    folder = Path(os.environ.get("FAIRPLAY_GOLDEN", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        if os.environ.get("FAIRPLAY_REQUIRE_GOLDEN"):
            pytest.fail(f"golden values are required, but there is no folder {folder}")
        pytest.skip(f"no folder of golden values at {folder}; set FAIRPLAY_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The python of an environment with vLLM and fairplay, as `make .venv-vllm/.ready` makes it."""
    python = os.environ.get("FAIRPLAY_VLLM_PYTHON", "")
    if not python:
        if os.environ.get("FAIRPLAY_REQUIRE_VLLM"):
            pytest.fail("vLLM is required, but FAIRPLAY_VLLM_PYTHON names no python that has it")
        pytest.skip("FAIRPLAY_VLLM_PYTHON names no python that has vLLM; `make test-slow` makes one")
    return python
