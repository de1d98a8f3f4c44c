"""A model's answers to MT-Bench's questions, graded by a judge one by one.

Left out: the protocol (`evaluation/protocols/mt_bench.py`), comparisons (`judge_files.py`). Floor 7; no torch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.protocols.grade_canaries import canary_answers, graded_canary
from fairplay.evaluation.protocols.mt_bench import (
    FIELDS,
    TEMPLATES,
    Grade,
    Question,
    grade,
    grading_document,
    grading_requests,
    parse_answer,
    parse_question,
)
from fairplay.evaluation.settings import SECOND_SAMPLE
from fairplay.oracles.judge_settings import REPLIES_NAME, JudgeSettings
from fairplay.oracles.judge_template import JudgeTemplate, load_template
from fairplay.oracles.judge_verdicts import READER_VERSION
from fairplay.pipeline.canary_games import alarms_of
from fairplay.pipeline.judge_files import JudgeFilesSettings
from fairplay.pipeline.judge_question import refuse_other_question
from fairplay.pipeline.judge_refusals import refuse_ungraded, refuse_unreadable
from fairplay.pipeline.judge_told import account_document
from fairplay.pipeline.response_lines import read_lines
from fairplay.pipeline.results import titled, with_intervals, write_results
from fairplay.records import STATISTICS_VERSION
from fairplay.seeds import stable_seed
from fairplay.servers.client import ChatClient
from fairplay.servers.requests import ChatRequest
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import sha256_file, sha256_value
from fairplay.storage.locking import lock

GRADES_NAME = "grades.jsonl"
CANARIES_NAME = "canaries.jsonl"
Asked = list[tuple[Question, int, ChatRequest]]
"""Question, turn from 0, and what is sent."""


@dataclass(frozen=True)
class _Work:
    """What is asked: about the answers, and by canary; the model, turns that it did not answer, the templates."""

    asked: Asked
    canaries: Mapping[str, Asked]
    model: str
    unanswered: int
    templates: tuple[JudgeTemplate, ...]


def grade_files(
    questions: Path,
    answers: Path,
    settings: JudgeFilesSettings,
    folder: Path,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Grade, and write `grades.jsonl` and `results.json`; what is in the cache is not asked again.

    Args:
        questions: MT-Bench's question.jsonl.
        answers: A model's answers in its form, as `fairplay answers` writes them.
        settings: Who judges.
        folder: Where; the cache of replies is there too, unless the settings name one.
        seed: Of the intervals.
        should_stop: Polled while the server is asked.

    Returns:
        The document that was written.

    Raises:
        DataError, SettingsError, LockedError, ServiceError, Preempted: As `judge_files`.
    """
    work = _work(questions, answers, settings, seed)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    judge = settings.judge.with_cache(str(folder / REPLIES_NAME))
    interval = {"seed": stable_seed(seed, "bootstrap"), "num_bootstrap": settings.num_bootstrap}
    question = {
        "kind": "grading",
        "asked": _asked(judge, work.templates, seed),
        "inputs": {"questions": sha256_file(questions), "answers": sha256_file(answers)},
    }
    with lock(folder):
        refuse_other_question(folder, question)
        with ChatClient(judge.server) as client:
            tried = {name: _graded(client, asked, should_stop) for name, asked in work.canaries.items()}
            canaries = [graded_canary(name, its, **interval) for name, its in tried.items()]
            alarms = alarms_of(canaries)
            graded = _graded(client, work.asked, should_stop)
            accounting = client.accounting()
        refuse_ungraded(graded, judge.server, [request for *_, request in work.asked])
        files = {
            GRADES_NAME: [grade_row(item) for item in graded],
            CANARIES_NAME: [{"canary": name, **grade_row(item)} for name, its in tried.items() for item in its],
        }
        for name, lines in files.items():
            write_atomic(folder / name, "".join(json.dumps(line) + "\n" for line in lines))
        refuse_unreadable(graded, folder / GRADES_NAME)
        told = grading_document(graded, unanswered=work.unanswered, alarms=alarms, **interval)
        document = titled(
            "grading",
            {
                "policy": work.model,
                "judge": f"mt-bench:{judge.server.model}#{_hash(work.templates)[:12]}",
                **question,
                "num_bootstrap": settings.num_bootstrap,
                "statistics_version": STATISTICS_VERSION,
                **with_intervals(told),
                "gates": with_intervals({"canaries": [asdict(canary) for canary in canaries]}),
                "files": {name: sha256_file(folder / name) for name in files},
                "account": account_document(accounting),
            },
        )
        write_results(folder, document)
    return document


