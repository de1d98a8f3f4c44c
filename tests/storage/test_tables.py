from dataclasses import dataclass

import pytest

from fairplay.errors import DataError
from fairplay.records import Dropped, Judgement, Message, PreferenceGroup, Prompt, Response, ResponseGroup
from fairplay.storage.tables import read_records, write_records

GROUP = ResponseGroup(
    Prompt("p1", (Message("system", "be kind"), Message("user", "what\u2028now? \r\n\x00 \U0001f600"))),
    (Response("a", (1, 2), "stop", 7), Response("", (), "length", -1)),
    (5, 6, 7),
)


def test_records_come_back_as_they_were(tmp_path):
    group = PreferenceGroup(GROUP, ((0.0, 1.5), (None, 0.0)), (False, True), prompt_truncated=True)
    write_records(tmp_path / "a.parquet", [group], PreferenceGroup)
    assert read_records(tmp_path / "a.parquet", PreferenceGroup) == [group]


def test_the_same_records_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_records(tmp_path / name, [GROUP] * 3, ResponseGroup)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_records_keep_their_schema(tmp_path):
    write_records(tmp_path / "a.parquet", [], Judgement)
    assert read_records(tmp_path / "a.parquet", Judgement) == []


def test_another_kind_of_record_is_refused_with_the_missing_columns(tmp_path):
    write_records(tmp_path / "a.parquet", [Dropped("x", "too long")], Dropped)
    with pytest.raises(DataError, match="no column prompt"):
        read_records(tmp_path / "a.parquet", ResponseGroup)


def test_a_damaged_file_is_refused(tmp_path):
    write_records(tmp_path / "a.parquet", [GROUP], ResponseGroup)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_records(tmp_path / "a.parquet", ResponseGroup)
    with pytest.raises(DataError, match="no such file"):
        read_records(tmp_path / "b.parquet", ResponseGroup)


@dataclass(frozen=True)
class Older:
    group: ResponseGroup
    pair_logits: tuple[tuple[float | None, ...], ...]
    truncated: tuple[bool, ...]


def test_a_column_that_an_older_release_did_not_write_has_its_default(tmp_path):
    group = ResponseGroup(Prompt("p", (Message("user", "?"),)), (Response("a"), Response("b")))
    logits, truncated = ((0.0, 1.0), (None, 0.0)), (False, True)
    write_records(tmp_path / "old.parquet", [Older(group, logits, truncated)], Older)
    assert read_records(tmp_path / "old.parquet", PreferenceGroup) == [PreferenceGroup(group, logits, truncated)]
