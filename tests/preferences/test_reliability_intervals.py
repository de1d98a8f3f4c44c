"""Intervals of calibration figures: they cover, they know of clusters, and they know what chance gives."""

import numpy as np
import pytest
from scipy.special import expit

from fairplay.preferences.length_bias import length_bias
from fairplay.preferences.reliability import reliability
from fairplay.preferences.reliability_intervals import mean_of_losses, reliability_intervals, reliability_points


def verdicts(count, *, temperature=1.0, seed=0):
    """Logits of an oracle whose probabilities at this temperature are true."""
    draw = np.random.default_rng(seed)
    logits = np.abs(draw.normal(0, 2, count))
    return np.where(draw.random(count) < expit(logits / temperature), logits, -logits)


def names(count, size=1):
    return [f"q{i // size}" for i in range(count)]


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
    assert found.calibration_error == pytest.approx(figures.calibration_error)


def test_a_calibrated_oracle_is_within_chance_and_an_over_confident_one_is_not():
    logits = verdicts(800, temperature=3.0)
    honest = reliability_intervals(logits, names(800), temperature=3.0, seed=0)
    proud = reliability_intervals(logits, names(800), temperature=1.0, seed=0)
    assert honest.calibration_error <= honest.calibration_error_by_chance.high
    assert proud.calibration_error > 2 * proud.calibration_error_by_chance.high


def test_a_few_large_losses_leave_the_upper_end_farther_away_than_the_lower():
    losses = np.r_[np.full(57, 0.02), np.full(3, 0.9)]
    found = mean_of_losses(losses, names(60), seed=0)
    assert found.high - found.value > 2 * (found.value - found.low) > 0


def test_losses_of_one_prompt_count_once():
    losses = np.random.default_rng(0).random(40)
    alone, copied = (mean_of_losses(np.repeat(losses, k), names(40 * k, k), seed=0) for k in (1, 5))
    assert (copied.low, copied.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


def test_losses_that_are_all_the_same_have_a_finite_interval():
    for losses in (np.full(10, 0.3), np.array([0.2]), np.array([0.1, 0.9])):
        found = mean_of_losses(losses, names(len(losses)), seed=0)
        assert 0 <= found.low <= found.value <= found.high < 10


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
