import time
from math import nan

import numpy as np
import pytest
from scipy import stats

from fairplay.errors import DataError
from fairplay.evaluation.win_rates import compare_judgements, evaluate_judgements
from fairplay.records import Dropped, Judgement

from .worlds import draw_world, judgements_of

NAMES = {"policy": "iteration-1", "opponent": "start", "judge": "rule:exact"}


def evaluated(judgements, **options):
    return evaluate_judgements(judgements, **({"dropped": (), "seed": 0, "num_bootstrap": 400} | NAMES | options))


def world(kind="probabilities", num_prompts=80, num_samples=1, seed=0, **options):
    return judgements_of(*draw_world(kind, num_prompts, num_samples, np.random.default_rng(seed)), **options)


def test_a_prompt_counts_once_however_many_samples_it_has():
    judgements = [Judgement("a", s, 1.0, 1.0, 5, 5) for s in range(9)] + [Judgement("b", 0, 0.0, 0.0, 7, 9)]
    found = evaluated(judgements)
    assert found.win_rate.value == 0.5
    assert (found.num_prompts, found.num_judgements, found.wins, found.ties, found.losses) == (2, 10, 1, 0, 1)
    assert (found.mean_length, found.opponent_mean_length) == (6, 7)


def test_ties_count_half_and_are_shown():
    scores = [(1.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.2, 0.4)]
    found = evaluated([Judgement(f"p{i}", 0, *pair, 10, 10) for i, pair in enumerate(scores)])
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)
    assert found.win_rate.value == pytest.approx((1 + 0.5 + 0.5 + 0.3) / 4)


def test_rounding_makes_no_wins_out_of_ties():
    found = evaluated([Judgement("a", s, p, 1 - p, 1, 1) for s, p in enumerate([0.1, 0.7, 0.3])])
    assert (found.wins, found.ties, found.losses) == (0, 1, 0)


def test_position_bias_and_consistency_are_those_of_the_judge():
    found = evaluated([Judgement(f"p{i}", 0, 0.9, p, 1, 1) for i, p in enumerate([0.3, 0.6, 0.1, 0.8])])
    assert found.position_consistency == 0.5
    assert found.first_position_bias == pytest.approx(np.mean([0.6, 0.3, 0.8, 0.1]) / 2)


def test_both_orders_cancel_a_constant_position_bias():
    flat = np.full((50, 1), 10)
    scores = np.random.default_rng(0).uniform(0.3, 0.7, size=(50, 1))
    one, other = evaluated(judgements_of(scores, flat, flat)), evaluated(judgements_of(scores, flat, flat, bias=0.2))
    assert other.win_rate.value == pytest.approx(one.win_rate.value)
    assert other.first_position_bias == pytest.approx(0.2)
    assert any("favours the response shown first by 20.0 points" in note for note in other.notes)


def test_swapping_the_sides_gives_one_minus_everything():
    judgements = world(num_samples=2)
    back = [
        Judgement(
            j.prompt_id, j.sample, 1 - j.win_prob_second, 1 - j.win_prob_first, j.opponent_length, j.policy_length
        )
        for j in judgements
    ]
    one, other = evaluated(judgements, num_bootstrap=4000), evaluated(back, num_bootstrap=4000)
    for there, here in [(one.win_rate, other.win_rate), (one.lc_win_rate, other.lc_win_rate)]:
        assert there.value == pytest.approx(1 - here.value, abs=1e-8)
        assert there.low == pytest.approx(1 - here.high, abs=0.01)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.overlap == other.overlap


def test_the_result_depends_on_neither_the_order_of_the_judgements_nor_chance():
    judgements = world(num_samples=2)
    assert evaluated(judgements) == evaluated(judgements[::-1]) == evaluated(judgements)


def test_no_interval_of_an_all_win_or_all_tie_evaluation_is_a_point():
    flat = np.full((40, 1), 10)
    for constant in (0.0, 0.5, 1.0):
        found = evaluated(judgements_of(np.full((40, 1), constant), flat + np.arange(40)[:, None], flat))
        for interval in (found.win_rate, found.lc_win_rate):
            assert interval.value == constant
            assert 0 <= interval.low <= constant <= interval.high <= 1
            assert interval.high - interval.low > 0.01
        assert found.win_rate.high - found.win_rate.low < 0.2


def test_one_prompt_is_defined_and_said_to_be_few():
    found = evaluated([Judgement("a", 0, 0.9, 0.7, 30, 10)])
    assert (found.win_rate.value, found.lc_win_rate.value) == (pytest.approx(0.8), pytest.approx(0.8))
    assert found.win_rate.low < 0.4
    assert "Only 1 prompt: the intervals are rough." in found.notes


def test_an_evaluation_without_near_lengths_says_that_it_extrapolates():
    rng = np.random.default_rng(0)
    found = evaluated(judgements_of(rng.random((50, 1)), rng.integers(100, 200, (50, 1)), np.full((50, 1), 20)))
    assert found.overlap == 0
    assert any("only 0.0 % of the prompts" in note and "extrapolates" in note for note in found.notes)
    assert not any("extrapolates" in note for note in evaluated(world()).notes)


