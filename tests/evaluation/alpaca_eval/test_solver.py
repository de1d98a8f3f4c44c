import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairplay.evaluation.alpaca_eval.cross_validation import COSTS, choose_costs
from fairplay.evaluation.alpaca_eval.length_model import fit, lc_win_rates, predicted_win_rate
from fairplay.evaluation.alpaca_eval.rows import GAMED_WEIGHT, GamedRows, ModelRows, length_models, standardised_gaps

outcomes = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@st.composite
def worlds(draw):
    """One to three models with rows of any kind: decided, tied, failed, of equal lengths, alone."""
    models = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 9))
        win_probs = np.array([draw(st.one_of(outcomes, st.just(float("nan")))) for _ in range(size)])
        win_probs[0] = draw(outcomes)
        gaps = np.array([draw(st.one_of(st.just(0.0), st.floats(-1, 1))) for _ in range(size)])
        models.append(ModelRows(win_probs, gaps, np.array([draw(st.floats(-3, 6)) for _ in range(size)])))
    return models


def gamed_rows(seed=0, size=40):
    rng = np.random.default_rng(seed)
    return GamedRows(rng.random(size), rng.uniform(-1, 1, size), rng.normal(size=size))


def objective(model, gamed, cost, w):
    judged = np.isfinite(model.win_probs)
    blocks = [(1.0, model.win_probs[judged], model.gaps[judged], model.difficulties[judged], 1.0)]
    if gamed is not None:
        blocks.append((GAMED_WEIGHT, gamed.win_probs, gamed.gaps, gamed.difficulties, 0.0))
    total = np.abs(w).sum() / cost
    for weight, y, t, d, one in blocks:
        z = w[0] * t + w[1] * d + w[2] * one
        total += weight * (np.logaddexp(0, z) - y * z).sum()
    return total


# Only gamed rows have a length gap here.
@example([ModelRows(np.array([0.0]), np.array([0.0]), np.array([-1.0]))], 100.0, True)
@given(worlds(), st.sampled_from([1e-4, 0.05, 0.36, 2.8, 100.0, 1e4]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_step_in_any_direction_lowers_the_objective(models, cost, with_gamed):
    gamed = gamed_rows() if with_gamed else None
    found = fit(length_models(models, gamed), cost=cost)
    assert np.isfinite(found).all()
    directions = np.concatenate([np.eye(3), -np.eye(3), np.random.default_rng(0).normal(size=(20, 3))])
    for model, w in zip(models, found, strict=True):
        here = objective(model, gamed, cost, w)
        for size in (1e-1, 1e-3):
            lowest = min(objective(model, gamed, cost, w + size * direction) for direction in directions)
            assert lowest >= here - 1e-9 * (1 + abs(here))


def test_the_optimum_equals_a_general_minimiser_s():
    rng = np.random.default_rng(3)
    model = ModelRows(rng.random(60) ** 3, rng.uniform(-1, 1, 60), rng.normal(size=60))
    gamed = gamed_rows(1)
    found = fit(length_models([model], gamed), cost=5.0)[0]
    # |w| as the sum of two non-negative parts makes the problem smooth.
    smooth = minimize(
        lambda v: objective(model, gamed, 5.0, v[:3] - v[3:]) + (v.sum() - np.abs(v[:3] - v[3:]).sum()) / 5.0,
        np.full(6, 0.5),
        bounds=[(0, None)] * 6,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    )
    assert found == pytest.approx(smooth.x[:3] - smooth.x[3:], abs=1e-5)


def test_a_small_cost_removes_every_coefficient_exactly():
    rng = np.random.default_rng(0)
    model = ModelRows(rng.random(30), rng.uniform(-1, 1, 30), rng.normal(size=30))
    assert fit(length_models([model], None), cost=1e-4)[0].tolist() == [0, 0, 0]
    assert lc_win_rates(length_models([model], None), np.zeros((1, 3))).tolist() == [0.5]


def test_swapping_the_two_sides_mirrors_the_lc_win_rate():
    rng = np.random.default_rng(5)
    y, t, d = rng.random(50), rng.uniform(-1, 1, 50), rng.normal(size=50)
    both = length_models([ModelRows(y, t, d), ModelRows(1 - y, -t, d)], None)
    one, other = lc_win_rates(both, fit(both, cost=10.0))
    assert one + other == pytest.approx(1, abs=1e-9)


def test_padding_and_other_models_change_nothing():
    rng = np.random.default_rng(6)
    models = [ModelRows(rng.random(n), rng.uniform(-1, 1, n), rng.normal(size=n)) for n in (40, 7, 23)]
    together = fit(length_models(models, gamed_rows()), cost=3.0)
    for model, coefficients in zip(models, together, strict=True):
        assert fit(length_models([model], gamed_rows()), cost=3.0)[0] == pytest.approx(coefficients, abs=1e-8)


def test_failed_verdicts_are_left_out_of_the_fit_and_kept_in_the_prediction():
    y, t = np.array([0.9, 0.2, np.nan, 0.6]), np.array([0.5, -0.5, 0.9, 0.0])
    d = np.array([0.0, 1.0, 5.0, -1.0])
    judged = np.isfinite(y)
    whole = length_models([ModelRows(y, t, d)], None)
    without = length_models([ModelRows(y[judged], t[judged], d[judged])], None)
    coefficients = fit(whole, cost=50.0)
    assert coefficients == pytest.approx(fit(without, cost=50.0), abs=1e-9)
    told = [predicted_win_rate(coefficients[0], np.zeros(3), d)]
    assert lc_win_rates(whole, coefficients) == pytest.approx(told)


@given(worlds(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_cross_validation_always_chooses_a_cost_of_the_grid(models, with_gamed):
    chosen = choose_costs(length_models(models, gamed_rows() if with_gamed else None))
    assert np.isin(chosen, COSTS).all()


def test_cross_validation_finds_that_noise_needs_a_strong_penalty():
    rng = np.random.default_rng(1)
    noise = ModelRows(rng.integers(0, 2, 60).astype(float), rng.uniform(-1, 1, 60), rng.normal(size=60))
    z = 3 * noise.gaps + noise.difficulties + 1
    signal = ModelRows((z > 0).astype(float), noise.gaps, noise.difficulties)
    weak, strong = choose_costs(length_models([noise, signal], None))
    assert weak < strong


def test_equal_gaps_have_no_length_feature():
    assert standardised_gaps(np.array([5.0, 9.0]), np.array([3.0, 7.0])).tolist() == [0, 0]
    assert standardised_gaps(np.array([5.0]), np.array([3.0])).tolist() == [0]


def test_rows_beyond_single_precision_are_fitted_in_double():
    """Log-odds of 30 have no curvature in float32; the gamed rows hold nothing back here."""
    t = np.linspace(-1, 1, 40)
    model = ModelRows((t > 0.013).astype(float), t, np.zeros(40))
    found = fit(length_models([model], None), cost=1e9)
    assert np.abs(found[0] @ np.stack([t, np.zeros(40), np.ones(40)])).max() > 30
    here = objective(model, None, 1e9, found[0])
    for step in np.concatenate([np.eye(3), -np.eye(3)]):
        assert objective(model, None, 1e9, found[0] + 0.1 * step) >= here - 1e-12
