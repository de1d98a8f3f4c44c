"""The probability rules: numbers worked out by hand and by the authors' code (notes/sppo.md 2.4), and their laws."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fairplay.errors import DataError, SettingsError
from fairplay.preferences.settings import RULES
from fairplay.preferences.win_matrix import WIN_RULES, group_logits, order_bias, symmetric_logits, win_matrix
from fairplay.records import Message, PreferenceGroup, Prompt, Response, ResponseGroup

CYCLE = np.array([[0, 2, -1.6], [-1.8, 0, 2.2], [2, -1.8, 0]])
STRENGTHS = np.array([1.2, 0.4, 0, -0.5, -1.1])
TRANSITIVE = STRENGTHS[:, None] - STRENGTHS[None, :]

square = st.integers(1, 16).flatmap(lambda k: arrays(np.float64, (k, k), elements=st.floats(-30, 30, width=32)))
rules = st.sampled_from(sorted(WIN_RULES))


def mixed() -> np.ndarray:
    d = np.zeros((5, 5))
    d[np.triu_indices(5, 1)] = [1.2, -0.8, 0.5, 0.3, 1.5, 0.2, 0.9, 0.4, 1.1, 0.6]
    return d - d.T + 0.3 * (1 - np.eye(5))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("calibrated", (0.870, 0.142, 0.881)), ("raw-table", (0.978, 0.027, 0.982)), ("sppo-code", (0.500, 0.550, 0.550))],
)
def test_the_rules_give_the_published_numbers_on_a_cycle(rule, expected):
    probs = win_matrix(CYCLE, rule=rule)
    assert (probs[0, 1], probs[0, 2], probs[1, 2]) == pytest.approx(expected, abs=5e-4)


def test_the_rules_give_the_published_numbers_on_a_ranking():
    assert win_matrix(TRANSITIVE)[0, 4] == pytest.approx(0.909, abs=5e-4)
    assert win_matrix(TRANSITIVE, rule="raw-table")[0, 4] == pytest.approx(0.990, abs=5e-4)
    np.testing.assert_allclose(win_matrix(TRANSITIVE).mean(1), [0.743, 0.587, 0.501, 0.393, 0.276], atol=6e-4)
    np.testing.assert_allclose(
        win_matrix(TRANSITIVE, rule="sppo-code").mean(1), [0.841, 0.634, 0.505, 0.342, 0.178], atol=6e-4
    )


def test_on_a_ranking_the_authors_code_is_the_raw_table():
    np.testing.assert_allclose(
        win_matrix(TRANSITIVE, rule="sppo-code"), win_matrix(TRANSITIVE, rule="raw-table"), atol=1e-14
    )


def test_the_rules_give_the_published_numbers_on_a_mixed_matrix_with_position_bias():
    calibrated, code = win_matrix(mixed()), win_matrix(mixed(), rule="sppo-code")
    assert np.abs(calibrated - code).max() == pytest.approx(0.289, abs=5e-4)
    assert (code.mean(1).argmax(), code.mean(1).argmin()) == (1, 4)
    assert (code.mean(1)[1], code.mean(1)[4]) == pytest.approx((0.622, 0.255), abs=6e-4)
    assert (calibrated.mean(1)[1], calibrated.mean(1)[4]) == pytest.approx((0.562, 0.364), abs=6e-4)


def test_the_authors_code_is_reproduced_from_the_original_rankers_scores(golden: Path):
    cases = json.loads((golden / "golden" / "pairrm" / "golden.json").read_text())["cases"]
    for case in cases:
        scores = np.asarray(case["rank_scores"])
        expected = 1 / (1 + np.exp(-(scores[:, None] - scores[None, :])))
        probs = win_matrix(np.asarray(case["logits_ab"]), rule="sppo-code")
        np.testing.assert_allclose(probs, expected, atol=1e-5, err_msg=case["name"])
        both_orders = case["compare_both_orders_0_1"]
        assert 2 * symmetric_logits(np.asarray(case["logits_ab"]))[0, 1] == pytest.approx(both_orders, abs=1e-4)


@given(square, rules, st.floats(0.05, 20))
def test_the_two_sides_of_a_pair_add_up_to_one(logits, rule, temperature):
    probs = win_matrix(logits, rule=rule, temperature=temperature)
    np.testing.assert_allclose(probs + probs.T, 1, atol=1e-14)
    assert (probs.diagonal() == 0.5).all()


@given(square, rules, st.floats(-5, 5))
def test_a_constant_position_bias_cancels(logits, rule, bias):
    shifted = logits + bias * (1 - np.eye(len(logits)))
    np.testing.assert_allclose(win_matrix(shifted, rule=rule), win_matrix(logits, rule=rule), atol=1e-12)


@given(square, rules)
def test_swapping_the_order_flips_the_probability(logits, rule):
    np.testing.assert_allclose(win_matrix(logits.T, rule=rule), 1 - win_matrix(logits, rule=rule), atol=1e-14)


@given(square)
def test_bias_and_symmetric_logits_are_the_whole_verdict(logits):
    np.testing.assert_allclose(symmetric_logits(logits) + order_bias(logits), logits, atol=1e-12)


def test_temperature_divides_the_logit():
    np.testing.assert_array_equal(win_matrix(CYCLE, temperature=2.0), win_matrix(CYCLE / 2))


def test_the_raw_table_is_the_calibrated_rule_at_half_the_temperature():
    np.testing.assert_allclose(win_matrix(CYCLE, rule="raw-table"), win_matrix(CYCLE, temperature=0.5), atol=1e-15)


def test_the_table_of_sentences_names_the_rules_that_exist():
    assert list(RULES) == list(WIN_RULES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_verdict_that_is_no_number_is_refused_and_never_a_tie(value):
    logits = CYCLE.copy()
    logits[0, 2] = value
    with pytest.raises(ValueError, match="finite"):
        win_matrix(logits)
    responses = tuple(Response(text) for text in "abc")
    group = ResponseGroup(Prompt("p-17", (Message("user", "?"),)), responses)
    with pytest.raises(DataError, match=r"prompt p-17: the pair logit of responses 0 and 2 is (nan|inf|-inf)"):
        group_logits(PreferenceGroup(group, tuple(map(tuple, logits.tolist())), (False,) * 3))


def test_logits_of_another_shape_than_the_responses_are_refused_naming_the_prompt():
    group = ResponseGroup(Prompt("p-3", (Message("user", "?"),)), (Response("a"), Response("b")))
    with pytest.raises(DataError, match="prompt p-3: pair logits are not 2 x 2"):
        group_logits(PreferenceGroup(group, ((0.0, 1.0),), (False, False)))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        win_matrix(CYCLE, temperature=temperature)


def test_an_unknown_rule_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="did you mean `raw-table`"):
        win_matrix(CYCLE, rule="raw_table")
