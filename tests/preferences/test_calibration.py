"""The fitted temperature: recovered from simulated labels, and bounded where labels can not fix it."""

import numpy as np
import pytest
from scipy.special import expit

from fairplay.preferences.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_score_temperature, fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    draws = np.random.default_rng(0)
    logits = draws.normal(scale=3, size=40_000)
    first_wins = draws.random(40_000) < expit(logits / temperature)
    assert fit_temperature(np.where(first_wins, logits, -logits)) == pytest.approx(temperature, rel=0.05)


def test_the_fit_is_where_the_likelihood_has_no_slope():
    logits = np.array([2.0, 1.0, -0.5, 0.3, -1.5, 4.0])
    temperature = fit_temperature(logits)
    assert (logits * expit(-logits / temperature)).sum() == pytest.approx(0, abs=1e-5)


def test_a_temperature_scales_with_the_logits():
    logits = np.array([2.0, 1.0, -0.5, 0.3, -1.5, 4.0])
    assert fit_temperature(3 * logits) == pytest.approx(3 * fit_temperature(logits), rel=1e-5)


def test_labels_that_can_not_fix_it_give_the_bounds():
    assert fit_temperature(np.array([1.0, 2.0])) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature(np.array([1.0, -1.0, -2.0])) == pytest.approx(MAX_TEMPERATURE)


@pytest.mark.parametrize("logits", [[], [np.nan], [np.inf, 1.0]])
def test_nothing_and_what_is_no_number_are_refused(logits):
    with pytest.raises(ValueError, match="finite logits"):
        fit_temperature(np.asarray(logits))


def test_a_temperature_of_scores_has_their_unit():
    draws = np.random.default_rng(1)
    logits = draws.normal(scale=3, size=4000)
    chosen = np.where(draws.random(4000) < expit(logits), logits, -logits)
    assert fit_score_temperature(chosen / 1000) == pytest.approx(fit_temperature(chosen) / 1000, rel=1e-4)
    assert fit_score_temperature(np.zeros(3)) == 1.0
    with pytest.raises(ValueError, match="finite"):
        fit_score_temperature(np.asarray([]))
