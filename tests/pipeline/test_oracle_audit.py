"""`fairplay audit-oracle`: reads a run's preferences or a ranked file, says where, and holds them against labels."""

import json

import numpy as np
import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError
from fairplay.pipeline.context import PREFERENCES
from fairplay.pipeline.oracle_audit import audit_source
from fairplay.preferences.audit import audit_preferences
from fairplay.records import Message, PreferenceGroup, Prompt, Response, ResponseGroup
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.tables import write_records

CIRCLE = [[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]


def line(number, **columns):
    made = {"id": f"p{number}", "prompt": "Which?", "responses": ["a", "b", "c"], "pair_logits_ab": CIRCLE}
    return {**made, "oracle": "one", "temperature": 2.0, **columns}


def write(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_a_ranked_file_is_audited_oracle_by_oracle(tmp_path):
    source = write(tmp_path / "ranked.jsonl", [line(0), line(1, oracle="two", temperature=1.0), line(2)])
    parts = audit_source(source)["parts"]
    assert [(part["title"], part["temperature"], part["audit"]["num_groups"]) for part in parts] == [
        ("one", 2.0, 2.0),
        ("two", 1.0, 1.0),
    ]
    assert all(part["read"] == str(source) and not part["calibration"] for part in parts)
    assert parts[0]["audit"]["intransitive_triple_rate"] == 1.0
    assert parts[0]["audit"]["mean_margin"] == pytest.approx(np.tanh(0.25))


def test_scores_are_labels(tmp_path):
    source = write(tmp_path / "ranked.jsonl", [line(0, scores=[3, 2, 2]), line(1)])
    (part,) = audit_source(source)["parts"]
    assert (part["calibration"]["num_pairs"], part["calibration"]["accuracy"]) == (2, 0.5)


def test_scores_that_are_no_numbers_are_refused_with_the_line(tmp_path):
    source = write(tmp_path / "ranked.jsonl", [line(0), line(1, scores=[1, "good", 0])])
    with pytest.raises(DataError, match=r"line 2: `scores`, entry 1: must be a finite number"):
        audit_source(source)


def test_a_run_is_audited_iteration_by_iteration(tmp_path):
    responses = tuple(Response(text) for text in "abc")
    group = PreferenceGroup(
        ResponseGroup(Prompt("p", (Message("user", "Which?"),)), responses),
        tuple(map(tuple, CIRCLE)),
        (False, True, False),
    )
    run_directory = RunDirectory(tmp_path / "run")

    def fill(folder):
        write_records(folder / "part-00000.parquet", [group], PreferenceGroup)
        return StageOutcome(1, 1, {}, {"temperature": 0.5})

    for iteration in (1, 2):
        run_directory.run_stage(Stage(PREFERENCES, iteration, {}, {}), fill)
    parts = audit_source(tmp_path / "run")["parts"]
    assert [part["title"] for part in parts] == ["iteration 1", "iteration 2"]
    assert parts[1]["read"] == str(tmp_path / "run" / "iteration-2" / PREFERENCES)
    assert parts[1]["audit"] == audit_preferences([group], temperature=0.5)


def test_a_folder_without_preferences_is_refused(tmp_path):
    with pytest.raises(DataError, match="no finished 3-preferences"):
        audit_source(tmp_path)


def test_the_verb_prints_a_table_with_meanings_and_json_with_everything(tmp_path, capsys):
    source = write(tmp_path / "ranked.jsonl", [line(0, scores=[3, 2, 1])])
    assert run(["audit-oracle", str(source)]) == 0
    page = capsys.readouterr().out
    assert str(source) in page
    assert "Intransitive triples" in page
    assert "brier" in page
    assert run(["audit-oracle", str(source), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(audit_source(source)))


def test_a_source_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(DataError, match=r"nope\.jsonl: no such file or folder"):
        audit_source(tmp_path / "nope.jsonl")
