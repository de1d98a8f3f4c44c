"""`fairplay rank` with every kind of oracle, on tiny models: the same lines come out, whoever prefers."""

import json

import pytest

from fairplay.cli.main import run
from fairplay.oracles.settings import KINDS
from oracles.test_reward_model import save_reward_model
from oracles.tiny import save_general_preference, save_pair_lm, save_pair_model, save_ranker
from servers.fault_server import fault_server
from servers.judges import length_judge

TEXTS = ["red", "green cat", "two horses and a cat"]
LINES = [{"id": f"p{number}", "prompt": f"what is {number}?", "responses": TEXTS} for number in range(3)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scores(path):
    return write(path, [line | {"scores": [1, 2, 3]} for line in LINES])


RULE = "{kind: rule, function: 'oracles.tiny:length_rule'}"
CASES = {
    "pair_model": lambda folder: [f"model={save_pair_model(folder / 'm')}", "orders=one"],
    "pair_ranker": lambda folder: [f"model={save_ranker(folder / 'm')}", "num_anchors=1"],
    "pair_lm": lambda folder: [f"model={save_pair_lm(folder / 'm')}", "max_length=256"],
    "general_preference": lambda folder: [f"model={save_general_preference(folder / 'm')}", "max_length=256"],
    "reward_model": lambda folder: [f"model={save_reward_model(folder / 'm', num_labels=2)}", "label_weights=[1,-0.5]"],
    "rule": lambda folder: ["function=oracles.tiny:length_rule"],
    "verifier": lambda folder: ["check=regex", "pattern=cat$"],
    "recorded": lambda folder: [f"records={scores(folder / 'scores.jsonl')}"],
    "ensemble": lambda folder: [f"members=[{RULE}, {{kind: recorded, records: {scores(folder / 's.jsonl')}}}]"],
    "llm_judge": lambda folder: ["server.model=judge"],
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_rank_works_with_every_kind_of_oracle(kind, tmp_path, capsys):
    source, ranked = write(tmp_path / "in.jsonl", LINES), tmp_path / "ranked.jsonl"
    with fault_server(length_judge()) as server:
        address = [f"server.base_url={server.url}"] if kind == "llm_judge" else []
        own = [f"kind={kind}", *CASES[kind](tmp_path), *address]
        options = [part for setting in own for part in ("--set", f"oracle.{setting}")]
        assert run(["rank", "--input", str(source), "--output", str(ranked), *options]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in ranked.read_text().splitlines()]
    assert [row["id"] for row in rows] == [line["id"] for line in LINES]
    for row in rows:
        assert row["oracle"].startswith(f"{kind}:")
        assert all(0 <= rate <= 1 for rate in row["win_rates"])
        for i, probs in enumerate(row["win_probs"]):
            for j, prob in enumerate(probs):
                assert (prob is None) == (row["win_probs"][j][i] is None)
                assert prob is None or prob == pytest.approx(1 - row["win_probs"][j][i])


def test_a_prompt_without_a_record_is_refused_or_dropped_and_counted(tmp_path, capsys):
    source, ranked = write(tmp_path / "in.jsonl", LINES), tmp_path / "ranked.jsonl"
    records = write(tmp_path / "records.jsonl", [line | {"scores": [1, 2, 3]} for line in LINES[:2]])
    options = ["--set", "oracle.kind=recorded", "--set", f"oracle.records={records}", "--format", "json"]
    command = ["rank", "--input", str(source), "--output", str(ranked), *options]
    assert run(command) == 3
    assert "prompt p2: no recorded preference between responses 0 and 1, and 2 more pairs" in capsys.readouterr().err
    assert run([*command, "--set", "oracle.missing=drop"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["num_out"], told["dropped"]) == (2, {"no verdict on a pair": 1})


def test_a_prompt_without_a_reference_answer_is_an_error_and_not_a_loss(tmp_path, capsys):
    source, ranked = write(tmp_path / "in.jsonl", LINES), tmp_path / "ranked.jsonl"
    known = write(tmp_path / "answers.jsonl", [{"prompt": line["prompt"], "answer": 12} for line in LINES[:2]])
    options = ["oracle.kind=verifier", "oracle.check=numeric", f"oracle.answers={known}"]
    settings = [part for option in options for part in ("--set", option)]
    assert run(["rank", "--input", str(source), "--output", str(ranked), *settings]) == 3
    assert "prompt p2: no reference answer in" in capsys.readouterr().err
    assert not ranked.exists()


def test_what_preferences_are_worth_is_told_in_words_with_units(tmp_path, capsys):
    source, ranked = write(tmp_path / "in.jsonl", LINES), tmp_path / "ranked.jsonl"
    own = ["--set", "oracle.kind=rule", "--set", "oracle.function=oracles.tiny:length_rule"]
    assert run(["rank", "--input", str(source), "--output", str(ranked), *own]) == 0
    told = capsys.readouterr().out
    flips = next(line for line in told.splitlines() if line.startswith("Order flips"))
    assert "0.0\N{NO-BREAK SPACE}%" in flips
    assert "winner changes" in flips
    assert "order flip rate" not in told
    assert "order_flip_rate" not in told


def test_an_interrupt_is_told_in_a_word_and_by_its_exit_code(tmp_path, capsys, monkeypatch):
    (tmp_path / "interrupting_rule.py").write_text("def score(prompt, text):\n    raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = write(tmp_path / "in.jsonl", LINES)
    own = ["--set", "oracle.kind=rule", "--set", "oracle.function=interrupting_rule:score"]
    assert run(["rank", "--input", str(source), "--output", str(tmp_path / "out.jsonl"), *own]) == 130
    assert "stopped" in capsys.readouterr().err
