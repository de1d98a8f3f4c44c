"""Two files of responses judged by a protocol: annotations, results, and the account of every question.

Left out: the protocol (`evaluation/protocols`) and grading of single answers (`grade_files.py`). Floor 7; no torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_examples, read_responses
from fairplay.data.rows import READERS, Row, read_rows
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.protocols.annotation_rows import annotation_rows
from fairplay.evaluation.protocols.games import Pair, match_pairs, play, questions_of
from fairplay.evaluation.protocols.scores import protocol_document
from fairplay.evaluation.protocols.table import Protocol, check_orders, find_protocol
from fairplay.evaluation.settings import MIN_BOOTSTRAP
from fairplay.oracles.judge_settings import JudgeSettings, build_judge
from fairplay.oracles.judge_verdicts import READER_VERSION
from fairplay.oracles.pair_judge import PairJudge
from fairplay.pipeline.response_lines import group_of_line, read_lines
from fairplay.pipeline.results import comparison, titled, with_intervals, write_results
from fairplay.records import Response, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.servers.outcomes import Accounting
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.locking import lock

ANNOTATIONS_NAME = "annotations.json"
REPLIES_NAME = "replies.sqlite"
COLUMN_MARK = "::"
CHOSEN = "chosen"


@dataclass(frozen=True)
class JudgeFilesSettings:
    """How files are judged.

    Attributes:
        judge: Who judges.
        num_bootstrap: Resamples of the prompts behind each interval.
    """

    judge: JudgeSettings
    num_bootstrap: int = field(default=2000)

    def __post_init__(self) -> None:
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}")


@dataclass(frozen=True)
class Task:
    """What is to be judged.

    Attributes:
        protocol: A name in `protocols.table.PROTOCOLS`.
        outputs, baseline: Files of responses, `FILE` or `FILE::COLUMN`; `::chosen` takes the chosen responses of
            preference pairs.
        orders: In which orders pairs are shown; empty takes the protocol's default.
        seed: Of orders and intervals.
    """

    protocol: str
    outputs: str
    baseline: str
    orders: str = ""
    seed: int = 0


def judge_files(
    task: Task, settings: JudgeFilesSettings, folder: Path, *, should_stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Judge, and write `annotations.json` and `results.json`; what is in the cache is not asked again.

    Args:
        task: What.
        settings: How.
        folder: Where; the cache of replies is there too, unless the settings name one.
        should_stop: Polled while the server is asked.

    Returns:
        The document that was written.

    Raises:
        DataError: If files can't be read, have no prompt in common, or nothing could be judged.
        LockedError: If another process judges into this folder.
        ServiceError: If the server can't be asked at all; what was answered is kept.
        Preempted: If `should_stop` said so; the same.
    """
    protocol, orders = find_protocol(task.protocol), check_orders(find_protocol(task.protocol), task.orders)
    policy, opponent = _read_side(task.outputs), _read_side(task.baseline)
    pairs, unmatched = match_pairs(policy, opponent)
    _check_single(protocol, pairs)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        judge = _judge(protocol, settings, folder)
        with judge.client:
            played = play(pairs, judge, orders=orders, seed=task.seed, posts=protocol.posts, should_stop=should_stop)
            accounting = judge.client.accounting()
        names = (_name(task.outputs), _name(task.baseline), judge_name(task.protocol, judge))
        rows = annotation_rows(
            played, policy=names[0], opponent=names[1], annotator=names[2], dataset=Path(task.outputs).name
        )
        write_atomic(folder / ANNOTATIONS_NAME, json.dumps(rows, indent=1) + "\n")
        told = protocol_document(
            protocol,
            played,
            unmatched,
            names=names,
            orders=orders,
            seed=stable_seed(task.seed, "bootstrap"),
            num_bootstrap=settings.num_bootstrap,
        )
        result = comparison({"role": "judge", "length_unit": told.pop("length_unit"), **told.pop("result")})
        document = titled(
            "judging",
            {
                "protocol": {
                    "name": task.protocol,
                    "title": protocol.title,
                    "source": protocol.source,
                    "published_opponent": protocol.opponent,
                },
                "asked": asked_document(judge, settings.judge, orders=orders, seed=task.seed),
                **with_intervals(told),
                "account": account_document(accounting),
                "comparison": result,
            },
        )
        write_results(folder, document)
    return document


