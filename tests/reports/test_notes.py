"""What many comparisons say is said once, and nothing of it is lost."""

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


def test_one_or_two_comparisons_are_named():
    one, two = grouped_notes([(ONE, "Short."), (ONE, "Long."), (TWO, "Long.")], num_comparisons=3)
    assert (one.where, one.each) == ("Iteration 1, by the judge", ())
    assert two.where == "Iteration 1, by the judge; iteration 1, by the oracle"
