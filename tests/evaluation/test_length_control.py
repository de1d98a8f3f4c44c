import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.length_control import (
    DRAW_STEP,
    SLOPE_RIDGE,
    fit_length_model,
    length_design,
    overlap_share,
)
from fairplay.evaluation.win_rates import win_rates
from fairplay.records import Judgement

from .worlds import draw_world, judgements_of

probabilities = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
lengths = st.one_of(st.integers(0, 3), st.integers(0, 5000))


@st.composite
def evaluations(draw):
    found = []
    for prompt in range(draw(st.integers(1, 12))):
        for sample in range(draw(st.integers(1, 3))):
            first, second = draw(probabilities), draw(probabilities)
            found.append(Judgement(f"p{prompt:02d}", sample, first, second, draw(lengths), draw(lengths)))
    return found


def lc(judgements):
    columns = judgement_columns(judgements)
    return float(fit_length_model(length_design(columns), np.ones((1, columns.num_prompts))).lc_win_rates[0])


def swapped(judgement):
    return Judgement(
        judgement.prompt_id,
        judgement.sample,
        1 - judgement.win_prob_second,
        1 - judgement.win_prob_first,
        judgement.opponent_length,
        judgement.policy_length,
    )


@settings(deadline=None, max_examples=50)
@given(evaluations())
def test_swapping_policy_and_opponent_gives_one_minus_the_lc_win_rate(judgements):
    assert lc(judgements) + lc([swapped(judgement) for judgement in judgements]) == pytest.approx(1, abs=1e-8)


@settings(deadline=None, max_examples=50)
@given(evaluations())
def test_a_policy_against_itself_has_lc_win_rate_one_half(judgements):
    both = [replace(item, sample=2 * item.sample) for item in judgements]
    both += [replace(swapped(item), sample=2 * item.sample + 1) for item in judgements]
    assert lc(both) == pytest.approx(0.5, abs=1e-8)
    assert lc([replace(item, win_prob_first=0.5, win_prob_second=0.5) for item in judgements]) == 0.5


@settings(deadline=None, max_examples=50)
@given(evaluations())
def test_at_equal_lengths_the_lc_win_rate_is_the_win_rate(judgements):
    equal = [replace(item, opponent_length=item.policy_length) for item in judgements]
    assert lc(equal) == pytest.approx(judgement_columns(equal).prompt_scores().mean(), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(evaluations(), st.integers(2, 40))
def test_the_unit_of_the_lengths_does_not_matter(judgements, factor):
    other = [
        replace(item, policy_length=factor * item.policy_length, opponent_length=factor * item.opponent_length)
        for item in judgements
    ]
    assert lc(other) == pytest.approx(lc(judgements), abs=1e-8)


@settings(deadline=None, max_examples=50)
@given(evaluations(), st.randoms(use_true_random=False))
def test_the_order_of_the_judgements_does_not_matter(judgements, random):
    shuffled = list(judgements)
    random.shuffle(shuffled)
    assert lc(shuffled) == lc(judgements)


@settings(deadline=None, max_examples=50)
@given(evaluations())
def test_the_lc_win_rate_is_always_a_share(judgements):
    assert 0 <= lc(judgements) <= 1


@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(0.05, 2))
@settings(deadline=None, max_examples=30)
def test_a_stronger_policy_at_every_length_has_a_higher_lc_win_rate(theta, phi, shift):
    gaps = np.random.default_rng(0).integers(-80, 120, size=(60, 1))
    scale = np.sqrt((gaps**2.0).mean())

    def of(theta):
        win_probs = 1 / (1 + np.exp(-(theta + phi * np.tanh(gaps / scale))))
        return lc(judgements_of(win_probs, 200 + gaps, np.full_like(gaps, 200)))

    assert of(theta + shift) > of(theta)
    assert of(theta) == pytest.approx(1 / (1 + np.exp(-theta)), abs=0.02)


