"""kill -9 and SIGTERM at random moments of real processes: what is resumed ends with the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from .conftest import SMALL_RUN


def command(*arguments):
    return [sys.executable, "-m", "fairplay", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, **options)


def contents(folder):
    """Content hash of every finished stage; it covers every byte but logs with wall times."""
    found = sorted(folder.glob("iteration-*/*/manifest.json"))
    return {str(path.relative_to(folder)): json.loads(path.read_text())["content"] for path in found}


def taken_locks(folder):
    """When each lock was last taken: the run's, and the starter's, which a demo takes first."""
    return [path.stat().st_mtime_ns for path in sorted(folder.glob("**/.lock"))]


def kill_once(arguments, folder, seconds):
    """Start the command in the folder, and kill it so many seconds after it began to work there.

    Returns:
        Whether it was still running, so that the kill hit it.
    """
    before = taken_locks(folder)
    process = subprocess.Popen(command(*arguments, "--out", folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and taken_locks(folder) == before:
        time.sleep(0.01)
    try:
        _, told = process.communicate(timeout=seconds)
        assert process.returncode == 0, told
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True


def survive_kills(arguments, tmp_path, *, kills, seconds, whole):
    """Kill runs until so many kills have hit one; each run that ends has the bytes of the unbroken one."""
    rng, done, number = random.Random(0), 0, 0
    while done < kills:
        if kill_once(arguments, tmp_path / f"killed-{number}", rng.uniform(0, seconds)):
            done += 1
        else:
            assert contents(tmp_path / f"killed-{number}") == whole
            number += 1
    last = tmp_path / f"killed-{number}"
    ended = run(*arguments, "--out", last)
    assert ended.returncode == 0, ended.stderr
    assert contents(last) == whole
    return last


@pytest.fixture(scope="module")
def arguments(world):
    return ["run", world / "recipe.yaml", *(part for override in SMALL_RUN for part in ("--set", override))]


@pytest.fixture(scope="module")
def unbroken(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    done = run(*arguments, "--out", folder, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iterations"][1]["iteration"] == 2
    return folder


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(arguments, unbroken, tmp_path):
    last = survive_kills(arguments, tmp_path, kills=4, seconds=3, whole=contents(unbroken))
    assert (last / "results.json").read_bytes() == (unbroken / "results.json").read_bytes()


def test_what_a_kill_leaves_beside_a_finished_training_does_not_count(arguments, unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    stage = folder / "iteration-1" / "5-checkpoint"
    (stage / "manifest.json").unlink()
    (stage / "checkpoints" / "step-1").mkdir(parents=True)
    (stage / "checkpoints" / "step-1" / "weights.safetensors").write_bytes(b"left over")
    assert run(*arguments, "--out", folder).returncode == 0
    assert contents(folder) == contents(unbroken)


def test_a_second_signal_stops_at_once_and_still_says_how_to_resume(arguments, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(*arguments, "--out", folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (folder / ".lock").exists() and process.poll() is None:
        time.sleep(0.01)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, told = process.communicate()
    assert process.returncode == 75, told
    assert "resume with: fairplay" in told
    assert "Traceback" not in told


def test_sigterm_stops_cleanly_says_how_to_resume_and_exits_75(arguments, unbroken, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command("--verbose", *arguments, "--out", folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not list(folder.glob("iteration-*/*/part-*.parquet")) and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 75, told
    assert "resume with: fairplay" in told
    assert run(*arguments, "--out", folder).returncode == 0
    assert contents(folder) == contents(unbroken)


def test_results_do_not_depend_on_hash_seed_locale_or_working_directory(arguments, unbroken, tmp_path):
    environment = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"}
    environment["PYTHONCOERCECLOCALE"] = "0"
    done = run(*arguments, "--out", tmp_path / "run", env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(unbroken)


@pytest.mark.slow
def test_a_demo_killed_at_twenty_random_moments_ends_with_the_same_bytes(tmp_path):
    """The issue's acceptance: starter and loop alike, each kill followed by a resume."""
    assert run("demo", "--short", "--out", tmp_path / "whole").returncode == 0
    survive_kills(["demo", "--short"], tmp_path, kills=20, seconds=12, whole=contents(tmp_path / "whole"))


@pytest.mark.slow
def test_accuracy_on_pairs_killed_at_random_moments_ends_with_the_same_bytes(world, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    lines = (world / "oracle_pairs.jsonl").read_text().splitlines()
    rows = [json.dumps({**json.loads(line), "id": f"{turn}-{i}"}) for turn in range(3) for i, line in enumerate(lines)]
    pairs.write_text("\n".join(rows) + "\n")
    arguments = ["evaluate", "--policy", world / "policy", "--reference", world / "policy", "--data", pairs]
    arguments += ["--set", "batch_size=2", "--set", "max_length=128", "--set", "max_prompt_length=96"]
    whole = tmp_path / "whole"
    started = time.monotonic()
    assert run(*arguments, "--out", whole).returncode == 0
    last = survive_kills(arguments, tmp_path, kills=2, seconds=time.monotonic() - started, whole=contents(whole))
    told = [json.loads((folder / "results.json").read_text()) for folder in (whole, last)]
    assert told[0] == told[1]
