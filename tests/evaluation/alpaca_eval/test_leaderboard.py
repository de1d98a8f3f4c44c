import json

import pytest

from fairplay.errors import DataError
from fairplay.evaluation.alpaca_eval.documents import LEADERBOARD, leaderboard_rows
from fairplay.evaluation.alpaca_eval.leaderboard import merged, read_leaderboard

OFFICIAL = """,win_rate,standard_error,n_wins,n_total,avg_length,mode,length_controlled_winrate,lc_standard_error
gpt-x,50.0,0.5,400,805,2049,verified,55.25,0.1
old,9.5,0.8,70,804,1096,community,,
"""
NEW = {
    "model": "mine",
    "judge": "judge",
    "win_rate": 20.0,
    "win_rate_ci": [18.0, 22.0],
    "lc_win_rate": 25.0,
    "lc_win_rate_ci": None,
    "avg_length": 10,
    "n_total": 805,
    "C": 2.78,
    "partial": False,
    "notes": [],
}


def test_the_authors_csv_and_our_own_json_are_read(tmp_path):
    (tmp_path / "board.csv").write_text(OFFICIAL)
    first, second = read_leaderboard(tmp_path / "board.csv")
    assert (first["model"], first["lc_win_rate"], first["n_total"], first["avg_length"]) == ("gpt-x", 55.25, 805, 2049)
    assert (second["win_rate"], second["lc_win_rate"], second["C"]) == (9.5, None, None)
    assert first["source"] == str(tmp_path / "board.csv")
    (tmp_path / "ours.json").write_text(json.dumps([NEW]))
    (row,) = read_leaderboard(tmp_path / "ours.json")
    assert {key: row[key] for key in NEW} == NEW


def test_new_results_stand_among_the_published_ones_sorted_and_replace_their_own(tmp_path):
    (tmp_path / "board.csv").write_text(OFFICIAL + "mine,1.0,0.1,1,805,5,community,1.0,0.1\n")
    rows = merged([NEW], read_leaderboard(tmp_path / "board.csv"))
    assert [row["model"] for row in rows] == ["mine", "gpt-x", "old"]
    table = leaderboard_rows(rows)
    assert [(row[0], row[1], row[2], row[-1]) for row in table] == [
        (1, "gpt-x", "55.25", "leaderboard"),
        (2, "mine", "25.00", ""),
        (3, "old", "-", "leaderboard"),
    ]
    assert all(len(row) == len(LEADERBOARD) for row in table)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (",avg_length\nm,3\n", "row 1: no `win_rate`"),
        (",win_rate\nm,high\n", "row 1: `win_rate` is 'high', not a number"),
        ("win_rate\n3\n", "row 1: no name of a model"),
    ],
)
def test_what_is_no_leaderboard_is_named(text, told, tmp_path):
    (tmp_path / "board.csv").write_text(text)
    with pytest.raises(DataError) as refused:
        read_leaderboard(tmp_path / "board.csv")
    assert told in refused.value.message
