"""Before anything is trained: whether the judge can be fooled, and whether held-out prompts are training prompts.

Left out: the canaries and the counting (`evaluation/`). Floor 7. Lies with iteration 0, whose responses it judges.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.evaluation.committed_judge import CommittedJudge
from fairplay.evaluation.overlap import prompt_overlap
from fairplay.evaluation.settings import SECOND_SAMPLE
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.pipeline.canary_games import CanaryGames, first_responses, play_canaries, tell_alarms
from fairplay.pipeline.context import EVALUATION, GATES, RunContext, count_reasons, free_memory, generate_parts
from fairplay.pipeline.evaluate_stage import held_out_prompts, held_out_responses
from fairplay.pipeline.stages import training_prompts
from fairplay.records import ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest, is_finished
from fairplay.storage.run_directory import Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import read_parts

SECOND_FOLDER = "second-sample"


def gates_stage(context: RunContext) -> Manifest:
    """Judge the canaries against the start policy's responses, and count the overlap of prompts."""
    settings = context.settings
    evaluation = settings.evaluation

    def fill(folder: Path) -> StageOutcome:
        games = _canaries(context, folder)
        overlap = prompt_overlap(training_prompts(context)[0], held_out_prompts(context))
        results = {"canaries": [asdict(canary) for canary in games.canaries], "overlap": asdict(overlap)}
        tell_alarms(games.canaries)
        num_asked = games.num_judged + len(games.dropped)
        return StageOutcome(num_asked, games.num_judged, count_reasons(games.dropped), results)

    judge_settings, inputs = context.oracle_inputs(evaluation.judge, "judge")
    document = settings_document(evaluation)
    decisive = {
        "seed": settings.seed,
        "shard_size": settings.shard_size,
        "generation": settings_document(settings.generation),
        "loading": settings_document(settings.loading),
        "judge": judge_settings,
        **{key: document[key] for key in ("num_prompts", "num_bootstrap", "canaries", "num_canary_prompts")},
    }
    inputs |= {
        "training prompts": context.data_digest(settings.prompts.data),
        "held-out prompts": context.data_digest(evaluation.prompts),
        "policy": context.policy_digest(0),
        "start": context.stage_content(0, EVALUATION),
    }
    places = {"training prompts": settings.prompts.data, "held-out prompts": evaluation.prompts}
    return context.run.run_stage(Stage(GATES, 0, decisive, inputs, places), fill)


def gates_results(context: RunContext) -> dict[str, Any]:
    """The finished stage's figures; empty for a run of a release that had no gates."""
    if not is_finished(context.run.folder(0, GATES)):
        return {}
    return dict(context.run.manifest(0, GATES).results)


def _canaries(context: RunContext, folder: Path) -> CanaryGames:
    settings, evaluation = context.settings, context.settings.evaluation
    if not evaluation.canaries:
        return CanaryGames((), ())
    opponent = first_responses(held_out_responses(context, 0), evaluation.num_canary_prompts)
    if SECOND_SAMPLE in evaluation.canaries:
        generate_parts(
            context,
            folder / SECOND_FOLDER,
            [group.prompt for group in opponent],
            policy=context.policy(0),
            num_responses=1,
            parts=("second sample",),
        )
    kept = folder / ".verdicts"
    judge = CommittedJudge(
        VerdictWork(context.judge),
        kept,
        executor=context.executor,
        num_at_once=settings.shard_size,
        should_stop=context.should_stop,
    )
    games = play_canaries(
        judge,
        evaluation.canaries,
        opponent,
        read_parts(folder / SECOND_FOLDER, ResponseGroup),
        folder=folder,
        seed=stable_seed(settings.seed, "bootstrap"),
        num_bootstrap=evaluation.num_bootstrap,
        judge_scores=evaluation.judge.scores(),
    )
    shutil.rmtree(kept)
    free_memory()
    return games
