import numpy as np
import pytest

from fairplay.errors import DataError
from fairplay.evaluation.preference_accuracy import compare_preference_accuracy, preference_accuracy


def test_ties_count_half():
    found = preference_accuracy([2.0, 0.0, -1.0, 3.0])
    assert (found.accuracy.value, found.ties, found.num_pairs, found.mean_margin) == (0.625, 1, 4, 1.0)
    assert found.accuracy.low < 0.625 < found.accuracy.high


def test_a_broken_policy_is_refused_and_scores_nothing():
    for margins in ([1.0, np.nan], [np.inf], []):
        with pytest.raises(DataError):
            preference_accuracy(margins)


def test_training_that_helps_is_found_on_300_pairs():
    rng = np.random.default_rng(0)
    before = rng.normal(0.05, 1, size=300)
    found = compare_preference_accuracy(before, before + rng.normal(0.4, 0.4, size=300), seed=0)
    assert found.change.difference.value == pytest.approx(found.after.accuracy.value - found.before.accuracy.value)
    assert found.change.difference.low > 0
    assert found.change.p_value < 0.01
    assert found.change.num_prompts == 300


def test_the_scale_of_the_margins_does_not_matter():
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=50), rng.normal(size=50)
    one, other = (compare_preference_accuracy(k * before, k * after, seed=0).change for k in (1, 1000))
    assert one == other


def test_an_unchanged_policy_shows_no_change():
    margins = np.random.default_rng(2).normal(size=100)
    found = compare_preference_accuracy(margins, margins, seed=0).change
    assert (found.difference.value, found.p_value) == (0, 1)
    assert -0.05 < found.difference.low < 0 < found.difference.high < 0.05


def test_unequal_numbers_of_pairs_are_refused():
    with pytest.raises(DataError, match="can't be paired"):
        compare_preference_accuracy([1.0], [1.0, 2.0], seed=0)


def test_pairs_of_one_prompt_are_no_independent_evidence():
    margins = np.random.default_rng(3).normal(0.3, 1, size=60)
    copied = np.repeat(margins, 5)
    one = preference_accuracy(margins)
    found = preference_accuracy(copied, [f"p{n}" for n in range(60) for _ in range(5)])
    ends = [(side.accuracy.value, side.accuracy.low, side.accuracy.high) for side in (found, one)]
    assert ends[0] == pytest.approx(ends[1])
    assert found.num_pairs == 300
    alone = preference_accuracy(copied)
    assert alone.accuracy.high - alone.accuracy.low < 0.6 * (one.accuracy.high - one.accuracy.low)
    change = compare_preference_accuracy(copied, -copied, prompts=[f"p{n // 5}" for n in range(300)], seed=0).change
    assert change.num_prompts == 60
    assert change.p_value == compare_preference_accuracy(margins, -margins, seed=0).change.p_value


def test_with_prompts_of_unequal_size_the_change_is_still_after_minus_before():
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=90), rng.normal(0.3, 1, size=90)
    found = compare_preference_accuracy(before, after, prompts=[f"p{int(n**0.7)}" for n in range(90)], seed=0)
    assert found.change.difference.value == pytest.approx(found.after.accuracy.value - found.before.accuracy.value)


def test_one_prompt_a_pair_is_asked_for():
    with pytest.raises(DataError, match="2 pairs of 1 prompts"):
        preference_accuracy([1.0, 2.0], ["a"])
