"""`fairplay train-oracle` on one's own pairs: what it writes, what it refuses, and that its oracle can be asked."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import yaml

from fairplay.cli.main import run
from fairplay.errors import DataError, Preempted, SettingsError
from fairplay.pipeline.oracle_results import read_verdicts, write_verdicts
from fairplay.pipeline.oracle_stages import read_oracle_settings, train_oracle_run
from fairplay.pipeline.verifying import verify
from fairplay.storage.run_directory import RunDirectory

from .schema import check

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
RECIPE = {
    "scratch": {
        "model_type": "bert",
        "vocab_size": 300,
        "config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.1,
        },
    },
    "num_held_out": 40,
    "num_calibration": 20,
    "training": {
        "kind": "reward_model",
        "learning_rate": 5e-3,
        "max_steps": 40,
        "max_length": 96,
        "save_steps": 10,
        "per_device_train_batch_size": 8,
    },
}


def write_pairs(path, count=160, *, tie=False):
    draw = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            filler = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 4)))
            chosen, rejected = f"{filler} yes", f"{filler} not at all"
            row = {"prompt": f"question {number}", "chosen": chosen, "rejected": chosen if tie else rejected}
            file.write(json.dumps(row) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = write_pairs(folder / "pairs.jsonl")
    assert run(["train-oracle", str(recipe), "--data", data, "--out", str(folder / "run")]) == 0
    return folder


def test_its_results_say_what_it_is_worth(trained):
    results = json.loads((trained / "run" / "results.json").read_text())
    measured = results["measured"]
    assert (results["data"]["num_training"], measured["num_calibration"], measured["num_held_out"]) == (100, 20, 40)
    check(results)
    assert results["oracle_kind"] == "reward_model"
    assert measured["accuracy_ci"][0] > 0.5
    assert measured["after"]["temperature"] == results["training"]["temperature"]
    assert measured["before"]["temperature"] == 1
    for side in ("before", "after"):
        assert measured[side]["brier_ci"][0] <= measured[side]["brier"] < 0.25
        assert sum(point["num_pairs"] for point in measured[side]["points"]) == 40
    assert measured["length"]["num_shorter_wins"] + measured["length"]["num_longer_wins"] > 0
    assert measured["order"] == {}


def test_every_figure_follows_from_its_verdicts_and_a_changed_one_is_told(trained, tmp_path):
    assert verify(trained / "run")["agrees"]
    folder = tmp_path / "run"
    shutil.copytree(trained / "run", folder)
    stage, path = folder / "iteration-1" / "3-oracle", folder / "results.json"
    results = json.loads(path.read_text())
    results["measured"]["after"]["brier"] += 0.01
    path.write_text(json.dumps(results))
    verdicts = read_verdicts(stage)
    wrong = tuple(-logit for logit in verdicts["held_out"].chosen_first)
    changed = replace(verdicts["held_out"], chosen_first=wrong, chosen_second=wrong)
    write_verdicts(stage, {**verdicts, "held_out": changed})
    told = {one["what"]: one["told"] for one in verify(folder)["checks"] if not one["agrees"]}
    assert told["results.json"].startswith("measured.after.brier: written")
    assert "accuracy.value: written" in told["iteration-1/3-oracle: what it is worth on held-out pairs"]
    assert "verdicts-held_out.parquet" in told["iteration-1/3-oracle: files"]


def test_its_page_stands_alone(trained):
    page = (trained / "run" / "report" / "index.html").read_text()
    assert "<svg" in page
    assert "default-src &#39;none&#39;" in page
    for outside in ("http:", "https:", "<script", "question 1"):
        assert outside not in page


def test_its_oracle_ranks_with_the_fitted_temperature(trained):
    lines, ranked = trained / "in.jsonl", trained / "ranked.jsonl"
    lines.write_text(json.dumps({"prompt": "question?", "responses": ["alpha not at all", "alpha yes"]}) + "\n")
    model = trained / "run" / "iteration-1" / "3-oracle" / "model"
    asked = ["--set", "oracle.kind=reward_model", "--set", f"oracle.model={model}"]
    assert run(["rank", "--input", str(lines), "--output", str(ranked), *asked]) == 0
    row = json.loads(ranked.read_text())
    results = json.loads((trained / "run" / "results.json").read_text())
    assert row["temperature"] == results["training"]["temperature"]
    assert row["win_probs"][1][0] > 0.5


def test_run_again_it_keeps_what_is_there_and_refuses_other_settings(trained, recipe, capsys):
    data, out = str(trained / "pairs.jsonl"), str(trained / "run")
    before = (trained / "run" / "results.json").read_bytes()
    assert run(["train-oracle", str(recipe), "--data", data, "--out", out, "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    check(printed)
    assert printed["measured"] == json.loads(before)["measured"]
    assert (trained / "run" / "results.json").read_bytes() == before
    assert run(["train-oracle", str(recipe), "--data", data, "--out", out, "--set", "training.max_steps=3"]) == 2
    assert "training.max_steps: 40 -> 3" in capsys.readouterr().err


def test_stopped_it_goes_on_and_ends_with_the_same_results(trained, recipe, tmp_path):
    data, settings = str(trained / "pairs.jsonl"), read_oracle_settings(recipe, ["name=tiny"])
    polls = iter([False] * 14)
    with pytest.raises(Preempted):
        train_oracle_run(settings, data, RunDirectory(tmp_path), should_stop=lambda: next(polls, True))
    done = train_oracle_run(settings, data, RunDirectory(tmp_path), should_stop=lambda: False)
    whole = json.loads((trained / "run" / "results.json").read_text())
    assert json.loads(json.dumps(done["measured"])) == whole["measured"]
    model = "iteration-1/3-oracle/model/model.safetensors"
    assert (tmp_path / model).read_bytes() == (trained / "run" / model).read_bytes()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda path: write_pairs(path, 70), "70 labelled pairs are too few: 40 are held out"),
        (lambda path: write_pairs(path, 70, tie=True), "identical responses: 70"),
    ],
)
def test_too_few_pairs_and_pairs_of_equal_texts_are_refused(rows, words, recipe, tmp_path):
    with pytest.raises(DataError, match=words):
        train_oracle_run(
            read_oracle_settings(recipe, []), rows(tmp_path / "d.jsonl"), RunDirectory(tmp_path / "r"), should_stop=bool
        )


def test_rows_without_labels_are_refused_by_name(recipe, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"q{i}", "completion": "a", "label": True}) + "\n" for i in range(90))
    )
    with pytest.raises(DataError, match="it has no pair, and no two responses with scores"):
        train_oracle_run(
            read_oracle_settings(recipe, []), str(path), RunDirectory(tmp_path / "run"), should_stop=lambda: False
        )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=some/model"], "name either what to start from, or an architecture"),
        (["scratch.vocab_size=100"], "vocab_size: must be at least 270"),
        (["scratch.config.vocab_size=500"], "config.vocab_size: the tokenizer decides it"),
        (["num_held_out=5"], "num_held_out: must be at least 20"),
        (["training.kind=reward_modle"], "did you mean `reward_model`"),
        (["trainig.kind=pair_lm"], "unknown setting"),
    ],
)
def test_settings_that_can_not_be_met_are_refused(overrides, words, recipe):
    with pytest.raises(SettingsError, match=words):
        read_oracle_settings(recipe, overrides)


def test_an_architecture_that_makes_no_such_oracle_is_refused(recipe, tmp_path):
    data = write_pairs(tmp_path / "d.jsonl")
    for overrides in (["scratch.model_type=bird"], ["scratch.config.hidden_size=33"]):
        settings = read_oracle_settings(recipe, overrides)
        with pytest.raises(SettingsError, match="scratch: no `reward_model` can be made"):
            train_oracle_run(settings, data, RunDirectory(tmp_path / overrides[0]), should_stop=lambda: False)


@pytest.mark.slow
def test_the_hh_recipe_beats_a_coin_on_300_held_out_pairs(golden, tmp_path):
    arguments = ["--data", str(golden / "hh_rlhf" / "harmless_base.jsonl.gz"), "--out", str(tmp_path), "--seed", "0"]
    assert run(["train-oracle", "recipes/hh/reward_model.yaml", *arguments]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["measured"]["num_held_out"] == 300
    assert results["measured"]["accuracy_ci"][0] > 0.5
