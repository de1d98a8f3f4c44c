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
