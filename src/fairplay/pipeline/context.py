"""What every stage of a run needs to know: where things lie, what identifies them, and how to build the parts.

Left out: the stages (`stages.py`, `evaluate_stage.py`). Floor 7.
"""

import gc
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fairplay.data.sources import Files, open_source
from fairplay.generation.response_work import ResponseWork
from fairplay.oracles.judge_settings import REPLIES_NAME
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.source import Source
from fairplay.oracles.table import oracle_identity
from fairplay.pipeline.settings import RunSettings, TrainRunSettings
from fairplay.records import Dropped, Prompt, ResponseGroup
from fairplay.storage.digests import content_digest, sha256_file, sha256_value
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import HERE, Executor, run_sharded

PROMPTS, RESPONSES, PREFERENCES, EXAMPLES, CHECKPOINT, EVALUATION, GAME, GATES = (
    "1-prompts",
    "2-responses",
    "3-preferences",
    "4-examples",
    "5-checkpoint",
    "6-evaluation",
    "7-game",
    "7-gates",
)


WORKERS_NAME = "workers.jsonl"
"""In a run's folder: what Ray's workers did, a line for each time that they were started."""
SMALL_PROCESS = 2_000_000_000
"""Bytes of main memory; the packages alone take 0.6 GB."""


@dataclass(frozen=True)
class RunContext:
    """One run while it goes on.

    Attributes:
        run: Its folder.
        settings: Its settings.
        should_stop: Asked at every commit.
        executor: Where shards are done.
    """

    run: RunDirectory
    settings: RunSettings
    should_stop: Callable[[], bool]
    executor: Executor = HERE
    _digests: dict[str, str] = field(default_factory=dict)

    def digest(self, source: str) -> str:
        """Content hash of a model named in the recipe, computed once."""
        if source not in self._digests:
            self._digests[source] = content_digest(source)
        return self._digests[source]

    def data_digest(self, source: str) -> str:
        """Content hash of data named in the recipe, computed once."""
        key = f"data: {source}"
        if key not in self._digests:
            self._digests[key] = data_digest(source)
        return self._digests[key]

    def policy(self, iteration: int) -> str:
        """Where the policy lies that an iteration ended with; 0 is the one that the run starts from."""
        if iteration == 0:
            return self.settings.model
        return str(self.run.folder(iteration, CHECKPOINT) / "model")

    def policy_digest(self, iteration: int) -> str:
        """What identifies that policy."""
        return self.digest(self.settings.model) if iteration == 0 else self.stage_content(iteration, CHECKPOINT)

    @property
    def oracle(self) -> OracleSettings:
        """The training oracle; what a server replies to it is kept in the run's folder."""
        return self.settings.oracle.with_cache(self._replies)

    @property
    def judge(self) -> OracleSettings:
        """The judge, likewise; the cache is no part of what decides a stage."""
        return self.settings.evaluation.judge.with_cache(self._replies)

    @property
    def _replies(self) -> str:
        return str(self.run.path / REPLIES_NAME)

    def train_settings(self) -> TrainRunSettings:
        """The part of the run's settings that decides a training."""
        values = {item.name: getattr(self.settings, item.name) for item in fields(TrainRunSettings)}
        return TrainRunSettings(**values)

    def stage_content(self, iteration: int, name: str) -> str:
        """Content hash of a finished stage."""
        return self.run.manifest(iteration, name).content

    def oracle_inputs(self, oracle: OracleSettings, role: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The oracle's settings without places, and what identifies its weights, code or records, as inputs."""
        document, sources = oracle_identity(oracle, setting=role)
        return document, {f"{role} {name}": self.oracle_digest(source) for name, source in sources.items()}

    def oracle_digest(self, source: Source) -> str:
        """What identifies an oracle's weights, code or records, computed once."""
        key = f"oracle: {source}"
        if key not in self._digests:
            self._digests[key] = source.digest()
        return self._digests[key]


def data_digest(source: str) -> str:
    """What identifies the data behind a source: the bytes of the files that are read, or the id on the hub.

    Raises:
        DataError: If there is no such data.
    """
    opened = open_source(source)
    if not isinstance(opened, Files):
        return opened.name
    digests = {path.name: sha256_file(path) for path in opened.paths}
    return sha256_value(digests) if len(digests) > 1 else next(iter(digests.values()))


def generate_parts(
    context: RunContext,
    folder: Path,
    prompts: Sequence[Prompt],
    *,
    policy: str,
    num_responses: int,
    parts: tuple[str | int, ...],
) -> None:
    """Fill `folder` with response groups, shard by shard; the engine's memory is free again afterwards.

    The seeds of a prompt's samples are those of (run seed, *parts, prompt id).
    """
    settings = context.settings
    generation = replace(settings.generation, num_responses=num_responses)
    run_sharded(
        folder,
        prompts,
        ResponseWork(policy, generation, settings.loading, (settings.seed, *parts)),
        ResponseGroup,
        executor=context.executor,
        shard_size=settings.shard_size,
        description=f"{folder.parent.name}/{folder.name}: responses",
        should_stop=context.should_stop,
    )
    free_memory()


def free_memory() -> None:
    """Give back what a model held, on the accelerator too.

    A model in a reference cycle goes with a whole collection only, which takes 0.4 s with the packages loaded: a third
    of the time of a tiny run. So there is none where no large model can be: nothing on any accelerator, and a process
    that has never been large.
    """
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    if any(torch.cuda.memory_allocated(device) for device in devices) or _largest_size() > SMALL_PROCESS:
        gc.collect()
    if devices:
        torch.cuda.empty_cache()


def _largest_size() -> int:
    """Bytes of main memory that this process has had at most."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def count_reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    """Reason -> number of items left out for it."""
    counts: dict[str, int] = {}
    for item in dropped:
        counts[item.reason] = counts.get(item.reason, 0) + 1
    return dict(sorted(counts.items()))
