import json

import pytest

from fairplay.cli.main import run as fairplay
from fairplay.errors import SettingsError
from fairplay.generation.mixture import read_mixture
from fairplay.pipeline.combined import checkpoints_of, weights_of
from fairplay.pipeline.loop import run_loop
from fairplay.storage.run_directory import RunDirectory


@pytest.fixture
def finished(settings_of, tmp_path):
    run_loop(settings_of("prompts.num_per_iteration=4"), RunDirectory(tmp_path / "run"), should_stop=lambda: False)
    return tmp_path / "run"


def test_a_runs_checkpoints_are_mixed_averaged_and_extrapolated(finished, tmp_path, capsys):
    models = checkpoints_of(finished)
    assert len(models) == 3
    assert weights_of(finished, "uniform") == [0.0, 0.5, 0.5]
    assert sum(weights_of(finished, "nash")) == pytest.approx(1.0)
    with pytest.raises(SettingsError, match="uniform, nash"):
        weights_of(finished, "best")
    results = finished / "results.json"
    document = json.loads(results.read_text())
    document["checkpoints"]["nash"] = [6e-8, 0.25, 0.74999994]
    results.write_text(json.dumps(document))
    assert weights_of(finished, "nash") == [0.0, pytest.approx(0.25), pytest.approx(0.75)]
    assert fairplay(["combine", "--run", str(finished), "--mixture", "--out", str(tmp_path / "m")]) == 0
    assert [member.weight for member in read_mixture(str(tmp_path / "m"))] == [0.5, 0.5]
    average = ["combine", "--run", str(finished), "--out", str(tmp_path / "average"), "--format", "json"]
    capsys.readouterr()
    assert fairplay(average) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "sum of weights"
    assert (tmp_path / "average" / "model.safetensors").is_file()
    assert fairplay(["combine", models[0], models[2], "--extrapolate", "0.3", "--out", str(tmp_path / "expo")]) == 0
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Say this word twice: red"}\n')
    few = ["--set", "generation.num_responses=4", "--set", "generation.max_new_tokens=6"]
    asked = ["generate", "--model", str(tmp_path / "m"), "--input", str(prompts), "--output", str(tmp_path / "r.jsonl")]
    assert fairplay([*asked, *few]) == 0
    assert len(json.loads((tmp_path / "r.jsonl").read_text())["responses"]) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name models"),
        (["a", "--run", "b"], "name models"),
        (["a", "b", "c", "--extrapolate", "0.3"], "two models"),
        (["a", "b", "--weights", "x,y"], "not a list of numbers"),
        (["a", "b", "--weights", "1"], "1 weight for 2 models"),
    ],
)
def test_arguments_that_make_no_policy_are_refused(arguments, told, tmp_path, capsys):
    assert fairplay(["combine", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--mixture"]])
def test_a_run_named_where_a_model_belongs_is_refused_with_its_last_model(finished, how, tmp_path, capsys):
    made = ["combine", checkpoints_of(finished)[0], str(finished), *how, "--out", str(tmp_path / "out")]
    assert fairplay(made) == 3
    told = capsys.readouterr().err
    assert f"models are inside it: {finished}/iteration-2/5-checkpoint/model, " in told
    assert not (tmp_path / "out").exists()
