import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairplay.evaluation.intervals import (
    bootstrap,
    imagined_outcomes,
    interval_from_draws,
    mean_interval,
)


def test_resamples_draw_as_many_prompts_as_there_are_and_two_imagined_ones():
    counts = bootstrap(lambda counts: counts, num_prompts=40, num_bootstrap=3000, seed=1)
    assert counts.shape == (3000, 42)
    assert (counts[:, :40].sum(axis=1) == 40).all()
    assert counts[:, :40].mean(axis=0) == pytest.approx(np.ones(40), abs=0.1)
    assert counts[:, :40].var() == pytest.approx(1 - 1 / 40, abs=0.03)
    assert counts[:, 40:].mean() == pytest.approx(1, abs=0.06)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).random(50)

    def of(seed):
        return mean_interval(values, centre=0.5, limit=0.5, seed=seed, num_bootstrap=500)

    assert of(3) == of(3)
    assert of(3) != of(4)


def test_the_bootstrap_of_many_prompts_agrees_with_the_standard_error():
    values = np.random.default_rng(0).random(2000)
    found = mean_interval(values, centre=0.5, limit=0.5, seed=0, num_bootstrap=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_agreeing_prompts_still_leave_an_interval_that_narrows_as_there_are_more():
    widths = []
    for num_prompts in (1, 10, 100, 1000):
        found = mean_interval(np.ones(num_prompts), centre=0.5, limit=0.5, seed=0, num_bootstrap=1000)
        assert found.value == found.high == 1
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.5
    assert 0 < widths[-1] < 0.01


def test_few_prompts_widen_the_percentiles():
    draws = np.linspace(0, 1, 10_001)
    few, many = (interval_from_draws(0.5, draws, num_prompts=n) for n in (5, 10_000))
    assert few.low < many.low
    assert (many.low, many.high) == (pytest.approx(0.025, abs=1e-3), pytest.approx(0.975, abs=1e-3))


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12))
def test_imagined_outcomes_lie_about_the_mean_and_no_further_out_than_any_that_was_seen(values):
    """Also where a prompt's sum over its pairs is beyond what one pair can have."""
    low, high = imagined_outcomes(np.array(values), centre=0.0, limit=1.0)
    reach = max(map(abs, values)) or 1.0
    assert -reach <= low <= high <= reach
    assert low <= np.mean(values) + 1e-12
    assert high >= np.mean(values) - 1e-12
