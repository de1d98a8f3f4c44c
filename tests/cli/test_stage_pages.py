import json

from fairplay.cli.main import run
from fairplay.cli.stage_pages import print_alarms, training_page

HELD = {
    "before": {"accuracy": 0.5, "accuracy_ci": [0.4, 0.6]},
    "after": {"accuracy": 0.75, "accuracy_ci": [0.65, 0.83]},
    "change": {"difference": 0.25, "difference_ci": [0.1, 0.4], "p_value": 0.002, "p_value_holm": 0.004},
}
DONE = {
    "data": {"source": "p.jsonl", "format": "preference pairs", "num_in": 12, "num_out": 8, "dropped": {"held out": 4}},
    "objective": {"name": "dpo", "beta": 0.1},
    "training": {
        "dropped": {},
        "steps": 3,
        "first_loss": 0.69,
        "last_loss": 0.5,
        "held_out": {"num_pairs": 4, "logps": HELD, "mean_logps": HELD, "implicit_rewards": HELD},
    },
    "model": "runs/x/model",
}


def test_a_training_is_told_with_what_was_left_out_and_accuracies_with_intervals(capsys):
    training_page(DONE)
    told = capsys.readouterr().out
    assert "12 read, 8 to train on" in told
    assert "left out in reading: held out" in told
    assert "50.0 % [40.0, 60.0]  75.0 % [65.0, 83.0]  +25.0 [+10.0, +40.0], p = 0.004" in told
    assert told.count("implicit reward") == 1
    assert not [line for line in told.splitlines() if line != line.rstrip()]


def test_a_training_without_held_out_pairs_tells_no_accuracy(capsys):
    training_page({**DONE, "training": {**DONE["training"], "held_out": {}}})
    assert "held-out pairs" not in capsys.readouterr().out


def test_check_tells_the_length_bias_and_that_nothing_was_found(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Question {i}?", "chosen": "a long answer " * 3 + str(i), "rejected": "no"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert "chosen is the longer one in 100.0 % of the pairs" in told
    assert "no findings" in told


def test_a_single_response_has_nothing_to_be_ranked_against(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "What is 1 plus 1?", "responses": ["2"]}) + "\n")
    rule = ["--set", "oracle.kind=rule", "--set", "oracle.function=fairplay.starter.judge:score"]
    assert run(["rank", "--input", str(path), "--output", str(tmp_path / "o.jsonl"), *rule]) == 3
    assert "line 1: 1 response, nothing to compare it with" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_prompts_that_were_trained_on_and_near_copies_are_told_apart(capsys):
    print_alarms({"overlap": {"num_held_out": 300, "num_equal": 0, "num_contained": 33}})
    near = "WARNING: 33 of 300 evaluation prompts are near copies of training prompts\n"
    assert capsys.readouterr().out == near
    print_alarms({"overlap": {"num_held_out": 300, "num_equal": 2, "num_contained": 33}})
    assert capsys.readouterr().out == "WARNING: 2 of 300 evaluation prompts were trained on\n" + near
