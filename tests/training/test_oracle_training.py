"""Training a pair model: it learns, it is honest about held-out prompts, and the same call gives the same bytes."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.table import build_oracle
from fairplay.preferences.win_matrix import symmetric_logits
from fairplay.records import Message, Prompt, Response, ResponseGroup, TrainingExample
from fairplay.training.oracle_settings import PairTrainingSettings
from fairplay.training.oracle_training import EQUAL_TEXTS, accuracy_interval, train_pair_model
from training.tiny import make_examples, save_tiny_policy

QUICK = PairTrainingSettings(max_steps=60, learning_rate=3e-3, warmup_steps=5, held_out_share=0.2, max_length=96)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return save_tiny_policy(tmp_path_factory.mktemp("base") / "policy")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "pair"
    return output, train_pair_model(base, make_examples(200), QUICK, output, seed=3)


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_it_learns_which_ending_wins(trained):
    _, summary = trained
    assert (summary.num_train_pairs, summary.num_held_out_pairs, summary.steps) == (160, 40, 60)
    assert summary.accuracy.value > 0.9
    assert 0.75 < summary.accuracy.low < summary.accuracy.value <= summary.accuracy.high <= 1
    assert summary.last_loss < 0.3
    assert summary.num_truncated == 0


def test_the_saved_model_judges_with_the_fitted_temperature(trained):
    output, summary = trained
    oracle = build_oracle(PairModelSettings(model=str(output)))
    assert oracle.temperature == summary.temperature
    unseen = make_examples(40, seed=9)
    groups = [ResponseGroup(example.prompt, example.responses) for example in unseen]
    wins = [symmetric_logits(np.asarray(p.pair_logits))[0, 1] > 0 for p in oracle.pair_logits(groups)]
    assert np.mean(wins) > 0.9


def test_the_same_call_gives_the_same_bytes_wherever_it_writes(base, trained, tmp_path):
    output, summary = trained
    torch.manual_seed(99)
    again = train_pair_model(base, make_examples(200), QUICK, tmp_path / "elsewhere" / "again", seed=3)
    assert again == summary
    assert files(tmp_path / "elsewhere" / "again") == files(output)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["again"]


def test_training_leaves_the_global_generator_alone(base, tmp_path):
    few = PairTrainingSettings(max_steps=2, max_length=96)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_pair_model(base, make_examples(6), few, tmp_path / "pair", seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_gives_another_model(base, tmp_path):
    few = PairTrainingSettings(max_steps=2, max_length=96)
    for seed in (0, 1):
        train_pair_model(base, make_examples(6), few, tmp_path / str(seed), seed=seed)
    assert files(tmp_path / "0")["pair_head.safetensors"] != files(tmp_path / "1")["pair_head.safetensors"]


def test_an_older_folder_is_replaced_as_a_whole(base, tmp_path):
    old = tmp_path / "pair"
    old.mkdir()
    (old / "left-over.txt").write_text("old")
    train_pair_model(base, make_examples(6), PairTrainingSettings(max_steps=1), old, seed=0)
    assert not (old / "left-over.txt").exists()
    assert (old / "pair_model.json").is_file()


def test_labels_without_meaning_are_not_learnt(base, tmp_path):
    draw = random.Random(0)
    swapped = [
        TrainingExample(e.id, e.prompt, e.responses, pairs=(draw.choice([(0, 1), (1, 0)]),)) for e in make_examples(300)
    ]
    short = PairTrainingSettings(max_steps=40, held_out_share=0.5, max_length=96)
    summary = train_pair_model(base, swapped, short, tmp_path / "pair", seed=0)
    assert summary.accuracy.low < 0.5 < summary.accuracy.high


def test_all_pairs_of_a_prompt_are_on_the_same_side_of_the_split(base, tmp_path):
    prompts = [Prompt(f"q{i}", (Message("user", f"what is {i}?"),)) for i in range(10)]
    pairs = [
        TrainingExample(f"{p.id}-{n}", p, (Response(f"red {n}"), Response(f"cat {n}")), pairs=((0, 1),))
        for p in prompts
        for n in range(7)
    ]
    few = PairTrainingSettings(max_steps=1, held_out_share=0.3)
    summary = train_pair_model(base, pairs, few, tmp_path / "pair", seed=0)
    assert (summary.num_train_pairs, summary.num_held_out_pairs) == (49, 21)


def test_pairs_of_equal_texts_are_dropped_and_counted_and_several_pairs_an_example_are_welcome(base, tmp_path):
    same = (Response("red"), Response("red"), Response("cat"))
    odd = TrainingExample("odd", Prompt("odd", (Message("user", "?"),)), same, pairs=((0, 1), (1, 2)))
    few = PairTrainingSettings(max_steps=1)
    summary = train_pair_model(base, [*make_examples(5), odd], few, tmp_path / "pair", seed=0)
    assert [(drop.id, drop.reason) for drop in summary.dropped] == [("odd#0", EQUAL_TEXTS)]
    assert summary.num_train_pairs + summary.num_held_out_pairs == 6


def test_truncated_pairs_are_counted(base, tmp_path):
    long = TrainingExample(
        "long", Prompt("long", (Message("user", "?"),)), (Response("red " * 90), Response("cat")), pairs=((0, 1),)
    )
    few = PairTrainingSettings(max_steps=1, max_length=64)
    summary = train_pair_model(base, [*make_examples(5), long], few, tmp_path / "pair", seed=0)
    assert summary.num_truncated == 1


def test_too_little_data_is_refused_and_nothing_is_written(base, tmp_path):
    without = TrainingExample("e1", Prompt("q", (Message("user", "?"),)), (Response("a"), Response("b")))
    with pytest.raises(DataError, match="example e1: it has no pair"):
        train_pair_model(base, [without], QUICK, tmp_path / "pair", seed=0)
    with pytest.raises(DataError, match="1 prompts have a pair"):
        train_pair_model(base, make_examples(1), QUICK, tmp_path / "pair", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_the_interval_is_wilsons():
    interval = accuracy_interval(np.array([1.0] * 8 + [-1.0] * 2))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert accuracy_interval(np.array([1.0, 0.0, 0.0, -1.0])).value == 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 0},
        {"per_device_train_batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"max_grad_norm": -1.0},
        {"warmup_steps": -1},
        {"held_out_share": 0.0},
        {"held_out_share": 1.0},
    ],
)
def test_settings_that_can_not_be_met_are_refused(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        PairTrainingSettings(**settings)
