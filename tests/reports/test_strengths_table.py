"""The checkpoints on one scale, on the page; and what else the statistics say there."""

from dataclasses import replace

import pytest

from fairplay.records import CheckpointStrengths, ComparisonStatistics, Interval
from fairplay.reports.decision import decide
from fairplay.reports.page import render_page
from fairplay.reports.strengths_table import strength_rows, strength_sentences
from fairplay.reports.tables import comparison_rows, trust_rows
from reports.page_parts import Page, around, contents, evaluation, iteration

HALF, NONE = Interval(0.5, 0.5, 0.5), Interval(0.0, 0.0, 0.0)
FOUND = CheckpointStrengths(
    names=("start", "iteration 1", "iteration 2"),
    num_prompts=200,
    num_judgements=600,
    strengths=(NONE, Interval(0.4, 0.2, 0.6), Interval(-0.3, -0.5, -0.1)),
    covariance=((0.0, 0.0, 0.0), (0.0, 0.01, 0.005), (0.0, 0.005, 0.01)),
    lc_win_rates=((HALF,) * 3, (around(0.6), HALF, around(0.67)), (around(0.43), around(0.33), HALF)),
    length_slope=Interval(0.9, 0.6, 1.2),
    length_scale=48.2,
    misfit=0.023,
)
STATISTICS = ComparisonStatistics(
    p_value=0.0123,
    minimum_detectable_gap=0.07,
    first_position_bias=Interval(0.01, -0.02, 0.04),
    length_effect=around(0.02),
    length_slope=around(0.3),
    length_scale=40.0,
    lc_extrapolates=False,
    variance_between_prompts=0.03,
    variance_within_prompts=0.02,
)


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_strength_stands_beside_its_win_rates():
    rows = strength_rows(FOUND)
    assert [row.strength[0] for row in rows] == ["0", "0.40", "−0.30"]
    assert plain(" ".join(rows[2].against_start)) == "43.0 % [38.0, 48.0]"
    assert plain(" ".join(rows[2].against_previous)) == "33.0 % [28.0, 38.0]"
    words = Page(render_page(contents(strengths=(FOUND,)))).words
    assert "All checkpoints on one scale" in words
    assert "−0.30 [−0.50, −0.10]" in words


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (Interval(0.9, 0.6, 1.2), "a positive effect"),
        (Interval(-0.9, -1.2, -0.6), "a negative effect"),
        (Interval(0.1, -0.2, 0.4), "no measurable effect"),
    ],
)
def test_what_length_is_worth_follows_from_the_slope_s_interval(slope, said):
    assert said in " ".join(strength_sentences(replace(FOUND, length_slope=slope), "tokens"))


def test_corrected_p_values_are_plain_and_uncorrected_ones_in_brackets():
    declared = replace(evaluation(statistics=STATISTICS), holm_p_value=0.0004)
    rows = comparison_rows(contents(iterations=(iteration(evaluations=(declared, evaluation("oracle"))),)))
    assert plain(rows[0].p_value[0]) == "< 0.001"
    alone = comparison_rows(contents(iterations=(iteration(evaluations=(evaluation(statistics=STATISTICS),)),)))
    assert alone[0].p_value == ("", "(0.012)")


def test_the_share_of_sampling_is_of_the_win_rate_s_variance():
    judged = evaluation(statistics=STATISTICS, num_prompts=200, num_judgements=400)
    (row,) = trust_rows(contents(iterations=(iteration(evaluations=(judged,)),)))
    assert plain(row.sampling) == "25.0 %"
    assert row.first_bias[1].startswith("[−2.0")


def test_no_headline_rests_on_lengths_that_were_hardly_seen():
    lost_at_equal_length = {"win_rate": around(0.64), "lc_win_rate": around(0.45, 0.02)}
    seen, unseen = (
        decide(
            contents(
                iterations=(
                    iteration(
                        evaluations=(
                            evaluation(
                                **lost_at_equal_length, statistics=replace(STATISTICS, lc_extrapolates=extrapolates)
                            ),
                        )
                    ),
                )
            )
        )
        for extrapolates in (False, True)
    )
    assert "but not at equal length" in seen.headline
    assert "equal length" not in unseen.headline
    assert any("extrapolated from other lengths" in sentence for sentence in unseen.sentences)
