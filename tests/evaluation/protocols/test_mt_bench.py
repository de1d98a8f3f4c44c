"""Grading of single answers: what counts as a grade, two turns, references, and an honest account."""

import pytest

from fairplay.errors import DataError
from fairplay.evaluation.protocols.mt_bench import (
    FIELDS,
    TEMPLATES,
    Grade,
    Question,
    grading_document,
    grading_requests,
    parse_answer,
    parse_question,
    read_rating,
)
from fairplay.oracles.judge_template import load_template
from fairplay.oracles.judge_verdicts import AMBIGUOUS, NO_LABEL

ASKED = [load_template(name, needs=needs, forms=("rating",)) for name, needs in zip(TEMPLATES, FIELDS, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good. Rating: [[7]]", (7.0, "")),
        ("[[8.5]]", (8.5, "")),
        ("Grade: [6]", (6.0, "")),
        ("[[10]] and once more [[10]]", (10.0, "")),
        ("[[3]] or [[4]]", (None, AMBIGUOUS)),
        ("[[11]]", (None, NO_LABEL)),
        ("[[0]]", (None, NO_LABEL)),
        ("7 of 10", (None, NO_LABEL)),
        ("", (None, NO_LABEL)),
    ],
)
def test_a_grade_is_one_number_in_brackets(text, expected):
    assert read_rating(text) == expected


def test_each_turn_is_asked_about_with_what_belongs_to_it():
    question = Question("1", "math", ("What is 1+1?", "And 2+2?"), ("two", "four"))
    first, second = grading_requests(question, ("It is 2.", "It is 5."), ASKED, seed=0)
    one, two = first.messages[-1].content, second.messages[-1].content
    assert all(text in one for text in ("What is 1+1?", "It is 2.", "two"))
    assert not any(text in one for text in ("2+2", "It is 5.", "four"))
    assert all(text in two for text in ("What is 1+1?", "It is 2.", "And 2+2?", "It is 5.", "four"))
    assert first.must_end
    assert second.must_end
    plain = Question("1", "roleplay", ("Be a cat.",))
    assert "reference" not in grading_requests(plain, ("Meow.",), ASKED, seed=0)[0].messages[-1].content


def test_the_mean_is_over_questions_and_missing_grades_are_bounded():
    questions = [Question(str(i), "math" if i % 2 else "writing", ("a", "b")) for i in range(40)]
    grades = [Grade(item, turn, 6.0 + 2 * turn, "", "") for item in questions for turn in (0, 1)]
    told = grading_document(
        [*grades[:-1], Grade(questions[-1], 1, None, "timed out", "")], unanswered=1, seed=0, num_bootstrap=200
    )
    assert told["grades"] == {"requested": 81, "ok": 79, "failures": {"timed out": 1}, "unanswered": 1}
    assert told["headline"]["n"] == 40
    assert told["turns"]["1"]["rating"]["value"] == 6
    assert told["turns"]["2"]["rating"]["value"] == 8
    assert set(told["categories"]) == {"math", "writing"}
    known = 6 * 40 + 8 * 39
    assert told["worst_case"] == {"low": (known + 2) / 81, "high": (known + 20) / 81}
    assert told["missing_warning"]
    withheld = grading_document(grades, unanswered=10, seed=0, num_bootstrap=200)
    assert withheld["headline"] is None
    assert "11.1 %" in withheld["headline_withheld"]


def test_what_is_no_question_or_answer_is_named_by_its_place():
    with pytest.raises(DataError, match=r"line 3: no question"):
        parse_question({"question_id": 1, "turns": []}, "line 3")
    with pytest.raises(DataError, match=r"line 4: no answer"):
        parse_answer({"question_id": 1, "choices": [{"turns": "text"}]}, "line 4")
    with pytest.raises(DataError, match="1 answers to 2 turns"):
        grading_requests(Question("1", "", ("a", "b")), ("x",), ASKED, seed=0)
    with pytest.raises(DataError, match="no answer was graded"):
        grading_document([], unanswered=3, seed=0, num_bootstrap=200)