def test_the_fit_is_the_minimum_that_a_general_optimiser_finds():
    rng = np.random.default_rng(1)
    columns = judgement_columns(judgements_of(*draw_world("ties", 40, 2, rng)))
    design = length_design(columns)
    weights = rng.integers(0, 3, size=(5, 40)).astype(float)
    fits = fit_length_model(design, weights)
    for row, lc_win_rate, slope in zip(weights, fits.lc_win_rates, fits.slopes, strict=True):
        rows = row[design.prompt_index] * design.row_weights

        def loss(parameters, rows=rows):
            logits = parameters[0] + parameters[1] * design.gaps
            return rows @ (np.logaddexp(0, logits) - design.win_probs * logits) + SLOPE_RIDGE / 2 * parameters[1] ** 2

        found = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
        assert lc_win_rate == pytest.approx(1 / (1 + np.exp(-found.x[0])), abs=1e-6)
        assert slope == pytest.approx(found.x[1], abs=1e-5)


def test_fits_in_one_batch_equal_fits_one_at_a_time():
    rng = np.random.default_rng(2)
    design = length_design(judgement_columns(judgements_of(*draw_world("letters", 50, 1, rng))))
    weights = rng.integers(0, 3, size=(20, 50)).astype(float)
    together = fit_length_model(design, weights)
    alone = [fit_length_model(design, row[None]).lc_win_rates[0] for row in weights]
    assert np.allclose(together.lc_win_rates, alone, atol=1e-10)


def test_where_a_fit_begins_and_a_looser_stop_change_nothing_that_is_printed():
    rng = np.random.default_rng(5)
    design = length_design(judgement_columns(judgements_of(*draw_world("letters", 80, 1, rng))))
    weights = rng.poisson(1.0, size=(30, 80)).astype(float)
    exact = fit_length_model(design, weights)
    loose = fit_length_model(design, weights, start_slope=3.0, last_step=DRAW_STEP)
    assert np.abs(exact.lc_win_rates - loose.lc_win_rates).max() < 1e-7


def test_all_wins_all_losses_one_prompt_and_full_separation_by_length_have_defined_answers():
    ramp = np.arange(1, 21)[:, None]
    flat = np.full_like(ramp, 10)
    for constant in (0.0, 0.5, 1.0):
        assert lc(judgements_of(np.full(ramp.shape, constant), ramp, flat)) == constant
    assert lc([Judgement("only", 0, 0.8, 0.6, 100, 3)]) == pytest.approx(0.7, abs=1e-9)
    separated = lc(judgements_of((ramp > flat).astype(float), ramp, flat))
    assert 0 < separated < 0.5
    constant_gap = judgements_of(np.linspace(0.2, 0.9, 20)[:, None], flat + 7, flat)
    assert lc(constant_gap) == pytest.approx(0.55, abs=1e-9)


def test_length_control_removes_what_length_alone_bought():
    rng = np.random.default_rng(3)
    opponent = rng.integers(50, 150, size=(2000, 1))
    policy = opponent + rng.integers(-40, 120, size=(2000, 1))
    scale = np.sqrt(((policy - opponent) ** 2.0).mean())
    win_probs = 1 / (1 + np.exp(-1.5 * np.tanh((policy - opponent) / scale)))
    judgements = judgements_of(win_probs, policy, opponent)
    assert judgement_columns(judgements).prompt_scores().mean() > 0.6
    assert lc(judgements) == pytest.approx(0.5, abs=0.005)


def test_overlap_counts_prompts_with_nearly_equal_lengths_on_both_sides():
    pairs = [(100, 100), (100, 109), (109, 100), (100, 120), (0, 0), (0, 1), (300, 100), (100, 111)]
    judgements = [Judgement(f"p{i}", 0, 0.5, 0.5, ours, theirs) for i, (ours, theirs) in enumerate(pairs)]
    assert overlap_share(judgement_columns(judgements)) == 4 / 8


def test_ten_thousand_refits_of_805_prompts_take_seconds():
    rng = np.random.default_rng(4)
    columns = judgement_columns(judgements_of(*draw_world("letters", 805, 1, rng)))
    started = time.process_time()
    win_rates(columns, seed=0, num_bootstrap=10_000)  # 0.4 s
    assert time.process_time() - started < 4
