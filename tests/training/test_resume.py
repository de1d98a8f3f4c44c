"""Killed anywhere and called again: the same bytes. Runs real processes that kill themselves with SIGKILL."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairplay.errors import DataError, Preempted
from fairplay.models.settings import ModelSettings
from fairplay.objectives.table import OBJECTIVES, build_objective
from fairplay.training.fingerprint import description
from training.tiny import make_examples, run, save_tiny_policy

# One process that has imported everything forks for each call [folder, moment, count]; the child kills itself with
# SIGKILL when it reaches the moment of that name for the count-th time. Prints how each child ended.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from fairplay.training.settings import ImportanceSettings
from training.tiny import make_examples, run

def train(folder, moment, count):
    reached = 0
    def reach(name):
        nonlocal reached
        if name == moment and reached == count:
            os.kill(os.getpid(), signal.SIGKILL)
        reached += name == moment
    def watched(name, function):
        def call(*arguments, **options):
            reach(name)
            return function(*arguments, **options)
        return call
    os.fsync, os.rename, os.write = (watched(f.__name__, f) for f in (os.fsync, os.rename, os.write))
    Path.rename, Path.replace = watched("rename", Path.rename), watched("rename", Path.replace)
    options = json.loads(sys.argv[3])
    if "importance" in options:
        options["importance"] = ImportanceSettings(**options["importance"])
    run(Path(folder), sys.argv[1], eval_examples=make_examples(3, seed=1), num_train_epochs=3, save_steps=2,
        logging_steps=3, weight_decay=0.1, should_stop=lambda: bool(reach("poll")), **options)

for call in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        train(*call)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def call_all(start, calls, **options):
    places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    calls = [[str(folder), *moment] for folder, *moment in calls]
    options = {"objective": "bco_pair", **options}
    command = [sys.executable, "-c", SCRIPT, start, json.dumps(calls), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def result(folder):
    """Hashes of the policy's files, and the metrics without time-like keys."""
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "policy").iterdir())
    }
    records = [json.loads(line) for line in (folder / "work" / "metrics.jsonl").read_text().splitlines()]
    timeless = [
        {name: value for name, value in record.items() if not name.endswith(("_per_second", "seconds"))}
        for record in records
    ]
    return hashes, timeless


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("start") / "policy")


def check_kills(start, folder, moments, **options):
    """Call once for each moment, killed there, then to the end; compare with a call that nothing disturbs."""
    unbroken, killed = folder / "unbroken", folder / "killed"
    calls = [(unbroken, "never", 0), *((killed, *moment) for moment in moments), (killed, "never", 0)]
    codes = call_all(start, calls, **options)
    assert codes == [0, *([-signal.SIGKILL] * len(moments)), 0]
    assert result(killed) == result(unbroken)
    kept = ["metrics.jsonl", "processes.json", "reference_logps.safetensors", "summary.json"]
    assert sorted(path.name for path in (killed / "work").iterdir()) == kept
    assert sorted(path.name for path in killed.iterdir()) == ["policy", "work"]


def test_kill_between_steps_and_while_writing_then_resume_gives_the_same_bytes(start, tmp_path):
    check_kills(start, tmp_path, [("poll", 7), ("fsync", 3), ("poll", 2), ("rename", 0)])


