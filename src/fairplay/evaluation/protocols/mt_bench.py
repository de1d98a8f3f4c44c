"""MT-Bench's form: questions of two turns, every answer graded from 1 to 10 on its own.

Left out: files (`pipeline`), asking (`servers`). Floor 5. A grade that can't be read is missing, and counted; there it
is -1, and left out of the mean without a word.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import numpy as np

from fairplay.errors import DataError
from fairplay.evaluation.intervals import mean_interval
from fairplay.headline import MISSING_WARNING, headline_of, missing_fault
from fairplay.oracles.judge_template import JudgeTemplate
from fairplay.oracles.judge_verdicts import AMBIGUOUS, NO_LABEL
from fairplay.records import Interval
from fairplay.servers.outcomes import CAP_REACHED, Failure, Outcome
from fairplay.servers.requests import ChatRequest
from fairplay.wording import reasons

TEMPLATES = ("mt-bench-1", "mt-bench-2")
FIELDS = (("question", "answer", "reference"), ("question", "first_answer", "second_question", "answer", "reference"))
LOWEST, HIGHEST = 1.0, 10.0
FORM = "[[7]]"
"""How a reply gives a grade."""
UNREADABLE = frozenset({AMBIGUOUS, NO_LABEL})
"""Reasons of replies that hold no grade."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question: its category, one or two turns, and reference answers to them, empty if there are none."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """A grade in [1, 10], or why there is none; `text` is the judge's reply."""

    question: Question
    turn: int
    rating: float | None
    reason: str
    text: str


def parse_question(columns: Mapping[str, Any], place: str) -> Question:
    """A row of MT-Bench's question.jsonl.

    Raises:
        DataError: If it is none.
    """
    turns, references = columns.get("turns"), columns.get("reference") or []
    if not _texts(turns) or not 1 <= len(turns) <= len(TEMPLATES) or not _texts(references):
        raise DataError(f"{place}: no question with one or two `turns`", hint="MT-Bench's question.jsonl has them")
    if "question_id" not in columns:
        raise DataError(f"{place}: no `question_id`")
    category = str(columns.get("category", ""))
    return Question(str(columns["question_id"]), category, tuple(turns), tuple(references))


def parse_answer(columns: Mapping[str, Any], place: str) -> tuple[str, str, tuple[str, ...]]:
    """A row of a model's answers in MT-Bench's form: question id, model, and the first choice's turns.

    Raises:
        DataError: If it is none.
    """
    choices = columns.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = first.get("turns") if isinstance(first, dict) else None
    if "question_id" not in columns or not _texts(turns):
        raise DataError(f"{place}: no answer", hint="MT-Bench's form has `question_id` and `choices` with `turns`")
    return str(columns["question_id"]), str(columns.get("model_id", "")), tuple(turns)


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def grading_requests(
    question: Question, answers: Sequence[str], templates: Sequence[JudgeTemplate], *, seed: int
) -> list[ChatRequest]:
    """What the judge is asked about the answers to a question, one request a turn.

    Raises:
        DataError: If there is not one answer a turn.
    """
    if len(answers) != len(question.turns):
        raise DataError(f"question {question.id}: {len(answers)} answers to {len(question.turns)} turns")
    requests = []
    for turn, template in enumerate(templates[: len(question.turns)]):
        reference = question.references[turn] if turn < len(question.references) else ""
        fields = {
            "question": question.turns[0],
            "first_answer": answers[0],
            "second_question": question.turns[-1],
            "answer": answers[turn],
            "reference": f"\nA reference answer, known to be good:\n{reference}\n" if reference else "",
        }
        requests.append(
            ChatRequest(
                template.messages({name: fields[name] for name in FIELDS[turn]}, seed=seed),
                max_tokens=template.max_tokens,
                temperature=template.temperature,
                must_end=True,
            )
        )
    return requests


def read_rating(text: str) -> tuple[float | None, str]:
    """The grade in a reply, and why there is none: the one number in double, else in single, square brackets."""
    for pattern in (r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]", r"\[\s*(\d+(?:\.\d+)?)\s*\]"):
        told = {float(number) for number in re.findall(pattern, text)}
        if len(told) > 1:
            return None, AMBIGUOUS
        if told:
            (rating,) = told
            return (rating, "") if LOWEST <= rating <= HIGHEST else (None, NO_LABEL)
    return None, NO_LABEL


def grade(question: Question, turn: int, outcome: Outcome) -> Grade:
    """The grade that a reply holds."""
    if isinstance(outcome, Failure):
        return Grade(question, turn, None, outcome.reason, outcome.detail)
    text = outcome.choices[0].text
    rating, reason = read_rating(text)
    return Grade(question, turn, rating, reason, text)


def mean_grade(grades: Sequence[Grade], *, seed: int, num_bootstrap: int) -> tuple[Interval, int]:
    """The mean over questions of grades that are there, with its 95 % interval; and how many questions there are."""
    by_question: dict[str, list[float]] = {}
    for item in grades:
        by_question.setdefault(item.question.id, []).append(item.rating or LOWEST)
    means = np.array([np.mean(values) for _, values in sorted(by_question.items())])
    middle, half = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2
    return mean_interval(means, centre=middle, limit=half, seed=seed, num_bootstrap=num_bootstrap), len(means)


def grading_document(
    grades: Sequence[Grade], *, unanswered: int, seed: int, num_bootstrap: int, alarms: Sequence[str] = ()
) -> dict[str, Any]:
    """Mean grades with 95 % intervals over questions, by turn and by category, and the account of every grade.

    Args:
        grades: One for each answer.
        unanswered: Answers that the model did not give.
        seed: Of the intervals.
        num_bootstrap: Resamples of the questions.
        alarms: What the canaries say against the judge; there is no headline then.

    Raises:
        DataError: If there is no grade.
    """
    rated = [item for item in grades if item.rating is not None]
    failures = Counter(item.reason for item in grades if item.rating is None)
    if not rated:
        raise DataError(f"no answer was graded ({reasons(failures) or 'no answers'})")
    total = len(grades) + unanswered
    missing = total - len(rated)
    faults = missing_fault(missing / total, what="answers have no grade")

    def mean(items: Sequence[Grade]) -> dict[str, Any]:
        rating, number = mean_grade(items, seed=seed, num_bootstrap=num_bootstrap)
        return {"rating": asdict(rating), "n": number}

    turns = {str(turn + 1): [item for item in rated if item.turn == turn] for turn in range(len(TEMPLATES))}
    categories = {name: [i for i in rated if i.question.category == name] for name in _categories(rated)}
    known = sum(item.rating or 0.0 for item in rated)
    return {
        **headline_of(mean(rated), [*faults, *alarms]),
        "partial": CAP_REACHED in failures,
        "missing_share": missing / total,
        "missing_warning": missing / total > MISSING_WARNING,
        "worst_case": {"low": (known + missing * LOWEST) / total, "high": (known + missing * HIGHEST) / total},
        "grades": {
            "requested": total,
            "ok": len(rated),
            "failures": dict(sorted(failures.items())),
            "unanswered": unanswered,
        },
        "overall": mean(rated),
        "turns": {name: mean(items) for name, items in turns.items() if items},
        "categories": {name: mean(items) for name, items in categories.items()},
    }


def _categories(grades: Sequence[Grade]) -> list[str]:
    return sorted({item.question.category for item in grades})
