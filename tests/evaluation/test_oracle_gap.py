import numpy as np
import pytest

from fairplay.errors import DataError
from fairplay.evaluation.oracle_gap import oracle_gap
from fairplay.records import Judgement


def judgements(win_probs, length=10):
    return [Judgement(f"p{i}", 0, p, p, length, 10) for i, p in enumerate(win_probs)]


def test_a_judge_that_agrees_with_the_oracle_leaves_no_gap():
    verdicts = judgements([0.9, 0.2, 0.5, 0.7])
    found = oracle_gap(verdicts, verdicts, seed=0, num_bootstrap=300)
    assert (found.gap.value, found.p_value, found.agreement, found.disagreements) == (0, 1, 1, ())


def test_the_gap_is_oracle_minus_judge_and_is_found_where_it_is_large():
    rng = np.random.default_rng(0)
    judge = rng.uniform(0.2, 0.6, size=80)
    found = oracle_gap(judgements(judge + 0.3), judgements(judge), seed=0, num_bootstrap=500)
    assert found.gap.value == pytest.approx(0.3)
    assert found.gap.value == pytest.approx(found.oracle_win_rate.value - found.judge_win_rate.value)
    assert found.gap.low > 0
    assert found.p_value < 0.001


def test_a_tie_by_one_of_them_agrees_by_half():
    found = oracle_gap(judgements([0.9, 0.9, 0.9, 0.5]), judgements([0.8, 0.1, 0.5, 0.5]), seed=0, num_bootstrap=300)
    assert found.agreement == (1 + 0 + 0.5 + 1) / 4


def test_the_largest_disagreements_come_first_one_a_prompt():
    oracle = [*judgements([0.9, 0.9, 0.5]), Judgement("p0", 1, 0.8, 0.8, 10, 10)]
    judge = [*judgements([0.1, 0.0, 0.5]), Judgement("p0", 1, 0.1, 0.1, 10, 10)]
    found = oracle_gap(oracle, judge, seed=0, num_bootstrap=300, num_disagreements=5)
    assert [(item.prompt_id, item.sample) for item in found.disagreements] == [("p1", 0), ("p0", 0)]
    assert (found.num_prompts, found.num_pairs) == (3, 4)
    few = oracle_gap(oracle, judge, seed=0, num_bootstrap=300, num_disagreements=1)
    assert few.disagreements == found.disagreements[:1]


def test_pairs_that_only_one_judged_are_left_out_and_counted():
    found = oracle_gap(judgements([0.9, 0.8, 0.7]), judgements([0.9]), seed=0, num_bootstrap=300)
    assert (found.num_pairs, found.num_unmatched) == (1, 2)
    assert found.oracle_win_rate.value == 0.9


def test_verdicts_on_other_responses_are_refused():
    with pytest.raises(DataError, match="different lengths"):
        oracle_gap(judgements([0.9]), judgements([0.9], length=11), seed=0)
    with pytest.raises(DataError, match="no pair of responses in common"):
        oracle_gap(judgements([0.9]), [Judgement("q", 0, 0.5, 0.5, 1, 1)], seed=0)
