"""One string names the data: a file, a folder, or a data set on the hub."""

import json
import sys

import pytest

from fairplay.data.reading import read_prompts
from fairplay.data.sources import Files, HubData, open_source
from fairplay.errors import DataError, ResourceError, SettingsError


def prompts(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prompt": text}) + "\n")
    return path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/name", HubData("owner/name", "", "train")),
        ("owner/name@test", HubData("owner/name", "", "test")),
        ("owner/name:config", HubData("owner/name", "config", "train")),
        ("Anthropic/hh-rlhf:a.b-c@train[:1%]", HubData("Anthropic/hh-rlhf", "a.b-c", "train[:1%]")),
    ],
)
def test_a_hub_id_has_an_optional_config_and_split(source, expected):
    assert open_source(source) == expected
    assert open_source(expected.name) == expected


@pytest.mark.parametrize("source", ["./owner/name", "/owner/name", "owner/name.jsonl", "name", "a/b/c", "a/b:", "a/b@"])
def test_what_is_neither_on_disk_nor_a_hub_id_is_a_missing_file(source):
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(source)


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_name_is_not_the_current_folder(source):
    with pytest.raises(DataError, match="the name of the data is empty"):
        open_source(source)


def test_a_missing_file_answers_with_the_nearest_name(tmp_path):
    prompts(tmp_path / "prompts.jsonl", "a")
    with pytest.raises(DataError, match=r"did you mean `prompts\.jsonl`"):
        open_source(str(tmp_path / "prompt.jsonl"))


def test_the_hub_needs_the_optional_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError) as caught:
        read_prompts("owner/name@test")
    assert caught.value.hint == "pip install 'fairplay[data]'"
    assert "owner/name@test" in caught.value.message


def test_the_package_reads_a_split_and_refuses_an_unknown_one(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the optional package `datasets` is not installed")
    prompts(tmp_path / "owner" / "name" / "train.jsonl", "a")
    prompts(tmp_path / "owner" / "name" / "test.jsonl", "b")
    monkeypatch.chdir(tmp_path)  # datasets looks here before it asks the hub
    assert [row.columns["prompt"] for row in HubData("owner/name", "", "test").rows()] == ["b"]
    with pytest.raises(DataError, match="tset"):
        list(HubData("owner/name", "", "tset").rows())


def test_what_exists_on_disk_wins_over_a_hub_id(tmp_path, monkeypatch):
    path = prompts(tmp_path / "owner" / "name" / "train.jsonl", "a")
    monkeypatch.chdir(tmp_path)
    assert open_source("owner/name") == Files("owner/name", (path.relative_to(tmp_path),))


def test_a_folder_gives_the_files_of_the_split(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001", "train_sft"):
        prompts(tmp_path / "data" / f"{name}.jsonl", name)
    (tmp_path / "README.md").write_text("a hub repository")
    read = [prompt.messages[0].content for prompt in read_prompts(tmp_path).items]
    assert read == ["train-00000-of-00002", "train-00001-of-00002"]
    assert read_prompts(f"{tmp_path}@test").items == read_prompts(tmp_path, split="test").items
    assert read_prompts(f"{tmp_path}@train_sft").items[0].messages[0].content == "train_sft"


def test_a_folder_whose_files_name_other_splits_is_never_mixed(tmp_path):
    prompts(tmp_path / "prompts_train.jsonl", "a")
    prompts(tmp_path / "prompts_test.jsonl", "b")
    with pytest.raises(DataError, match="splits by file name: prompts_test, prompts_train"):
        read_prompts(tmp_path)


def test_a_split_that_contradicts_the_source_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="names the split `test`"):
        open_source("owner/name@test", split="validation")
    with pytest.raises(SettingsError, match="single file has no split"):
        open_source(str(prompts(tmp_path / "a.jsonl", "a")), split="test")


def test_places_in_several_files_name_the_file(tmp_path):
    prompts(tmp_path / "a.jsonl", "a")
    (tmp_path / "b.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"\(b\.jsonl line 1: "):
        read_prompts(tmp_path)


@pytest.mark.parametrize("name", ["data.csv", "data.txt", "data"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_text("a,b\n")
    with pytest.raises(DataError, match=r"known: \.json, "):
        open_source(str(tmp_path / name))


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="no data files"):
        open_source(str(tmp_path))
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(DataError, match="to_parquet"):
        open_source(str(tmp_path))