def estimate_files(task: Task, settings: JudgeFilesSettings, folder: Path) -> dict[str, Any]:
    """What `judge_files` would ask, and what that could cost at most; nothing is sent."""
    protocol = find_protocol(task.protocol)
    orders = check_orders(protocol, task.orders)
    pairs, unmatched = match_pairs(_read_side(task.outputs), _read_side(task.baseline))
    _check_single(protocol, pairs)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    judge = _judge(protocol, settings, folder)
    with judge.client:
        questions = [
            question
            for games in questions_of(pairs, orders, seed=task.seed, posts=protocol.posts)
            for _, question in games
        ]
        estimate = judge.client.estimate([judge.request(question) for question in questions])
    return {
        "pairs": len(pairs),
        "identical": sum(pair.same_text for pair in pairs),
        "without_partner": len(unmatched),
        **asdict(estimate),
        "priced": bool(settings.judge.server.input_price or settings.judge.server.output_price),
    }


def asked_document(judge: PairJudge, settings: JudgeSettings, *, orders: str, seed: int) -> dict[str, Any]:
    """Everything that decides what a judge was asked."""
    return {
        "model": settings.server.model,
        "base_url": settings.server.base_url,
        "identity": settings.server.identity,
        "extra_body": settings.server.extra_body,
        "template": settings.template,
        "template_sha256": judge.template.sha256,
        "template_source": judge.template.source,
        "log_probs": judge.log_probs,
        "min_mass": settings.min_mass,
        "temperature": judge.template.temperature,
        "max_tokens": judge.template.max_tokens,
        "orders": orders,
        "seed": seed,
        "reader_version": READER_VERSION,
    }


def account_document(accounting: Accounting) -> dict[str, Any]:
    """The server's side of the account, and a warning where it answered under several names."""
    models = len(accounting.models)
    return {**asdict(accounting), "note": "the server answered under several names" if models > 1 else ""}


def judge_name(protocol: str, judge: PairJudge) -> str:
    """Protocol, model, and the beginning of the template's hash."""
    return f"{protocol}:{judge.client.settings.model}#{judge.template.sha256[:12]}"


def _judge(protocol: Protocol, settings: JudgeFilesSettings, folder: Path) -> PairJudge:
    judge = settings.judge
    if not protocol.template and not judge.template:
        raise SettingsError(
            "judge.template: this protocol needs one of your own", hint="a YAML file; see docs/judging.md"
        )
    if protocol.reader is not None and (judge.template or not judge.log_probs):
        raise SettingsError(
            f"judge: {protocol.title} has its own template and reads log-probs",
            hint="use --protocol pair, or own, for another template or a server without log-probs",
        )
    kept = judge.with_cache(str(folder / REPLIES_NAME))
    return build_judge(kept, template=protocol.template, read=protocol.reader)


def _check_single(protocol: Protocol, pairs: Sequence[Pair]) -> None:
    several = next((pair for pair in pairs if pair.sample), None)
    if protocol.single and several is not None:
        raise DataError(
            f"prompt {several.prompt.id}: {protocol.title} judges one response to a prompt, here are more",
            hint="generate with num_responses=1",
        )


def _read_side(source: str) -> tuple[ResponseGroup, ...]:
    name, mark, column = source.partition(COLUMN_MARK)
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"{name}: no such file", hint="responses are in a file: json, jsonl or parquet")
    if mark and column == CHOSEN:
        examples = [example for example in read_examples(path).items if example.pairs]
        return tuple(
            ResponseGroup(example.prompt, (Response(example.responses[example.pairs[0][0]].text),))
            for example in examples
        )
    if not mark and name.endswith(".jsonl"):
        lines = read_lines(path)
        if all("responses" in line.columns for line in lines):
            return tuple(group_of_line(line) for line in lines)
    return read_responses(path, column=column or "output").items


def _name(source: str) -> str:
    """What a file says of who responded (`generator`), else the file's name."""
    name, _, column = source.partition(COLUMN_MARK)
    path = Path(name)
    if column:
        return f"{path.stem}::{column}"
    if name.endswith(tuple(READERS)):
        first = next(read_rows(path.expanduser()), None)
        generator = first.columns.get("generator") if isinstance(first, Row) else None
        if isinstance(generator, str) and generator:
            return generator
    return path.stem
