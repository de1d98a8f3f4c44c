"""A model's answers to benchmarks' questions, decoded as the papers state it, in the benchmarks' own files.

Left out: forms and decoding (`evaluation/protocols`), judging (`judge_files.py`, `grade_files.py`). Floor 7.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_prompts
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.protocols.answer_rows import (
    alpaca_eval_row,
    arena_hard_prompt,
    arena_hard_row,
    mt_bench_row,
)
from fairplay.evaluation.protocols.decoding import FAMILIES, decoding_of
from fairplay.evaluation.protocols.mt_bench import Question, parse_question
from fairplay.generation.settings import GenerationSettings
from fairplay.lookup import lookup
from fairplay.models.settings import ModelSettings
from fairplay.pipeline.response_lines import Line, group_of_line, line_of_group, read_lines, write_lines
from fairplay.pipeline.single_stages import generate_file
from fairplay.records import Message, Prompt, Response, ResponseGroup
from fairplay.servers.ledger import one_command
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import content_digest, sha256_value
from fairplay.storage.settings_file import build_settings, settings_document

RESPONSES_NAME = "responses.jsonl"
OUTPUTS_NAME = "model_outputs.json"
DECODING_NAME = "decoding.json"
PARTS_NAME = "parts"
_STATED = ("temperature", "top_p", "max_new_tokens")
_BY_CATEGORY = "by category"


@dataclass(frozen=True)
class AnswerSettings:
    """How a model answers.

    Attributes:
        generation: Engine, batch size, longest prompt; temperature, top-p and length are the benchmark's unless `own`
            names them.
        loading: How the model is loaded.
        own: Which of `temperature`, `top_p` and `max_new_tokens` are as in `generation`, whatever the paper states.
    """

    generation: GenerationSettings = field(default_factory=GenerationSettings)
    loading: ModelSettings = field(default_factory=ModelSettings)
    own: tuple[str, ...] = ()


def answer_settings(document: Mapping[str, Any], source: str) -> AnswerSettings:
    """Settings from plain data; what it names of the decoding goes before the paper's.

    Raises:
        SettingsError: With every fault at once, or if more than one response to a question is asked for.
    """
    settings = build_settings(AnswerSettings, document, source)
    named = document.get("generation") or {}
    if "num_responses" in named and settings.generation.num_responses != 1:
        asked = settings.generation.num_responses
        raise SettingsError(
            f"{source}: generation.num_responses: a benchmark takes one answer to a question, not {asked}",
            hint="`fairplay generate` draws several",
        )
    return replace(settings, own=tuple(key for key in _STATED if key in named))


@dataclass(frozen=True)
class Answering:
    """What is the same for all benchmarks of a call.

    Attributes:
        model: A folder or hub id.
        name: What the model is called in the files.
        family: Whose decoding is taken, for benchmarks that know families.
        seed: Every sample's seed is a hash that begins with it.
        folder: Where the files go, a folder for each benchmark.
        should_stop: Asked at every commit.
    """

    model: str
    name: str
    family: str
    seed: int
    folder: Path
    settings: AnswerSettings
    should_stop: Callable[[], bool]

    def respond(self, prompts: Sequence[Prompt], part: str, benchmark: str, category: str = "") -> list[ResponseGroup]:
        """One response to each prompt, in their order; none to those that are too long. Found again if it was done."""
        decoding = decoding_of(benchmark, self.family, category)
        stated = {key: value for key, value in asdict(decoding).items() if key not in self.settings.own}
        generation = replace(self.settings.generation, num_responses=1, **stated)
        lines = [{"id": prompt.id, "prompt": _plain(prompt)} for prompt in prompts]
        decisive = [lines, content_digest(self.model), self.seed]
        own = sha256_value([*decisive, settings_document(generation), settings_document(self.settings.loading)])
        stem = self.folder / benchmark / PARTS_NAME / f"{part}-{own[:12]}"
        answers = stem.with_name(f"{stem.name}.{RESPONSES_NAME}")
        if not answers.exists():
            questions = stem.with_name(f"{stem.name}.prompts.jsonl")
            with disk_errors(questions):
                questions.parent.mkdir(parents=True, exist_ok=True)
            write_lines(questions, lines)
            generate_file(
                self.model,
                str(questions),
                answers,
                generation=generation,
                loading=self.settings.loading,
                seed=self.seed,
                should_stop=self.should_stop,
            )
        found = [group_of_line(line) for line in read_lines(answers)]
        by_id = {group.prompt.id: group for group in found}
        return [by_id[prompt.id] for prompt in prompts if prompt.id in by_id]

    def deviations(self, benchmark: str) -> dict[str, dict[str, float | str]]:
        """Setting -> what the paper states and what was taken, where the two differ."""
        stated: dict[str, float | str] = asdict(decoding_of(benchmark, self.family))
        if benchmark == "mt-bench":
            stated["temperature"] = _BY_CATEGORY
        taken = {key: getattr(self.settings.generation, key) for key in self.settings.own}
        return {key: {"stated": stated[key], "taken": value} for key, value in taken.items() if stated[key] != value}


@one_command()
def answer_benchmarks(answering: Answering, questions: Mapping[str, Path]) -> dict[str, Any]:
    """Answer each benchmark's questions and write its files.

    Args:
        answering: Model, family and place.
        questions: Benchmark, a name in `decoding.FAMILIES`, -> its questions: AlpacaEval's evaluation set or any file
            of prompts, Arena-Hard's and MT-Bench's question.jsonl.

    Returns:
        By benchmark: number of questions, of answered ones, of answers cut at the limit, where the decoding is not the
        paper's, and the files.

    Raises:
        SettingsError: If a benchmark or family is not known, or the name is no name of a file.
        DataError: If a file holds no questions of its benchmark.
        Preempted: If asked to stop; the same call again goes on from there.
    """
    if not answering.name or Path(answering.name).name != answering.name:
        raise SettingsError(
            f"name: `{answering.name}` is no name of a file", hint="--name says how the model is called"
        )
    for benchmark in questions:
        lookup(FAMILIES, benchmark, "benchmark")
        decoding_of(benchmark, answering.family)
    writers = {"arena-hard": _arena_hard, "mt-bench": _mt_bench}
    return {
        benchmark: writers.get(benchmark, _outputs)(answering, path, benchmark) for benchmark, path in questions.items()
    }


def _outputs(answering: Answering, path: Path, benchmark: str) -> dict[str, Any]:
    prompts = read_prompts(path).items
    groups = answering.respond(prompts, "all", benchmark)
    folder = answering.folder / benchmark
    rows = [alpaca_eval_row(group, model=answering.name, dataset=path.stem) for group in groups]
    write_atomic(folder / OUTPUTS_NAME, json.dumps(rows, indent=1) + "\n")
    return _told(answering, benchmark, groups, len(prompts), folder / OUTPUTS_NAME)


def _arena_hard(answering: Answering, path: Path, benchmark: str) -> dict[str, Any]:
    questions = {}
    for line in read_lines(path):
        try:
            own, text = arena_hard_prompt(line.columns)
        except (KeyError, TypeError, IndexError) as error:
            raise line.fault("no question of Arena-Hard", "its question.jsonl has `uid` and `prompt`") from error
        questions[own] = (line.columns, Prompt(own, (Message("user", text),)))
    groups = answering.respond([prompt for _, prompt in questions.values()], "all", benchmark)
    rows = [arena_hard_row(questions[group.prompt.id][0], group.responses[0], model=answering.name) for group in groups]
    return _told(answering, benchmark, groups, len(questions), _write_answers(answering, benchmark, rows))


def _mt_bench(answering: Answering, path: Path, benchmark: str) -> dict[str, Any]:
    questions = {question.id: question for question in map(_question, read_lines(path))}
    given: dict[str, list[Response]] = {}
    groups: list[ResponseGroup] = []
    for temperature in sorted({_temperature(question) for question in questions.values()}):
        of_these = [question for question in questions.values() if _temperature(question) == temperature]
        for turn in (0, 1):
            prompts = [
                _turn_prompt(question, given.get(question.id, []))
                for question in of_these
                if len(question.turns) > turn and len(given.get(question.id, [])) == turn
            ]
            if not prompts:
                continue
            category = of_these[0].category
            for group in answering.respond(prompts, f"turn-{turn + 1}-temperature-{temperature}", benchmark, category):
                given.setdefault(group.prompt.id, []).append(group.responses[0])
                groups.append(group)
    whole = {name: answers for name, answers in given.items() if len(answers) == len(questions[name].turns)}
    rows = [
        mt_bench_row(name, [response.text for response in whole[name]], model=answering.name)
        for name in questions
        if name in whole
    ]
    asked = sum(len(question.turns) for question in questions.values())
    return _told(answering, benchmark, groups, asked, _write_answers(answering, benchmark, rows))


def _question(line: Line) -> Question:
    return parse_question(line.columns, line.where)


def _temperature(question: Question) -> float:
    return decoding_of("mt-bench", "", question.category).temperature


def _turn_prompt(question: Question, answers: Sequence[Response]) -> Prompt:
    messages = [Message("user", question.turns[0])]
    for answer, turn in zip(answers, question.turns[1:], strict=False):
        messages += [Message("assistant", answer.text), Message("user", turn)]
    return Prompt(question.id, tuple(messages))


def _plain(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def _write_answers(answering: Answering, benchmark: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = answering.folder / benchmark / "model_answer" / f"{answering.name}.jsonl"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, rows)
    return path


def _told(
    answering: Answering, benchmark: str, groups: Sequence[ResponseGroup], asked: int, answers: Path
) -> dict[str, Any]:
    """What was done; the decoding is written too, and the responses with prompts, as `fairplay judge` reads them."""
    folder, deviations = answering.folder / benchmark, answering.deviations(benchmark)
    if not groups:
        raise DataError(f"{folder}: no question was answered", hint="is generation.max_prompt_length too small?")
    write_lines(folder / RESPONSES_NAME, map(line_of_group, groups))
    decoding = {"decoding": answering.family, "deviations": deviations}
    write_atomic(folder / DECODING_NAME, json.dumps(decoding, indent=1) + "\n")
    cut = sum(group.responses[0].finish_reason == "length" for group in groups)
    files = {"answers": str(answers), "responses": str(folder / RESPONSES_NAME)}
    counts = {"num_questions": asked, "num_answered": len(groups), "num_cut_at_length": cut}
    return {**counts, "deviations_from_paper": deviations, **files}
