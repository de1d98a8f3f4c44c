"""Intervals of calibration figures: they cover, they know of clusters, and they know what chance gives."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from fairplay.preferences.length_bias import length_bias
from fairplay.preferences.reliability import reliability
from fairplay.preferences.reliability_intervals import reliability_intervals, reliability_points, share_interval


def verdicts(count, *, temperature=1.0, seed=0):
    """Logits of an oracle whose probabilities at this temperature are true."""
    draw = np.random.default_rng(seed)
    logits = np.abs(draw.normal(0, 2, count))
    return np.where(draw.random(count) < expit(logits / temperature), logits, -logits)


def names(count, size=1):
    return [f"q{i // size}" for i in range(count)]


def test_with_one_pair_a_prompt_the_share_has_wilsons_interval():
    outcomes = np.array([1.0] * 8 + [0.0] * 2)
    found, expected = share_interval(outcomes, names(10)), binomtest(8, 10).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((0.8, expected.low, expected.high))
    assert share_interval(np.array([1.0, 0.5, 0.5, 0.0]), names(4)).value == 0.5


def test_pairs_of_one_prompt_that_agree_count_as_one():
    outcomes = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 5)
    alone, together = share_interval(outcomes, names(40)), share_interval(outcomes, names(40, 5))
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
    eight = share_interval(outcomes[::5], names(8))
    assert together.low == pytest.approx(eight.low, abs=0.03)


def test_values_are_those_of_the_figures_and_lie_in_their_intervals():
    logits = verdicts(400)
    found, figures = (
        reliability_intervals(logits, names(400), temperature=1.7, seed=0),
        reliability(logits, temperature=1.7),
    )
    for name in ("accuracy", "brier", "log_loss"):
        interval = getattr(found, name)
        assert interval.value == pytest.approx(getattr(figures, name))
        assert interval.low < interval.value < interval.high
    assert found.calibration_error.value == pytest.approx(figures.calibration_error)


def test_the_brier_interval_covers_the_truth_about_as_often_as_it_says():
    truth = np.mean([np.square(1 - expit(verdicts(100_000, seed=900))).mean()])
    covered = 0
    for seed in range(40):
        logits = verdicts(60, seed=seed)
        interval = reliability_intervals(logits, names(60), temperature=1.0, seed=seed).brier
        covered += interval.low <= truth <= interval.high
    assert covered >= 34


def test_a_calibrated_oracle_is_within_chance_and_an_over_confident_one_is_not():
    logits = verdicts(800, temperature=3.0)
    honest = reliability_intervals(logits, names(800), temperature=3.0, seed=0)
    proud = reliability_intervals(logits, names(800), temperature=1.0, seed=0)
    assert honest.calibration_error.value <= honest.calibration_error_by_chance.high
    assert proud.calibration_error.value > 2 * proud.calibration_error_by_chance.high
    assert proud.calibration_error.low > honest.calibration_error.high


def test_the_same_seed_gives_the_same_intervals():
    logits = verdicts(50)
    one, other = (reliability_intervals(logits, names(50), temperature=1.0, seed=4) for _ in range(2))
    assert one == other


def test_points_hold_all_pairs_in_groups_of_equal_size():
    logits = verdicts(200)
    points = reliability_points(logits, names(200), temperature=2.0)
    assert [point.num_pairs for point in points] == [34, 34, 33, 33, 33, 33]
    assert sorted(point.confidence for point in points) == [point.confidence for point in points]
    assert len(reliability_points(logits[:20], names(20), temperature=1.0)) == 1


def test_without_pairs_there_are_no_intervals():
    with pytest.raises(ValueError, match="one or more finite logits"):
        reliability_intervals(np.array([]), [], temperature=1.0, seed=0)
    with pytest.raises(ValueError, match="one or more pairs"):
        share_interval(np.array([]), [])


def test_length_figures_of_a_judge_that_reads_nothing_but_length():
    gaps = np.array([5.0, 3.0, -2.0, 1.0, 0.0])
    found = length_bias(2.0 * gaps, gaps, names(5))
    assert found.longer_wins.value == pytest.approx(0.7)
    assert found.prefers_longer.value == pytest.approx(0.9)
    assert found.correlation == pytest.approx(1.0)
    assert found.label_correlation == pytest.approx(7 / np.sqrt(5 * 39))
    assert (found.num_shorter_wins, found.num_longer_wins) == (1, 3)
    assert (found.accuracy_shorter_wins.value, found.accuracy_longer_wins.value) == (0.0, 1.0)


def test_without_shorter_winners_there_is_no_accuracy_on_them():
    found = length_bias(np.array([1.0, -1.0]), np.array([1.0, 2.0]), names(2))
    assert found.accuracy_shorter_wins is None
    with pytest.raises(ValueError, match="2 logits, 1 length gaps"):
        length_bias(np.array([1.0, -1.0]), np.array([1.0]), names(2))
