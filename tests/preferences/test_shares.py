"""Shares and their intervals: Wilson's, with ties and clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairplay.preferences.shares import share_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(15, 30, 0.3315, 0.6685), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_equals_published_values(successes, trials, low, high):
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I (81 of 263), and scipy's proportion_ci for the others.
    found = wilson_interval(successes, trials)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.value == successes / trials


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, 2 * n).map(lambda k: k / 2), st.just(n))))
def test_wilson_lies_in_the_unit_interval_contains_the_share_and_mirrors(case):
    successes, trials = case
    one, other = wilson_interval(successes, trials), wilson_interval(trials - successes, trials)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.low == pytest.approx(1 - other.high)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40).filter(bool))
def test_the_interval_for_ties_and_clusters_is_wilson_s_where_there_are_none(successes, failures):
    outcomes = np.repeat([1.0, 0.0], [successes, failures])
    found = share_interval(outcomes, np.arange(outcomes.size))
    told = wilson_interval(successes, successes + failures)
    assert (found.low, found.high) == (pytest.approx(told.low), pytest.approx(told.high))


def test_ties_narrow_the_interval_and_clusters_widen_it():
    decided, tied = np.repeat([1.0, 0.0], 50), np.repeat([1.0, 0.5, 0.0], [20, 60, 20])
    alone = np.arange(100)
    width = {
        name: found.high - found.low
        for name, found in {
            "decided": share_interval(decided, alone),
            "tied": share_interval(tied, alone),
            "in twos": share_interval(decided, alone // 2),
            "all tied": share_interval(np.full(100, 0.5), alone),
        }.items()
    }
    assert 0 < width["all tied"] < width["tied"] < width["decided"] < width["in twos"]
    assert width["in twos"] == pytest.approx(np.sqrt(2) * width["decided"], rel=0.05)


def test_wilson_refuses_impossible_counts():
    for successes, trials in [(1, 0), (3, 2), (-1, 5)]:
        with pytest.raises(ValueError, match="successes in"):
            wilson_interval(successes, trials)


def test_pairs_of_one_prompt_that_agree_count_as_one():
    outcomes = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 5)
    alone = share_interval(outcomes, np.arange(40))
    together = share_interval(outcomes, [f"q{n // 5}" for n in range(40)])
    eight = share_interval(outcomes[::5], np.arange(8))
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
    assert (together.low, together.high) == (pytest.approx(eight.low), pytest.approx(eight.high))


def test_a_share_of_nothing_or_of_unequal_numbers_is_refused():
    for outcomes, clusters in (([], []), ([1.0, 0.0], ["a"])):
        with pytest.raises(ValueError, match="clusters"):
            share_interval(np.array(outcomes), clusters)
