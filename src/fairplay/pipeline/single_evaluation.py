"""Evaluation on one's own inputs: two models or two files of responses by a judge, with canaries, in a folder.

Left out: evaluation within a run (`evaluate_stage.py`), accuracy on preference pairs (`pair_accuracy.py`). Floor 7. The
folder has the layout of a run with one iteration, so that it can be resumed, verified and compared like one.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fairplay.cluster.executors import open_executor
from fairplay.cluster.settings import ClusterSettings
from fairplay.data.reading import read_prompts
from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.committed_judge import CommittedJudge
from fairplay.evaluation.injection import scan_responses
from fairplay.evaluation.judging import judge_games
from fairplay.evaluation.settings import CANARIES, MIN_BOOTSTRAP, SECOND_SAMPLE, check_canaries, check_judge
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.generation.settings import GenerationSettings
from fairplay.models.settings import ModelSettings
from fairplay.oracles.judge_settings import REPLIES_NAME
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import oracle_identity
from fairplay.pipeline.canary_games import (
    ONE_RESPONSE,
    canary_sides,
    first_responses,
    keep_canaries,
    second_responses,
)
from fairplay.pipeline.context import EVALUATION, WORKERS_NAME, count_reasons, data_digest
from fairplay.pipeline.results import titled, whole_comparison, with_intervals, write_results
from fairplay.pipeline.sides import (
    Responding,
    Side,
    fill_side,
    is_recorded,
    not_judged,
    recorded_responses,
    side_digest,
)
from fairplay.records import Dropped, Judgement, Prompt, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.servers.ledger import one_command
from fairplay.storage.manifest import Manifest, stage_fingerprint
from fairplay.storage.run_directory import RunDirectory, Stage, StageOutcome
from fairplay.storage.settings_file import settings_document, without
from fairplay.storage.shards import Executor
from fairplay.storage.tables import write_records
from fairplay.wording import reasons

logger = logging.getLogger(__name__)
JUDGEMENTS_NAME = "judgements-judge.parquet"
POLICY, OPPONENT = "policy", "opponent"
_KEPT_FOLDER = ".verdicts"
_SHARE = 64  # pairs that are judged and committed together


@dataclass(frozen=True)
class ComparisonSettings:
    """How two sides are compared.

    Attributes:
        judge: Who judges.
        generation: How a side that is a model responds.
        loading: How models are loaded.
        num_bootstrap: Resamples of the prompts behind each interval.
        canaries, num_canary_prompts: As in a run's `evaluation`: the judge is tried on the opponent's responses. A
            second sample needs an opponent that is a model, or a file with two responses a prompt.
        cluster: Who responds and judges; this process unless an `address` is named.
    """

    judge: OracleSettings
    generation: GenerationSettings = field(default_factory=lambda: GenerationSettings(num_responses=1))
    loading: ModelSettings = field(default_factory=ModelSettings)
    num_bootstrap: int = 2000
    canaries: tuple[str, ...] = tuple(CANARIES)
    num_canary_prompts: int = 100
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def __post_init__(self) -> None:
        check_judge(self.judge, "judge")
        check_canaries(self.canaries, self.num_canary_prompts)
        if self.num_bootstrap < MIN_BOOTSTRAP:
            raise SettingsError(f"num_bootstrap: {self.num_bootstrap} is less than {MIN_BOOTSTRAP}")


@dataclass(frozen=True)
class Task:
    """What is compared.

    Attributes:
        policy, opponent: A model (folder or hub id), or a file of responses (`FILE` or `FILE::COLUMN`).
        prompts: What models are to respond to; may be empty if a side is recorded, whose prompts are taken then.
        seed: Every sample's seed is a hash that begins with it.
    """

    policy: str
    opponent: str
    prompts: str = ""
    seed: int = 0


@one_command()
def evaluate_sides(
    task: Task,
    settings: ComparisonSettings,
    out: Path | None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Any], Path]:
    """Win rate of one side against the other, both presentation orders, with intervals; the judge tried by canaries.

    Args:
        task: What is compared.
        settings: How.
        out: The folder for responses, verdicts and results; None names one by the hash of all that decides them, so
            that the same call again goes on there.
        should_stop: Asked at every commit.

    Returns:
        The comparison as `results.json` in the folder has it, and the folder.

    Raises:
        DataError: If a side is a file that is not there, or the two sides have no prompt in common.
        SettingsError: If the folder holds another evaluation.
        Preempted: If `should_stop` said so; the same call again goes on.
    """
    stage = _stage(task, settings)
    run = RunDirectory(out or _default_folder(stage))
    document = {**asdict(task), **settings_document(settings)}
    account = run.path / WORKERS_NAME
    with run.open(document, identity=_identity), open_executor(settings.cluster, account) as executor:
        asking = replace(settings, judge=settings.judge.with_cache(str(run.path / REPLIES_NAME)))
        manifest = run.run_stage(stage, lambda folder: _fill(folder, task, asking, should_stop, executor))
        told = comparison_document(task.policy, manifest)
        write_results(run.path, told)
    return told, run.path


def comparison_document(policy: str, manifest: Manifest) -> dict[str, Any]:
    """The comparison of a finished evaluation as `results.json` has it."""
    results = manifest.results
    alarms = [canary["alarm"] for canary in results["canaries"] if canary["alarm"]]
    compared = {**whole_comparison(results["evaluation"], alarms), "policy": policy}
    markers = [{"policy": role, **results["markers"][role]} for role in (POLICY, OPPONENT)]
    gates = {**with_intervals({"canaries": results["canaries"]}), "markers": markers}
    return titled("comparison", {**compared, "left_out": results["left_out"], "gates": gates})


def _identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """A folder is one evaluation's: what decides its content is in its stage's fingerprint, places are not."""
    return {"compares": sorted({POLICY, OPPONENT} & set(document))}


def _stage(task: Task, settings: ComparisonSettings) -> Stage:
    judge, sources = oracle_identity(settings.judge, setting="judge")
    document = without(settings_document(settings), {"judge", "cluster"})
    decisive = {"seed": task.seed, "judge": judge, "share": _SHARE, **document}
    inputs = {f"judge {name}": source.digest() for name, source in sources.items()}
    inputs |= {role: side_digest(getattr(task, role)) for role in (POLICY, OPPONENT)}
    if task.prompts:
        inputs["prompts"] = data_digest(task.prompts)
    places = {POLICY: task.policy, OPPONENT: task.opponent, "prompts": task.prompts}
    return Stage(EVALUATION, 1, decisive, inputs, places)


def _default_folder(stage: Stage) -> Path:
    fingerprint = stage_fingerprint(stage.name, stage.iteration, dict(stage.settings), dict(stage.inputs))
    return Path("runs") / f"evaluate-{fingerprint[:10]}"


def _fill(
    folder: Path, task: Task, settings: ComparisonSettings, should_stop: Callable[[], bool], executor: Executor
) -> StageOutcome:
    prompts, unread = _asked(task)
    responding = Responding(settings.generation, settings.loading, task.seed, should_stop, executor)
    ours = fill_side(task.policy, folder / POLICY, POLICY, prompts, responding)
    theirs = fill_side(task.opponent, folder / OPPONENT, OPPONENT, prompts, responding)
    judge = CommittedJudge(
        VerdictWork(settings.judge),
        folder / _KEPT_FOLDER,
        executor=executor,
        num_at_once=_SHARE,
        should_stop=should_stop,
    )
    first = first_responses(theirs.groups, settings.num_canary_prompts)
    canaries, second = _canaries(folder, task, settings, first, theirs, responding)
    sides = [(ours.groups, theirs.groups), *canary_sides(canaries, first, second)]
    judged, *tried = judge_games(judge, sides)  # in one, for which the judge is loaded once
    missing = not_judged(judged, ours, theirs, num_samples=settings.generation.num_responses)
    if not judged.judgements:
        raise DataError(f"{task.policy} and {task.opponent}: nothing judged ({reasons(count_reasons(missing))})")
    write_records(folder / JUDGEMENTS_NAME, list(judged.judgements), Judgement)
    seed = stable_seed(task.seed, "bootstrap")
    drawn = {"seed": seed, "num_bootstrap": settings.num_bootstrap}
    games = keep_canaries(canaries, tried, folder=folder, judge_scores=settings.judge.scores(), **drawn)
    result = evaluate_judgements(
        judged.judgements,
        policy=POLICY,
        opponent=task.opponent,
        judge=judge.name,
        dropped=missing,
        seed=seed,
        num_bootstrap=settings.num_bootstrap,
        notes=judged.notes,
    )
    shutil.rmtree(folder / _KEPT_FOLDER)
    results = {
        "evaluation": {"role": "judge", "length_unit": judged.length_unit, **asdict(result)},
        "canaries": [asdict(canary) for canary in games.canaries],
        "markers": {POLICY: asdict(scan_responses(ours.groups)), OPPONENT: asdict(scan_responses(theirs.groups))},
        "left_out": {
            "prompts": count_reasons(unread),
            POLICY: count_reasons([*ours.unreadable, *ours.unanswered]),
            OPPONENT: count_reasons([*theirs.unreadable, *theirs.unanswered]),
        },
    }
    num_judged = len(judged.judgements)
    return StageOutcome(num_judged + len(missing), num_judged, count_reasons(missing), results)


def _asked(task: Task) -> tuple[Sequence[Prompt], Sequence[Dropped]]:
    """What models are asked, and rows of the prompts' file that were left out."""
    if task.prompts:
        read = read_prompts(task.prompts)
        return read.items, read.dropped
    recorded = [side for side in (task.policy, task.opponent) if is_recorded(side)]
    return [group.prompt for group in recorded_responses(recorded[0]).groups] if recorded else [], ()


def _canaries(
    folder: Path,
    task: Task,
    settings: ComparisonSettings,
    first: Sequence[ResponseGroup],
    opponent: Side,
    responding: Responding,
) -> tuple[list[str], Sequence[ResponseGroup]]:
    """Names of the canaries that can be played on these responses of the opponent, and its second sample."""
    wanted = list(settings.canaries)
    if SECOND_SAMPLE not in wanted:
        return wanted, ()
    second = _second_sample(folder, task, first, opponent, responding)
    if not second:
        wanted.remove(SECOND_SAMPLE)
        logger.info("canaries: no second sample of %s: %s", task.opponent, ONE_RESPONSE)
    return wanted, second


def _second_sample(
    folder: Path, task: Task, first: Sequence[ResponseGroup], opponent: Side, responding: Responding
) -> Sequence[ResponseGroup]:
    """Another response of the opponent to each prompt; none if it is a file with one response to some prompt."""
    if not is_recorded(task.opponent):
        once = replace(responding, generation=replace(responding.generation, num_responses=1))
        asked = [group.prompt for group in first]
        return fill_side(task.opponent, folder / SECOND_SAMPLE, "second sample", asked, once).groups
    return second_responses(opponent.groups, first)
