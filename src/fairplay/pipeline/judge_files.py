"""Two files of responses judged by a protocol: annotations, results, and the account of every question.

Left out: the protocol (`evaluation/protocols`) and grading of single answers (`grade_files.py`). Floor 7; no torch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.protocols.annotation_rows import annotation_rows
from fairplay.evaluation.protocols.games import Matched, Pair, Played, match_pairs, play, questions_of
from fairplay.evaluation.protocols.scores import protocol_document
from fairplay.evaluation.protocols.table import Protocol, check_orders, find_protocol
from fairplay.evaluation.settings import CANARIES, MIN_BOOTSTRAP, check_canaries
from fairplay.oracles.judge_settings import REPLIES_NAME, JudgeSettings, build_judge
from fairplay.oracles.pair_judge import PairJudge
from fairplay.pipeline.judge_gates import (
    OPPONENT,
    POLICY,
    Canaries,
    TriedJudge,
    marker_documents,
    match_canaries,
    training_gate,
    try_judge,
)
from fairplay.pipeline.judge_question import refuse_other_question, responses_digest
from fairplay.pipeline.judge_refusals import refuse_unplayed
from fairplay.pipeline.judge_sides import read_side, side_name
from fairplay.pipeline.judge_told import account_document, asked_document, judge_name, protocol_told
from fairplay.pipeline.results import comparison, titled, with_intervals, write_results
from fairplay.records import STATISTICS_VERSION
from fairplay.seeds import stable_seed
from fairplay.servers.requests import ChatRequest
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import sha256_file
from fairplay.storage.locking import lock

ANNOTATIONS_NAME = "annotations.json"
CANARIES_NAME = "canaries.json"


@dataclass(frozen=True)
class JudgeFilesSettings:
    """How files are judged.

    Attributes:
        judge: Who judges.
        num_bootstrap: Resamples of the prompts behind each interval.
        canaries: Names in `CANARIES`: what the judge is tried on, as in a run's `evaluation`; empty for none. A second
            sample needs two responses of the opponent to a prompt.
        num_canary_prompts: On how many of the prompts, drawn by the seed; 0 takes all. Each costs as many questions a
            canary as a pair does.
    """

    judge: JudgeSettings
    num_bootstrap: int = field(default=2000)
    canaries: tuple[str, ...] = tuple(CANARIES)
    num_canary_prompts: int = 25

    def __post_init__(self) -> None:
        check_canaries(self.canaries, self.num_canary_prompts)
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
        seed: Of orders, intervals, and the draw of the canaries' prompts.
        trained_in: The run that trained the policy: its training prompts are looked for among the judged ones, and its
            oracle should not be the judge. Empty where there is none.
    """

    protocol: str
    outputs: str
    baseline: str
    orders: str = ""
    seed: int = 0
    trained_in: str = ""


