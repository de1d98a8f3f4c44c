"""Ranking as work that is done shard by shard: the oracle in the process that does it, and what it tells of itself.

Left out: the oracles, where shards are done and committed (`storage/shards.py`). Floor 4; imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fairplay.oracles.contract import PreferenceOracle, split_judged
from fairplay.oracles.kinds.base import KindSettings
from fairplay.oracles.table import build_oracle
from fairplay.records import Dropped, PreferenceGroup, ResponseGroup
from fairplay.storage.shards import Facts

NAME, TEMPERATURE = "name", "temperature"


@dataclass(frozen=True)
class PreferenceWork:
    """All pairs of responses of every prompt compared; prompts that lack a verdict are left out."""

    oracle: KindSettings

    @property
    def asks_server(self) -> bool:
        return self.oracle.asks_server()

    @property
    def num_gpus(self) -> int:
        return int(self.oracle.has_weights())

    def start(self) -> "Ranker":
        """Load the oracle; see `build_oracle` for what it raises."""
        return Ranker(build_oracle(self.oracle))


class Ranker:
    """A worker with an oracle."""

    def __init__(self, oracle: PreferenceOracle) -> None:
        self.oracle = oracle

    @property
    def facts(self) -> Facts:
        return facts_of(self.oracle)

    def do(self, items: Sequence[ResponseGroup]) -> tuple[Sequence[PreferenceGroup], Sequence[Dropped]]:
        """Compare the responses to each prompt of a shard."""
        return split_judged(self.oracle.pair_logits(items))

    def close(self) -> None:
        """Nothing is held but the oracle, which goes with the worker."""


def facts_of(oracle: PreferenceOracle) -> Facts:
    """What a worker tells of its oracle, for processes that have not loaded it: its name and temperature."""
    return {NAME: oracle.name, TEMPERATURE: oracle.temperature}
