"""Evaluation of an iterate on held-out prompts: its responses, the verdicts of judge and oracle, and the win rates.

Left out: the statistics (`evaluation/`). Floor 7. Iteration 0 is the start policy: it only responds, as an opponent.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.data.reading import read_prompts
from fairplay.errors import DataError
from fairplay.evaluation.committed_judge import CommittedJudge
from fairplay.evaluation.injection import scan_responses
from fairplay.evaluation.judging import judge_games
from fairplay.evaluation.oracle_gap import oracle_gap
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.evaluation.win_rates import evaluate_judgements
from fairplay.generation.settings import decisive_settings
from fairplay.oracles.settings import OracleSettings
from fairplay.pipeline.context import EVALUATION, RunContext, count_reasons, free_memory, generate_parts
from fairplay.records import Judgement, Prompt, Response, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
from fairplay.storage.shards import read_dropped, read_parts
from fairplay.storage.tables import read_records, write_records
from fairplay.wording import plural

RESPONSES_FOLDER = "responses"
KEPT_FOLDER = ".verdicts"
"""Verdicts as they come, until all are there: what a stopped judging goes on with."""


def held_out_prompts(context: RunContext) -> list[Prompt]:
    """The prompts that every iterate is judged on: drawn by the run's seed, in a fixed order."""
    settings = context.settings
    loaded = read_prompts(settings.evaluation.prompts).items
    ordered = sorted(loaded, key=lambda prompt: (stable_seed(settings.seed, "held-out", prompt.id), prompt.id))
    number = settings.evaluation.num_prompts or len(ordered)
    if number > len(ordered):
        raise DataError(
            f"{settings.evaluation.prompts}: {plural(len(ordered), 'prompt')}, "
            f"evaluation.num_prompts asks for {number}",
            hint="lower evaluation.num_prompts, or set it to 0 for all of them",
        )
    return ordered[:number]


def opponents_of(context: RunContext, iteration: int) -> dict[str, int]:
    """Name -> iteration of the policies that an iterate is judged against, without naming one twice."""
    chosen: dict[str, int] = {}
    for name in context.settings.evaluation.opponents if iteration > 0 else ():
        opponent = 0 if name == "start" else iteration - 1
        if opponent not in chosen.values():
            chosen[name] = opponent
    return chosen


def held_out_responses(context: RunContext, iteration: int) -> list[ResponseGroup]:
    """What the policy of an iteration responded on the held-out prompts."""
    return read_parts(context.run.folder(iteration, EVALUATION) / RESPONSES_FOLDER, ResponseGroup)


def length_of(response: Response) -> int:
    """Length in tokens; in characters where a server told no tokens."""
    return len(response.token_ids) or len(response.text)


def judgements_path(folder: Path, opponent: str, role: str) -> Path:
    """Where the verdicts of one comparison lie; `role` is "judge" or "oracle"."""
    return folder / f"judgements-{opponent}-{role}.parquet"


def _compare(
    context: RunContext, iteration: int, folder: Path, role: str, oracle: OracleSettings
) -> list[dict[str, Any]]:
    """Judge the iterate against each of its opponents and keep the verdicts; one result an opponent."""
    evaluation = context.settings.evaluation
    policy = read_parts(folder / RESPONSES_FOLDER, ResponseGroup)
    judge = CommittedJudge(
        VerdictWork(oracle),
        folder / KEPT_FOLDER / role,
        executor=context.executor,
        num_at_once=context.settings.shard_size,
        should_stop=context.should_stop,
    )
    opponents = opponents_of(context, iteration)
    games = judge_games(judge, [(policy, held_out_responses(context, opponent)) for opponent in opponents.values()])
    results = []
    for name, judged in zip(opponents, games, strict=True):
        write_records(judgements_path(folder, name, role), list(judged.judgements), Judgement)
        result = evaluate_judgements(
            judged.judgements,
            policy=f"iteration {iteration}",
            opponent=name,
            judge=judge.name,
            dropped=judged.dropped,
            seed=stable_seed(context.settings.seed, "bootstrap"),
            num_bootstrap=evaluation.num_bootstrap,
            notes=judged.notes,
        )
        results.append({"role": role, "length_unit": judged.length_unit, **asdict(result)})
    free_memory()
    return results


def oracle_gaps(context: RunContext, iteration: int, folder: Path) -> dict[str, Any]:
    """Opponent -> where training oracle and judge part ways on the same responses."""
    gaps = {}
    for name in opponents_of(context, iteration):
        oracle, judge = (read_records(judgements_path(folder, name, role), Judgement) for role in ("oracle", "judge"))
        seed = stable_seed(context.settings.seed, "bootstrap")
        gaps[name] = asdict(
            oracle_gap(oracle, judge, seed=seed, num_bootstrap=context.settings.evaluation.num_bootstrap)
        )
    return gaps


def evaluation_stage(context: RunContext, iteration: int) -> Manifest:
    """Let the policy of an iteration respond to the held-out prompts, and judge it against its opponents."""
    settings = context.settings
    evaluation = settings.evaluation

    def fill(folder: Path) -> StageOutcome:
        prompts = held_out_prompts(context)
        generate_parts(
            context,
            folder / RESPONSES_FOLDER,
            prompts,
            policy=context.policy(iteration),
            num_responses=evaluation.num_samples,
            parts=("evaluation", iteration),
        )
        groups = read_parts(folder / RESPONSES_FOLDER, ResponseGroup)
        responses = [response for group in groups for response in group.responses]
        results: dict[str, Any] = {
            "lengths": [length_of(response) for response in responses],
            "num_cut_at_length": sum(response.finish_reason == "length" for response in responses),
            "markers": asdict(scan_responses(groups)),
        }
        if iteration > 0:
            results["evaluations"] = [
                *_compare(context, iteration, folder, "judge", context.judge),
                *_compare(context, iteration, folder, "oracle", context.oracle.as_judge()),
            ]
            results["oracle_gaps"] = oracle_gaps(context, iteration, folder)
            shutil.rmtree(folder / KEPT_FOLDER)
        dropped = count_reasons(read_dropped(folder / RESPONSES_FOLDER))
        tokens = sum(len(response.token_ids) for response in responses)
        return StageOutcome(len(prompts), len(groups), dropped, results, tokens)

    decisive, inputs = _decisive(context, iteration)
    return context.run.run_stage(Stage(EVALUATION, iteration, decisive, inputs, {"prompts": evaluation.prompts}), fill)


def _decisive(context: RunContext, iteration: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and inputs that decide the stage's content; nobody judges iteration 0."""
    settings = context.settings
    evaluation = settings_document(settings.evaluation)
    decisive = {
        "seed": settings.seed,
        "shard_size": settings.shard_size,
        "generation": decisive_settings(settings.generation),
        "loading": settings_document(settings.loading),
        **{key: evaluation[key] for key in ("num_prompts", "num_samples")},
    }
    inputs = {
        "prompts": context.data_digest(settings.evaluation.prompts),
        "policy": context.policy_digest(iteration),
    }
    if iteration > 0:
        decisive |= {key: evaluation[key] for key in ("num_bootstrap", "opponents")}
        for role, oracle in (("judge", settings.evaluation.judge), ("oracle", settings.oracle)):
            decisive[role], its_inputs = context.oracle_inputs(oracle, role)
            inputs |= its_inputs
        for name, number in opponents_of(context, iteration).items():
            inputs[f"opponent {name}"] = context.stage_content(number, EVALUATION)
    return decisive, inputs
