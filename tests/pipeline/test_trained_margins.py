"""Offline trainings are compared on their held-out pairs, and verified from the margins that they keep."""

import json
import shutil

import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError, SettingsError
from fairplay.pipeline.comparing import CompareSettings, compare
from fairplay.pipeline.margins import AFTER_NAME, PairMargin
from fairplay.pipeline.offline import OfflineData, train_offline
from fairplay.pipeline.settings import TrainRunSettings
from fairplay.pipeline.verifying import verify
from fairplay.storage.digests import sha256_file
from fairplay.storage.manifest import read_manifest, write_manifest
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.tables import read_records, write_records
from fairplay.training.settings import TrainingSettings

from .schema import check

FEW = CompareSettings(num_bootstrap=300)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Folders of two trainings by different objectives on the same data, and of one on other held-out pairs."""
    folder = tmp_path_factory.mktemp("trained")
    training = TrainingSettings(learning_rate=3e-3, per_device_train_batch_size=4, max_length=128, max_prompt_length=96)
    for name, objective, seed in (("dpo", "dpo", 0), ("simpo", "simpo", 0), ("other", "dpo", 1)):
        settings = TrainRunSettings(
            model=str(world / "policy"), name=name, objective={"name": objective}, training=training, seed=seed
        )
        data = OfflineData(str(world / "oracle_pairs.jsonl"), num_held_out=12)
        train_offline(settings, data, RunDirectory(folder / name), should_stop=lambda: False)
    return folder


def test_two_trainings_are_compared_on_their_held_out_pairs(trained, capsys):
    paths = [str(trained / name) for name in ("dpo", "simpo")]
    assert run(["compare", *paths, "--format", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    check(done)
    (told,) = done["differences"]
    assert told["n"] == 12
    results = [json.loads((trained / name / "results.json").read_text()) for name in ("dpo", "simpo")]
    for kind, found in told["accuracies"].items():
        ends = [one["training"]["held_out"][kind]["after"]["accuracy"] for one in results]
        assert [found["accuracy_before"], found["accuracy_after"]] == pytest.approx(ends)
    assert done["family_size"] == len(told["accuracies"]) == 3
    p_values = [found["accuracy_change"] for found in told["accuracies"].values()]
    assert all(found["p_value"] <= found["p_value_holm"] <= 1 for found in p_values)


def test_a_training_is_compared_with_what_it_started_from(trained):
    (told,) = compare([f"{trained / 'dpo'}@0", str(trained / "dpo")], FEW)["differences"]
    held_out = json.loads((trained / "dpo" / "results.json").read_text())["training"]["held_out"]
    for kind, found in told["accuracies"].items():
        assert found["accuracy_change"]["difference"] == pytest.approx(held_out[kind]["change"]["difference"])


def test_other_held_out_pairs_are_refused(trained, tmp_path):
    with pytest.raises(DataError, match="not the same pairs"):
        compare([str(trained / "dpo"), str(trained / "other")], FEW)
    shutil.copytree(trained / "dpo", tmp_path / "gone")
    stage = tmp_path / "gone" / "iteration-1" / "5-checkpoint"
    (stage / AFTER_NAME).unlink()
    with pytest.raises(DataError, match="margins-after"):
        compare([str(trained / "dpo"), str(tmp_path / "gone")], FEW)


def test_a_tampered_margin_is_found(trained, tmp_path, capsys):
    assert run(["verify", str(trained / "dpo")]) == 0
    assert "held-out accuracies" in capsys.readouterr().out
    shutil.copytree(trained / "dpo", tmp_path / "dpo")
    stage = tmp_path / "dpo" / "iteration-1" / "5-checkpoint"
    rows = read_records(stage / AFTER_NAME, PairMargin)
    changed = [PairMargin(row.pair, -row.logps, row.mean_logps, row.implicit_rewards) for row in rows]
    write_records(stage / AFTER_NAME, changed, PairMargin)
    manifest = read_manifest(stage)
    assert not verify(tmp_path / "dpo")["agrees"]
    with pytest.raises(DataError, match=AFTER_NAME):
        compare([str(tmp_path / "dpo"), str(trained / "dpo")], FEW)
    manifest.files[AFTER_NAME] = sha256_file(stage / AFTER_NAME)  # whoever tampers may mend the hash, too
    write_manifest(stage, manifest)
    done = verify(tmp_path / "dpo")
    check(done)
    (told,) = [one["told"] for one in done["checks"] if "held-out accuracies" in one["what"] and not one["agrees"]]
    assert "logps.after.accuracy.value: written" in told


def test_margins_and_verdicts_are_not_compared(trained, tmp_path):
    from fairplay.records import Judgement

    write_records(tmp_path / "v.parquet", [Judgement("p", 0, 0.5, 0.5, 3, 3)], Judgement)
    with pytest.raises(SettingsError, match="margins can't be compared with verdicts"):
        compare([str(trained / "dpo"), str(tmp_path / "v.parquet")], FEW)
