import json

import numpy as np
import pytest

from fairplay.cli.main import run


def rows(model, num_rows=40):
    rng = np.random.default_rng(len(model))
    return [
        {
            "instruction": f"What is {number}?",
            "output_1": "b" * int(rng.integers(1, 90)),
            "output_2": "m" * int(rng.integers(1, 90)),
            "generator_1": "base",
            "generator_2": model,
            "annotator": "judge",
            "preference": float(1 + rng.random()),
        }
        for number in range(num_rows)
    ]


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([row for n in range(5) for row in rows("m" + "x" * n)]))
    return path


def document(capsys, arguments):
    assert run(["alpaca-eval", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_has_one_object_a_model_with_the_official_names(annotations, capsys):
    found = document(capsys, [str(annotations), "--lc", "minimal", "--bootstrap", "200"])
    assert [row["model"] for row in found] == ["m", "mx", "mxx", "mxxx", "mxxxx"]
    names = "model win_rate standard_error discrete_win_rate n_total avg_length lc_win_rate lc_win_rate_ci C seconds"
    for row in found:
        assert [name for name in names.split() if row.get(name) is None] == []
        low, high = row["lc_win_rate_ci"]
        assert low <= row["lc_win_rate"] <= high
        assert low < high
        assert (row["partial"], row["C_chosen_by"]) == (False, "cross-validation")


def test_a_stated_cost_and_cross_validation_are_told_apart(annotations, capsys):
    stated = document(capsys, [str(annotations), "--lc", "minimal", "--C", "100", "--bootstrap", "0"])
    assert {(row["C"], row["C_chosen_by"], row["lc_win_rate_ci"]) for row in stated} == {(100, "stated", None)}
    chosen = document(capsys, [str(annotations), "--lc", "minimal", "--cv", "--bootstrap", "0"])
    assert {row["C_chosen_by"] for row in chosen} == {"cross-validation"}


def test_difficulties_are_fitted_written_and_used_and_models_meet(annotations, tmp_path, capsys):
    options = ["--lc", "noreg", "--bootstrap", "0", "--against", "mx"]
    fitted = document(capsys, [str(annotations), *options, "--fit-difficulty", str(tmp_path / "d.csv")])
    again = document(capsys, [str(annotations), *options, "--difficulty", str(tmp_path / "d.csv")])
    assert [row["lc_win_rate"] for row in fitted] == [row["lc_win_rate"] for row in again]
    assert again[1]["predicted_win_rates"] == {"mx": pytest.approx(50)}


def test_the_table_is_a_leaderboard(annotations, capsys):
    assert run(["alpaca-eval", str(annotations), "--lc", "minimal", "--bootstrap", "0", "--against", "base"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["rank", "model", "LC"]
    rates = [float(line.split()[2]) for line in lines[2:7]]
    assert rates == sorted(rates, reverse=True)
    assert "against base" in lines[7]


def test_results_stand_among_an_existing_leaderboard(annotations, tmp_path, capsys):
    (tmp_path / "board.csv").write_text(",win_rate,n_total,length_controlled_winrate\ntop,99.0,805,99.5\n")
    arguments = [str(annotations), "--lc", "minimal", "--bootstrap", "200", "--against", "mx"]
    found = document(capsys, [*arguments, "--leaderboard", str(tmp_path / "board.csv")])
    assert [row["model"] for row in found][-1] == "top"
    low, high = found[0]["predicted_win_rates_ci"]["mx"]
    assert low < found[0]["predicted_win_rates"]["mx"] < high
    assert run(["alpaca-eval", *arguments, "--leaderboard", str(tmp_path / "board.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:3] == ["1", "top", "99.50"]


def test_the_tables_of_real_annotations_give_an_object_for_each_of_many_models(golden, capsys):
    folder = golden / "alpaca_eval2"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    files = ["--difficulty", str(folder / "instruction_difficulty.parquet"), "--gamed", str(folder / "gamed.parquet")]
    found = document(capsys, [str(folder / "annotations.parquet"), *files, "--cv", "--bootstrap", "0"])
    by_model = {row["model"]: row for row in found}
    assert len(by_model) == len(found) == 58
    row = by_model["gpt-3.5-turbo-1106"]
    assert (row["win_rate"], row["C"]) == (pytest.approx(9.1780, abs=1e-4), pytest.approx(21.5443, abs=1e-3))
    assert row["lc_win_rate"] == pytest.approx(19.2193, abs=0.01)
    assert (row["n_total"], row["avg_length"]) == (805, 796)
    assert 0 < row["seconds"] < 1


def test_each_judge_has_a_leaderboard_of_its_own(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([*rows("one"), *({**row, "annotator": "second"} for row in rows("one"))]))
    assert run(["alpaca-eval", str(path), "--lc", "minimal", "--bootstrap", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[2] for line in lines if "judge" in line] == ["judge", "second"]
    assert sum(line.split()[:2] == ["1", "one"] for line in lines) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--C", "1", "--cv"], 2, "give one of them"),
        (["--C", "0"], 2, "not a positive number"),
        (["--lc", "v2"], 2, "unknown length control `v2`"),
        (["--difficulty-by", "rows"], 2, "known: instruction, official-rows"),
        (["--bootstrap", "10"], 2, "too few"),
        (["--fit-difficulty", "d.csv"], 2, "goes with --lc noreg"),
        (["--fit-difficulty", "d.parquet", "--lc", "noreg"], 2, "it writes a csv"),
        (["--lc", "noreg", "--difficulty", "missing.csv"], 3, "missing.csv"),
        (["missing.json"], 3, "missing.json"),
    ],
)
def test_faults_are_told_with_the_exit_code_of_their_kind(arguments, code, told, annotations, capsys):
    assert run(["alpaca-eval", str(annotations), *arguments]) == code
    output = capsys.readouterr()
    assert told in output.err
    assert output.out == ""
