import subprocess
import sys

import pytest

from fairplay.errors import DataError, LockedError, ResourceError, SettingsError
from fairplay.storage.digests import sha256_value
from fairplay.storage.locking import lock
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import read_yaml, without

STAGE = Stage("1-prompts", 1, {"seed": 0}, {"data": "abc"})


class Fill:
    def __init__(self, text="hello", die=False):
        self.text, self.die, self.calls = text, die, 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "out.txt").write_text(self.text)
        (folder / "log.txt").write_text(f"{id(self)}")
        if self.die:
            raise KeyboardInterrupt
        return StageOutcome(3, 2, {"too long": 1}, logs=("log.txt",))


def test_finished_work_is_not_done_again(tmp_path):
    run, fill = RunDirectory(tmp_path), Fill()
    first = run.run_stage(STAGE, fill)
    assert run.run_stage(STAGE, fill) == first
    assert fill.calls == 1
    assert list(first.files) == ["out.txt"]
    assert [m.stage for _, m in run.manifests()] == ["1-prompts"]


def test_an_interrupted_stage_goes_on_in_its_folder_and_one_of_other_settings_starts_clean(tmp_path):
    run = RunDirectory(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.run_stage(STAGE, Fill(die=True))
    assert run.manifests() == []
    seen = []

    def look(folder):
        seen.append((folder / "out.txt").exists())
        return StageOutcome(0, 0)

    run.run_stage(Stage("1-prompts", 1, {"seed": 1}, {}), look)
    with pytest.raises(KeyboardInterrupt):
        run.run_stage(Stage("2-responses", 1, {}, {}), Fill(die=True))
    run.run_stage(Stage("2-responses", 1, {}, {}), look)
    assert seen == [False, True]


def test_finished_work_of_other_settings_is_refused_with_the_difference(tmp_path):
    RunDirectory(tmp_path).run_stage(STAGE, Fill())
    with pytest.raises(SettingsError, match=r"settings\.seed: 0 -> 1"):
        RunDirectory(tmp_path).run_stage(Stage("1-prompts", 1, {"seed": 1}, {"data": "abc"}), Fill())


def reading(text, place="data.jsonl"):
    return Stage("4-examples", 1, {"seed": 0}, {"data": sha256_value(text)}, {"data": place})


def test_data_that_differ_are_named_by_their_file_and_not_by_hashes(tmp_path, caplog):
    RunDirectory(tmp_path / "done").run_stage(reading("a"), Fill())
    with pytest.raises(SettingsError) as refused:
        RunDirectory(tmp_path / "done").run_stage(reading("b"), Fill())
    assert refused.value.message.endswith("\n  inputs.data (data.jsonl): other content than before")
    assert "undo the change, a file's content too" in refused.value.hint
    with pytest.raises(KeyboardInterrupt):
        RunDirectory(tmp_path / "half").run_stage(reading("a"), Fill(die=True))
    RunDirectory(tmp_path / "half").run_stage(reading("b"), Fill())
    (told,) = caplog.messages
    assert told.endswith("made anew: inputs.data (data.jsonl): other content than before")


def test_data_that_were_mended_after_they_could_not_be_read_are_read_without_a_word(tmp_path, caplog):
    def refuse(folder):
        raise DataError("line 21: invalid JSON")

    with pytest.raises(DataError):
        RunDirectory(tmp_path).run_stage(reading("a"), refuse)
    RunDirectory(tmp_path).run_stage(reading("b"), Fill())
    assert caplog.messages == []


def test_a_file_that_was_moved_is_the_same_input(tmp_path):
    first = RunDirectory(tmp_path).run_stage(reading("a"), Fill())
    assert RunDirectory(tmp_path).run_stage(reading("a", "moved.jsonl"), Fill()) == first


def test_damaged_work_is_named_and_not_used(tmp_path):
    run = RunDirectory(tmp_path)
    run.run_stage(STAGE, Fill())
    (run.folder(1, "1-prompts") / "out.txt").write_text("hellO")
    with pytest.raises(DataError, match="its bytes differ"):
        run.run_stage(STAGE, Fill())


SETTINGS = {"seed": 0, "training": {"beta": 0.1}}
CHANGED = {"seed": 0, "training": {"beta": 0.2}}
SECOND = Stage("2-responses", 1, {"beta": 0.1}, {})
SECOND_CHANGED = Stage("2-responses", 1, {"beta": 0.2}, {})


@pytest.fixture
def run(tmp_path):
    """A run with two finished stages and one that was interrupted."""
    run = RunDirectory(tmp_path / "a")
    with run.open(SETTINGS):
        run.run_stage(STAGE, Fill())
        run.run_stage(SECOND, Fill())
        with pytest.raises(KeyboardInterrupt):
            run.run_stage(Stage("3-preferences", 1, {}, {}), Fill(die=True))
    return run


def test_a_changed_recipe_is_refused_with_the_difference(run):
    with run.open(SETTINGS):
        pass
    with pytest.raises(SettingsError, match=r"training\.beta: 0\.1 -> 0\.2"), run.open(CHANGED):
        pass


def test_settings_with_which_nothing_was_finished_are_overwritten(tmp_path):
    run = RunDirectory(tmp_path)
    with run.open({"seed": 0}), pytest.raises(KeyboardInterrupt):
        run.run_stage(STAGE, Fill(die=True))
    with run.open({"seed": 1}):
        run.run_stage(Stage("1-prompts", 1, {"seed": 1}, {}), Fill())
    with pytest.raises(SettingsError, match="seed: 1 -> 0"), run.open({"seed": 0}):
        pass


def test_only_what_identifies_a_run_keeps_it_from_going_on_and_its_first_settings_stay_on_record(run):
    def identity(document):
        return {"new default": 1, **without(document, {"training.beta"})}

    with run.open({**CHANGED, "new default": 1}, identity=identity):
        pass
    assert read_yaml(run.path / "settings.yaml") == SETTINGS
    with (
        pytest.raises(SettingsError, match="new default: 1 -> 2"),
        run.open({**SETTINGS, "new default": 2}, identity=identity),
    ):
        pass


def test_settings_that_can_not_be_read_any_more_are_told_as_those_of_another_kind(run):
    def identity(document):
        if document["seed"] == 0:
            raise SettingsError("settings.yaml: beta: unknown setting")
        return document

    with pytest.raises(SettingsError, match="another kind or release"), run.open({"seed": 1}, identity=identity):
        pass


def test_settings_are_looked_at_under_the_lock(run):
    with lock(run.path), pytest.raises(LockedError), run.open(CHANGED):
        pass


def test_a_fork_keeps_what_still_fits_and_leaves_the_run_it_came_from_alone(run):
    fork, kept, redone = run.fork(), Fill("new"), Fill("new")
    with fork.open(CHANGED):
        fork.run_stage(STAGE, kept)
        fork.run_stage(SECOND_CHANGED, redone)
    assert (kept.calls, redone.calls, fork.path.name) == (0, 1, "a-fork1")
    assert (run.folder(1, "2-responses") / "out.txt").read_text() == "hello"
    assert run.fork().path.name == "a-fork2"


def test_a_fork_that_was_stopped_goes_on_as_a_plain_run(run):
    path = run.fork().path
    with RunDirectory(path).open(CHANGED):
        pass
    again, redone = RunDirectory(path), Fill("new")
    with again.open(CHANGED):
        again.run_stage(STAGE, Fill())
        again.run_stage(SECOND_CHANGED, redone)
    assert redone.calls == 1
    with pytest.raises(SettingsError, match=r"beta: 0\.2 -> 0\.1"), again.open(CHANGED):
        again.run_stage(SECOND, Fill())


def test_what_a_fork_brought_along_counts_only_once_it_is_seen_to_fit(run):
    fork = run.fork()
    assert fork.manifests() == []
    with pytest.raises(DataError, match="copied from another run"):
        fork.manifest(1, "2-responses")
    fork.run_stage(STAGE, Fill())
    assert [manifest.stage for _, manifest in fork.manifests()] == ["1-prompts"]


def test_only_finished_stages_and_what_lies_beside_the_iterations_are_forked(run):
    (run.path / "starter").mkdir()
    for name in ("starter/policy", "starter/.lock", "results.json", ".half.partial"):
        (run.path / name).write_text("x")
    fork = run.fork()
    names = {str(path.relative_to(fork.path)) for path in fork.path.rglob("*") if path.is_file()}
    stages = [f"iteration-1/{stage}" for stage in ("1-prompts", "2-responses")]
    files = ("manifest.json", "out.txt", "log.txt", ".started.json", ".copied")
    assert names == {"starter/policy", *(f"{stage}/{name}" for stage in stages for name in files)}


def test_a_fork_waits_for_whoever_works_in_the_run(run):
    with lock(run.path), pytest.raises(LockedError):
        run.fork()


def test_a_folder_without_a_run_has_no_fork(tmp_path):
    with pytest.raises(SettingsError, match="no run here to fork"):
        RunDirectory(tmp_path / "missing").fork()
    assert list(tmp_path.iterdir()) == []


FORK = """
import os, pathlib, shutil, sys
from fairplay.storage.run_directory import RunDirectory
shutil.copy2 = lambda source, place: (print(place), sys.stdout.flush(), os.kill(os.getpid(), 9))
RunDirectory(pathlib.Path(sys.argv[1])).fork()
"""


def test_a_fork_that_was_killed_while_copying_leaves_no_half_run_and_the_next_one_is_whole(run):
    killed = subprocess.run([sys.executable, "-c", FORK, str(run.path)], capture_output=True, check=False)
    assert killed.returncode == -9
    assert killed.stdout
    assert not run.path.with_name("a-fork1").exists()
    assert (run.fork().folder(1, "2-responses") / "out.txt").read_text() == "hello"
    assert sorted(path.name for path in run.path.parent.iterdir()) == ["a", "a-fork1"]


@pytest.mark.parametrize("place", ["file", "file/x", "file/x/y", "n" * 300])
def test_a_place_that_can_not_be_a_folder_is_told_without_a_traceback(place, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="can't write"), RunDirectory(tmp_path / place).open({}):
        pass


def test_an_input_that_can_not_be_read_is_not_told_as_a_disk_that_can_not_be_written(tmp_path):
    def fill(folder):
        (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError):
        RunDirectory(tmp_path / "run").run_stage(STAGE, fill)
