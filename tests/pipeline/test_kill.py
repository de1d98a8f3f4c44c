"""kill -9 and SIGTERM at random moments of real processes: what is resumed ends with the same bytes."""

import json
import os
import random
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


def start_and_signal(arguments, seconds, number):
    """Start the command and send it a signal after some seconds; says whether it was still running."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, told = process.communicate(timeout=seconds)
        assert process.returncode == 0, told
        return False, told
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        _, told = process.communicate()
        return True, told


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
    rng, folder, kills = random.Random(0), tmp_path / "run", 0
    while kills < 4:
        running, _ = start_and_signal([*arguments, "--out", folder], rng.uniform(1.5, 7), signal.SIGKILL)
        if not running:
            break
        kills += 1
    done = run(*arguments, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(unbroken)
    assert (folder / "results.json").read_bytes() == (unbroken / "results.json").read_bytes()


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
    environment = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    done = run(*arguments, "--out", tmp_path / "run", env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(unbroken)


@pytest.mark.slow
def test_a_demo_killed_at_twenty_random_moments_ends_with_the_same_bytes(tmp_path):
    """The issue's acceptance: starter and loop alike, each kill followed by a resume."""
    assert run("demo", "--short", "--out", tmp_path / "whole").returncode == 0
    rng, folder, kills, runs = random.Random(1), tmp_path / "killed-0", 0, 0
    while kills < 20:
        running, _ = start_and_signal(["demo", "--short", "--out", folder], rng.uniform(4, 20), signal.SIGKILL)
        kills += running
        if not running:  # it ended before its signal: every kill has to hit a run, so the next one begins anew
            assert contents(folder) == contents(tmp_path / "whole")
            runs += 1
            folder = tmp_path / f"killed-{runs}"
    assert run("demo", "--short", "--out", folder).returncode == 0
    assert contents(folder) == contents(tmp_path / "whole")
