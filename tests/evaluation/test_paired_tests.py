from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairplay.errors import DataError
from fairplay.evaluation.paired_tests import holm, minimum_detectable_gap, paired_difference, sign_flip_p_value


def test_up_to_fourteen_differences_are_enumerated():
    differences = np.array([0.5, -0.2, 0.9, 0.1, 0.0, 0.4, -0.3])
    moved = differences[differences != 0]
    sums = [abs(np.dot(signs, moved)) for signs in product([-1, 1], repeat=moved.size)]
    exact = np.mean(np.array(sums) >= abs(moved.sum()) - 1e-12)
    assert sign_flip_p_value(differences, seed=0) == pytest.approx(exact)


def test_differences_of_one_size_give_mcnemars_exact_test():
    differences = np.array([1.0] * 60 + [-1.0] * 35 + [0.0] * 200)
    expected = min(1.0, 2 * stats.binom.cdf(35, 95, 0.5))
    assert sign_flip_p_value(differences, seed=0) == pytest.approx(expected)


def test_many_differences_are_flipped_at_random_but_reproducibly():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.05, 0.3, size=200)
    found = sign_flip_p_value(differences, seed=0)
    assert found == sign_flip_p_value(differences, seed=0)
    assert found == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_no_differences_are_no_evidence():
    assert sign_flip_p_value(np.zeros(20), seed=0) == 1


def test_without_a_difference_the_p_value_is_below_five_per_cent_in_five_per_cent():
    rng = np.random.default_rng(5)
    below = [sign_flip_p_value(rng.normal(size=9), seed=i) < 0.05 for i in range(2000)]
    assert np.mean(below) == pytest.approx(0.05, abs=0.015)


def test_swapping_the_policies_flips_the_difference_and_keeps_the_p_value():
    rng = np.random.default_rng(1)
    before, after = rng.random(30), rng.random(30)
    one, other = paired_difference(before, after, seed=0), paired_difference(after, before, seed=0)
    assert one.difference.value == -other.difference.value
    assert one.p_value == pytest.approx(other.p_value)
    assert one.minimum_detectable_gap == pytest.approx(other.minimum_detectable_gap)


def test_pairing_finds_what_two_marginal_intervals_hide():
    rng = np.random.default_rng(2)
    before = rng.random(200) * 0.9
    found = paired_difference(before, before + rng.normal(0.03, 0.05, size=200), seed=0)
    assert found.difference.low > 0
    assert found.p_value < 0.001


def test_outcomes_that_do_not_pair_or_are_not_finite_are_refused():
    for before, after in [([0.5], [0.5, 1.0]), ([], []), ([np.nan], [0.5])]:
        with pytest.raises(DataError):
            paired_difference(np.array(before), np.array(after), seed=0)


def test_holm_equals_the_worked_example():
    # Holm 1979 by hand: 0.01 * 4, 0.02 * 3, max(0.03 * 2, previous), max(0.04 * 1, previous).
    found = holm({"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.02})
    assert found == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.06})
    assert list(found) == ["a", "b", "c", "d"]


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_value_nor_changes_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= adjusted[name] <= 1 for name, p in p_values.items())
    assert all(
        adjusted[one] <= adjusted[other] for one in p_values for other in p_values if p_values[one] < p_values[other]
    )


def test_the_detectable_gap_equals_the_tabulated_one_and_is_found_in_80_per_cent():
    # sd 0.5 each, correlation 0: 12.4 points at 256 prompts, 7.0 at 805.
    spread = np.sqrt(0.5)
    assert minimum_detectable_gap(spread, num_prompts=256) == pytest.approx(0.124, abs=5e-4)
    assert minimum_detectable_gap(spread, num_prompts=805) == pytest.approx(0.070, abs=5e-4)
    rng = np.random.default_rng(3)
    gap = minimum_detectable_gap(0.3, num_prompts=100)
    draws = rng.normal(gap, 0.3, size=(4000, 100))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)
