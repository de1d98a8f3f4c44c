"""Intervals of what labels say of an oracle hold the truth in 93 to 97 % of simulations; docs/statistics.md."""

import numpy as np
import pytest
from scipy.special import expit

from evaluation.coverage import assert_covered
from fairplay.preferences.reliability import reliability
from fairplay.preferences.reliability_intervals import reliability_intervals

pytestmark = pytest.mark.slow

WORLDS = {  # prompts, pairs a prompt, spread of the logits, temperature at which they are true, share of ties
    "few": (60, 1, 2.0, 1.0, 0.0),
    "three pairs a prompt": (100, 3, 2.0, 1.0, 0.0),
    "sure of itself": (60, 1, 5.0, 1.0, 0.0),
    "over-confident": (120, 1, 2.0, 3.0, 0.0),
    "tied": (120, 1, 1.0, 1.0, 0.3),
}


def verdicts(rng, num_prompts, num_pairs, spread, temperature, tied):
    """Logits of labelled pairs, [prompts, pairs]: prompts differ in how sure the oracle is, and in who is right."""
    both = (num_prompts, num_pairs)
    sure = spread * np.abs(np.sqrt(0.5) * (rng.normal(size=(num_prompts, 1)) + rng.normal(size=both)))
    alike = rng.random((num_prompts, 1)) < (0.4 if num_pairs > 1 else 0.0)
    place = np.where(alike, rng.random((num_prompts, 1)), rng.random(both))
    logits = np.where(place < expit(sure / temperature), sure, -sure)
    return np.where(rng.random(both) < tied, 0.0, logits)


@pytest.mark.parametrize("world", WORLDS)
def test_accuracy_and_losses_of_an_oracle_cover_as_they_say(world, monkeypatch):
    monkeypatch.setattr("fairplay.preferences.reliability_intervals.NUM_DRAWS", 400)
    num_prompts, num_pairs, *rest = WORLDS[world]
    truth = reliability(verdicts(np.random.default_rng(1), 500_000, 1, *rest).ravel(), temperature=1.0)
    prompts = [f"q{n // num_pairs}" for n in range(num_prompts * num_pairs)]

    def draw(rng, seed):
        logits = verdicts(rng, num_prompts, num_pairs, *rest).ravel()
        found = reliability_intervals(logits, prompts, temperature=1.0, seed=seed)
        return {name: (getattr(found, name), getattr(truth, name)) for name in ("accuracy", "brier", "log_loss")}

    assert_covered(draw, num_simulations=800)


@pytest.mark.parametrize("num_pairs", [1, 3])
def test_a_calibrated_oracle_lies_within_what_chance_gives_as_often_as_it_says(num_pairs, monkeypatch):
    monkeypatch.setattr("fairplay.preferences.reliability_intervals.NUM_DRAWS", 1000)
    rng, within = np.random.default_rng(3), 0
    for seed in range(600):
        logits = verdicts(rng, 120, num_pairs, 2.0, 1.0, 0.0).ravel()
        prompts = [f"q{n // num_pairs}" for n in range(len(logits))]
        found = reliability_intervals(logits, prompts, temperature=1.0, seed=seed)
        chance = found.calibration_error_by_chance
        within += chance.low <= found.calibration_error <= chance.high
    print(within / 600)
    assert 0.93 <= within / 600 <= 0.97
