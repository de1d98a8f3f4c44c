"""The self-play loop: the stages in their order, iteration after iteration, then results and report.

Left out: what the stages do, and the command line. Floor 7.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from fairplay.cluster.executors import open_executor
from fairplay.errors import SettingsError
from fairplay.generation.settings import POLICY
from fairplay.generation.table import check_engine
from fairplay.models.loading import check_source, resolve_device
from fairplay.objectives.table import build_objective
from fairplay.oracles.table import oracle_identity
from fairplay.pipeline.benchmark_stage import benchmark_stages
from fairplay.pipeline.checkpoint_stage import anchor_source, checkpoint_stage
from fairplay.pipeline.context import WORKERS_NAME, RunContext
from fairplay.pipeline.evaluate_stage import evaluation_stage
from fairplay.pipeline.game_stage import game_stage
from fairplay.pipeline.gates_stage import gates_stage
from fairplay.pipeline.planning.clock import Rates
from fairplay.pipeline.planning.plan import write_plan
from fairplay.pipeline.report_stage import write_run_report
from fairplay.pipeline.results import run_results, write_results
from fairplay.pipeline.settings import RunSettings, run_identity, split_objective
from fairplay.pipeline.stages import examples_stage, given_responses, preferences_stage, prompts_stage, responses_stage
from fairplay.preferences.settings import GIVEN
from fairplay.servers.ledger import one_command
from fairplay.storage.locking import lock
from fairplay.storage.manifest import Manifest, refuse_damage
from fairplay.storage.run_directory import SETTINGS_NAME, RunDirectory
from fairplay.storage.settings_file import build_settings, read_yaml, settings_document
from fairplay.training.frozen import frozen_models
from fairplay.training.guard import check_objective
from fairplay.training.trainable import check_settings as check_training
from fairplay.wording import reasons

logger = logging.getLogger(__name__)
NOT_MADE_BY_SELF_PLAY = frozenset({"ordered scores"})
ITERATION_STAGES = (
    prompts_stage,
    responses_stage,
    preferences_stage,
    examples_stage,
    checkpoint_stage,
    evaluation_stage,
)


def check_settings(settings: RunSettings) -> None:
    """Refuse, before anything is written or computed, what can't work: the parts of a long run that come late too.

    Raises:
        SettingsError: If the objective, engine, device or a rule's function is unknown, or the parts don't fit.
        DataError: If a model's or an oracle's folder is not there.
    """
    objective = build_objective(*split_objective(settings.objective))
    check_objective(objective, (), settings.training)
    check_training(settings.training, settings.loading)
    check_engine(settings.generation)
    if settings.generation.engine == "openai" and not settings.generation.serves_policy:
        raise SettingsError(
            f"generation.server.model: `{settings.generation.server.model}` names fixed weights, "
            "and a run samples from new ones in every iteration",
            hint="start one in every iteration by generation.serve.command='vllm serve {model} --port {port}', "
            f"or use one that loads by name, generation.server.model='{POLICY}'",
        )
    resolve_device(settings.loading)
    frozen = frozen_models(objective, anchor=anchor_source(settings), importance=settings.importance)
    for source in (settings.model, *frozen.values()):
        check_source(source)
    for key, oracle in (("oracle", settings.oracle), ("evaluation.judge", settings.evaluation.judge)):
        for place in oracle_identity(oracle, setting=key)[1].values():
            place.check()
    if settings.selection.kind == GIVEN:
        given_responses(settings.prompts.data)
    if settings.generation.num_responses < 2:
        raise SettingsError(
            f"generation.num_responses: {settings.generation.num_responses}; preferences need at least 2 responses",
            hint="SPPO uses 5",
        )
    missing = sorted(objective.needs & NOT_MADE_BY_SELF_PLAY)
    if missing:
        raise SettingsError(
            f"objective.name: `{settings.objective['name']}` needs {', '.join(missing)}, which self-play doesn't make",
            hint="train it offline with `fairplay train` on data that has them",
        )


def run_loop(
    settings: RunSettings, run: RunDirectory, *, should_stop: Callable[[], bool], rates: Rates | None = None
) -> Path:
    """Run, or go on with, the whole loop.

    Args:
        settings: Everything that decides the result.
        run: Where it goes; finished stages there are kept.
        should_stop: Asked at every commit.
        rates: How fast this machine is, for the plan that the report compares with what happened.

    Returns:
        The report's `index.html`.

    Raises:
        SettingsError: If the settings don't fit together, or differ from those that the folder was started with.
        LockedError: If another process works in the folder.
        Preempted: If `should_stop` said so.
    """
    check_settings(settings)
    account = run.path / WORKERS_NAME
    before = run.finish_times()
    with (
        one_command(),
        run.open(settings_document(settings), identity=run_identity),
        open_executor(settings.cluster, account) as executor,
    ):
        context = RunContext(run, settings, should_stop, executor)
        write_plan(context, rates)
        evaluation_stage(context, 0)
        gates_stage(context)
        for iteration in range(1, settings.num_iterations + 1):
            for stage in ITERATION_STAGES:
                manifest = stage(context, iteration)
                _tell(run, manifest, before)
        if settings.evaluation.all_checkpoints:
            game_stage(context)
        benchmark_stages(context)
        write_results(run.path, run_results(context))
        return write_run_report(context)


def _tell(run: RunDirectory, manifest: Manifest, before: Mapping[Path, int]) -> None:
    """One line on a finished stage: how long it took, or since when it is there."""
    folder = run.folder(manifest.iteration, manifest.stage)
    finished = run.finish_times()[folder]
    if finished == before.get(folder):
        when = f"kept from {datetime.fromtimestamp(finished / 1e9).astimezone():%Y-%m-%d %H:%M}"
    else:
        when = f"{manifest.seconds:.1f} s"
    logger.info(
        "iteration %d %s: %d in, %d out, dropped: %s; %s",
        *(manifest.iteration, manifest.stage, manifest.num_in, manifest.num_out),
        *(reasons(manifest.dropped) or "none", when),
    )


def rewrite_report(folder: Path) -> Path:
    """Write results and report of a finished run again, from its folder alone.

    Raises:
        DataError: If a stage of the run is not finished, or damaged since.
        SettingsError: If the folder is no self-play run.
        LockedError: If another process works in the folder.
    """
    path = folder / SETTINGS_NAME
    document = read_yaml(path)
    if "data" in document:
        raise SettingsError(
            f"{folder}: an offline training has no report", hint="`fairplay train` prints its figures when run again"
        )
    run = RunDirectory(folder)
    context = RunContext(run, build_settings(RunSettings, document, str(path)), lambda: False)
    with lock(folder):
        for stage_folder, manifest in run.manifests():
            refuse_damage(stage_folder, manifest)
        write_results(run.path, run_results(context))
        return write_run_report(context)
