"""The verifier: right beats wrong, a response without an answer is wrong, a prompt without a reference is an error."""

import json

import pytest

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.kinds.verifier import CHECKS, VerifierSettings
from fairplay.oracles.table import build_oracle
from fairplay.oracles.verifier import CHECKS as FUNCTIONS
from fairplay.oracles.verifier import last_number
from oracles.tiny import group_of

QUESTION = "what is 6 times 7?"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def answers(tmp_path):
    return write(tmp_path / "answers.jsonl", {"prompt": QUESTION, "answer": "6 * 7 = 42\n#### 42"})


def points(settings, *texts, question=QUESTION):
    """What each text gets; an empty text, which is wrong in all of these tests, is the zero."""
    oracle = build_oracle(settings)
    (judged,) = oracle.pair_logits([group_of(*texts, "", question=question, prompt_id="p7")])
    return [row[-1] * settings.temperature for row in judged.pair_logits[:-1]]


def test_the_same_number_is_right_however_it_is_written(answers):
    settings = VerifierSettings(check="numeric", answers=answers)
    texts = ("It is 42.", "42.0", "first 41, then 42", "$42", "1\n#### 42", "4.2e1")
    assert points(settings, *texts) == pytest.approx([1, 1, 1, 1, 1, 1])


def test_another_number_or_none_is_wrong(answers):
    settings = VerifierSettings(check="numeric", answers=answers)
    assert points(settings, "42", "-42", "42 or 43", "42 #### no", "none") == pytest.approx([1, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,234.5 apples", 1234.5), ("a.5", 0.5), ("x#### -3", -3.0), ("10 #### none", None), ("v1.2.3", 0.3), ("", None)],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_right_beats_wrong_nearly_surely_and_equals_tie(answers):
    (judged,) = build_oracle(VerifierSettings(check="numeric", answers=answers)).pair_logits(
        [group_of("42", "41", "it is 42", question=QUESTION)]
    )
    assert judged.pair_logits[0] == (0.0, 10.0, 0.0)


def test_exact_answers_are_compared_word_by_word(tmp_path):
    answers = write(tmp_path / "a.jsonl", {"question": "who?", "label": "The  Cat"})
    columns = {"prompt_column": "question", "answer_column": "label", "answers": answers}
    assert points(VerifierSettings(**columns), "The Cat\n", "the cat", "The Cat.", question="who?") == [1.0, 0.0, 0.0]
    boxed = VerifierSettings(pattern=r"boxed\{(.*?)\}", **columns)
    assert points(boxed, "so boxed{Dog} boxed{The Cat}", "The Cat", question="who?") == [1.0, 0.0]


def test_an_expression_for_all_prompts_or_for_each(tmp_path):
    assert points(VerifierSettings(check="regex", pattern=r"^\d+$"), "12", "x12") == [1.0, 0.0]
    answers = write(tmp_path / "a.jsonl", {"prompt": QUESTION, "answer": "4[12]$"})
    assert points(VerifierSettings(check="regex", answers=answers), "it is 41", "43") == [1.0, 0.0]


def test_a_number_is_a_reference_too(tmp_path):
    answers = write(tmp_path / "a.jsonl", {"prompt": QUESTION, "answer": 42})
    assert points(VerifierSettings(check="numeric", answers=answers), "42", "1") == [1.0, 0.0]


def test_a_prompt_without_a_reference_is_an_error_by_name_and_never_a_loss(answers):
    with pytest.raises(DataError, match=r"prompt p7: no reference answer in .*answers\.jsonl"):
        points(VerifierSettings(check="numeric", answers=answers), "42", "41", question="what is 6 times 8?")


@pytest.mark.parametrize(
    ("row", "check", "message"),
    [
        ({"prompt": QUESTION, "answer": "none"}, "numeric", "line 2: the reference answer 'none' has no number"),
        ({"prompt": QUESTION, "answer": " "}, "exact", "line 2: the reference answer ' ' is empty"),
        ({"prompt": QUESTION, "answer": "("}, "regex", "line 2: .* is no regular expression"),
        ({"prompt": QUESTION, "answer": None}, "exact", "line 2: `answer` must be a text or a number, not None"),
        ({"prompt": QUESTION, "answer": True}, "exact", "must be a text or a number, not True"),
        ({"prompt": "who?", "answer": "7"}, "numeric", "line 2: the prompt has another reference answer before"),
        ({"prompt": 3, "answer": "7"}, "numeric", "line 2: "),
        ({"answer": "7"}, "numeric", "line 2: no `prompt`"),
    ],
)
def test_answers_that_can_not_be_used_are_refused_with_their_line(tmp_path, row, check, message):
    answers = write(tmp_path / "a.jsonl", {"prompt": "who?", "answer": "8"}, row)
    with pytest.raises(DataError, match=message):
        build_oracle(VerifierSettings(check=check, answers=answers))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"check": "numeric"}, "answers: `verifier` needs one"),
        ({"check": "regex"}, "pattern: `regex` needs either"),
        ({"check": "regex", "pattern": "a", "answers": "f"}, "pattern: `regex` needs either"),
        ({"check": "regex", "pattern": "("}, "pattern: no regular expression"),
        ({"check": "exactly", "answers": "f"}, "did you mean `exact`"),
    ],
)
def test_settings_that_can_not_be_met_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        VerifierSettings(**settings)


def test_a_file_that_is_empty_or_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="empty"):
        build_oracle(VerifierSettings(answers=write(tmp_path / "a.jsonl")))
    with pytest.raises(DataError, match="no such file"):
        build_oracle(VerifierSettings(answers=str(tmp_path / "b.jsonl")))


def test_the_table_of_sentences_names_the_checks_that_exist():
    assert list(CHECKS) == list(FUNCTIONS)


def test_the_name_follows_the_answers(answers, tmp_path):
    settings = VerifierSettings(check="numeric", answers=answers)
    name = build_oracle(settings).name
    assert name.startswith("verifier:numeric:answers.jsonl@")
    write(tmp_path / "answers.jsonl", {"prompt": QUESTION, "answer": "43"})
    assert build_oracle(settings).name != name
