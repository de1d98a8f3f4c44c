"""What many comparisons say is said once, and nothing of it is lost."""

import pytest

from fairplay.reports.notes import grouped_notes

ONE, TWO, THREE = "iteration 1, by the judge", "iteration 1, by the oracle", "iteration 2, by the judge"


def test_what_every_comparison_says_is_one_line():
    (note,) = grouped_notes([(one, "Lengths are in tokens.") for one in (ONE, TWO, THREE)], num_comparisons=3)
    assert (note.text, note.where, note.each) == ("Lengths are in tokens.", "All comparisons", ())


def test_sentences_that_differ_in_numbers_are_one_with_ranges_and_keep_each():
    said = [
        (ONE, "27 of 1,900 pairs, 77.5 %."),
        (TWO, "82 of 1,900 pairs, 100.0 %."),
        (THREE, "53 of 1,900 pairs, 9 %."),
    ]
    (note,) = grouped_notes(said, num_comparisons=4)
    assert note.text == "27 to 82 of 1,900 pairs, 9 to 100.0 %."
    assert note.where == "3 of 4 comparisons"
    assert note.each == tuple(said)


@pytest.mark.parametrize(
    ("numbers", "span"),
    [
        (("-1.5", "-4.0"), "-4.0 to -1.5"),
        (("−1.5", "2.0"), "−1.5 to 2.0"),
        (("+1.5", "-2.0"), "-2.0 to +1.5"),
        (("1,000", "-1,001"), "-1,001 to 1,000"),
    ],
)
def test_a_number_keeps_its_sign_and_a_range_goes_from_low_to_high(numbers, span):
    said = [
        (where, f"Of the win rate {number} points go with length.")
        for where, number in zip((ONE, TWO), numbers, strict=True)
    ]
    (note,) = grouped_notes(said, num_comparisons=2)
    assert note.text == f"Of the win rate {span} points go with length."


def test_a_hyphen_in_a_word_or_a_range_is_no_sign():
    said = [(ONE, "PairRM-4 on 10-20 prompts."), (TWO, "PairRM-4 on 10-30 prompts.")]
    (note,) = grouped_notes(said, num_comparisons=2)
    assert note.text == "PairRM-4 on 10-20 to 30 prompts."


def test_one_or_two_comparisons_are_named():
    one, two = grouped_notes([(ONE, "Short."), (ONE, "Long."), (TWO, "Long.")], num_comparisons=3)
    assert (one.where, one.each) == ("Iteration 1, by the judge", ())
    assert two.where == "Iteration 1, by the judge; iteration 1, by the oracle"
