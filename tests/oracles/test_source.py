"""What identifies an oracle: a folder by its bytes, a hub id by the commit that its revision stands for."""

import shutil

import pytest
from huggingface_hub import constants

from fairplay.errors import DataError, ServiceError, SettingsError
from fairplay.oracles.kinds.pair_ranker import PairRankerSettings
from fairplay.oracles.kinds.reward_model import RewardModelSettings
from fairplay.oracles.source import Source
from fairplay.oracles.table import build_oracle, oracle_identity
from oracles.test_reward_model import save_reward_model
from oracles.tiny import group_of, save_ranker

FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache with two commits of `owner/judge`: the first is tagged v1, the second is main."""
    cache = tmp_path / "hub"
    repository = cache / "models--owner--judge"
    for commit, labels in ((FIRST, 1), (SECOND, 1)):
        folder = save_reward_model(tmp_path / commit, num_labels=labels)
        (folder / "note.txt").write_text(commit)
        shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SECOND)
    (repository / "refs" / "v1").write_text(FIRST)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return repository


def test_a_revision_is_kept_as_the_commit_in_name_and_digest(hub):
    main, tagged = RewardModelSettings(model="owner/judge"), RewardModelSettings(model="owner/judge", revision="v1")
    assert oracle_identity(main)[1]["model"].digest() == f"owner/judge@{SECOND}"
    assert oracle_identity(tagged)[1]["model"].digest() == f"owner/judge@{FIRST}"
    oracle = build_oracle(tagged)
    assert oracle.name == f"reward_model:owner/judge@{FIRST[:12]}"
    assert oracle.pair_logits([group_of("red", "cat")])[0].pair_logits[0][1] != 0


def test_a_branch_that_moves_changes_the_digest(hub):
    source = Source("owner/judge")
    before = source.digest()
    (hub / "refs" / "main").write_text(FIRST)
    assert source.digest() != before


def test_a_hub_id_that_is_not_in_the_cache_is_told_in_one_line(hub):
    with pytest.raises(ServiceError, match="owner/other: no such folder, not in the cache"):
        Source("owner/other").digest()


@pytest.mark.parametrize("place", ["./nowhere", "a/b/c", ""])
def test_a_path_at_which_nothing_lies_is_no_hub_id(place):
    with pytest.raises(DataError, match="no such file or folder"):
        Source(place).digest()


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(DataError, match="has no revision `v1`"):
        build_oracle(RewardModelSettings(model=str(save_reward_model(tmp_path / "reward")), revision="v1"))


def test_a_name_follows_the_content_of_the_folder_whatever_its_place(tmp_path):
    folder = save_reward_model(tmp_path / "reward")
    name = build_oracle(RewardModelSettings(model=str(folder))).name
    shutil.copytree(folder, tmp_path / "elsewhere" / "reward")
    assert build_oracle(RewardModelSettings(model=str(tmp_path / "elsewhere" / "reward"))).name == name
    (folder / "oracle.json").write_text('{"temperature": 2.0}')
    assert build_oracle(RewardModelSettings(model=str(folder))).name != name


def test_the_backbones_folder_identifies_a_ranker_in_llm_blenders_layout_too(tmp_path):
    settings = PairRankerSettings(model=str(save_ranker(tmp_path / "ranker")))
    digests = {name: source.digest() for name, source in settings.sources().items()}
    assert sorted(digests) == ["backbone", "model"]
    config = tmp_path / "ranker-base" / "config.json"
    config.write_text(config.read_text() + " ")
    changed = {name: source.digest() for name, source in settings.sources().items()}
    assert changed["model"] == digests["model"]
    assert changed["backbone"] != digests["backbone"]


def test_an_oracle_without_a_model_is_refused():
    with pytest.raises(SettingsError, match="model: `reward_model` needs one"):
        RewardModelSettings(revision="main")
