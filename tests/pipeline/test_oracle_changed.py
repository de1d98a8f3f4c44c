"""An oracle that changed since its verdicts were written is told by name: in a run, and in `fairplay rank`."""

import json
import shutil

import pytest

from fairplay.errors import Preempted, SettingsError
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.settings import run_settings
from fairplay.pipeline.single_stages import rank_file
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.settings_file import read_yaml

from .conftest import SMALL_RUN


@pytest.fixture(scope="module")
def begun(world, tmp_path_factory):
    """A folder with an oracle, and a run that was stopped once its first preferences were written."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(world / "oracle", folder / "oracle")
    run = RunDirectory(folder / "run")
    with pytest.raises(Preempted):
        run_loop(settings_with(world, folder / "oracle"), run, should_stop=run.folder(1, "4-examples").exists)
    return folder


@pytest.fixture
def judged(world, begun, tmp_path):
    """A copy of it: its settings, the run, and the folder of its oracle."""
    shutil.copytree(begun, tmp_path / "copy")
    oracle = tmp_path / "copy" / "oracle"
    return settings_with(world, oracle), RunDirectory(tmp_path / "copy" / "run"), oracle


def settings_with(world, oracle):
    places = {"model": "policy", "prompts.data": "prompts.jsonl", "evaluation.prompts": "held_out_prompts.jsonl"}
    moved = [f"{key}={world / name}" for key, name in places.items()]
    recipe = read_yaml(world / "recipe.yaml")
    return run_settings(recipe, [*SMALL_RUN, *moved, f"oracle.model={oracle}"], source="recipe", name="tiny")


def retrain(oracle):
    facts = json.loads((oracle / "pair_model.json").read_text())
    (oracle / "pair_model.json").write_text(json.dumps(facts | {"temperature": facts["temperature"] * 2}))


def test_a_run_whose_oracle_changed_is_refused_with_the_difference(judged):
    settings, run, oracle = judged
    retrain(oracle)
    with pytest.raises(SettingsError, match="3-preferences: finished with other") as refused:
        run_loop(settings, run, should_stop=lambda: False)
    assert "inputs.oracle model: other content than before" in refused.value.message


def test_half_done_preferences_of_another_oracle_are_made_anew_and_named(judged, caplog):
    settings, run, oracle = judged
    folder = run.folder(1, "3-preferences")
    (folder / "manifest.json").unlink()
    shutil.rmtree(run.folder(1, "4-examples"))
    retrain(oracle)
    with pytest.raises(Preempted):
        run_loop(settings, run, should_stop=run.folder(1, "4-examples").exists)
    made_anew = "3-preferences: half-done with other settings or inputs, made anew"
    assert f"{made_anew}: inputs.oracle model: other content than before" in caplog.text


def test_shards_of_rank_of_another_oracle_are_made_anew_and_named(tmp_path, caplog):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"say {i}", "responses": ["a", "bc"]}) + "\n" for i in range(100)))

    def rank(should_stop, **options):
        oracle = RuleSettings(function="oracles.tiny:length_rule", **options)
        return rank_file(
            source,
            tmp_path / "out.jsonl",
            oracle=oracle,
            rule="calibrated",
            opponents="leave-one-out",
            should_stop=should_stop,
        )

    stops = iter([False, True])
    with pytest.raises(Preempted):
        rank(lambda: next(stops))
    rank(lambda: False, temperature=2.0)
    assert "shards of an earlier call are made anew: oracle.temperature: 1.0 -> 2.0" in caplog.text