@dataclass(frozen=True)
class _Games:
    """All that is to be asked about; `inputs` are the hashes of both sides."""

    protocol: Protocol
    orders: str
    matched: Matched
    canaries: Canaries
    left_out: dict[str, dict[str, int]]
    inputs: dict[str, str]


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
        SettingsError: If the folder holds the results of another question.
        LockedError: If another process judges into this folder.
        ServiceError: If the server can't be asked at all, or judged no pair; what was answered is kept.
        Preempted: If `should_stop` said so; the same.
    """
    games = _games(task, settings)
    gate = training_gate(task.trained_in, settings.judge.server, [pair.prompt for pair in games.matched.pairs])
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        judge = _judge(games.protocol, settings, folder)
        question = {
            "kind": "judging",
            "protocol": protocol_told(task.protocol),
            "asked": asked_document(judge, settings.judge, orders=games.orders, seed=task.seed),
            "inputs": games.inputs,
        }
        asking: Any = {"orders": games.orders, "seed": task.seed, "posts": games.protocol.posts}
        asking["should_stop"] = should_stop
        with judge.client:
            refuse_other_question(folder, question)
            tried = try_judge(games.canaries, judge, num_bootstrap=settings.num_bootstrap, **asking)
            played = play(games.matched, judge, **asking)
            accounting = judge.client.accounting()
        refuse_unplayed(played, judge.client.settings, _requests(judge, games, games.matched, task.seed))
        names = (side_name(task.outputs), side_name(task.baseline), judge_name(task.protocol, judge))
        told = protocol_document(
            games.protocol,
            played,
            names=names,
            orders=games.orders,
            seed=stable_seed(task.seed, "bootstrap"),
            num_bootstrap=settings.num_bootstrap,
            alarms=tried.alarms,
        )
        figures = judging_figures(told)
        rows = {
            ANNOTATIONS_NAME: _rows(played, task, names),
            CANARIES_NAME: [row for name, its in tried.played.items() for row in _rows(its, task, (name, *names[1:]))],
        }
        for name, lines in rows.items():
            write_atomic(folder / name, json.dumps(lines, indent=1) + "\n")
        document = titled(
            "judging",
            {
                **question,
                "num_bootstrap": settings.num_bootstrap,
                "statistics_version": STATISTICS_VERSION,
                **figures,
                "left_out": games.left_out,
                "gates": _gates(games, tried) | gate,
                "account": account_document(accounting),
                "files": {name: sha256_file(folder / name) for name in rows},
            },
        )
        write_results(folder, document)
    return document


def judging_figures(told: Mapping[str, Any]) -> dict[str, Any]:
    """All figures as `results.json` has them, from a protocol's document."""
    rest = {key: value for key, value in told.items() if key not in ("length_unit", "result")}
    result = comparison({"role": "judge", "length_unit": told["length_unit"], **told["result"]})
    return {**with_intervals(rest), "comparison": result}


def estimate_files(task: Task, settings: JudgeFilesSettings, folder: Path) -> dict[str, Any]:
    """What `judge_files` would ask, and what that could cost at most; nothing is sent."""
    games = _games(task, settings)
    pairs = games.matched.pairs
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    judge = _judge(games.protocol, replace(settings, judge=settings.judge.without_key()), folder)
    with judge.client:
        matched = (games.matched, *games.canaries.matched.values())
        asked = [_requests(judge, games, one, task.seed) for one in matched]
        estimate = judge.client.estimate([request for requests in asked for request in requests])
    return {
        "pairs": len(pairs),
        "identical": sum(pair.same_text for pair in pairs),
        "without_partner": len(games.matched.unmatched),
        "left_out": games.left_out,
        "requests_on_canaries": sum(map(len, asked[1:])),
        **asdict(estimate),
        "priced": bool(settings.judge.server.input_price or settings.judge.server.output_price),
    }


def _requests(judge: PairJudge, games: _Games, matched: Matched, seed: int) -> list[ChatRequest]:
    """What is sent about these pairs."""
    shown = questions_of(matched.pairs, games.orders, seed=seed, posts=games.protocol.posts)
    return [judge.request(question) for pair in shown for _, question in pair]


def _games(task: Task, settings: JudgeFilesSettings) -> _Games:
    protocol = find_protocol(task.protocol)
    orders = check_orders(protocol, task.orders)
    policy, opponent = read_side(task.outputs), read_side(task.baseline)
    matched = match_pairs(policy.groups, opponent.groups)
    if not matched.pairs:
        raise DataError(f"{task.outputs} and {task.baseline}: no prompt in common")
    _check_single(protocol, matched.pairs)
    canaries = match_canaries(
        settings.canaries, opponent.groups, matched, number=settings.num_canary_prompts, seed=task.seed
    )
    left_out = {POLICY: dict(policy.left_out), OPPONENT: dict(opponent.left_out)}
    inputs = {"outputs": responses_digest(policy.groups), "baseline": responses_digest(opponent.groups)}
    return _Games(protocol, orders, matched, canaries, left_out, inputs)


def _rows(played: Played, task: Task, names: tuple[str, str, str]) -> list[dict[str, Any]]:
    policy, opponent, judge = names
    return annotation_rows(
        played.pairs, policy=policy, opponent=opponent, annotator=judge, dataset=Path(task.outputs).name
    )


def _gates(games: _Games, tried: TriedJudge) -> dict[str, Any]:
    canaries = with_intervals({"canaries": [asdict(canary) for canary in tried.canaries]})
    left_out = {"canaries_left_out": dict(games.canaries.left_out)}
    return canaries | left_out | {"markers": marker_documents(games.matched.pairs)}


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
