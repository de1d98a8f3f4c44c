"""The win rate at equal style: what it must be where the truth is known."""

import numpy as np
import pytest

from fairplay.evaluation.protocols.style_control import FEATURES, fit_style, style_control, style_differences


def fit(win_probs, differences):
    return fit_style(np.asarray(win_probs), np.asarray(differences), np.ones((1, len(win_probs))))[0]


def test_style_differences_change_sign_with_the_sides_and_are_zero_between_equals():
    texts = ["# Head\n- one\n- **two**", "", "plain", "```\n# no header\n- no list\n```"]
    other = ["plain", "", "## a\n## b", "plain"]
    one, two = (np.array([len(text) for text in side], dtype=float) for side in (texts, other))
    there, back = style_differences(texts, other, one, two), style_differences(other, texts, two, one)
    np.testing.assert_allclose(there, -back)
    assert there.shape == (4, len(FEATURES))
    assert (there[1] == 0).all()
    assert (there[3, 1:] == 0).all()
    assert there[0, 1] > 0
    assert there[2, 1] < 0


def test_with_equal_style_it_is_the_win_rate():
    win_probs = [0.9, 0.2, 0.6, 1.0]
    assert fit(win_probs, np.zeros((4, 4)))[0] == pytest.approx(np.mean(win_probs))


def test_exchanging_the_sides_gives_one_minus_it():
    rng = np.random.default_rng(0)
    win_probs, differences = rng.random(60), rng.normal(size=(60, 4))
    there, back = fit(win_probs, differences), fit(1 - win_probs, -differences)
    assert there[0] + back[0] == pytest.approx(1)
    np.testing.assert_allclose(there[1:], back[1:], atol=1e-8)


def test_a_judge_that_sees_nothing_but_style_finds_equals_at_equal_style():
    values, covered = [], 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        differences = rng.normal(loc=1.0, size=(1000, 4))  # the policy has more of everything
        win_probs = (rng.random(1000) < 1 / (1 + np.exp(-(differences @ [1.5, 0.5, 0.0, 0.0])))).astype(float)
        told = style_control(win_probs, differences, seed=seed, num_bootstrap=200)
        values.append(told.win_rate.value)
        covered += told.win_rate.low < 0.5 < told.win_rate.high
        assert win_probs.mean() > 0.7
        assert set(told.coefficients) == set(FEATURES)
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    assert covered >= 8


def test_it_finds_the_strength_behind_the_style():
    rng = np.random.default_rng(2)
    differences = rng.normal(loc=-0.5, size=(4000, 1))
    win_probs = 1 / (1 + np.exp(-(0.8 + differences @ [1.0])))
    rate = fit(win_probs, differences)[0]
    assert rate == pytest.approx(1 / (1 + np.exp(-0.8)), abs=1e-3)


def test_wins_only_and_style_that_separates_have_an_answer():
    rng = np.random.default_rng(3)
    assert fit(np.ones(5), rng.normal(size=(5, 4)))[0] == pytest.approx(1, abs=1e-6)
    differences = rng.normal(size=(30, 1))
    assert 0 < fit((differences[:, 0] > 0).astype(float), differences)[0] < 1
