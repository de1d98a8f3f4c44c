import numpy as np
import pytest

from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.variance import variance_parts
from fairplay.records import Judgement

from .worlds import judgements_of


def parts_of(outcomes):
    flat = np.full(outcomes.shape, 10)
    return variance_parts(judgement_columns(judgements_of(outcomes, flat, flat)))


def test_both_parts_of_a_known_world_are_found():
    rng = np.random.default_rng(0)
    by_prompt = rng.uniform(0.3, 0.7, size=(4000, 1))
    (found,) = parts_of(by_prompt + rng.uniform(-0.2, 0.2, size=(4000, 3)))
    assert found.between == pytest.approx(0.4**2 / 12, rel=0.05)
    assert found.within == pytest.approx(0.4**2 / 12, rel=0.05)


def test_the_parts_add_up_to_the_variance_of_the_win_rate():
    rng = np.random.default_rng(1)
    outcomes = rng.random((50, 4)) ** 2
    (found,) = parts_of(outcomes)
    assert found.between + found.within / 4 == pytest.approx(np.var(outcomes.mean(axis=1), ddof=1))


def test_unequally_many_samples_are_no_bias():
    rng = np.random.default_rng(2)
    judgements = []
    for prompt in range(4000):
        level = rng.uniform(0.3, 0.7)
        for sample in range(1 + prompt % 3):
            outcome = level + rng.uniform(-0.2, 0.2)
            judgements.append(Judgement(f"p{prompt}", sample, outcome, outcome, 1, 1))
    (found,) = variance_parts(judgement_columns(judgements))
    assert found.between == pytest.approx(0.4**2 / 12, rel=0.06)
    assert found.within == pytest.approx(0.4**2 / 12, rel=0.06)


def test_prompts_that_differ_by_chance_alone_have_no_variance_between_them():
    rng = np.random.default_rng(3)
    (found,) = parts_of((rng.random((2000, 5)) < 0.5).astype(float))
    assert found.between < 0.01
    assert found.within == pytest.approx(0.25, rel=0.03)
    assert parts_of(np.tile([[0.0, 1.0]], (9, 1)))[0].between == 0


def test_without_a_second_sample_or_prompt_the_parts_cannot_be_told_apart():
    assert parts_of(np.random.default_rng(4).random((20, 1))) == ()
    assert parts_of(np.random.default_rng(4).random((1, 5))) == ()
