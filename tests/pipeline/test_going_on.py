"""What keeps a run from going on, and what does not: places, trackers, new defaults, forks, reports."""

import json
import shutil

import pytest

from fairplay.errors import DataError, LockedError, Preempted, SettingsError
from fairplay.pipeline.context import data_digest
from fairplay.pipeline.loop import rewrite_report, run_loop
from fairplay.pipeline.offline import OfflineData, train_offline
from fairplay.pipeline.settings import RunSettings, TrainRunSettings, run_settings
from fairplay.storage.locking import lock
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.settings_file import dump_yaml, read_yaml
from fairplay.training.settings import TrainingSettings

from .conftest import SMALL_RUN

START = "iteration-0/6-evaluation/manifest.json"


def settings_in(world, *overrides):
    recipe = read_yaml(world / "recipe.yaml")
    places = {"model": "policy", "oracle.model": "oracle", "prompts.data": "prompts.jsonl"}
    moved = [f"{key}={world / name}" for key, name in places.items()]
    moved.append(f"evaluation.prompts={world / 'held_out_prompts.jsonl'}")
    return run_settings(recipe, [*SMALL_RUN, *moved, *overrides], source="recipe", name="tiny")


def stopped(settings, run):
    """Go on until the start policy has responded and the first prompts are drawn, then stop."""
    with pytest.raises(Preempted):
        run_loop(settings, run, should_stop=run.folder(1, "2-responses").exists)


@pytest.fixture
def begun(world, tmp_path):
    """A run with two finished stages."""
    run = RunDirectory(tmp_path / "run")
    stopped(settings_in(world), run)
    return run


def test_places_trackers_and_the_distance_of_checkpoints_do_not_keep_a_run_from_going_on(world, begun, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(world, moved)
    before = {folder: manifest.content for folder, manifest in begun.manifests()}
    stopped(settings_in(moved, "training.save_steps=7", "training.report_to=tensorboard"), begun)
    assert {folder: manifest.content for folder, manifest in begun.manifests()} == before


def test_other_content_at_a_place_does(world, begun, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(world, moved)
    with (moved / "held_out_prompts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "one more"}) + "\n")
    with pytest.raises(SettingsError, match=r"inputs\.prompts"):
        run_loop(settings_in(moved), begun, should_stop=lambda: False)


def test_a_default_that_a_new_release_brings_does_not_keep_a_run_from_going_on(world, begun):
    path = begun.path / "settings.yaml"
    document = read_yaml(path)
    del document["training"]["weight_decay"], document["learning_rate_decay"]
    path.write_text(dump_yaml(document))
    stopped(settings_in(world, "learning_rate_decay=1.0"), begun)
    with pytest.raises(SettingsError, match=r"learning_rate_decay: 1\.0 -> 0\.5"):
        run_loop(settings_in(world, "learning_rate_decay=0.5"), begun, should_stop=lambda: False)


def test_a_failed_start_can_be_corrected_in_its_folder(world, tmp_path):
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(DataError, match=r"evaluation\.num_prompts"):
        run_loop(settings_in(world, "evaluation.num_prompts=999"), run, should_stop=lambda: False)
    stopped(settings_in(world), run)
    assert (run.path / START).is_file()


def test_a_fork_that_was_stopped_goes_on_by_its_own_name(world, begun):
    fork, changed = begun.fork(), settings_in(world, "generation.temperature=0.7")
    stopped(changed, fork)
    assert (fork.path / START).read_bytes() != (begun.path / START).read_bytes()
    stopped(changed, RunDirectory(fork.path))


def test_another_judge_leaves_what_the_start_policy_responded_as_it_is(world, begun):
    fork = begun.fork()
    changed = ("evaluation.judge.temperature=2", "evaluation.num_bootstrap=300", "oracle.temperature=2")
    stopped(settings_in(world, *changed, "evaluation.opponents=previous"), fork)
    assert (fork.path / START).read_bytes() == (begun.path / START).read_bytes()


def test_a_report_is_not_built_on_damaged_stages_nor_on_a_run_that_goes_on(begun):
    with lock(begun.path), pytest.raises(LockedError):
        rewrite_report(begun.path)
    part = next(begun.path.glob("iteration-0/6-evaluation/responses/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DataError, match="its bytes differ"):
        rewrite_report(begun.path)


def offline(world, data, **training):
    settings = TrainingSettings(per_device_train_batch_size=4, max_length=128, max_prompt_length=96, **training)
    return TrainRunSettings(str(world / "policy"), "t", objective={"name": "dpo"}, training=settings), data


def test_an_offline_training_goes_on_wherever_its_data_lie_and_has_no_report(world, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder").mkdir()
    lines = (world / "oracle_pairs.jsonl").read_text().splitlines(keepends=True)[:8]
    (tmp_path / "folder" / "train.jsonl").write_text("".join(lines))
    run = RunDirectory(tmp_path / "run")
    done = []
    for source in (str(tmp_path / "folder" / "train.jsonl"), "~/folder/train.jsonl", f"{tmp_path / 'folder'}@train"):
        settings, data = offline(world, OfflineData(source), save_steps=len(done))
        done.append(train_offline(settings, data, run, should_stop=lambda: False)["training"])
    assert done[0] == done[1] == done[2]
    with pytest.raises(SettingsError, match="an offline training has no report"):
        rewrite_report(run.path)
    with pytest.raises(SettingsError, match="num_held_out: 0 -> 2"):
        train_offline(settings, OfflineData(data.source, num_held_out=2), run, should_stop=lambda: False)
    (tmp_path / "folder" / "train.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(SettingsError, match=r"inputs\.data"):
        train_offline(settings, data, run, should_stop=lambda: False)


def test_data_are_told_apart_by_the_files_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"prompt": split}) + "\n")
    before = {name: data_digest(name) for name in ("data", "data@train", "~/data/train.jsonl", "./data@test")}
    assert before["data"] == before["data@train"] == before["~/data/train.jsonl"] != before["./data@test"]
    (folder / "README.md").write_text("changes nothing that is read")
    (folder / "test.jsonl").write_text(json.dumps({"prompt": "edited"}) + "\n")
    changed = [name for name, digest in before.items() if data_digest(name) != digest]
    assert changed == ["./data@test"]
    assert data_digest("owner/name") == data_digest("owner/name@train") == "owner/name@train"
    for missing in ("data/missing.jsonl", "~/missing", "data@dev"):
        with pytest.raises(DataError):
            data_digest(missing)


@pytest.mark.parametrize("name", ["", "..", ".", "../../x", "/x", "a/b", "a\\b", "a\nb", "a\0"])
def test_a_name_that_is_no_folder_name_is_refused(name, world):
    with pytest.raises(SettingsError, match=r"^recipe: name: must be the name of a folder"):
        settings_in(world, f"name={json.dumps(name)}")
    with pytest.raises(ValueError, match="name: must be the name of a folder"):
        TrainRunSettings("model", name)


def test_a_run_takes_its_recipes_name(settings_of):
    assert isinstance(settings_of(), RunSettings)
    assert settings_of("name=my run").name == "my run"
