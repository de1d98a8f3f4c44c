import json
from pathlib import Path

import pytest

from fairplay.errors import DataError, Preempted, SettingsError
from fairplay.generation.settings import GenerationSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline.context import EXAMPLES
from fairplay.pipeline.margins import MARGINS_NAME
from fairplay.pipeline.offline import OfflineData, data_stage, train_offline
from fairplay.pipeline.pair_accuracy import AccuracySettings, evaluate_pairs
from fairplay.pipeline.settings import TrainRunSettings
from fairplay.pipeline.sides import recorded_responses
from fairplay.pipeline.single_evaluation import ComparisonSettings, Task, evaluate_sides
from fairplay.pipeline.stages import EXAMPLES_NAME, HELD_OUT_NAME
from fairplay.records import TrainingExample
from fairplay.seeds import stable_seed
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.tables import read_records
from fairplay.training.settings import TrainingSettings

from .schema import check

TRAINING = TrainingSettings(learning_rate=1e-3, per_device_train_batch_size=4, max_length=128, max_prompt_length=96)
JUDGE = RuleSettings(function="fairplay.starter.judge:score")


def settings(world, **objective):
    return TrainRunSettings(model=str(world / "policy"), name="t", objective=objective, training=TRAINING)


def never():
    return False


IN_FORCE = {"dpo": {"beta": 0.1}, "simpo": {"beta": 2.5, "gamma": 1.375}, "sampo": {"beta": 0.1}, "orpo": {"lam": 0.1}}


@pytest.mark.parametrize("name", IN_FORCE)
def test_an_objective_trains_on_the_worlds_own_preference_pairs(name, world, tmp_path):
    data = OfflineData(str(world / "oracle_pairs.jsonl"), num_held_out=10)
    done = train_offline(settings(world, name=name), data, RunDirectory(tmp_path), should_stop=never)
    assert done["data"]["num_in"] == done["data"]["num_out"] + sum(done["data"]["dropped"].values())
    assert done["data"]["dropped"]["held out"] == 10
    assert done["objective"].items() >= {"name": name, **IN_FORCE[name]}.items()
    accuracy = done["training"]["held_out"]["implicit_rewards"]
    assert done["training"]["held_out"]["num_pairs"] == 10
    assert accuracy["before"]["ties"] == 10
    assert 0 <= accuracy["after"]["accuracy_ci"][0] <= accuracy["after"]["accuracy_ci"][1] <= 1
    check(done)
    assert (tmp_path / "iteration-1" / "5-checkpoint" / "model" / "model.safetensors").exists()


def test_data_that_lack_what_the_objective_needs_are_refused_before_training(world, tmp_path):
    source = tmp_path / "sft.jsonl"
    source.write_text(json.dumps({"prompt": "a?", "completion": "b"}) + "\n")
    with pytest.raises(DataError, match="no pairs"):
        train_offline(
            settings(world, name="dpo"), OfflineData(str(source)), RunDirectory(tmp_path / "r"), should_stop=never
        )


