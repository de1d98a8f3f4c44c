import pytest

from fairplay.errors import DataError, SettingsError
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome

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


def test_damaged_work_is_named_and_not_used(tmp_path):
    run = RunDirectory(tmp_path)
    run.run_stage(STAGE, Fill())
    (run.folder(1, "1-prompts") / "out.txt").write_text("hellO")
    with pytest.raises(DataError, match="its bytes differ"):
        run.run_stage(STAGE, Fill())


def test_a_changed_recipe_is_refused_with_a_difference_and_a_fork_keeps_what_still_fits(tmp_path):
    run = RunDirectory(tmp_path / "a")
    run.open({"seed": 0, "training": {"beta": 0.1}})
    run.run_stage(STAGE, Fill())
    second = Stage("2-responses", 1, {"beta": 0.1}, {})
    run.run_stage(second, Fill())
    run.open({"seed": 0, "training": {"beta": 0.1}})
    with pytest.raises(SettingsError, match=r"training\.beta: 0\.1 -> 0\.2"):
        run.open({"seed": 0, "training": {"beta": 0.2}})
    fork, kept, redone = run.fork(), Fill("new"), Fill("new")
    fork.open({"seed": 0, "training": {"beta": 0.2}})
    fork.run_stage(STAGE, kept)
    fork.run_stage(Stage("2-responses", 1, {"beta": 0.2}, {}), redone)
    assert (kept.calls, redone.calls, fork.path.name) == (0, 1, "a-fork1")
    assert (run.folder(1, "2-responses") / "out.txt").read_text() == "hello"
