"""Who names a run where a model belongs is told which models are in it, of the kind that is wanted."""

import json

import pytest

from fairplay.errors import DataError
from fairplay.models.loading import check_source
from fairplay.oracles.source import Source
from fairplay.storage.model_folders import inner_models


def model(folder, architecture="LlamaForCausalLM", *more):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]} if architecture else {}))
    for name in more:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def run(tmp_path):
    model(tmp_path / "starter" / "oracle", "LlamaModel", "pair_model.json")
    model(tmp_path / "iteration-2" / "judge", "LlamaForCausalLM", "oracle.json")
    model(tmp_path / "iteration-3" / "score", "LlamaForSequenceClassification")
    model(tmp_path / ".kept" / "policy")
    return tmp_path


def test_where_a_policy_is_wanted_only_policies_are_named_and_what_was_trained_comes_first(run):
    start = model(run / "starter" / "policy")
    other = model(run / "iteration-3" / "other", "")
    adapter = run / "iteration-2" / "5-checkpoint" / "model"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    first = model(run / "iteration-1" / "5-checkpoint" / "model")
    assert inner_models(run, policies=True) == [adapter, first, other, start]
    with pytest.raises(DataError) as refused:
        check_source(str(run))
    assert refused.value.hint == f"models are inside it: {adapter}, {first}, {other}, and 1 more"


def test_an_oracle_is_named_where_one_is_wanted_and_not_where_a_policy_is(run):
    with pytest.raises(DataError) as refused:
        Source(str(run)).check()
    assert str(run / "starter" / "oracle") in refused.value.hint
    with pytest.raises(DataError) as refused:
        check_source(str(run))
    assert refused.value.hint == "name a folder in Hugging Face format"
    with pytest.raises(DataError) as refused:
        check_source(str(run), policy=False)
    assert str(run / "starter" / "oracle") in refused.value.hint
