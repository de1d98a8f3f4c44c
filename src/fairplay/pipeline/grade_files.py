"""A model's answers to MT-Bench's questions, graded by a judge one by one.

Left out: the protocol (`evaluation/protocols/mt_bench.py`), comparisons (`judge_files.py`). Floor 7; no torch.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.protocols.mt_bench import (
    FIELDS,
    TEMPLATES,
    Question,
    grade,
    grading_document,
    grading_requests,
    parse_answer,
    parse_question,
)
from fairplay.oracles.judge_settings import JudgeSettings
from fairplay.oracles.judge_template import JudgeTemplate, load_template
from fairplay.oracles.judge_verdicts import READER_VERSION
from fairplay.pipeline.judge_files import REPLIES_NAME, JudgeFilesSettings, account_document
from fairplay.pipeline.response_lines import read_lines
from fairplay.pipeline.results import titled, with_intervals, write_results
from fairplay.seeds import stable_seed
from fairplay.servers.client import ChatClient
from fairplay.servers.requests import ChatRequest
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import sha256_value
from fairplay.storage.locking import lock

GRADES_NAME = "grades.jsonl"


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
        DataError, LockedError, ServiceError, Preempted: As `judge_files`.
    """
    asked, model, unanswered, templates = _requests(questions, answers, settings)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    judge = settings.judge.with_cache(str(folder / REPLIES_NAME))
    with lock(folder):
        with ChatClient(judge.server) as client:
            outcomes = client.complete([request for *_, request in asked], what="grading", should_stop=should_stop)
            accounting = client.accounting()
        graded = [grade(question, turn, got) for (question, turn, _), got in zip(asked, outcomes, strict=True)]
        lines = [
            {"question_id": item.question.id, "turn": item.turn + 1, "rating": item.rating, "judgment": item.text}
            | ({"failure": item.reason} if item.reason else {})
            for item in graded
        ]
        write_atomic(folder / GRADES_NAME, "".join(json.dumps(line) + "\n" for line in lines))
        told = grading_document(
            graded, unanswered=unanswered, seed=stable_seed(seed, "bootstrap"), num_bootstrap=settings.num_bootstrap
        )
        document = titled(
            "grading",
            {
                "policy": model,
                "judge": f"mt-bench:{judge.server.model}#{_hash(templates)[:12]}",
                "asked": _asked(judge, templates, seed),
                **with_intervals(told),
                "account": account_document(accounting),
            },
        )
        write_results(folder, document)
    return document


def estimate_grading(questions: Path, answers: Path, settings: JudgeFilesSettings, folder: Path) -> dict[str, Any]:
    """What `grade_files` would ask, and what that could cost at most; nothing is sent."""
    asked, _, unanswered, _ = _requests(questions, answers, settings)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ChatClient(settings.judge.with_cache(str(folder / REPLIES_NAME)).server) as client:
        return {"unanswered": unanswered, **asdict(client.estimate([request for *_, request in asked]))}


def _requests(
    questions: Path, answers: Path, settings: JudgeFilesSettings
) -> tuple[list[tuple[Question, int, ChatRequest]], str, int, tuple[JudgeTemplate, ...]]:
    """What is asked by question and turn; the model; how many turns it did not answer; the templates."""
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
    asked, unanswered = [], 0
    for line in read_lines(questions):
        question = parse_question(line.columns, line.where)
        if question.id not in given:
            unanswered += len(question.turns)
            continue
        requests = grading_requests(question, given[question.id], templates, seed=settings.judge.seed)
        asked += [(question, turn, request) for turn, request in enumerate(requests)]
    return asked, ", ".join(sorted(models)), unanswered, templates


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
