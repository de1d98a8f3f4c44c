"""Reading a judge's reply: the table of what counts as a verdict, and log-probs that never make certainty up."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairplay.oracles.judge_template import JudgeTemplate, load_template
from fairplay.oracles.judge_verdicts import AMBIGUOUS, LOW_MASS, NO_LABEL, NoVerdict, Verdict, read_verdict
from fairplay.servers.outcomes import Choice, Position

LETTER = JudgeTemplate(user="", labels={"A": 1.0, "B": 0.0})
LINE = load_template("hh")
FIVE = load_template("arena-hard")
JSON = JudgeTemplate(user="", labels={"A": 1.0, "B": 0.0, "tie": 0.5}, answer="json")


def words(text, template):
    got = read_verdict(Choice(text, "stop"), template, log_probs=False, min_mass=0.5)
    return got.reason if isinstance(got, NoVerdict) else got.label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A", "A"),
        (" **B**\n", "B"),
        ('"A".', "A"),
        ("(B)", "B"),
        ("a", NO_LABEL),
        ("A is better", NO_LABEL),
        ("", NO_LABEL),
        ("A or B", NO_LABEL),
    ],
)
def test_a_letter_is_the_whole_reply(text, label):
    assert words(text, LETTER) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Comparison: A beats B.\nMore helpful: A", "A"),
        ('Comparison: B is wrong.\n**More helpful:** "B"', "B"),
        ("More helpful: <A>\n", "A"),
        ("More helpful: Response B.", "B"),
        ("more helpful:\nB", "B"),
        ("More helpful: A\nMore helpful: B", AMBIGUOUS),
        ("More helpful: A\n...\nMore helpful: A", "A"),
        ("Comparison: A is more helpful: A\nThat is all.", NO_LABEL),
        ('More helpful: <"A" or "B">', NO_LABEL),
        ("More helpful: A and B", NO_LABEL),
        ("More helpful: Both", NO_LABEL),
        ("The first.", NO_LABEL),
    ],
)
def test_only_a_line_that_begins_with_the_prefix_has_a_verdict(text, label):
    assert words(text, LINE) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("... so: [[A>>B]]", "A>>B"),
        ("[[B>A]] and again [[B>A]]", "B>A"),
        ("My verdict is [A=B].", "A=B"),
        ("[[A>B]] or rather [[B>A]]", AMBIGUOUS),
        ("[[A>B]], weaker than [A>>B]", "A>B"),
        ("A>>B", NO_LABEL),
        ("[[C>B]]", NO_LABEL),
    ],
)
def test_five_verdicts_stand_in_brackets(text, label):
    assert words(text, FIVE) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"verdict": "A"}', "A"),
        ('Sure: ```json\n{"why": "tie", "verdict": "B"}\n```', "B"),
        ('{"verdict": "C"}', NO_LABEL),
        ('{"verdict": ["A"]}', NO_LABEL),
        ('{"verdict": "A"', NO_LABEL),
        ('{"verdict": "A", "verdict": "B"}', AMBIGUOUS),
        ('{"verdict": "A", "verdict": "C"}', NO_LABEL),
        ('{"first": {"verdict": "B"}, "verdict": "A"}', "A"),
        ('{"why": {"verdict": "B"}}', NO_LABEL),
        ("{}", NO_LABEL),
        ("null", NO_LABEL),
    ],
)
def test_structured_replies_are_read_as_json(text, label):
    assert words(text, JSON) == label


def reply(top, text="A", before=()):
    positions = [Position(token, -0.1, ((token, -0.1),)) for token in before]
    told = tuple((token, log(probability)) for token, probability in top.items())
    return Choice("".join(before) + text, "stop", (*positions, Position(text, told[0][1] if told else -9.0, told)))


def weigh(choice, template=LETTER, min_mass=0.5):
    return read_verdict(choice, template, log_probs=True, min_mass=min_mass)


def test_all_spellings_of_a_label_count():
    got = weigh(reply({"A": 0.3, " A": 0.2, "**A": 0.1, "B": 0.2, "The": 0.1}))
    assert got.win_prob == pytest.approx(0.6 / 0.8)
    assert got.mass == pytest.approx(0.8)
    assert got.by_log_probs


def test_a_label_beyond_the_tokens_told_gets_all_that_it_could_have():
    assert weigh(reply({"A": 0.7, "The": 0.2, "Well": 0.04})).win_prob == pytest.approx(0.7 / 0.74)  # the least told
    assert weigh(reply({"A": 0.9, "The": 0.08})).win_prob == pytest.approx(0.9 / 0.92)  # what is left over
    assert weigh(reply({"A": 1.0})).win_prob == 1.0


def test_little_probability_on_the_labels_leaves_the_word_to_the_words():
    got = weigh(reply({"Hm": 0.8, "A": 0.1}, text="A"))
    assert (got.win_prob, got.by_log_probs) == (1.0, False)
    assert weigh(reply({"Hm": 0.8, "A": 0.1}, text="Hm")) == NoVerdict(LOW_MASS, "Hm")
    assert weigh(reply({"Hm": 0.8, "A": 0.15}, text="Hm"), min_mass=0.1).by_log_probs


def test_a_label_that_is_as_good_as_impossible_is_no_verdict_whatever_is_asked_of_the_mass():
    position = Position(" ", -0.1, ((" yes", -0.1), ("A", -9999.0)))
    nothing = Choice("A, if need be", "stop", (Position("A", -9999.0, position.top),))
    got = read_verdict(nothing, LETTER, log_probs=True, min_mass=0.0)
    assert isinstance(got, NoVerdict)
    assert got.reason == LOW_MASS


def test_json_deeper_than_can_be_read_is_no_verdict():
    assert words('{"verdict": ' + "[" * 100_000 + "]" * 100_000 + "}", JSON) == NO_LABEL


def test_blanks_and_marks_before_the_letter_are_passed_over():
    got = weigh(reply({"A": 0.6, "B": 0.4}, before=("\n", "**")))
    assert got.win_prob == pytest.approx(0.6)


def test_the_verdict_of_a_longer_reply_is_weighed_where_it_stands():
    before = ("Comparison", ": A is good, B is bad.", "\n", "More", " helpful", ":", " ")
    got = weigh(reply({"B": 0.9, "A": 0.1}, text="B", before=before), template=LINE)
    assert got.win_prob == pytest.approx(0.1)
    torn = Choice("More helpful: B", "stop", (Position("other tokens", -0.1, (("B", -0.1),)),))
    assert weigh(torn, template=LINE) == Verdict(0.0, 1.0, "B", False, torn.text)


def test_a_structured_verdict_is_weighed_where_it_stands_and_not_at_a_label_in_its_reasons():
    said = Position("A", -0.1, (("A", log(0.9)), ("B", log(0.1))))
    later = Position("B", -0.1, (("B", log(0.99)), ("A", log(0.01))))

    def token(text):
        return Position(text, -0.1, ((text, -0.1),))

    positions = (token('{"verdict": "'), said, token('", "why": "better than '), later, token('", "than": "A"}'))
    text = "".join(position.token for position in positions)
    got = weigh(Choice(text, "stop", positions), template=JSON)
    assert got.by_log_probs
    assert got.win_prob == pytest.approx(0.9, abs=0.02)


def test_a_reply_with_two_verdicts_or_none_is_told_so_also_where_log_probs_are_read():
    for text, reason in (("More helpful: A\nMore helpful: B", AMBIGUOUS), ("The first.", NO_LABEL)):
        positions = tuple(Position(word, -0.1, ((word, -0.1),)) for word in (text[:4], text[4:]))
        assert weigh(Choice(text, "stop", positions), template=LINE) == NoVerdict(reason, text)
    assert weigh(Choice("Hm", "stop")) == NoVerdict(NO_LABEL, "Hm")


@given(
    st.lists(st.floats(-30, 0), min_size=2, max_size=2),
    st.floats(-30, 0),
)
def test_exchanging_the_labels_exchanges_the_sides(logprobs, other):
    tokens = [("A", logprobs[0]), ("B", logprobs[1]), ("x", other)]
    swapped = [("B", logprobs[0]), ("A", logprobs[1]), ("x", other)]
    one, two = (
        weigh(Choice("A", "stop", (Position("A", 0.0, tuple(top)),)), min_mass=0.0) for top in (tokens, swapped)
    )
    assert one.win_prob + two.win_prob == pytest.approx(1)
    assert one.win_prob == pytest.approx(exp(logprobs[0]) / (exp(logprobs[0]) + exp(logprobs[1])))


def test_a_tie_counts_half():
    assert isinstance(got := read_verdict(Choice("[[A=B]]", "stop"), FIVE, log_probs=False, min_mass=0.5), Verdict)
    assert got.win_prob == 0.5
