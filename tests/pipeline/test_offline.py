import json

import pytest

from fairplay.errors import DataError
from fairplay.oracles.settings import OracleSettings
from fairplay.pipeline.offline import OfflineData, train_offline
from fairplay.pipeline.settings import TrainRunSettings
from fairplay.pipeline.single_evaluation import (
    AccuracySettings,
    ComparisonSettings,
    evaluate_pairs,
    evaluate_sides,
    recorded_responses,
)
from fairplay.storage.run_directory import RunDirectory
from fairplay.training.settings import TrainingSettings

TRAINING = TrainingSettings(learning_rate=1e-3, per_device_train_batch_size=4, max_length=128, max_prompt_length=96)
JUDGE = OracleSettings(kind="rule", function="fairplay.starter.judge:score")


def settings(world, **objective):
    return TrainRunSettings(model=str(world / "policy"), name="t", objective=objective, training=TRAINING)


def never():
    return False


@pytest.mark.parametrize("name", ["dpo", "simpo", "sampo", "orpo"])
def test_an_objective_trains_on_the_worlds_own_preference_pairs(name, world, tmp_path):
    data = OfflineData(str(world / "oracle_pairs.jsonl"), num_held_out=10)
    done = train_offline(settings(world, name=name), data, RunDirectory(tmp_path), should_stop=never)
    assert done["data"]["num_in"] == done["data"]["num_out"] + 10 + sum(done["data"]["dropped"].values())
    accuracy = done["training"]["held_out"]["implicit_rewards"]
    assert done["training"]["held_out"]["num_pairs"] == 10
    assert accuracy["before"]["ties"] == 10
    assert 0 <= accuracy["after"]["accuracy"]["low"] <= accuracy["after"]["accuracy"]["high"] <= 1
    assert (tmp_path / "iteration-1" / "5-checkpoint" / "model" / "model.safetensors").exists()


def test_data_that_lack_what_the_objective_needs_are_refused_before_training(world, tmp_path):
    source = tmp_path / "sft.jsonl"
    source.write_text(json.dumps({"prompt": "a?", "completion": "b"}) + "\n")
    with pytest.raises(DataError, match="no pairs"):
        train_offline(
            settings(world, name="dpo"), OfflineData(str(source)), RunDirectory(tmp_path / "r"), should_stop=never
        )


def test_no_example_is_both_trained_on_and_held_out(world, tmp_path):
    data = OfflineData(str(world / "oracle_pairs.jsonl"), num_held_out=10**6)
    with pytest.raises(DataError, match="to be held out"):
        train_offline(settings(world, name="dpo"), data, RunDirectory(tmp_path), should_stop=never)


def test_hh_dialogues_are_read_trained_on_and_measured(golden, world, tmp_path):
    import gzip

    source = golden / "hh_rlhf" / "harmless_base.jsonl.gz"
    some = tmp_path / "some.jsonl"
    with gzip.open(source, "rt") as stream:
        some.write_text("".join(next(stream) for _ in range(24)))
    small = TrainingSettings(learning_rate=1e-4, per_device_train_batch_size=4, max_length=250, max_prompt_length=200)
    wanted = TrainRunSettings(model=str(world / "policy"), name="hh", objective={"name": "sampo"}, training=small)
    done = train_offline(
        wanted, OfflineData(str(some), num_held_out=8), RunDirectory(tmp_path / "r"), should_stop=never
    )
    assert "HH-RLHF" in done["data"]["format"]
    trained = done["training"]
    assert trained["num_in"] == 16
    assert trained["num_in"] == trained["num_out"] + sum(trained["dropped"].values())


def test_recorded_alpaca_eval_outputs_are_compared(golden, tmp_path, monkeypatch):
    table = str(golden / "alpaca_eval2" / "outputs_sample.parquet")
    assert len(recorded_responses(f"{table}::NullModel")) == 805
    (tmp_path / "length_judge.py").write_text("def score(prompt, text):\n    return len(text) / 100\n")
    monkeypatch.syspath_prepend(tmp_path)
    judge = OracleSettings(kind="rule", function="length_judge:score")
    sides = (f"{table}::gpt-3.5-turbo-1106_verbose", f"{table}::gpt-3.5-turbo-1106_concise")
    done = evaluate_sides(*sides, "", settings=ComparisonSettings(judge=judge, num_bootstrap=200), seed=0)
    assert done["n"] == 805
    assert done["win_rate"] > 0.8
    assert done["length_unit"] == "characters"


def test_two_models_are_compared_and_a_model_against_itself_is_even(world):
    chosen = ComparisonSettings(judge=JUDGE, num_bootstrap=200)
    prompts = str(world / "held_out_prompts.jsonl")
    done = evaluate_sides(str(world / "policy"), str(world / "policy"), prompts, settings=chosen, seed=0)
    low, high = done["win_rate_ci"]
    assert low <= 0.5 <= high


def test_accuracy_on_preference_pairs_is_reported_with_an_interval(world):
    policy = str(world / "policy")
    done = evaluate_pairs(
        policy,
        policy,
        str(world / "oracle_pairs.jsonl"),
        settings=AccuracySettings(max_length=128, max_prompt_length=64),
    )
    assert done["implicit_rewards"]["ties"] == done["logps"]["num_pairs"]
    assert 0 < done["logps"]["accuracy"]["value"] < 1