# Killed in the first renewal, after a step in mid-schedule, in the second renewal, and while writing.
SCHEDULES = {
    "every_epoch": ({"objective": "dpo", "reference_schedule": "every_epoch"}, (8, 5, 2)),
    "mixed": (
        {
            "objective": "kto",
            "reference_schedule": "every_steps",
            "reference_sync_steps": 4,
            "reference_mixup_alpha": 0.6,
        },
        (14, 8, 3),
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_kill_within_a_reference_schedule_then_resume_gives_the_same_bytes(schedule, start, tmp_path):
    options, polls = SCHEDULES[schedule]
    check_kills(start, tmp_path, [*(("poll", count) for count in polls), ("fsync", 1)], **options)


@pytest.mark.parametrize("objective", ["inpo", "rspo", "tis_dpo_token"])
def test_kill_with_frozen_models_then_resume_gives_the_same_bytes(objective, start, tmp_path):
    other = save_tiny_policy(tmp_path / "other", family="qwen2")
    frozen = {"anchor": other}
    if objective == "tis_dpo_token":
        frozen = {"importance": {"positive": other, "negative": start}}
    # Killed while the other model is asked, between steps, and while writing.
    moments = [("poll", 4), ("poll", 9), ("fsync", 3), ("poll", 2)]
    check_kills(start, tmp_path, moments, objective=objective, **frozen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "counts"), [("poll", range(14)), ("fsync", range(40)), ("rename", range(8)), ("write", range(3))]
)
def test_kill_at_every_moment_then_resume_gives_the_same_bytes(moment, counts, start, tmp_path):
    unbroken = tmp_path / "unbroken"
    folders = [tmp_path / str(count) for count in counts]
    calls = [(folder, *call) for count, folder in enumerate(folders) for call in ((moment, count), ("never", 0))]
    codes = call_all(start, [(unbroken, "never", 0), *calls])
    assert codes[0] == 0
    assert codes[1::2].count(-signal.SIGKILL) >= 0.5 * len(folders)
    assert set(codes[2::2]) == {0}
    assert [result(folder) for folder in folders] == [result(unbroken)] * len(folders)


def stop_after(count):
    polls = iter([False] * count)
    return lambda: next(polls, True)


@pytest.mark.parametrize(
    ("options", "batches_of_reference"),
    [
        ({}, 3),
        ({"use_peft": True, "lora_dropout": 0.3}, 3),
        ({"gradient_accumulation_steps": 2}, 3),
        ({"objective": "beta_dpo", "parameters": {"drop": 0.4}, "gradient_accumulation_steps": 2}, 3),
        ({"optim": "adamw_torch_8bit"}, 3),
        ({"optim": "rmsprop", "model_settings": ModelSettings(device="cpu", dtype="bfloat16")}, 3),
        ({"objective": "kto", "use_peft": True, "lora_dropout": 0.3}, 3 + 3 * 3),
    ],
)
def test_a_request_to_stop_saves_and_the_same_call_goes_on(options, batches_of_reference, start, tmp_path):
    options = {"num_train_epochs": 3, "save_steps": 0, **options}
    run(tmp_path / "unbroken", start, **options)
    with pytest.raises(Preempted, match="stopped after step 3 of") as caught:
        run(tmp_path / "stopped", start, **options, should_stop=stop_after(batches_of_reference + 2))
    assert "resume" in caught.value.hint
    assert [path.name for path in (tmp_path / "stopped" / "work" / "checkpoints").iterdir()] == ["step-3"]
    run(tmp_path / "stopped", start, **options)
    assert result(tmp_path / "stopped") == result(tmp_path / "unbroken")


def test_a_request_to_stop_is_heard_while_the_reference_is_computed(start, tmp_path):
    with pytest.raises(Preempted, match="reference log-probs"):
        run(tmp_path, start, should_stop=stop_after(1))


def test_a_finished_training_is_handed_back_at_once(start, tmp_path):
    first = run(tmp_path, start, eval_examples=make_examples(3, seed=1))
    before = (tmp_path / "policy" / "model.safetensors").stat().st_mtime_ns
    again = run(tmp_path, start, eval_examples=make_examples(3, seed=1), should_stop=lambda: True)
    assert (tmp_path / "policy" / "model.safetensors").stat().st_mtime_ns == before
    assert (again.held_out.after.logps == first.held_out.after.logps).all()
    assert (again.steps, again.last_loss, again.seconds) == (first.steps, first.last_loss, first.seconds)


def test_trackers_and_the_distance_between_checkpoints_may_change(start, tmp_path):
    run(tmp_path / "unbroken", start)
    with pytest.raises(Preempted):
        run(tmp_path / "stopped", start, should_stop=stop_after(3 + 1))
    run(tmp_path / "stopped", start, save_steps=1)
    assert result(tmp_path / "stopped") == result(tmp_path / "unbroken")


def test_a_checkpoint_of_another_anchor_is_refused_and_its_place_may_change(start, tmp_path):
    other, copy = (save_tiny_policy(tmp_path / name, family="qwen2") for name in ("other", "copy"))
    options = {"objective": "inpo", "num_train_epochs": 2}
    with pytest.raises(Preempted):
        run(tmp_path / "run", start, **options, anchor=other, should_stop=stop_after(6 + 1))
    with pytest.raises(DataError, match="belongs to a training with other"):
        run(tmp_path / "run", start, **options, anchor=start)
    run(tmp_path / "run", start, **options, anchor=copy)
    run(tmp_path / "unbroken", start, **options, anchor=other)
    assert result(tmp_path / "run") == result(tmp_path / "unbroken")


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 2e-3}, {"seed": 1}, {"count": 13}, {"parameters": {"beta": 0.2}}]
)
def test_a_checkpoint_of_another_call_is_refused(changed, start, tmp_path):
    with pytest.raises(Preempted):
        run(tmp_path, start, should_stop=stop_after(3 + 1))
    with pytest.raises(DataError, match="belongs to a training with other"):
        run(tmp_path, start, **changed)


def test_the_cache_of_another_reference_is_not_read(start, tmp_path):
    other = save_tiny_policy(tmp_path / "other", family="qwen2")
    run(tmp_path / "work", start, reference=other)
    run(tmp_path / "work", start, reference=start)
    run(tmp_path / "fresh", start, reference=start)
    assert result(tmp_path / "work") == result(tmp_path / "fresh")


def test_objectives_have_fingerprints_of_their_own_without_addresses_of_this_process():
    told = {name: json.dumps(description(build_objective(name, {})), sort_keys=True) for name in OBJECTIVES}
    assert len(set(told.values())) == len(OBJECTIVES)
    assert not [name for name, text in told.items() if " at 0x" in text or "<lambda>" in text]
