import pytest

from fairplay.records import Interval
from fairplay.reports.contents import CanaryGames, Gates
from fairplay.reports.decision import decide, outcome_of
from reports.page_parts import UNDEFINED, around, contents, evaluation, iteration


def decided(*evaluations, number=1, gap=None):
    gaps = {} if gap is None else {"start": gap}
    decision = decide(contents(iterations=(iteration(number, evaluations=evaluations, oracle_gaps=gaps),)))
    return decision, " ".join(decision.sentences).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        (around(0.6), "better"),
        (around(0.4), "worse"),
        (around(0.54), "not distinguishable"),
        (Interval(0.55, 0.5, 0.6), "not distinguishable"),
        (Interval(0.45, 0.4, 0.5), "not distinguishable"),
        (UNDEFINED, "undefined"),
    ],
)
def test_an_interval_decides_only_when_it_is_clear_of_one_half(interval, outcome):
    assert outcome_of(interval) == outcome
    assert decided(evaluation(win_rate=interval, lc_win_rate=interval))[0].outcome == outcome


def test_a_judge_that_is_the_oracle_or_failed_a_canary_is_said_before_any_number():
    failed = CanaryGames("An empty response", "at most 10 %", around(0.3), 50, "It wins.")
    assert (
        decide(contents(judge="one", oracle="one")).sentences[0].startswith("This is the training oracle’s own verdict")
    )
    fooled = decide(contents(gates=Gates(canaries=(failed,)))).sentences
    assert fooled[0].startswith("But this judge can be fooled")
    assert decide(contents()).sentences == fooled[1:]


def test_a_gain_that_vanishes_at_equal_length_is_qualified_in_the_headline():
    assert decided(evaluation(lc_win_rate=around(0.52)))[0].headline == (
        "Iteration 1 is better than the start policy, but not at equal length."
    )


def test_a_gain_at_equal_length_only_is_said_in_the_headline():
    assert decided(evaluation(win_rate=around(0.51), lc_win_rate=around(0.6)))[0].headline == (
        "Iteration 1 is not distinguishable from the start policy, but better at equal length."
    )


def test_an_undecided_comparison_says_what_it_could_not_have_seen():
    _, words = decided(evaluation(win_rate=around(0.52)))
    assert "closer than about 7.1 points to 50 %" in words


def test_progress_over_the_previous_iterate_is_said_after_the_first_iteration():
    previous = evaluation(opponent="previous", win_rate=around(0.42))
    assert (
        "It falls back behind the iterate before it: 42.0 % [37.0, 47.0]."
        in decided(evaluation(), previous, number=2)[1]
    )
    assert "iterate before" not in decided(evaluation())[1]


@pytest.mark.parametrize(
    ("judge", "oracle", "gap", "said"),
    [
        (
            0.64,
            0.80,
            around(0.16),
            "flatters it: 80.0 %, 16.0 points [11.0, 21.0] above the judge, so that much of its gain",
        ),
        (0.51, 0.80, around(0.29), "part ways on the decision itself"),
        (0.64, 0.58, around(-0.06), "harsher than the judge: 58.0 %, 6.0 points [1.0, 11.0] below it"),
        (0.64, 0.66, around(0.02), "agree within the noise: 66.0 % by the oracle, a gap of +2.0 points [−3.0, +7.0]"),
    ],
)
def test_where_oracle_and_judge_part_ways_follows_from_the_gaps_interval(judge, oracle, gap, said):
    assert (
        said in decided(evaluation(win_rate=around(judge)), evaluation("oracle", win_rate=around(oracle)), gap=gap)[1]
    )


def test_the_oracle_never_makes_the_headline():
    decision, _ = decided(evaluation("oracle", win_rate=around(0.9)))
    assert decision.headline == "Iteration 1 was not judged."


def test_many_games_without_a_verdict_leave_nothing_decided():
    few, many = ({"server error": number} for number in (4, 40))
    decision, words = decided(evaluation(dropped=many, worst_case={"low": 0.4, "high": 0.8}))
    assert decision.outcome == "undefined"
    assert decision.headline == "Iteration 1 can’t be compared with the start policy: too many games have no verdict."
    assert "could not be judged (40 x server error)" in words
    assert "the win rate over all games lies between 40.0 % and 80.0 %" in words
    decision, words = decided(evaluation(dropped=few))
    assert decision.outcome == "better"
    assert "could not be judged" not in words


def test_no_progress_is_told_where_too_many_games_have_no_verdict():
    previous = evaluation(opponent="previous", win_rate=around(0.42), dropped={"server error": 40})
    assert "iterate before" not in decided(evaluation(), previous, number=2)[1]
