"""A judge whose verdicts are committed as they come: a judging that is stopped goes on where it was.

Left out: what is judged (`judging.py`), where (`storage/shards.py`), and what the verdicts become. Floor 5.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

from fairplay.oracles.preference_work import NAME, TEMPERATURE
from fairplay.records import PreferenceGroup, ResponseGroup
from fairplay.storage.atomic import disk_errors
from fairplay.storage.digests import sha256_value
from fairplay.storage.shards import (
    Done,
    Executor,
    Facts,
    Shard,
    Work,
    commit_shards,
    part_path,
    read_facts,
    read_parts,
    write_facts,
)
from fairplay.storage.tables import write_records


@dataclass(frozen=True, slots=True)
class _Kept:
    """A verdict without the texts, known by the hash of what was judged; see `PreferenceGroup` for the rest."""

    key: str
    pair_logits: tuple[tuple[float | None, ...], ...]
    truncated: tuple[bool, ...]
    prompt_truncated: bool


class CommittedJudge:
    """Asks a judge in small shares, keeps each share's verdicts on disk, and never asks for a kept one again.

    A verdict that is missing or not a finite number is not kept: the next attempt asks for it again. The judge is
    loaded for every call that has something to ask, so ask for all at once.

    Args:
        work: How it is judged, such as `VerdictWork`; its workers' facts are a judge's name and temperature.
        folder: Where the verdicts are kept; those that are there already count, so it must be this judge's alone.
        executor: Where it is judged.
        num_at_once: Groups that are asked about and committed together; a kill loses at most these.
        should_stop: Asked before each share.
    """

    def __init__(
        self,
        work: Work[ResponseGroup, PreferenceGroup],
        folder: Path,
        *,
        executor: Executor,
        num_at_once: int,
        should_stop: Callable[[], bool],
    ) -> None:
        self.work, self.folder, self.executor = work, folder, executor
        self.num_at_once, self.should_stop = num_at_once, should_stop
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._kept = {one.key: one for one in read_parts(folder, _Kept)}
        self._num_parts = len(list(folder.glob("part-*.parquet")))

    @property
    def name(self) -> str:
        """The judge's name."""
        return str(self._facts[NAME])

    @property
    def temperature(self) -> float:
        """The judge's temperature."""
        return float(self._facts[TEMPERATURE])

    @cached_property
    def _facts(self) -> Facts:
        """What the judge told of itself; it is loaded for this where it was never asked for a verdict."""
        facts = read_facts(self.folder)
        if not facts:
            with closing(self.work.start()) as worker:
                facts = worker.facts
            write_facts(self.folder, facts)
        return facts

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`.

        Raises:
            DataError: As the work does.
            Preempted: If `should_stop` said so; what was judged before is kept.
        """
        keys = [_key(group) for group in groups]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        asked = [(key, group) for key, group in dict(zip(keys, groups, strict=True)).items() if key not in found]
        shares = [asked[start : start + self.num_at_once] for start in range(0, len(asked), self.num_at_once)]
        missing: dict[str, tuple[str, ...]] = {}

        def commit(done: Done[PreferenceGroup]) -> None:
            write_facts(self.folder, done.facts)
            verdicts = [
                _Kept(key, one.pair_logits, one.truncated, one.prompt_truncated)
                for (key, _), one in zip(shares[done.index], done.records, strict=True)
            ]
            found.update((one.key, one) for one in verdicts)
            missing.update((key, one.missing) for (key, _), one in zip(shares[done.index], done.records, strict=True))
            self._commit([one for one in verdicts if _is_whole(one)])

        commit_shards(
            self.work,
            [Shard(index, [group for _, group in share]) for index, share in enumerate(shares)],
            commit,
            executor=self.executor,
            folder=self.folder,
            description="judging",
            num_before=len(found),
            should_stop=self.should_stop,
        )
        return [
            PreferenceGroup(
                group,
                found[key].pair_logits,
                found[key].truncated,
                found[key].prompt_truncated,
                missing=missing.get(key, ()),
            )
            for key, group in zip(keys, groups, strict=True)
        ]

    def _commit(self, verdicts: Sequence[_Kept]) -> None:
        if verdicts:
            write_records(part_path(self.folder, self._num_parts), verdicts, _Kept)
            self._num_parts += 1
            self._kept |= {one.key: one for one in verdicts}


def _key(group: ResponseGroup) -> str:
    messages = [[message.role, message.content] for message in group.prompt.messages]
    return sha256_value([group.prompt.id, messages, [response.text for response in group.responses]])


def _is_whole(verdict: _Kept) -> bool:
    return all(logit is not None and isfinite(logit) for row in verdict.pair_logits for logit in row)
