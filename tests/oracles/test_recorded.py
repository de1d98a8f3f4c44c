"""Recorded preferences: five forms, votes averaged, and a pair that nobody judged is named and never a tie."""

import json
from math import log

import numpy as np
import pytest

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.contract import split_judged
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.table import build_oracle
from oracles.tiny import group_of

QUESTION = "which?"
THREE = {"prompt": QUESTION, "responses": ["a", "b", "c"]}


def build(path, *rows, **options):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_oracle(RecordedSettings(records=str(path), **options))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.jsonl"


def verdict(oracle, *texts):
    (judged,) = oracle.pair_logits([group_of(*texts, question=QUESTION, prompt_id="p7")])
    return judged.pair_logits


def test_what_rank_wrote_is_read_as_it_was(path):
    logits = [[0, 1.0, -2.0], [3.0, 0, None], [0.5, 4.0, 0]]
    oracle = build(path, THREE | {"pair_logits_ab": logits, "temperature": 2.0})
    assert verdict(oracle, "a", "b", "c") == ((0.0, 0.5, -1.0), (1.5, 0.0, None), (0.25, 2.0, 0.0))
    assert verdict(oracle, "c", "a") == ((0.0, 0.25), (-1.0, 0.0))


def test_scores_differ_by_points(path):
    assert verdict(build(path, THREE | {"scores": [1, 3, 2.5]}), "b", "a") == ((0.0, 2.0), (-2.0, 0.0))


def test_probabilities_become_logits_within_their_bound(path):
    probs = [[0.5, 0.8, 1.0], [0.2, 0.5, None], [0.0, None, 0.5]]
    oracle = build(path, THREE | {"win_probs": probs}, max_prob=0.95, missing="drop")
    table = verdict(oracle, "a", "b", "c")
    assert table[0][1] == pytest.approx(log(4))
    assert table[0][2] == pytest.approx(log(0.95 / 0.05))
    assert (table[1][2], table[2][1]) == (None, None)
    assert table[2][0] == -table[0][2]


def test_labels_of_one_pair_are_votes(path):
    one, other = {"chosen": "a", "rejected": "b"}, {"chosen": "b", "rejected": "a"}
    rows = [{"prompt": QUESTION, **label} for label in (one, one, one, other)]
    assert verdict(build(path, *rows), "a", "b")[0][1] == pytest.approx(log(3))
    pair = {"prompt": QUESTION, "response_a": "b", "response_b": "a", "win_prob": 0.25}
    assert verdict(build(path, pair), "a", "b")[0][1] == pytest.approx(log(3))


def test_a_recorded_tie_is_a_tie_and_equal_texts_need_no_record(path):
    pair = {"prompt": QUESTION, "response_a": "a", "response_b": "b", "win_prob": 0.5}
    assert verdict(build(path, pair), "a", "b", "a") == ((0, 0, 0), (0, 0, 0), (0, 0, 0))


def test_a_pair_without_a_record_is_refused_by_name_and_counted(path):
    oracle = build(path, {"prompt": QUESTION, "chosen": "a", "rejected": "b"})
    message = "prompt p7: no recorded preference between responses 0 and 2, and 1 more pairs without one"
    with pytest.raises(DataError, match=message):
        verdict(oracle, "a", "b", "c")
    with pytest.raises(DataError, match="prompt p7: no recorded preference between responses 0 and 1\nhint"):
        oracle.pair_logits([group_of("a", "b", question="another", prompt_id="p7")])


def test_or_its_prompt_is_dropped_and_counted(path, caplog):
    oracle = build(path, {"prompt": QUESTION, "chosen": "a", "rejected": "b"}, missing="drop")
    groups = [
        group_of("a", "b", question=QUESTION, prompt_id="p1"),
        group_of("a", "c", question=QUESTION, prompt_id="p2"),
    ]
    kept, dropped = split_judged(oracle.pair_logits(groups))
    assert [item.group.prompt.id for item in kept] == ["p1"]
    assert [(item.id, item.reason) for item in dropped] == [("p2", "no verdict on a pair")]
    assert "prompt p2: no recorded preference between responses 0 and 1" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response_a": "a", "response_b": "b", "win_prob": 1.5}, "line 1: the probability 1.5 is not within"),
        ({"response_a": "a", "response_b": "b", "win_prob": float("nan")}, "`win_prob` has nan"),
        ({"response_a": "a", "win_prob": 1}, "`response_b` must be a text, not None"),
        ({"chosen": "a"}, "`rejected` must be a text"),
        ({"responses": ["a", "b"], "scores": [1, float("inf")]}, "`scores` has inf"),
        ({"responses": ["a", "b"], "scores": [1]}, "`scores` is not of 2 entries"),
        ({"responses": ["a", "b"], "scores": [1, True]}, "`scores` has True"),
        ({"responses": "ab", "scores": [1, 2]}, "`responses` must be a list of texts"),
        ({"responses": ["a", "b"], "win_probs": [[0.5, 0.8], [0.8, 0.5]]}, "don't add up to 1"),
        ({"responses": ["a", "b"], "win_probs": [[0.5, 0.8], [None, 0.5]]}, "don't add up to 1"),
        ({"responses": ["a", "b"], "win_probs": [[0.5, -0.5], [1.5, 0.5]]}, "probability -0.5 is not within"),
        ({"responses": ["a", "b"], "pair_logits_ab": [[0, "x"], [0, 0]]}, "`pair_logits_ab` has 'x'"),
        ({"responses": ["a", "b"], "pair_logits_ab": [[0, 1], [0]]}, "`pair_logits_ab` is not of 2 entries"),
        ({"responses": ["a", "b"], "pair_logits_ab": [[0, 1], [-1, 0]], "temperature": 0}, "is not positive"),
        ({"responses": ["a", "b"]}, "no pair_logits_ab, win_probs, scores, win_prob, chosen"),
    ],
)
def test_rows_that_say_no_preference_are_refused_with_their_line(path, row, message):
    with pytest.raises(DataError, match=message):
        build(path, {"prompt": QUESTION, **row})


def test_verdicts_that_contradict_each_other_are_refused(path):
    one, other = THREE | {"scores": [1, 2, 3]}, THREE | {"scores": [2, 1, 3]}
    with pytest.raises(DataError, match="line 2: responses 0 and 1 have another verdict before"):
        build(path, one, other)
    with pytest.raises(DataError, match="both a logit"):
        build(path, one, {"prompt": QUESTION, "chosen": "a", "rejected": "b"})
    assert verdict(build(path, one, one), "a", "b")[0][1] == -1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "records: `recorded` needs one"),
        ({"records": "x", "missing": "dropp"}, "did you mean `drop`"),
        ({"records": "x", "max_prob": 1.0}, "max_prob: 1.0"),
    ],
)
def test_settings_that_can_not_be_met_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        RecordedSettings(**settings)


def test_records_identify_the_oracle(path):
    first, second = (build(path, THREE | {"scores": scores}) for scores in ([1, 2, 3], [3, 2, 1]))
    assert first.name.startswith("recorded:records.jsonl@")
    assert first.name != second.name
    assert np.isfinite(verdict(first, "a", "b")[0][1])
