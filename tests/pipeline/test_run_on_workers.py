"""A whole run whose training takes two processes: what one process makes, and what remains of it when one is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cli.test_workers import children_of
from fairplay.pipeline.context import CHECKPOINT, RESPONSES
from fairplay.pipeline.loop import run_loop
from fairplay.storage.run_directory import RunDirectory

from .conftest import SMALL_RUN
from .test_kill import contents

pytestmark = pytest.mark.slow
LONGER = ["training.num_train_epochs=20"]
PYTHON = [sys.executable, "-m"]
FAIRPLAY = [*PYTHON, "fairplay"]
TORCHRUN = [*PYTHON, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fairplay"]


def start(world, launcher, out, *arguments):
    """`fairplay run` on the tiny world, as a process of its own."""
    overrides = [word for override in (*SMALL_RUN, *LONGER) for word in ("--set", override)]
    return subprocess.Popen(
        [*launcher, "run", str(world / "recipe.yaml"), *overrides, "--out", str(out), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(folder, iteration):
    lines = (folder / f"iteration-{iteration}" / CHECKPOINT / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def together(world, tmp_path_factory):
    """The run of two processes that nothing disturbed."""
    out = tmp_path_factory.mktemp("together") / "run"
    running = start(world, FAIRPLAY, out, "--nproc-per-node", "2")
    printed, told = running.communicate(timeout=600)
    assert running.returncode == 0, told
    assert printed.count("report: ") == 1
    return out


def test_a_run_that_trains_on_two_processes_is_the_run_of_one(together, settings_of, tmp_path):
    run_loop(
        settings_of(*LONGER, "training.gradient_accumulation_steps=2"),
        RunDirectory(tmp_path / "alone"),
        should_stop=lambda: False,
    )
    alone, shared = contents(tmp_path / "alone"), contents(together)
    assert alone.keys() == shared.keys()
    before_training = [name for name in alone if name < f"iteration-1/{CHECKPOINT}"]
    assert len(before_training) == 6
    assert [alone[name] for name in before_training] == [shared[name] for name in before_training]
    for iteration in (1, 2):
        expected = losses(tmp_path / "alone", iteration)
        assert len(expected) == 40
        assert losses(together, iteration) == pytest.approx(expected, abs=1e-4)
    processes = json.loads((together / "iteration-1" / CHECKPOINT / "processes.json").read_text())
    assert processes["num_processes"] == 2


def is_generating(out):
    return bool(list(out.glob(f"iteration-1/*{RESPONSES}*/part-*")))


def is_training(out):
    logs = list(out.glob(f"iteration-1/*{CHECKPOINT}*/metrics.jsonl"))
    return bool(logs) and len(logs[0].read_text().splitlines()) >= 5


def test_a_worker_that_is_killed_ends_the_run_and_the_next_one_goes_on_to_the_same_bytes(together, world, tmp_path):
    out = tmp_path / "run"
    for rank, is_there in ((1, is_generating), (0, is_training)):
        running = start(world, FAIRPLAY, out, "--nproc-per-node", "2")
        while not is_there(out):
            assert running.poll() is None, running.communicate()
            time.sleep(0.02)
        os.kill(children_of(running.pid)[rank], signal.SIGKILL)
        _, told = running.communicate(timeout=600)
        assert running.returncode == 4, told
        assert f"worker {rank} was killed by SIGKILL" in told
        assert "Traceback" not in told
    last = start(world, TORCHRUN, out)
    printed, told = last.communicate(timeout=600)
    assert last.returncode == 0, told
    assert printed.count("report: ") == 1
    assert contents(out) == contents(together)
