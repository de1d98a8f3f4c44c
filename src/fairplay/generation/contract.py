"""The contract of an engine: prompts and seeds in, groups of responses out.

Left out: the engines themselves (one module each, listed in `table.py`). Imports no torch. Floor 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fairplay.records import Dropped, Prompt, ResponseGroup


@dataclass(frozen=True, slots=True)
class Generated:
    """Response groups in the order of their prompts, and the prompts left out, with reasons."""

    groups: tuple[ResponseGroup, ...]
    dropped: tuple[Dropped, ...]


class Engine(Protocol):
    """Something that responds to prompts."""

    def respond(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Generated:
        """Sample responses, as many to a prompt as it has seeds.

        Args:
            prompts: What to respond to, ids unique.
            seeds: One non-negative seed a sample; a sample depends on its prompt and seed, not on its neighbours.

        Returns:
            A group for each prompt that was not dropped; its responses are in the order of the seeds.
        """
        ...

    def close(self) -> None:
        """Give back the memory of the model; the engine can't respond any more."""
        ...
