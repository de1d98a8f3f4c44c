"""The games of the canaries against an opponent: judged, kept on disk, evaluated.

Left out: who the canaries are (`evaluation/canaries.py`), and when they are judged. Floor 7.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairplay.evaluation.canaries import Canary, canary_groups, canary_result
from fairplay.evaluation.judging import Judged, judge_games
from fairplay.evaluation.protocols.grade_canaries import GradedCanary
from fairplay.evaluation.settings import SECOND_SAMPLE
from fairplay.oracles.contract import PreferenceOracle
from fairplay.records import Dropped, Judgement, ResponseGroup
from fairplay.storage.tables import write_records

logger = logging.getLogger(__name__)
ONE_RESPONSE = "the opponent has one response to a prompt"
"""Why there is no second sample."""


@dataclass(frozen=True)
class CanaryGames:
    """What the canaries did.

    Attributes:
        canaries: One a canary, in the order of their names as given.
        dropped: Games that were not judged.
    """

    canaries: tuple[Canary, ...]
    dropped: tuple[Dropped, ...]

    @property
    def num_judged(self) -> int:
        """Games that were judged."""
        return sum(canary.num_prompts for canary in self.canaries)


def canary_path(folder: Path, canary: str) -> Path:
    """Where the verdicts on one canary lie."""
    return folder / f"judgements-{canary}.parquet"


def play_canaries(
    judge: PreferenceOracle,
    canaries: Sequence[str],
    opponent: Sequence[ResponseGroup],
    second_sample: Sequence[ResponseGroup],
    *,
    folder: Path,
    seed: int,
    num_bootstrap: int,
    judge_scores: bool,
) -> CanaryGames:
    """Judge every canary against the opponent, and keep the verdicts.

    Args:
        judge: Who is tried.
        canaries: Names in `evaluation.settings.CANARIES`.
        opponent: One response of the opponent a prompt.
        second_sample: Another one, for the canary of that name.
        folder: Where the verdicts go.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts behind each interval.
        judge_scores: See `canary_result`.
    """
    games = judge_games(judge, canary_sides(canaries, opponent, second_sample))
    return keep_canaries(
        canaries, games, folder=folder, seed=seed, num_bootstrap=num_bootstrap, judge_scores=judge_scores
    )


def canary_sides(
    canaries: Sequence[str], opponent: Sequence[ResponseGroup], second_sample: Sequence[ResponseGroup]
) -> list[tuple[Sequence[ResponseGroup], Sequence[ResponseGroup]]]:
    """The two sides of each canary's game, for `judge_games`; see `play_canaries`."""
    return [
        (second_sample if canary == SECOND_SAMPLE else canary_groups(canary, opponent), opponent) for canary in canaries
    ]


def keep_canaries(
    canaries: Sequence[str],
    games: Sequence[Judged],
    *,
    folder: Path,
    seed: int,
    num_bootstrap: int,
    judge_scores: bool,
) -> CanaryGames:
    """Keep the verdicts on every canary, and what they say of the judge; see `play_canaries`.

    Args:
        canaries: Their names.
        games: What the judge said to `canary_sides`, by canary.
        folder: Where the verdicts go.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts behind each interval.
        judge_scores: See `canary_result`.
    """
    found: list[Canary] = []
    dropped: list[Dropped] = []
    for canary, judged in zip(canaries, games, strict=True):
        write_records(canary_path(folder, canary), list(judged.judgements), Judgement)
        found.append(canary_result(canary, judged, seed=seed, num_bootstrap=num_bootstrap, judge_scores=judge_scores))
        dropped += judged.dropped
    return CanaryGames(tuple(found), tuple(dropped))


def first_responses(groups: Sequence[ResponseGroup], number: int) -> list[ResponseGroup]:
    """The first response to each of the first so many prompts; 0 takes all."""
    chosen = [group for group in groups if group.responses][: number or len(groups)]
    return [ResponseGroup(group.prompt, group.responses[:1], group.prompt_token_ids) for group in chosen]


def second_responses(groups: Sequence[ResponseGroup], first: Sequence[ResponseGroup]) -> list[ResponseGroup]:
    """The second response of the same policy to each prompt of `first`; none if some prompt has one response only."""
    by_id = {group.prompt.id: group for group in groups}
    found = [by_id[group.prompt.id] for group in first]
    if any(len(group.responses) < 2 for group in found):
        return []
    return [ResponseGroup(group.prompt, group.responses[1:2], group.prompt_token_ids) for group in found]


def alarms_of(canaries: Sequence[Canary | GradedCanary]) -> tuple[str, ...]:
    """What they say against the judge."""
    return tuple(canary.alarm for canary in canaries if canary.alarm)


def tell_alarms(canaries: Sequence[Canary]) -> None:
    """Warn of every alarm, where its results are told much later."""
    for alarm in alarms_of(canaries):
        logger.warning("%s", f"judge: {alarm}")  # no wording of its own, so that none is held back as one of many
