"""The common scale's 95 % intervals hold the truth in 93 to 97 % of simulated evaluations, in all of these worlds.

2,000 simulations have a standard error of 0.5 points, 1,000 of 0.7. The method was chosen in other worlds with other
seeds; `UNSEEN` was drawn up before and run once the method stood.
"""

from dataclasses import replace

import numpy as np
import pytest

from fairplay.evaluation.joint_fit import fit_strengths, joint_design
from fairplay.evaluation.joint_strengths import ANCHOR, joint_strengths

from .coverage import assert_covered
from .worlds import draw_games

pytestmark = pytest.mark.slow

RATIOS = np.array([0.7, 0.85, 1, 1.2, 1.5])
"""Strengths and slope are those at a sample's own scale: known at these multiples of the population's."""


def population(num_prompts, world):
    """Scale, and strengths and slope at each multiple of it, [ratios, strengths + 1], of a very large evaluation."""
    games = draw_games(np.random.default_rng(5), num_prompts=num_prompts, **world)
    design = joint_design(len(world["strengths"]), sorted(games), [games[pair] for pair in sorted(games)])
    gaps = np.arctanh(np.clip(design.features[:, -1:], -1 + 1e-15, 1 - 1e-15))
    scaled = [np.concatenate([design.features[:, :-1], np.tanh(gaps / ratio)], axis=1) for ratio in RATIOS]
    anchors = np.full(len(games), ANCHOR)
    return design.scale, np.array([fit_strengths(replace(design, features=one), anchors) for one in scaled])


def joint_world(num_prompts, **world):
    world = {"strengths": (0.0, 0.5, 0.9), "slope": 1.0, **world}
    names = [f"iteration {number}" for number in range(len(world["strengths"]))]
    scale, truths = population(max(100_000, 1_000 * num_prompts) // world.get("num_samples", 1), world)

    def draw(rng, seed):
        found = joint_strengths(names, draw_games(rng, num_prompts=num_prompts, **world))
        truth = [np.interp(found.length_scale, scale * RATIOS, column) for column in truths.T]
        strengths = np.array([0.0, *truth[:-1]])
        told = {
            f"strength {name}": one for name, *one in zip(names[1:], found.strengths[1:], strengths[1:], strict=True)
        }
        told["contrast"] = found.lc_win_rates[-1][-2], 1 / (1 + np.exp(strengths[-2] - strengths[-1]))
        return told | {"slope": (found.length_slope, truth[-1])}

    return draw


@pytest.mark.parametrize("judge", ["letters", "graded", "tied"])
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("num_prompts", [40, 80, 300])
def test_the_common_scale_covers_where_longer_responses_are_better_too(num_prompts, num_samples, judge):
    world = joint_world(num_prompts, num_samples=num_samples, judge=judge, merit=0.4)
    assert_covered(world, num_simulations=2000 if num_prompts == 40 else 1000)


@pytest.mark.parametrize(
    ("num_prompts", "num_samples", "judge"), [(100, 1, "letters"), (80, 3, "letters"), (250, 1, "graded")]
)
def test_the_common_scale_covers_where_length_is_no_merit(num_prompts, num_samples, judge):
    assert_covered(joint_world(num_prompts, num_samples=num_samples, judge=judge), num_simulations=2000)


def test_the_common_scale_covers_between_strengths_far_apart():
    assert_covered(joint_world(60, strengths=(0.0, 1.5, 3.0)), num_simulations=2000)


UNSEEN = {
    "strengths": (0.0, 0.7, 0.4, 1.0, 1.1),
    "slope": -0.8,
    "num_samples": 2,
    "growth": -0.1,
    "judge": "two letters",
    "merit": -0.3,
    "by_prompt": lambda rng, shape: 0.5 * rng.standard_t(3, size=shape),
    "missing": 0.15,
}


def test_the_common_scale_covers_in_a_world_it_was_not_made_for():
    assert_covered(joint_world(60, **UNSEEN), num_simulations=2000)
