"""Training oracles: each kind learns, is honest about held-out prompts, loads again, and survives being stopped."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fairplay.errors import DataError, Preempted
from fairplay.oracles.facts import read_facts
from fairplay.oracles.pair_model import PairModel
from fairplay.oracles.pair_ranker import build_ranker
from fairplay.oracles.ranker_folder import read_ranker
from fairplay.oracles.source import Source
from fairplay.records import Message, Prompt, Response, TrainingExample
from fairplay.starter.scratch import write_untrained
from fairplay.starter.settings import ScratchSettings
from fairplay.training.oracle_settings import OracleTrainingSettings
from fairplay.training.oracle_training import train_oracle
from training.tiny import make_examples, save_tiny_policy

QUICK = OracleTrainingSettings(learning_rate=3e-3, max_steps=60, max_length=96, logging_steps=5, save_steps=4)
FEW = replace(QUICK, max_steps=6)
DEBERTA = ScratchSettings(
    "deberta-v2",
    300,
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["c2p", "p2c"],
        "type_vocab_size": 0,
        "initializer_range": 0.1,
    },
)


def texts_of(examples):
    return [response.text for example in examples for response in example.responses]


def asked(examples, name):
    """The same with prompts that no other part has."""
    return [
        replace(example, id=f"{name}{i}", prompt=Prompt(f"{name}{i}", (Message("user", f"{name} {i}"),)))
        for i, example in enumerate(examples)
    ]


def parts(count=160, kept_apart=40):
    return {
        "pairs": asked(make_examples(count), "a"),
        "calibration": asked(make_examples(kept_apart, seed=1), "b"),
        "held_out": asked(make_examples(kept_apart, seed=2), "c"),
    }


def fit(folder: Path, source: str, settings=FEW, *, data=None, seed=3, **options):
    arguments = data or parts(24, 4)
    return train_oracle(
        source,
        arguments["pairs"],
        settings,
        folder / "oracle",
        calibration=arguments["calibration"],
        held_out=arguments["held_out"],
        work=folder / "work",
        seed=seed,
        **options,
    )


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def records(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "work" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return save_tiny_policy(tmp_path_factory.mktemp("base") / "policy")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("encoder") / "model"
    write_untrained(folder, "pair_ranker", DEBERTA, texts_of(make_examples(50)), seed=0)
    return str(folder)


@pytest.fixture(scope="module", params=["reward_model", "pair_model", "pair_lm"])
def trained(request, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, fit(folder, base, replace(QUICK, kind=request.param), data=parts())


def test_it_learns_which_ending_wins(trained):
    kind, folder, summary = trained
    assert (summary.num_pairs, summary.steps, len(summary.held_out.pair_ids)) == (160, 60, 40)
    assert (summary.held_out.winner_logits() > 0).mean() > 0.9
    assert summary.last_loss < summary.first_loss
    last = records(folder)[-1]
    # In one order alone, a language model's first habit is to say A (or B) to everything.
    assert last["rewards/accuracies"] > (0.3 if kind == "pair_lm" else 0.8)
    assert not [name for name in last if name.startswith(("logps/", "logratios/"))]


def test_the_saved_oracle_gives_the_verdicts_of_the_training_with_the_temperature_in_its_folder(trained):
    kind, folder, summary = trained
    if kind == "pair_model":
        facts = PairModel.load(folder / "oracle").facts
    else:
        facts = read_facts(Source(str(folder / "oracle"), ""))
    if kind == "reward_model":
        model = AutoModelForSequenceClassification.from_pretrained(folder / "oracle").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder / "oracle")
        example, rewards = parts()["held_out"][0], []
        for response in example.responses:  # with nothing of ours in between
            turns = [{"role": "user", "content": example.prompt.messages[0].content}]
            turns.append({"role": "assistant", "content": response.text})
            ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                rewards.append(float(model(**ids).logits[0, 0]))
        assert rewards[0] - rewards[1] == pytest.approx(summary.held_out.chosen_first[0], abs=1e-4)
    assert facts.temperature == summary.temperature
    assert facts.max_length == 96


@pytest.mark.parametrize("kind", ["reward_model", "pair_model", "pair_lm", "pair_ranker"])
def test_stopped_again_and_again_it_ends_with_the_same_bytes(kind, base, encoder, tmp_path):
    source = encoder if kind == "pair_ranker" else base
    settings = replace(FEW, kind=kind, **({"max_length": 1024} if kind == "pair_ranker" else {}))
    whole = fit(tmp_path / "whole", source, settings)
    for _ in range(2):  # each after two of the six steps
        polls = iter([False, True])
        with pytest.raises(Preempted):
            fit(tmp_path / "stopped", source, settings, should_stop=lambda polls=polls: next(polls))
    stopped = fit(tmp_path / "stopped", source, settings)
    assert replace(stopped, seconds=0) == replace(whole, seconds=0)
    assert digests(tmp_path / "stopped" / "oracle") == digests(tmp_path / "whole" / "oracle")
    assert records(tmp_path / "stopped") == records(tmp_path / "whole")
    assert fit(tmp_path / "stopped", source, settings) == stopped
    assert not (tmp_path / "stopped" / "work" / "checkpoints").exists()


def test_a_trained_pair_ranker_loads_as_one_and_judges_as_it_did(encoder, tmp_path):
    settings = replace(FEW, kind="pair_ranker", max_length=1024, prompt_max_length=40, response_max_length=30)
    summary = fit(tmp_path, encoder, settings)
    found = read_ranker(str(tmp_path / "oracle"))
    assert (found.temperature, found.prompt_max_length, found.response_max_length) == (summary.temperature, 40, 30)
    again = fit(tmp_path / "on", str(tmp_path / "oracle"), replace(settings, learning_rate=1e-12, max_steps=1))
    assert again.held_out.chosen_first == pytest.approx(summary.held_out.chosen_first, abs=1e-4)
    assert build_ranker(found, "ranker").head[0].weight.shape == (32, 64)


def test_training_leaves_the_global_generator_alone(base, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(tmp_path, base, replace(FEW, max_steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_gives_another_oracle(base, tmp_path):
    for seed in (0, 1):
        fit(tmp_path / str(seed), base, replace(FEW, max_steps=1), seed=seed)
    one, other = (digests(tmp_path / str(seed) / "oracle")["model.safetensors"] for seed in (0, 1))
    assert one != other


def test_labels_without_meaning_are_not_learnt_and_the_temperature_says_so(base, tmp_path):
    draw = random.Random(0)

    def shuffled(examples):
        return [replace(example, pairs=(draw.choice([(0, 1), (1, 0)]),)) for example in examples]

    data = {name: shuffled(part) for name, part in parts(160, 150).items()}
    summary = fit(tmp_path, base, replace(QUICK, max_steps=40), data=data)
    assert abs((summary.held_out.winner_logits() > 0).mean() - 0.5) < 0.15
    assert summary.temperature > 1.5


def test_the_length_penalty_takes_length_out_of_the_verdicts(base, tmp_path):
    """Chosen ones end in "red" in 85 % of the pairs, and are the longer ones in 85 %, drawn apart."""

    def biased(count, name):
        draw = random.Random(name)
        found = []
        for number in range(count):
            ends = ["red", "cat"] if draw.random() < 0.85 else ["cat", "red"]
            sizes = sorted(draw.sample(range(1, 9), 2), reverse=draw.random() < 0.85)
            texts = [" ".join(["the"] * size + [end]) for size, end in zip(sizes, ends, strict=True)]
            prompt = Prompt(f"{name}{number}", (Message("user", f"{name} {number}"),))
            found.append(TrainingExample(prompt.id, prompt, tuple(map(Response, texts)), pairs=((0, 1),)))
        return found

    data = {"pairs": biased(200, "a"), "calibration": biased(20, "b"), "held_out": biased(100, "c")}
    correlation = {}
    for penalty in (0.0, 3.0):
        settings = replace(QUICK, max_steps=50, length_penalty=penalty)
        verdicts = fit(tmp_path / str(penalty), base, settings, data=data).held_out
        d, g = verdicts.winner_logits(), np.asarray(verdicts.length_gaps, dtype=float)
        correlation[penalty] = d @ g / np.sqrt(d @ d * (g @ g))
    assert correlation[0.0] > 0.5
    assert abs(correlation[3.0]) < 0.6 * correlation[0.0]


def test_truncated_pairs_are_counted(base, tmp_path):
    long = TrainingExample(
        "long", Prompt("long", (Message("user", "?"),)), (Response("red " * 120), Response("cat")), pairs=((0, 1),)
    )
    data = parts(8, 4)
    data["pairs"].append(long)
    assert fit(tmp_path, base, replace(FEW, max_steps=1), data=data).num_truncated == 1


def test_parts_without_pairs_or_with_a_prompt_in_two_of_them_are_refused(base, tmp_path):
    same = TrainingExample("e", Prompt("q", (Message("user", "?"),)), (Response("a"), Response("a")), pairs=((0, 1),))
    for name, words in (("pairs", "learnt from"), ("calibration", "for calibration"), ("held_out", "held out")):
        with pytest.raises(DataError, match=f"no pair of two different texts is {words}"):
            fit(tmp_path, base, data={**parts(4, 4), name: [same]})
    data = parts(8, 4)
    with pytest.raises(DataError, match="4 prompts are in two of the parts"):
        fit(tmp_path, base, data={**data, "held_out": data["calibration"]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "pair_modle"}, "kind.*did you mean"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"dtype": "float16"}, "dtype"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"length_penalty": -1.0}, "length_penalty"),
        ({"length_penalty": 1.0, "per_device_train_batch_size": 4}, "length_penalty"),
        ({"prompt_max_length": 40}, "prompt_max_length: without effect for `reward_model`"),
        ({"kind": "pair_ranker", "max_length": 40}, "max_length: without effect for `pair_ranker`"),
        ({"max_length": 8}, "max_length"),
        ({"truncation_side": "middle"}, "truncation_side"),
    ],
)
def test_settings_that_can_not_be_met_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        OracleTrainingSettings(**settings)
