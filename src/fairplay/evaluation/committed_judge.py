"""A judge whose verdicts are committed as they come: a judging that is stopped goes on where it was.

Left out: what is judged (`judging.py`), and what the verdicts become. Floor 5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from fairplay.errors import DataError, Preempted
from fairplay.oracles.contract import PreferenceOracle
from fairplay.records import PreferenceGroup, ResponseGroup
from fairplay.storage.digests import sha256_value
from fairplay.storage.shards import part_path, read_parts
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

    A verdict that is missing or not a finite number is not kept: the next attempt asks for it again.

    Args:
        judge: Who judges.
        folder: Where the verdicts are kept; those that are there already count, so it must be this judge's alone.
        num_at_once: Groups that are asked about and committed together; a kill loses at most these.
        should_stop: Asked before each share.
    """

    def __init__(
        self, judge: PreferenceOracle, folder: Path, *, num_at_once: int, should_stop: Callable[[], bool]
    ) -> None:
        self.judge, self.folder = judge, folder
        self.num_at_once, self.should_stop = num_at_once, should_stop
        self.name, self.temperature = judge.name, judge.temperature
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = {one.key: one for one in read_parts(folder, _Kept)}
        self._num_parts = len(list(folder.glob("part-*.parquet")))

    def pair_logits(self, groups: Sequence[ResponseGroup]) -> list[PreferenceGroup]:
        """Judge all ordered pairs of each group; see `PreferenceOracle`.

        Raises:
            DataError: As the judge does.
            Preempted: If `should_stop` said so; what was judged before is kept.
        """
        keys = [_key(group) for group in groups]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [(key, group) for key, group in zip(keys, groups, strict=True) if key not in found]
        for start in range(0, len(missing), self.num_at_once):
            if self.should_stop():
                raise Preempted(f"stopped in judging by {self.name}; {len(self._kept)} verdicts are kept")
            share = missing[start : start + self.num_at_once]
            judged = self.judge.pair_logits([group for _, group in share])
            if [one.group.prompt.id for one in judged] != [group.prompt.id for _, group in share]:
                raise DataError(f"judge {self.name} returned other prompts than it was given")
            verdicts = [
                _Kept(key, one.pair_logits, one.truncated, one.prompt_truncated)
                for (key, _), one in zip(share, judged, strict=True)
            ]
            found |= {one.key: one for one in verdicts}
            self._commit([one for one in verdicts if _is_whole(one)])
        return [
            PreferenceGroup(group, found[key].pair_logits, found[key].truncated, found[key].prompt_truncated)
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
