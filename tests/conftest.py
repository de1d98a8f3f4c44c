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
