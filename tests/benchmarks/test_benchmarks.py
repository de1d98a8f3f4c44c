"""Benchmarks still run: those that need neither TRL nor a GPU, on small shapes."""

import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def reachable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def test_the_loop_and_the_raw_one_end_with_the_same_weights():
    from step_overhead import LARGEST_DIFFERENCE, Engines

    engines = Engines(3)
    engines.raw()
    for layout in engines.readings:
        engines.fairplay(layout)
        assert (engines.weights["raw"] - engines.weights[layout]).abs().max() <= LARGEST_DIFFERENCE


def test_engines_are_timed_beside_plain_generate(tmp_path):
    # By its path: `generation` is the name of a folder of tests too.
    found = runpy.run_path(str(FOLDER / "generation.py"))["measure"](("tiny", 2, 3, 5, 3), 2, tmp_path)
    assert found["times_plain_generate"]["transformers"]["min"] > 0
    assert found["largest_mismatch"]["transformers"] < 1e-4


@pytest.mark.parametrize("part", ["equality", "waits", "full_8b", "generation"])
def test_each_part_for_a_gpu_runs_on_small_shapes(part):
    from gpu import BUDGETS
    from gpu_parts import PARTS, Place

    found = {}
    PARTS[part](Place(tiny=True), found.update)
    assert PARTS.keys() == BUDGETS.keys()
    assert found


def test_training_is_measured_beside_a_peer_on_every_set():
    from gpu_parts import PARTS, SETS, Place

    found = {}
    PARTS["train_1b"](Place(tiny=True), found.update)
    for name in SETS:
        assert found[name]["ratio"]["speed"] > 0
        assert not [label for label, known in found[name].items() if "error" in str(known)]


def test_sppo_takes_a_step_with_all_weights_and_with_adapters():
    pytest.importorskip("peft")
    from gpu_parts import PARTS, Place

    found = {}
    PARTS["sppo_8b"](Place(tiny=True), found.update)
    assert found.keys() == {"lora", "full"}


def test_a_part_that_fails_or_hangs_says_so_and_keeps_what_it_had(tmp_path):
    from gpu import run_part

    (tmp_path / "waits.json").write_text('{"asked": false}')
    found = run_part("waits", tmp_path, tiny=True, limit=0.05)
    assert "stopped after" in found["error"]
    assert json.loads((tmp_path / "waits.json").read_text())["asked"] is False


@pytest.mark.slow
def test_one_command_runs_every_part_and_writes_them_down(tmp_path, monkeypatch):
    from gpu import BUDGETS, main

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--out", str(tmp_path), "--total", "900"])
    assert main() == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary.keys() == BUDGETS.keys()
    assert not [name for name, found in summary.items() if "error" in found]