def estimate_grading(
    questions: Path, answers: Path, settings: JudgeFilesSettings, folder: Path, *, seed: int = 0
) -> dict[str, Any]:
    """What `grade_files` would ask, and what that could cost at most; nothing is sent."""
    work = _work(questions, answers, settings, seed)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    on_canaries = [request for asked in work.canaries.values() for *_, request in asked]
    with ChatClient(settings.judge.without_key().with_cache(str(folder / REPLIES_NAME)).server) as client:
        estimate = client.estimate([*(request for *_, request in work.asked), *on_canaries])
    return {"unanswered": work.unanswered, "requests_on_canaries": len(on_canaries), **asdict(estimate)}


def grade_row(item: Grade) -> dict[str, Any]:
    """A grade as a line of `grades.jsonl`."""
    told = {"question_id": item.question.id, "category": item.question.category, "turn": item.turn + 1}
    told |= {"rating": item.rating, "judgment": item.text}
    return told | ({"failure": item.reason} if item.reason else {})


def _graded(client: ChatClient, asked: Asked, should_stop: Callable[[], bool]) -> list[Grade]:
    outcomes = client.complete([request for *_, request in asked], what="grading", should_stop=should_stop)
    return [grade(question, turn, outcome) for (question, turn, _), outcome in zip(asked, outcomes, strict=True)]


def _work(questions: Path, answers: Path, settings: JudgeFilesSettings, seed: int) -> _Work:
    """Everything that is asked about the answers of a file, and about the canaries on some of the questions."""
    if settings.judge.template:
        raise SettingsError("judge.template: mt-bench has templates of its own", hint="`--protocol own` takes yours")
    templates = tuple(
        load_template(name, needs=needs, forms=("rating",)) for name, needs in zip(TEMPLATES, FIELDS, strict=True)
    )
    if settings.judge.max_tokens:
        templates = tuple(replace(one, max_tokens=settings.judge.max_tokens) for one in templates)
    given: dict[str, tuple[str, ...]] = {}
    models = set()
    for line in read_lines(answers):
        question_id, model, turns = parse_answer(line.columns, line.where)
        if question_id in given:
            raise DataError(f"{line.where}: question {question_id} is answered twice")
        given[question_id] = turns
        models.add(model or answers.stem)
    every = [parse_question(line.columns, line.where) for line in read_lines(questions)]
    answered = [question for question in every if question.id in given]

    def ask(chosen: Sequence[Question], said: Callable[[Question], Sequence[str]]) -> Asked:
        return [
            (question, turn, request)
            for question in chosen
            for turn, request in enumerate(
                grading_requests(question, said(question), templates, seed=settings.judge.seed)
            )
        ]

    asked = ask(answered, lambda question: given[question.id])
    drawn = sorted(answered, key=lambda question: (stable_seed(seed, "canaries", question.id), question.id))
    tried = drawn[: settings.num_canary_prompts or len(drawn)]
    canaries = {name: ask(tried, partial(_canary_answers, name)) for name in settings.canaries if name != SECOND_SAMPLE}
    unanswered = sum(len(question.turns) for question in every if question.id not in given)
    return _Work(asked, canaries, ", ".join(sorted(models)), unanswered, templates)


def _canary_answers(canary: str, question: Question) -> tuple[str, ...]:
    return canary_answers(canary, len(question.turns))


def _hash(templates: tuple[JudgeTemplate, ...]) -> str:
    return sha256_value([template.sha256 for template in templates])


def _asked(judge: JudgeSettings, templates: tuple[JudgeTemplate, ...], seed: int) -> dict[str, Any]:
    return {
        "model": judge.server.model,
        "base_url": judge.server.base_url,
        "identity": judge.server.identity,
        "extra_body": judge.server.extra_body,
        "template_sha256": _hash(templates),
        "template_source": templates[0].source,
        "max_tokens": templates[0].max_tokens,
        "temperature": templates[0].temperature,
        "seed": seed,
        "reader_version": READER_VERSION,
    }
