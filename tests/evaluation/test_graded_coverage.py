"""Intervals of graded verdicts, which vary far less than letters, hold the truth in 93 to 97 % of simulations."""

import numpy as np
import pytest

from fairplay.evaluation.differences import verdict_difference
from fairplay.evaluation.intervals import mean_interval
from fairplay.evaluation.length_control import fit_length_model, length_design

from .coverage import assert_covered
from .worlds import columns_of, draw_world, judgements_of

pytestmark = pytest.mark.slow

OUTCOMES = {
    "probabilities": (lambda rng, size: 1 / (1 + np.exp(-(0.6 + 0.7 * rng.normal(size=size)))), 0.5, 0.5),
    "grades": (lambda rng, size: np.clip(np.round(6.8 + 2.0 * rng.normal(size=size)), 1, 10), 5.5, 4.5),
}


@pytest.mark.parametrize("num_prompts", [10, 40])
@pytest.mark.parametrize("kind", OUTCOMES)
def test_means_of_graded_verdicts_cover_as_they_say_on_few_prompts(kind, num_prompts):
    drawn, centre, limit = OUTCOMES[kind]
    truth = float(drawn(np.random.default_rng(2), 2_000_000).mean())

    def draw(rng, seed):
        values = drawn(rng, num_prompts)
        return {"mean": (mean_interval(values, centre=centre, limit=limit, seed=seed, num_bootstrap=400), truth)}

    assert_covered(draw, num_simulations=1500)


@pytest.mark.parametrize("num_prompts", [40, 100])
@pytest.mark.parametrize(("kind", "num_samples"), [("letters", 1), ("probabilities", 1), ("probabilities", 3)])
def test_the_change_of_an_lc_win_rate_covers_as_it_says(kind, num_samples, num_prompts):
    """Of a policy to one that wins more and writes longer, against the same opponent."""

    def sides(rng, size):
        win_probs, lengths, opponent = draw_world("probabilities", size, num_samples, rng)
        moved = np.log(win_probs / (1 - win_probs)) + 0.3 + 0.4 * rng.normal(size=win_probs.shape)
        outcomes = [win_probs, 1 / (1 + np.exp(-moved))]
        if kind == "letters":
            outcomes = [(rng.random(one.shape) < one).astype(float) for one in outcomes]
        return (outcomes[0], lengths, opponent), (outcomes[1], np.ceil(1.2 * lengths), opponent)

    rates = []
    for side in sides(np.random.default_rng(4), 100_000):
        columns = columns_of(*side, range(100_000))
        fit = fit_length_model(length_design(columns), np.ones((1, columns.num_prompts)))
        rates.append(float(fit.lc_win_rates[0]))

    def draw(rng, seed):
        before, after = (judgements_of(*side) for side in sides(rng, num_prompts))
        found = verdict_difference(before, after, seed=seed, num_bootstrap=300)
        return {"change": (found.lc_win_rate_difference, rates[1] - rates[0])}

    assert_covered(draw, num_simulations=1000)
