"""Judging as work that is done shard by shard: a judge's failure costs the verdicts that it failed on, and no others.

Left out: what is judged (`judging.py`), what is kept (`committed_judge.py`). Floor 5.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairplay.errors import DataError
from fairplay.oracles.contract import PreferenceOracle
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.preference_work import facts_of
from fairplay.oracles.table import build_oracle
from fairplay.records import Dropped, PreferenceGroup, ResponseGroup
from fairplay.storage.shards import Facts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerdictWork:
    """Every group judged; one on which the judge fails has no verdicts."""

    judge: KindSettings

    @property
    def asks_server(self) -> bool:
        return self.judge.asks_server()

    @property
    def num_gpus(self) -> int:
        return int(self.judge.has_weights())

    def start(self) -> "JudgeWorker":
        """Load the judge; see `build_oracle` for what it raises."""
        return JudgeWorker(build_oracle(self.judge))


class JudgeWorker:
    """A worker with a judge."""

    def __init__(self, judge: PreferenceOracle) -> None:
        self.judge = judge

    @property
    def facts(self) -> Facts:
        return facts_of(self.judge)

    def do(self, items: Sequence[ResponseGroup]) -> tuple[Sequence[PreferenceGroup], Sequence[Dropped]]:
        """Judge the groups of a shard; nothing is left out.

        Raises:
            DataError: If the judge returned other prompts than it was given.
        """
        judged = judge_or_isolate(self.judge, items)
        return [one or _without_verdict(group) for one, group in zip(judged, items, strict=True)], ()

    def close(self) -> None:
        """Nothing is held but the judge, which goes with the worker."""


def judge_or_isolate(judge: PreferenceOracle, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup | None]:
    """The judge's verdict on each group; None for a group on which it failed with a `DataError`, and for no other.

    Raises:
        DataError: If the judge returned other prompts than it was given.
    """
    return list(_judge_or_isolate(judge, groups))


def _judge_or_isolate(judge: PreferenceOracle, groups: Sequence[ResponseGroup]) -> Iterator[PreferenceGroup | None]:
    try:
        judged = judge.pair_logits(groups)
    except DataError as error:
        if len(groups) == 1:
            logger.warning("judge %s failed on prompt %s: %s", judge.name, groups[0].prompt.id, error.message)
            yield None
            return
        middle = len(groups) // 2
        yield from _judge_or_isolate(judge, groups[:middle])
        yield from _judge_or_isolate(judge, groups[middle:])
        return
    if [preferences.group.prompt.id for preferences in judged] != [group.prompt.id for group in groups]:
        raise DataError(f"judge {judge.name} returned other prompts than it was given: {len(judged)} of {len(groups)}")
    yield from judged


def _without_verdict(group: ResponseGroup) -> PreferenceGroup:
    size = len(group.responses)
    return PreferenceGroup(group, ((None,) * size,) * size, (False,) * size)
