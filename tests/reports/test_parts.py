import math
from dataclasses import replace

import pytest

from fairplay.reports.curves import MAX_POINTS, training_curve
from fairplay.reports.samples import MAX_SAMPLES, choose_samples
from fairplay.reports.tables import length_rows
from fairplay.reports.wording import duration, number, percent, points
from fairplay.wording import reasons
from reports.page_parts import contents, iteration, metrics, sample


def test_samples_are_ordered_by_seed_and_not_by_how_they_come():
    made = contents(samples=tuple(sample(number) for number in range(50)))
    chosen = choose_samples(made)
    assert choose_samples(replace(made, samples=made.samples[::-1])) == chosen
    assert choose_samples(replace(made, seed=4)) != chosen
    assert set(chosen) == set(made.samples)


def test_a_page_has_room_for_so_many_samples():
    made = contents(samples=tuple(sample(number) for number in range(MAX_SAMPLES + 50)))
    assert len(choose_samples(made)) == MAX_SAMPLES


def test_steps_run_on_across_iterations_and_lines_break_between_them():
    curve = training_curve((iteration(1, metrics=metrics(4)), iteration(2, metrics=metrics(3))), "loss")
    assert list(curve.steps) == [1, 2, 3, 4, 4, 5, 6, 7]
    assert [math.isnan(value) for value in curve.values] == [False] * 4 + [True] + [False] * 3
    assert curve.starts == ((1, 0.0), (2, 4.0))


def test_long_curves_are_thinned_by_means():
    rows = metrics(5000)
    curve = training_curve((iteration(metrics=rows),), "loss")
    assert len(curve.steps) <= MAX_POINTS
    assert min(curve.steps) > 1
    assert curve.values[0] == pytest.approx(sum(row["loss"] for row in rows[:21]) / 21)


def test_values_that_are_not_finite_are_left_out_of_a_curve():
    rows = ({"step": 1.0, "loss": math.nan}, {"step": 2.0, "loss": 0.5}, {"step": 3.0})
    curve = training_curve((iteration(metrics=rows),), "loss")
    assert (curve.steps, curve.values) == ((2.0,), (0.5,))


def test_lengths_are_compared_with_the_start_policy():
    start, first, _ = length_rows(contents())
    assert (start.policy, start.change) == ("start policy", "–")
    assert first.change == "+24.1\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-0.04), "0.0"),
        (number(-1234.56), "−1,234.6"),
        (number(math.inf), "–"),
        (percent(0.6825), "68.2\N{NO-BREAK SPACE}%"),
        (points(0.0312), "+3.1"),
        (points(-0.0002), "0.0"),
        (duration(0.04), "0.0 s"),
        (duration(9.97), "10 s"),
        (duration(59.7), "1 min 00 s"),
        (duration(7640), "2 h 07 min"),
        (reasons({"b": 1, "a": 1, "c": 1200, "d": 0}), "1,200 x c, 1 x a, 1 x b"),
    ],
)
def test_numbers_read_as_written(shown, expected):
    assert shown == expected