def test_what_length_bought_is_said():
    rng = np.random.default_rng(0)
    policy, opponent = rng.integers(20, 200, (200, 1)), rng.integers(20, 100, (200, 1))
    found = evaluated(judgements_of(1 / (1 + np.exp(-3 * np.tanh((policy - opponent) / 60))), policy, opponent))
    assert found.lc_win_rate.high < found.win_rate.low
    assert any("prefers longer responses" in note for note in found.notes)


def test_missing_judgements_are_counted_by_reason_and_forbid_a_headline_above_five_per_cent():
    judgements = world(num_prompts=96)
    lost = [Dropped("x", "judge failed")] * 3 + [Dropped("y", "no response by the policy")]
    found = evaluated(judgements, dropped=lost)
    assert found.dropped == {"judge failed": 3, "no response by the policy": 1}
    assert "4 of 100 judgements are missing (4.0 %)." in found.notes
    assert any("too many for a headline" in note for note in evaluated(judgements, dropped=lost * 2).notes)


def test_notes_of_the_judging_come_first():
    assert evaluated(world(), notes=("Lengths are in tokens.",)).notes[0] == "Lengths are in tokens."


def test_an_undecided_evaluation_prints_what_it_could_have_found():
    flat = np.full((100, 1), 10)
    found = evaluated(judgements_of(np.tile([[0.0], [1.0]], (50, 1)), flat, flat))
    assert any("not distinguishable" in note and "14.1 points" in note for note in found.notes)


@pytest.mark.parametrize("win_prob", [nan, float("inf"), -0.1, 1.1])
def test_a_win_probability_that_is_none_is_refused(win_prob):
    with pytest.raises(DataError, match="not a number in"):
        evaluated([Judgement("a", 0, win_prob, 0.5, 1, 1)])


def test_no_judgements_and_doubled_judgements_are_refused():
    with pytest.raises(DataError, match="no judgements"):
        evaluated([])
    with pytest.raises(DataError, match="judged twice"):
        evaluated([Judgement("a", 0, 0.5, 0.5, 1, 1)] * 2)


def test_two_policies_are_compared_on_their_common_prompts():
    flat = np.full((60, 1), 10)
    scores = np.random.default_rng(0).uniform(0.2, 0.6, size=(60, 1))
    before, after = judgements_of(scores, flat, flat), judgements_of(scores + 0.1, flat, flat)
    found = compare_judgements(before, after[:50], seed=0, num_bootstrap=400)
    assert found.num_prompts == 50
    assert found.difference.value == pytest.approx(0.1)
    assert found.p_value < 0.001
    with pytest.raises(DataError, match="no prompt in common"):
        compare_judgements(before[:5], after[5:10], seed=0)


def test_the_whole_evaluation_of_300_prompts_takes_well_under_two_seconds():
    judgements = world(num_prompts=300, num_samples=3)
    started = time.process_time()
    evaluated(judgements, num_bootstrap=2000)
    assert time.process_time() - started < 2


def test_the_p_value_is_that_of_flipping_wins_and_losses():
    flat = np.full((95, 1), 10)
    wins = np.repeat([[1.0], [0.0]], [60, 35], axis=0)
    found = evaluated(judgements_of(wins, flat, flat)).statistics
    assert found.p_value == pytest.approx(stats.binomtest(35, 95).pvalue)
    assert found.minimum_detectable_gap == pytest.approx(2.802 * wins.std(ddof=1) / np.sqrt(95), rel=3e-3)


def test_effects_of_length_are_given_where_thirty_prompts_are_won_and_thirty_lost():
    flat = np.full((90, 1), 10)
    for lost, given in ((29, False), (30, True)):
        outcomes = np.repeat([[0.1], [0.8]], [lost, 90 - lost], axis=0)
        found = evaluated(judgements_of(outcomes, flat + np.arange(90)[:, None], flat)).statistics
        assert (found.length_effect is not None, found.length_slope is not None) == (given, given)


def test_hardly_any_like_lengths_flag_the_length_controlled_win_rate():
    rng = np.random.default_rng(0)
    apart = judgements_of(rng.random((50, 1)), rng.integers(100, 200, (50, 1)), np.full((50, 1), 20))
    assert evaluated(apart).statistics.lc_extrapolates
    assert not evaluated(world()).statistics.lc_extrapolates


def test_more_samples_are_advised_where_sampling_makes_most_of_the_variance():
    rng = np.random.default_rng(0)
    flat = np.full((60, 2), 10)
    noisy = evaluated(judgements_of((rng.random((60, 2)) < 0.5).astype(float), flat, flat))
    steady = evaluated(judgements_of(rng.random((60, 1)) + np.zeros((1, 2)), flat, flat))
    assert any("variance comes from sampling" in note for note in noisy.notes)
    assert not any("variance comes from sampling" in note for note in steady.notes)
    assert steady.statistics.variance_within_prompts == 0
    assert evaluated(world()).statistics.variance_within_prompts is None