def pairs(path, *prompts):
    rows = [{"prompt": prompt, "chosen": f"yes {i}", "rejected": f"no {i}"} for i, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def stage_of(tmp_path, data, *, seed=0):
    """The finished data stage of an offline training; no model is loaded for it."""
    run = RunDirectory(tmp_path / "run")
    chosen = TrainRunSettings(model="m", name="t", objective={"name": "dpo"}, seed=seed, training=TRAINING)
    manifest = data_stage(run, chosen, data)
    parts = [read_records(run.folder(1, EXAMPLES) / name, TrainingExample) for name in (EXAMPLES_NAME, HELD_OUT_NAME)]
    return manifest, *parts


def prompts_of(examples):
    return {example.prompt.messages for example in examples}


@pytest.mark.parametrize("seed", range(3))
def test_no_example_and_no_prompt_is_both_trained_on_and_held_out(seed, tmp_path):
    source = pairs(tmp_path / "pairs.jsonl", *(f"Question {i // 3}?" for i in range(30)))
    manifest, trained, held_out = stage_of(tmp_path, OfflineData(source, num_held_out=8), seed=seed)
    assert len(held_out) == 8
    assert {e.id for e in trained}.isdisjoint({e.id for e in held_out})
    assert prompts_of(trained).isdisjoint(prompts_of(held_out))
    assert manifest.num_out == len(trained) == 21
    assert manifest.dropped == {"held out": 8, "its prompt is held out": 1}
    assert manifest.num_in == manifest.num_out + sum(manifest.dropped.values())


def test_what_other_held_out_data_contain_is_not_trained_on_and_their_faults_are_counted(tmp_path):
    source = pairs(tmp_path / "pairs.jsonl", "a?", "b?", "c?", "a?", "c?")
    other = pairs(tmp_path / "other.jsonl", "z?", "a?", "c?")
    repeated = tmp_path / "repeated.jsonl"
    repeated.write_text(Path(other).read_text() * 2)
    manifest, trained, held_out = stage_of(tmp_path, OfflineData(source, held_out=str(repeated)))
    assert [e.prompt.messages[0].content for e in trained] == ["b?"]
    assert len(held_out) == 3
    assert manifest.dropped == {"its prompt is held out": 4}
    assert manifest.results["held_out_dropped"] == {"duplicate row": 3}


def test_data_with_unique_prompts_keep_the_draw_by_example(tmp_path):
    source = pairs(tmp_path / "pairs.jsonl", *(f"Question {i}?" for i in range(20)))
    _, trained, held_out = stage_of(tmp_path, OfflineData(source, num_held_out=5))
    drawn = sorted([*trained, *held_out], key=lambda e: stable_seed(0, "held-out", e.id))
    assert {e.id for e in drawn[:5]} == {e.id for e in held_out}


@pytest.mark.parametrize("number", [1, 6, 7])
def test_held_out_examples_that_leave_nothing_to_train_on_are_refused(number, tmp_path):
    source = pairs(tmp_path / "pairs.jsonl", *["the same?"] * 6)
    with pytest.raises(DataError, match="none is left to train on"):
        stage_of(tmp_path, OfflineData(source, num_held_out=number))


def test_other_held_out_data_and_a_held_out_part_are_refused_together(tmp_path):
    with pytest.raises(SettingsError, match="goes without --num-held-out 3"):
        OfflineData("pairs.jsonl", held_out="other.jsonl", num_held_out=3)


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
    assert len(recorded_responses(f"{table}::NullModel").groups) == 805
    (tmp_path / "length_judge.py").write_text("def score(prompt, text):\n    return len(text) / 100\n")
    monkeypatch.syspath_prepend(tmp_path)
    judge = RuleSettings(function="length_judge:score")
    sides = (f"{table}::gpt-3.5-turbo-1106_verbose", f"{table}::gpt-3.5-turbo-1106_concise")
    done, _ = evaluate_sides(Task(*sides), ComparisonSettings(judge=judge, num_bootstrap=200), tmp_path / "e")
    assert done["n"] == 805
    assert done["win_rate"] > 0.8
    assert done["length_unit"] == "characters"


def test_two_models_are_compared_and_a_model_against_itself_is_even(world, tmp_path):
    generation = GenerationSettings(num_responses=1, max_new_tokens=12)
    chosen = ComparisonSettings(judge=JUDGE, generation=generation, num_bootstrap=200)
    prompts = str(world / "held_out_prompts.jsonl")
    policy = str(world / "policy")
    done, _ = evaluate_sides(Task(policy, policy, prompts), chosen, tmp_path / "e")
    low, high = done["win_rate_ci"]
    assert low <= 0.5 <= high


def test_accuracy_on_preference_pairs_is_reported_with_an_interval(world, tmp_path):
    policy = str(world / "policy")
    chosen = AccuracySettings(max_length=128, max_prompt_length=64)
    done, _ = evaluate_pairs(policy, policy, str(world / "oracle_pairs.jsonl"), chosen, tmp_path / "e")
    assert done["implicit_rewards"]["ties"] == done["logps"]["num_pairs"]
    assert 0 < done["logps"]["accuracy"] < 1
    check(done)


def test_accuracy_that_was_stopped_at_any_commit_ends_with_the_same_bytes(world, tmp_path, monkeypatch):
    monkeypatch.setattr("fairplay.pipeline.pair_accuracy._BATCHES", 2)
    chosen = AccuracySettings(max_length=128, max_prompt_length=64, batch_size=3)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join((world / "oracle_pairs.jsonl").read_text().splitlines(keepends=True)[:40]))

    def measured(folder, should_stop=never):
        sources = (str(world / "policy"), str(world / "policy"), str(pairs))
        evaluate_pairs(*sources, chosen, folder, should_stop=should_stop)
        return (folder / "iteration-1" / "6-evaluation" / MARGINS_NAME).read_bytes()

    whole = measured(tmp_path / "whole")
    committed = []
    for _ in range(20):
        asked = iter([False, False, True])  # two shards, then stop
        try:
            assert measured(tmp_path / "stopped", lambda asked=asked: next(asked)) == whole
            break
        except Preempted:
            committed.append(len(list((tmp_path / "stopped").glob("iteration-1/*/.parts/part-*.parquet"))))
    assert committed == list(range(2, 2 * len(committed) + 1, 2))
    assert len(committed) >= 3
    assert not list((tmp_path / "stopped").glob("iteration-1/*/.parts"))
