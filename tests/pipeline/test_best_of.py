"""Best of n: what is kept is what the oracle prefers among the responses of `fairplay generate`, and it says so."""

import json

import pytest

from fairplay.cli.main import run
from fairplay.errors import Preempted
from fairplay.generation.settings import GenerationSettings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.pipeline.best_of import best_of_file
from training.tiny import save_tiny_policy

RULE = ["--set", "oracle.kind=rule", "--set", "oracle.function=oracles.tiny:length_rule"]
SHORT = ["--set", "generation.max_new_tokens=6", "--set", "loading.device=cpu"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best")
    save_tiny_policy(folder / "policy")
    rows = [{"prompt": f"red horse {i}"} for i in range(5)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def generate(world, name, *options):
    places = ["--model", str(world / "policy"), "--input", str(world / "prompts.jsonl")]
    code = run(["generate", *places, "--output", str(world / name), *SHORT, *options])
    return code, [json.loads(line) for line in (world / name).read_text().splitlines()] if code == 0 else []


def test_of_the_responses_of_generate_the_one_that_the_oracle_prefers_is_kept(world):
    _, best = generate(world, "best.jsonl", "--best-of", "4", *RULE)
    _, every = generate(world, "all.jsonl", "--set", "generation.num_responses=4")
    assert len(best) == len(every) == 5
    for kept, group in zip(best, every, strict=True):
        lengths = [len(text) for text in group["responses"]]
        said = kept["best_of"]
        assert kept["responses"] == [group["responses"][said["index"]]]
        assert said["index"] == lengths.index(max(lengths))
        assert (said["n"], said["oracle"]) == (4, "rule:oracles.tiny:length_rule")
        assert 0.5 <= said["win_rate"] <= 1


def test_what_is_kept_is_a_file_of_responses_as_any(world):
    generate(world, "again.jsonl", "--best-of", "3", *RULE)
    _, single = generate(world, "single.jsonl", "--set", "generation.num_responses=1")
    assert len(single) == 5
    judge = ["--set", "judge.kind=rule", "--set", "judge.function=oracles.tiny:length_rule"]
    sides = ["--policy", str(world / "again.jsonl"), "--opponent", str(world / "single.jsonl")]
    assert run(["evaluate", *sides, *judge, "--format", "json", "--out", str(world / "compared")]) == 0


def test_stopped_it_goes_on_and_ends_with_the_same_bytes(world, monkeypatch):
    monkeypatch.setattr("fairplay.pipeline.best_of.SHARD_SIZE", 2)
    arguments = {
        "oracle": RuleSettings(function="oracles.tiny:length_rule"),
        "generation": GenerationSettings(num_responses=3, max_new_tokens=6),
        "loading": ModelSettings(device="cpu"),
        "seed": 0,
    }
    places = str(world / "policy"), str(world / "prompts.jsonl")
    done = best_of_file(*places, world / "whole.jsonl", **arguments, should_stop=lambda: False)
    polls = iter([False, True])
    with pytest.raises(Preempted):
        best_of_file(*places, world / "stopped.jsonl", **arguments, should_stop=lambda: next(polls))
    best_of_file(*places, world / "stopped.jsonl", **arguments, should_stop=lambda: False)
    assert (world / "stopped.jsonl").read_bytes() == (world / "whole.jsonl").read_bytes()
    assert (done["num_in"], done["num_out"], done["best_of"]) == (5, 5, 3)
    assert done["mean_win_rate"] >= 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--best-of", "1", *RULE], "--best-of 1: there is nothing to choose from"),
        (["--best-of", "3"], "oracle: is needed, and not there\nhint: `oracle.kind` is one of"),
        (["--best-of", "3", *RULE, "--set", "generation.num_responses=5"], "--best-of says how many"),
        (RULE, "oracle: unknown setting"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(world, options, words, capsys):
    code, _ = generate(world, "refused.jsonl", *options)
    assert code == 2
    assert words in capsys.readouterr().err
