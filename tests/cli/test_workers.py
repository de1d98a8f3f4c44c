"""`--nproc-per-node`: one command becomes several processes; signals, failures and exit codes are those of one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.test_torchrun import folder  # noqa: F401  # a fixture
from fairplay.cli import workers
from fairplay.errors import SettingsError


def process(code):
    return subprocess.Popen([sys.executable, "-S", "-c", code])


def test_workers_are_started_once_and_never_below_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert workers.are_wanted(2)
    assert not workers.are_wanted(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not workers.are_wanted(2)
    assert not workers.are_wanted(1)
    with pytest.raises(SettingsError, match="torchrun started 2 processes, not 4"):
        workers.are_wanted(4)


def test_the_one_that_was_killed_is_named_before_those_that_it_took_along():
    started = [process("import sys; sys.exit(4)"), process("import os; os.kill(os.getpid(), 9)"), process("")]
    for one in started:
        one.wait()
    assert workers._first_failure(started) == 1
    assert workers._first_failure(started[::2]) == 0
    assert workers._first_failure(started[2:]) is None


def test_workers_that_do_not_end_are_asked_and_then_made_to(monkeypatch):
    monkeypatch.setattr(workers, "TO_NOTICE", 0.1)
    monkeypatch.setattr(workers, "TO_STOP", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) for code in (deaf, deaf)]
    for one in started:
        one.stdout.readline()
    started.append(process("import time; time.sleep(60)"))
    workers._end(started)
    assert [one.returncode for one in started] == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM]
    for one in started[:2]:
        one.stdout.close()


def start(place, *arguments, processes=2):
    paths = [str(Path(__file__).parents[2] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "fairplay",
        "train",
        "recipe.yaml",
        "--out",
        "out",
        "--nproc-per-node",
        str(processes),
    ]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(parent):
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            fields = dict(item.split("=", 1) for item in path.read_text().split("\0") if "=" in item)
            owner = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        if owner == parent and "RANK" in fields:
            found[int(fields["RANK"])] = int(path.parent.name)
    return found


LONG = ("--data", "data.jsonl", "--set", "training.max_steps=150", "--set", "training.logging_steps=1")


def wait_for_steps(place, running, count):
    for _ in range(6000):
        logs = list((place / "out").rglob("metrics.jsonl"))
        if logs and len(logs[0].read_text().splitlines()) >= count:
            return
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.1)
    raise AssertionError("no step was taken")


@pytest.mark.slow
def test_two_workers_train_stop_at_a_signal_and_one_goes_on(folder):  # noqa: F811
    running = start(folder, *LONG, "--set", "training.save_steps=5")
    wait_for_steps(folder, running, 2)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=600)
    assert running.returncode == 75, told
    assert told.count("resume with: ") == 1
    assert "--nproc-per-node 2" in told
    again = start(folder, *LONG, processes=1)
    out, told = again.communicate(timeout=600)
    assert again.returncode == 0, told
    assert "150 steps" in out
    assert len(list((folder / "out").rglob("model.safetensors"))) == 1
    known = json.loads(next((folder / "out").rglob("processes.json")).read_text())
    assert known["num_processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_is_killed_ends_all_with_a_resource_error(rank, folder):  # noqa: F811
    running = start(folder, *LONG)
    wait_for_steps(folder, running, 1)
    found = children_of(running.pid)
    assert sorted(found) == [0, 1]
    os.kill(found[rank], signal.SIGKILL)
    _, told = running.communicate(timeout=600)
    assert running.returncode == 4, told
    assert f"worker {rank} was killed by SIGKILL" in told
    assert "Traceback" not in told
    assert not children_of(running.pid)


@pytest.mark.slow
def test_bad_input_keeps_its_exit_code(folder):  # noqa: F811
    running = start(folder, "--data", "missing.jsonl")
    _, told = running.communicate(timeout=600)
    assert running.returncode == 3, told
    assert told.count("missing.jsonl: no such file") == 1
