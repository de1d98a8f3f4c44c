"""The contract holds for every oracle of the table; scores become antisymmetric logits; rules and settings."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.contract import scores_to_group
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.kinds.verifier import VerifierSettings
from fairplay.oracles.settings import KINDS, EnsembleSettings
from fairplay.oracles.table import build_oracle, oracle_identity
from fairplay.preferences.win_matrix import win_matrix
from fairplay.servers.settings import ServerSettings
from oracles.test_reward_model import save_reward_model
from oracles.tiny import group_of, make_groups, save_general_preference, save_pair_lm, save_pair_model, save_ranker
from servers.fault_server import fault_server
from servers.judges import length_judge

RULE = RuleSettings(function="oracles.tiny:length_rule")


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracles")
    model = {
        "pair_model": save_pair_model(folder / "pair"),
        "pair_ranker": save_ranker(folder / "ranker"),
        "pair_lm": save_pair_lm(folder / "lm"),
        "general_preference": save_general_preference(folder / "general"),
        "reward_model": save_reward_model(folder / "reward"),
    }
    with fault_server(length_judge()) as server:
        others = {
            "rule": RULE,
            "verifier": VerifierSettings(check="regex", pattern="green|two", temperature=1.0),
            "recorded": RecordedSettings(records=str(records_of_all(folder / "records.jsonl"))),
            "ensemble": EnsembleSettings(members=(RULE, RuleSettings(function="oracles.tiny:vowel_rule"))),
            "llm_judge": LlmJudgeSettings(server=ServerSettings("judge", server.url)),
        }
        yield {kind: build_oracle(others.get(kind) or KINDS[kind](model=str(model[kind]))) for kind in KINDS}


def records_of_all(path: Path) -> Path:
    """Scores by length for every group that these tests ask about."""
    groups = [*make_groups(6), *make_groups(8, most_words=14), group_of("red", "green cat", ""), group_of("red")]
    rows = [
        {
            "prompt": group.prompt.messages[0].content,
            "responses": [response.text for response in group.responses],
            "scores": [len(response.text) for response in group.responses],
        }
        for group in groups
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table_of(preferences) -> np.ndarray:
    return np.asarray(preferences.pair_logits)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_oracle_judges_each_group_in_order_with_zeros_on_the_diagonal(oracles, kind):
    groups = make_groups(6)
    judged = oracles[kind].pair_logits(groups)
    assert [preferences.group for preferences in judged] == groups
    for preferences in judged:
        k = len(preferences.group.responses)
        assert table_of(preferences).shape == (k, k)
        assert len(preferences.truncated) == k
        assert np.isfinite(table_of(preferences)).all()
        assert (table_of(preferences).diagonal() == 0).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_oracle_holds_equal_texts_equal(oracles, kind):
    (judged,) = oracles[kind].pair_logits([group_of("red", "green cat", "red")])
    table = table_of(judged)
    assert win_matrix(table)[0, 2] == 0.5
    assert (table[0, 1], table[1, 0]) == (table[2, 1], table[1, 2])
    assert table[0, 1] != 0


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_verdict_does_not_depend_on_the_other_groups(oracles, kind):
    groups = make_groups(8, most_words=14)
    together = oracles[kind].pair_logits(groups)
    for group, judged in zip(groups, together, strict=True):
        (alone,) = oracles[kind].pair_logits([group])
        np.testing.assert_allclose(table_of(alone), table_of(judged), atol=1e-5, rtol=0)
        assert alone.truncated == judged.truncated


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_oracle_takes_no_groups_and_single_responses(oracles, kind):
    assert oracles[kind].pair_logits([]) == []
    (judged,) = oracles[kind].pair_logits([group_of("red")])
    assert judged.pair_logits == ((0.0,),)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_oracle_reads_an_empty_response(oracles, kind):
    (judged,) = oracles[kind].pair_logits([group_of("", "green cat")])
    assert np.isfinite(table_of(judged)).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_name_says_kind_and_identity(oracles, kind):
    assert oracles[kind].name.startswith(f"{kind}:")
    assert oracles[kind].temperature == (0.1 if kind == "general_preference" else 1.0)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=16), st.floats(0.1, 10))
def test_scores_make_antisymmetric_logits_without_circles(scores, scale):
    table = table_of(scores_to_group(group_of(*map(str, range(len(scores)))), scores, scale=scale))
    np.testing.assert_array_equal(table, -table.T)
    np.testing.assert_allclose(table, (np.asarray(scores)[:, None] - np.asarray(scores)[None, :]) / scale, atol=1e-12)


def test_a_score_that_is_no_number_is_refused_naming_the_prompt():
    with pytest.raises(DataError, match="prompt p: the score of response 1 is nan"):
        scores_to_group(group_of("a", "b"), [0.0, float("nan")])
    with pytest.raises(DataError, match="prompt p: 1 scores for 2 responses"):
        scores_to_group(group_of("a", "b"), [0.0])
    with pytest.raises(ValueError, match="scale"):
        scores_to_group(group_of("a", "b"), [0.0, 1.0], scale=0.0)


def test_a_rule_divides_points_by_its_temperature():
    oracle = build_oracle(RuleSettings(function="oracles.tiny:length_rule", temperature=4.0))
    (judged,) = oracle.pair_logits([group_of("a", "abc")])
    assert judged.pair_logits == ((0.0, -0.5), (0.5, 0.0))
    assert (oracle.name, oracle.temperature) == ("rule:oracles.tiny:length_rule", 1.0)


def test_a_rule_that_fails_to_score_is_refused_naming_the_prompt():
    oracle = build_oracle(RuleSettings(function="oracles.tiny:broken_rule"))
    with pytest.raises(DataError, match="prompt p7: the score of response 1 is nan"):
        oracle.pair_logits([group_of("red", "cat", prompt_id="p7")])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raising_rule", "prompt p7: the rule oracles.tiny:raising_rule raised KeyError: 'red'"),
        ("text_rule", "prompt p7: the rule oracles.tiny:text_rule returned '3'"),
    ],
)
def test_a_rule_that_raises_or_gives_no_number_is_refused_naming_function_and_prompt(name, message):
    oracle = build_oracle(RuleSettings(function=f"oracles.tiny:{name}"))
    with pytest.raises(DataError, match=message):
        oracle.pair_logits([group_of("red", prompt_id="p7")])


def test_a_module_that_fails_when_imported_is_refused(tmp_path, monkeypatch):
    (tmp_path / "failing_rule_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="can't import `failing_rule_module`: ZeroDivisionError"):
        build_oracle(RuleSettings(function="failing_rule_module:score"))


def test_a_module_that_is_not_there_is_told_with_the_setting_and_where_it_was_looked_for(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    with pytest.raises(SettingsError) as refused:
        oracle_identity(RuleSettings(function="my.own:score"), setting="evaluation.judge")
    assert refused.value.message.startswith("evaluation.judge.function: can't import `my.own`")
    assert "PYTHONPATH is /some/where" in refused.value.hint
    assert "my/own.py" in refused.value.hint


def test_the_hint_names_public_functions_only():
    with pytest.raises(SettingsError) as refused:
        build_oracle(RuleSettings(function="oracles.tiny:zzzzzzzz"))
    assert "length_rule" in refused.value.hint
    assert "__" not in refused.value.hint
    assert "NOT_A_FUNCTION" not in refused.value.hint


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("oracles.tiny", "write `package.module:name`"),
        ("oracles.nowhere:rule", "can't import `oracles.nowhere`"),
        ("oracles.tiny:length_rules", "did you mean `length_rule`"),
        ("oracles.tiny:NOT_A_FUNCTION", "no function `NOT_A_FUNCTION`"),
    ],
)
def test_a_function_that_is_not_there_is_refused(function, message):
    with pytest.raises(SettingsError, match=message):
        build_oracle(RuleSettings(function=function))


def test_a_rule_needs_no_torch():
    code = (
        "import sys; from fairplay.oracles.kinds.rule import RuleSettings; from fairplay.oracles.table import *;"
        "build_oracle(RuleSettings(function='math:pow')); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"
