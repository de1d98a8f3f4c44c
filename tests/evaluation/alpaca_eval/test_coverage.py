"""Every printed 95 % interval of AlpacaEval holds the truth in 93 to 97 % of simulations; others in use do not."""

import numpy as np
import pytest

from fairplay.evaluation.alpaca_eval.intervals import FitAt, lc_interval, predicted_interval
from fairplay.evaluation.alpaca_eval.length_model import fit, predicted_win_rate, predictions
from fairplay.evaluation.alpaca_eval.results import model_rows
from fairplay.evaluation.alpaca_eval.rows import ModelRows, length_models
from fairplay.evaluation.intervals import mean_interval

COST = 20.0
NUM_BOOTSTRAP = 300
pytestmark = pytest.mark.slow


def share(hits):
    print(found := float(np.mean(hits)))
    return found


def drawn(rng, size, strengths):
    """Rows of one model for each strength, on the same instructions; verdicts are sharp, some are ties."""
    d = rng.normal(size=size)
    models = []
    for strength in strengths:
        t = np.tanh(rng.normal(0.3, 1, size))
        sharp = (rng.random(size) < 1 / (1 + np.exp(-(strength - 1.5 * t + 0.8 * d)))).astype(float)
        models.append(ModelRows(np.where(rng.random(size) < 0.1, 0.5, np.clip(sharp, 0.01, 0.99)), t, d))
    return models


def population(strengths, num_prompts):
    """Coefficients of a very large evaluation; the penalty's share of the objective is that of a small one."""
    models = drawn(np.random.default_rng(3), 300_000, strengths)
    return models[0].difficulties, fit(length_models(models, None), cost=COST * num_prompts / 300_000)


@pytest.mark.parametrize("strength", [0.0, -2.5])
def test_lc_intervals_cover_as_they_say_and_the_official_standard_error_does_not(strength):
    num_prompts, rng = 300, np.random.default_rng(11)
    d, (coefficients,) = population([strength], num_prompts)
    truth = predicted_win_rate(coefficients, np.zeros(3), d)
    ours, official = [], []
    for seed in range(600):
        rows = length_models(drawn(rng, num_prompts, [strength]), None)
        found = fit(rows, cost=COST)[0]
        interval = lc_interval(rows, found, cost=COST, num_bootstrap=NUM_BOOTSTRAP, seed=seed)
        ours.append(interval.low <= truth <= interval.high)
        curve = predictions(rows, found[None, None])[0, 0]
        error = curve.std(ddof=1) / np.sqrt(len(curve))
        official.append(abs(interval.value - truth) <= 1.96 * error)
    assert 0.93 <= share(ours) <= 0.97
    assert share(official) < 0.8


@pytest.mark.parametrize("name", ["claude-2.1", "NullModel"])
def test_lc_intervals_cover_with_real_verdicts_as_the_population(name, annotated, official_inputs):
    inputs, cost = official_inputs["v1"], 2.782559402207126
    rows = model_rows(next(m for m in annotated if m.model == name), inputs, "v1", "instruction")
    whole = length_models([rows], inputs.gamed)
    truth = predicted_win_rate(fit(whole, cost=cost)[0], np.zeros(3), rows.difficulties)
    rate, rng = float(rows.win_probs.mean()), np.random.default_rng(5)
    hits, plain, official = [], [], []
    for seed in range(400):
        at = rng.integers(805, size=805)
        sample = ModelRows(rows.win_probs[at], rows.gaps[at], rows.difficulties[at])
        batch = length_models([sample], inputs.gamed)
        found = fit(batch, cost=cost)[0]
        interval = lc_interval(batch, found, cost=cost, num_bootstrap=NUM_BOOTSTRAP, seed=seed)
        hits.append(interval.low <= truth <= interval.high)
        mean = mean_interval(sample.win_probs, centre=0.5, limit=0.5, seed=seed, num_bootstrap=NUM_BOOTSTRAP)
        plain.append(mean.low <= rate <= mean.high)
        curve = predictions(batch, found[None, None])[0, 0]
        official.append(abs(interval.value - truth) <= 1.96 * curve.std(ddof=1) / np.sqrt(805))
    assert 0.93 <= share(hits) <= 0.97
    assert 0.93 <= share(plain) <= 0.97
    assert share(official) < 0.7


def test_predicted_win_rates_cover_as_they_say():
    num_prompts, strengths, rng = 300, [-0.5, 0.3], np.random.default_rng(12)
    d, coefficients = population(strengths, num_prompts)
    truth = predicted_win_rate(*coefficients, d)
    hits = []
    for seed in range(500):
        sides = [length_models([rows], None) for rows in drawn(rng, num_prompts, strengths)]
        fits = [fit(side, cost=COST)[0] for side in sides]
        value = predicted_win_rate(*fits, sides[0].features[0, 1])
        at = [FitAt(found, COST) for found in fits]
        interval = predicted_interval(*sides, value, at, num_bootstrap=NUM_BOOTSTRAP, seed=seed)
        hits.append(interval.low <= truth <= interval.high)
    assert 0.93 <= share(hits) <= 0.97
