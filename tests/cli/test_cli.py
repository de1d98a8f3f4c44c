import json
import subprocess
import sys

import pytest

from fairplay.cli.main import run

PAIRS = [{"prompt": f"Question {i}?", "chosen": f"yes {i}", "rejected": "no"} for i in range(6)]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


def test_help_names_every_verb(capsys):
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    verbs = (
        "demo",
        "run",
        "report",
        "generate",
        "rank",
        "select",
        "train",
        "evaluate",
        "compare",
        "verify",
        "check",
        "objectives",
        "starter",
        "alpaca-eval",
    )
    assert [verb for verb in verbs if verb not in told] == []
    for verb in verbs:
        assert run([verb, "--help"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["demoo"], 2, "demo"),
        (["run", "missing.yaml"], 2, "missing.yaml: can't read this settings file"),
        (["check", "missing.jsonl"], 3, "missing.jsonl"),
        (["check", ""], 3, "the name of the data is empty"),
        (["objectives", "dpoo"], 2, "did you mean `dpo`"),
        (["rank", "--input", "a", "--output", "b"], 2, "oracle"),
        (["rank", "--input", "a", "--output", "b", "--set", "oracle.kind=pairmodel"], 2, "did you mean `pair_model`"),
        (["report", "nowhere"], 2, "nowhere"),
        (["starter", "nowhere", "--data", "x", "--short"], 2, "--short and --length-love"),
        (["starter", "nowhere", "--num-held-out", "3"], 2, "goes with --data"),
        (["generate", "--model", "nowhere", "--input", "missing", "--output", "x"], 3, "missing"),
    ],
)
def test_faults_are_one_line_and_a_hint_on_stderr_with_the_exit_code_of_their_kind(arguments, code, told, capsys):
    assert run(arguments) == code
    output = capsys.readouterr()
    assert told in output.err
    assert output.out == ""
    assert "Traceback" not in output.err


def test_all_faults_of_a_recipe_are_told_at_once(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("modell: x\ntraining: {lr: 1}\noracle: {kind: rule, functon: a}\nnum_iterations: 0\n")
    assert run(["run", str(recipe)]) == 2
    told = capsys.readouterr().err
    for part in ("modell: unknown setting", "training.lr: unknown setting", "oracle.functon", "model", "evaluation"):
        assert part in told


def test_check_prints_json_and_exits_3_where_training_would_refuse(pairs, tmp_path, capsys):
    assert run(["check", str(pairs), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_pairs"] == 6
    assert run(["check", str(pairs)]) == 0
    assert "preference pairs" in capsys.readouterr().out
    broken = tmp_path / "broken.jsonl"
    broken.write_text(pairs.read_text() + '{"prompt": 3}\n')
    assert run(["check", str(broken)]) == 3


def test_objectives_are_listed_and_shown(capsys):
    assert run(["objectives", "--format", "json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"dpo", "ipo_sum", "ipo_mean", "simpo", "sampo", "sppo", "sppo_hard", "sft"} <= listed.keys()
    assert run(["objectives", "simpo"]) == 0
    told = capsys.readouterr().out
    assert "beta" in told
    assert "2405.14734" in told


def test_golden_values_are_checked_to_the_last_digit(golden, tmp_path, capsys):
    path = golden / "golden" / "objectives.json"
    assert run(["objectives", "--check", str(path)]) == 0
    document = json.loads(path.read_text())
    document["objectives"]["dpo"]["loss"] += 1e-6
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(document))
    assert run(["objectives", "--check", str(wrong), "--format", "json"]) == 1


@pytest.mark.parametrize("text", ["[]", '{"data": [1]}', '{"data": {}, "params": {}, "objectives": {"dpo": 3}}', "{}"])
def test_a_file_without_golden_values_is_refused(text, tmp_path, capsys):
    path = tmp_path / "golden.json"
    path.write_text(text)
    assert run(["objectives", "--check", str(path)]) == 3
    assert "golden values" in capsys.readouterr().err


def test_rank_and_select_work_on_json_lines(tmp_path, capsys):
    lines = [
        {"prompt": f"What is the opposite of {word}?", "responses": ["cold", "The opposite of hot is cold.", "x"]}
        for word in ("hot", "wet")
    ]
    source, ranked, examples = (tmp_path / name for name in ("in.jsonl", "ranked.jsonl", "examples.jsonl"))
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rule = ["--set", "oracle.kind=rule", "--set", "oracle.function=fairplay.starter.judge:score"]
    assert run(["rank", "--input", str(source), "--output", str(ranked), *rule]) == 0
    row = json.loads(ranked.read_text().split("\n")[0])
    assert row["responses"] == lines[0]["responses"]
    logits, rates = row["pair_logits_ab"], row["win_rates"]
    assert all(logits[i][j] == -logits[j][i] for i in range(3) for j in range(3))
    assert rates[1] > rates[0] > rates[2]
    assert row["win_probs"][1][0] > 0.5
    assert run(["select", "--input", str(ranked), "--output", str(examples), "--set", "selection.kind=best-worst"]) == 0
    chosen = [json.loads(line)["chosen"] for line in examples.read_text().splitlines()]
    assert chosen[0][-1]["content"] == "The opposite of hot is cold."
    capsys.readouterr()
    assert run(["select", "--input", str(source), "--output", str(examples)]) == 3
    assert "fairplay rank" in capsys.readouterr().err


def test_help_is_printed_without_torch():
    code = "import sys; from fairplay.cli.main import run; run(['--help']); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.endswith("False\n")
