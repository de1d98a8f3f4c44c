"""After the last iteration: every checkpoint against every other on the held-out prompts, and what to do next.

Left out: the figures (`evaluation/checkpoint_game.py`). Floor 7. Games that the evaluations have played are not judged
again.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from fairplay.evaluation.checkpoint_game import checkpoint_game
from fairplay.evaluation.columns import judgement_columns
from fairplay.evaluation.committed_judge import CommittedJudge
from fairplay.evaluation.joint_strengths import joint_strengths
from fairplay.evaluation.judging import judge_games
from fairplay.evaluation.verdict_work import VerdictWork
from fairplay.pipeline.context import EVALUATION, GAME, RunContext, count_reasons, free_memory
from fairplay.pipeline.evaluate_stage import held_out_responses, judgements_path, opponents_of
from fairplay.records import Dropped, Judgement
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest, is_finished
from fairplay.storage.run_directory import Stage, StageOutcome
from fairplay.storage.settings_file import settings_document
from fairplay.storage.tables import read_records, write_records

STRENGTHS = "strengths"
KEPT_FOLDER = ".verdicts"


def checkpoint_name(iteration: int) -> str:
    """What a checkpoint is called in tables."""
    return f"iteration {iteration}" if iteration else "start"


def game_stage(context: RunContext) -> Manifest:
    """Judge the pairs of checkpoints that have not met, and evaluate the whole game; lies with the last iteration."""
    last = context.settings.num_iterations
    pairs = list(combinations(range(last + 1), 2))

    def fill(folder: Path) -> StageOutcome:
        games = {(i, j): _played(context, i, j) for i, j in pairs}
        dropped = _play(context, games, folder)
        shutil.rmtree(folder / KEPT_FOLDER, ignore_errors=True)
        free_memory()
        return StageOutcome(len(pairs), len(pairs), count_reasons(dropped), game_figures(context, games))

    evaluation = settings_document(context.settings.evaluation)
    judge_settings, inputs = context.oracle_inputs(context.settings.evaluation.judge, "judge")
    decisive = {
        "seed": context.settings.seed,
        "judge": judge_settings,
        **{key: evaluation[key] for key in ("num_bootstrap", "opponents")},
    }
    inputs |= {checkpoint_name(i): context.stage_content(i, EVALUATION) for i in range(last + 1)}
    return context.run.run_stage(Stage(GAME, last, decisive, inputs), fill)


def game_figures(context: RunContext, games: Mapping[tuple[int, int], Sequence[Judgement]]) -> dict[str, Any]:
    """The game's figures from all verdicts of j against i, i < j, as the stage keeps them."""
    columns = {pair: judgement_columns(judgements) for pair, judgements in games.items()}
    scores = {
        pair: dict(zip(one.prompt_ids, one.prompt_scores().tolist(), strict=True)) for pair, one in columns.items()
    }
    names = [checkpoint_name(iteration) for iteration in range(context.settings.num_iterations + 1)]
    seed = stable_seed(context.settings.seed, "bootstrap")
    num_bootstrap = context.settings.evaluation.num_bootstrap
    game = checkpoint_game(names, scores, seed=seed, num_bootstrap=num_bootstrap)
    strengths = joint_strengths(names, columns)
    return {**asdict(game), STRENGTHS: asdict(strengths)}


def kept_games(context: RunContext) -> dict[tuple[int, int], Sequence[Judgement]]:
    """All verdicts of the finished game, from the evaluations and from its own folder."""
    last = context.settings.num_iterations
    folder = context.run.folder(last, GAME)
    return {
        (i, j): _played(context, i, j) or read_records(_game_path(folder, i, j), Judgement)
        for i, j in combinations(range(last + 1), 2)
    }


def game_results(context: RunContext) -> dict[str, Any]:
    """The finished game's figures as `CheckpointGame` has them, and under `STRENGTHS` the `CheckpointStrengths`.

    Empty where the game was not asked for or not played; without `STRENGTHS` where an older release played it.
    """
    last = context.settings.num_iterations
    if not (context.settings.evaluation.all_checkpoints and is_finished(context.run.folder(last, GAME))):
        return {}
    return dict(context.run.manifest(last, GAME).results)


def _played(context: RunContext, i: int, j: int) -> Sequence[Judgement]:
    """The judge's verdicts of j against i from the evaluation of j, if it met i there."""
    folder = context.run.folder(j, EVALUATION)
    for name, opponent in opponents_of(context, j).items():
        if opponent == i:
            return read_records(judgements_path(folder, name, "judge"), Judgement)
    return ()


def _game_path(folder: Path, i: int, j: int) -> Path:
    return folder / f"judgements-{j}-{i}.parquet"


def _play(context: RunContext, games: dict[tuple[int, int], Sequence[Judgement]], folder: Path) -> tuple[Dropped, ...]:
    """Judge the games that have no verdicts yet; what is missing in them."""
    missing = [pair for pair, judgements in games.items() if not judgements]
    if not missing:
        return ()
    judge = CommittedJudge(
        VerdictWork(context.judge),
        folder / KEPT_FOLDER,
        executor=context.executor,
        num_at_once=context.settings.shard_size,
        should_stop=context.should_stop,
    )
    sides = [(held_out_responses(context, j), held_out_responses(context, i)) for i, j in missing]
    dropped: list[Dropped] = []
    for pair, judged in zip(missing, judge_games(judge, sides), strict=True):
        write_records(_game_path(folder, *pair), list(judged.judgements), Judgement)
        games[pair] = judged.judgements
        dropped += judged.dropped
    return tuple(dropped)
