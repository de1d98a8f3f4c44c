import sys
from pathlib import Path

import pytest

from fairplay.cli.loop_verbs import in_fork, resumable
from fairplay.cli.main import run
from fairplay.errors import Preempted
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["run", "r.yaml", "--out", "a", "--fork"], ["run", "r.yaml", "--out", "a-fork1"]),
        (["run", "--fork", "--out=a", "r.yaml", "--seed", "1"], ["run", "--out", "a-fork1", "r.yaml", "--seed", "1"]),
        (["demo", "--short", "--fork"], ["demo", "--short", "--out", "a-fork1"]),
    ],
)
def test_a_fork_is_resumed_by_its_own_name(before, after):
    assert in_fork(before, Path("a-fork1")) == after


RECIPE = """
model: owner/name
prompts: {{data: {place}/prompts.jsonl}}
oracle: {{kind: rule, function: "fairplay.starter.judge:score"}}
evaluation: {{prompts: {place}/held_out.jsonl, judge: {{kind: rule, function: "fairplay.starter.judge:score"}}}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(place=tmp_path))
    return path


@pytest.mark.parametrize("verb", ["run", "train", "demo"])
def test_a_folder_without_a_run_has_no_fork_and_nothing_is_written(verb, recipe, tmp_path, capsys):
    out = tmp_path / "missing"
    arguments = {"run": [str(recipe)], "train": [str(recipe), "--data", "x.jsonl"], "demo": []}[verb]
    assert run([verb, *arguments, "--out", str(out), "--fork"]) == 2
    assert "there is no run here to fork" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml"]


@pytest.fixture
def begun(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.open({}):
        directory.run_stage(Stage("1-prompts", 1, {}, {}), lambda folder: StageOutcome(0, 0))
    return directory


@pytest.mark.parametrize("verb", ["run", "train"])
def test_settings_that_can_not_work_are_refused_before_anything_is_copied(verb, recipe, begun, tmp_path, capsys):
    data = ["--data", "x.jsonl"] if verb == "train" else []
    wrong = ["--set", "objective.name=dpoo", "--out", str(begun.path), "--fork"]
    assert run([verb, str(recipe), *data, *wrong]) == 2
    assert "did you mean `dpo`" in capsys.readouterr().err
    assert not (tmp_path / "run-fork1").exists()


@pytest.mark.parametrize("out", ["file", "file/x"])
def test_an_out_that_can_not_be_a_folder_is_a_resource_error(out, recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for verb, more in (("run", []), ("train", ["--data", "x.jsonl"])):
        assert run([verb, str(recipe), *more, "--out", str(tmp_path / out)]) == 4
        assert "can't write" in capsys.readouterr().err


def test_the_command_that_is_told_after_a_stop_goes_on_with_the_fork(begun, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fairplay", "run", "r.yaml", "--out", str(begun.path), "--fork"])

    def fork_and_stop():
        with resumable() as resume:
            resume.fork(begun)
            raise Preempted("stopped")

    with pytest.raises(Preempted) as stop:
        fork_and_stop()
    command = f"resume with: fairplay run r.yaml --out {begun.path}-fork1"
    assert stop.value.message == f"stopped\n{command}"
    assert command in capsys.readouterr().err
