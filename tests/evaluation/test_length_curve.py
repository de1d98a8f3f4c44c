import numpy as np
import pytest

from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.length_control import fit_length_model, length_design
from fairplay.evaluation.length_curve import MAX_BINS, length_curve
from fairplay.records import Judgement


def judged(number, slope, seed=0):
    rng = np.random.default_rng(seed)
    gaps = rng.integers(-40, 41, size=number)
    probs = 1 / (1 + np.exp(-slope * gaps / 20))
    return [Judgement(f"p{i}", 0, p, p, 100 + int(g), 100) for i, (g, p) in enumerate(zip(gaps, probs, strict=True))]


def test_a_judge_that_rewards_length_has_a_rising_curve_through_its_bins():
    found = length_curve(judged(300, 1.0), seed=0, num_bootstrap=200)
    assert len(found.bins) == MAX_BINS
    assert sum(one.num_pairs for one in found.bins) == 300
    rates = [one.win_rate.value for one in found.bins]
    assert rates == sorted(rates)
    places, fitted = np.array(found.fitted).T
    assert (np.diff(fitted) > 0).all()
    between = np.interp([one.gap for one in found.bins], places, fitted)
    assert np.abs(between - rates).max() < 0.06


def test_the_curve_at_no_difference_is_the_length_controlled_win_rate():
    judgements = judged(200, 0.5, seed=1)
    columns = judgement_columns(judgements)
    rate = fit_length_model(length_design(columns), np.ones((1, columns.num_prompts))).lc_win_rates[0]
    places, fitted = np.array(length_curve(judgements, seed=0, num_bootstrap=200).fitted).T
    assert np.interp(0, places, fitted) == pytest.approx(rate, abs=1e-3)


def test_equal_lengths_and_a_single_pair_have_bins_but_no_curve():
    equal = [Judgement(f"p{i}", 0, 0.6, 0.6, 9, 9) for i in range(20)]
    assert length_curve(equal, seed=0, num_bootstrap=200).fitted == ()
    (only,) = length_curve(equal[:1], seed=0, num_bootstrap=200).bins
    assert (only.gap, only.num_pairs) == (0, 1)
