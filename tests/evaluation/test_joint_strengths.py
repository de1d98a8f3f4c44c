"""One scale for all checkpoints: what must hold of it whatever the games, and that its errors are what it says."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairplay.errors import DataError
from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.joint_strengths import joint_strengths
from fairplay.evaluation.length_control import fit_length_model, length_design
from fairplay.records import Judgement

from .worlds import columns_of, draw_games

NAMES = ("start", "iteration 1", "iteration 2")


@st.composite
def games(draw, num_checkpoints=3):
    found = {}
    for pair in combinations(range(num_checkpoints), 2):
        found[pair] = [
            Judgement(
                f"p{prompt}",
                sample,
                draw(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))),
                draw(st.floats(0, 1)),
                draw(st.integers(0, 500)),
                draw(st.integers(0, 500)),
            )
            for prompt in range(draw(st.integers(2, 5)))
            for sample in range(draw(st.integers(1, 2)))
        ]
    return found


def fitted(pairs, names=None):
    names = NAMES[: 1 + max(j for _, j in pairs)] if names is None else names
    columns = {pair: judgement_columns(judgements) for pair, judgements in pairs.items()}
    return joint_strengths(names, columns)


def values(found):
    return np.array([one.value for one in found.strengths])


def swapped(judgement):
    return replace(
        judgement,
        win_prob_first=1 - judgement.win_prob_second,
        win_prob_second=1 - judgement.win_prob_first,
        policy_length=judgement.opponent_length,
        opponent_length=judgement.policy_length,
    )


@settings(deadline=None, max_examples=25)
@given(games(2))
def test_of_two_checkpoints_it_is_the_length_controlled_win_rate(pairs):
    columns = judgement_columns(pairs[0, 1])
    fit = fit_length_model(length_design(columns), np.ones((1, columns.num_prompts)))
    found = fitted(pairs).lc_win_rates[1][0].value
    assert found == pytest.approx(fit.lc_win_rates[0], abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(games())
def test_a_scale_from_the_last_to_the_first_is_the_same_scale_upside_down(pairs):
    back = {(2 - j, 2 - i): [swapped(judgement) for judgement in judged] for (i, j), judged in pairs.items()}
    one, other = values(fitted(pairs)), values(fitted(back))
    assert one - one[2] == pytest.approx(other[::-1], abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(games(), st.integers(2, 40))
def test_the_unit_of_the_lengths_does_not_matter(pairs, factor):
    longer = {
        pair: [
            replace(one, policy_length=factor * one.policy_length, opponent_length=factor * one.opponent_length)
            for one in judged
        ]
        for pair, judged in pairs.items()
    }
    assert values(fitted(longer)) == pytest.approx(values(fitted(pairs)), abs=1e-6)


@settings(deadline=None, max_examples=10)
@given(games())
def test_win_rates_mirror_and_every_interval_holds_its_value(pairs):
    found = fitted(pairs)
    for i in range(3):
        for j in range(3):
            one, other = found.lc_win_rates[i][j], found.lc_win_rates[j][i]
            assert one.low <= one.value <= one.high
            assert one.value + other.value == pytest.approx(1)
    assert np.allclose(found.covariance, np.transpose(found.covariance))
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-9


def test_ties_between_all_at_any_lengths_put_all_at_one_strength():
    pairs = {pair: [Judgement(f"p{n}", 0, 0.5, 0.5, 10 * n, 7) for n in range(5)] for pair in combinations(range(3), 2)}
    found = fitted(pairs)
    assert values(found).tolist() == [0, 0, 0]
    assert found.misfit == 0


def test_winning_all_games_has_a_defined_answer_far_up_the_scale():
    pairs = {pair: [Judgement(f"p{n}", 0, 1, 1, 9, 9) for n in range(40)] for pair in combinations(range(3), 2)}
    found = fitted(pairs)
    assert found.lc_win_rates[2][0].value > 0.9999
    assert 0.5 < found.lc_win_rates[2][0].low < 0.999
    assert np.isfinite(found.covariance).all()


def test_length_that_buys_every_win_buys_no_strength():
    rng = np.random.default_rng(0)
    games = draw_games(rng, num_prompts=400, strengths=(0.0, 0.0, 0.0), slope=2.0, growth=0.4, judge="graded")
    found = joint_strengths(NAMES, games)
    assert games[0, 2].prompt_scores().mean() > 0.65
    assert values(found) == pytest.approx(np.zeros(3), abs=0.1)
    assert found.length_slope.low > 1


def test_pairs_that_never_met_are_compared_through_others():
    rng = np.random.default_rng(1)
    games = draw_games(rng, num_prompts=2000, strengths=(0.0, 0.5, 1.0), slope=1.0)
    del games[0, 2]
    found = joint_strengths(NAMES, games)
    assert values(found) == pytest.approx([0, 0.5, 1.0], abs=0.15)


def test_checkpoints_that_nobody_compared_are_named():
    rng = np.random.default_rng(1)
    games = draw_games(rng, num_prompts=5, strengths=(0.0, 0.0, 0.0), slope=1.0)
    with pytest.raises(DataError, match="iteration 2 was judged against nobody that leads to start"):
        joint_strengths(NAMES, {(0, 1): games[0, 1]})
    with pytest.raises(DataError, match="one checkpoint"):
        joint_strengths(NAMES[:1], {})


def test_circles_show_as_what_one_scale_leaves_unexplained():
    flat = [Judgement(f"p{n}", 0, float(n < 9), float(n < 9), 9, 9) for n in range(10)]
    circle = {(0, 1): flat, (1, 2): flat, (0, 2): [swapped(judgement) for judgement in flat]}
    assert fitted(circle).misfit == pytest.approx(0.4, abs=1e-3)


def test_a_prompt_counts_once_in_a_pair_however_many_samples_it_has():
    judged = [Judgement("a", s, 1.0, 1.0, 5, 5) for s in range(9)] + [Judgement("b", 0, 0.0, 0.0, 5, 5)]
    assert fitted({(0, 1): judged}).lc_win_rates[1][0].value == pytest.approx(0.5, abs=1e-9)


WORLD = {"num_prompts": 150, "strengths": (0.0, 0.5, 0.9), "slope": 1.0, "num_samples": 2}


def test_the_covariance_agrees_with_resamples_of_the_prompts():
    games = draw_games(np.random.default_rng(2), **WORLD)
    rng, found = np.random.default_rng(3), []
    for _ in range(200):
        drawn = rng.integers(150, size=150)
        resampled = {pair: resample(columns, drawn) for pair, columns in games.items()}
        found.append(values(joint_strengths(NAMES, resampled))[1:])
    told = np.array(joint_strengths(NAMES, games).covariance)[1:, 1:]
    assert np.sqrt(np.diag(told)) == pytest.approx(np.std(found, axis=0), rel=0.2)  # standard error 5 %
    assert told[0, 1] == pytest.approx(np.cov(np.transpose(found))[0, 1], rel=0.3)


def resample(columns, drawn):
    shape = (columns.num_prompts, -1)
    parts = [columns.win_probs, columns.policy_lengths, columns.opponent_lengths]
    return columns_of(*(part.reshape(shape)[drawn] for part in parts), range(len(drawn)))


@pytest.mark.slow
def test_the_covariance_is_that_of_the_strengths_over_new_prompts():
    rng = np.random.default_rng(2)
    found = [joint_strengths(NAMES, draw_games(rng, **WORLD)) for _ in range(200)]
    told = np.mean([one.covariance for one in found], axis=0)[1:, 1:]
    seen = np.cov(np.array([values(one)[1:] for one in found]).T)
    assert np.sqrt(np.diag(told)) == pytest.approx(np.sqrt(np.diag(seen)), rel=0.15)  # standard error 5 %
