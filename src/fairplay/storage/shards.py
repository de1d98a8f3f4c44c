"""Work done and committed shard by shard, so that a kill loses at most the shards in flight.

The parts stay as they are (`part-00000.parquet`, ...): they are the stage's output. What a shard left out lies beside
it, written first, so that a part that exists is complete. Left out: what the work is, and processes other than this one
(`cluster/`). Floor 2.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fairplay.errors import Preempted
from fairplay.progress import progress
from fairplay.records import Dropped
from fairplay.stopping import stoppable
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.tables import read_records, write_records

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
Facts = Mapping[str, Any]
FACTS_NAME = ".facts.json"


class Worker(Protocol[T_contra, R_co]):
    """Does shards one after the other; what is heavy was loaded once, when it was started.

    Attributes:
        facts: What it tells of itself as plain data, the same for every worker of a work: an oracle's temperature.
    """

    @property
    def facts(self) -> Facts: ...

    def do(self, items: Sequence[T_contra]) -> tuple[Sequence[R_co], Sequence[Dropped]]:
        """The records of a shard's items, and what was left out; both depend on these items alone."""
        ...

    def close(self) -> None:
        """Give back what is heavy; the worker can't do any more."""
        ...


class Work(Protocol[T_contra, R_co]):
    """What is done to every shard, as plain data: another process can be sent it, and start a worker of its own.

    Attributes:
        asks_server: Whether a server does what is heavy. It is asked from one process, so that limits on cost and
            concurrency hold for all shards together.
        num_gpus: GPUs that a worker has for itself, on machines that have any.
    """

    @property
    def asks_server(self) -> bool: ...

    @property
    def num_gpus(self) -> int: ...

    def start(self) -> Worker[T_contra, R_co]:
        """A worker, ready for its first shard."""
        ...


@dataclass(frozen=True, slots=True)
class Shard(Generic[T]):
    """Items that are done and committed together, and their number."""

    index: int
    items: Sequence[T]


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """What came of the shard of this number; the facts are its worker's."""

    index: int
    records: Sequence[R]
    dropped: Sequence[Dropped]
    facts: Facts = field(default_factory=dict)


class Executor(Protocol):
    """Where shards are done."""

    def run(self, work: Work[T, R], shards: Sequence[Shard[T]], folder: Path) -> Generator[Done[R], None, None]:
        """Shards as they are finished, in any order; closing the generator ends all workers.

        Args:
            work: What is done.
            shards: One or more, their numbers unique.
            folder: Where they are committed by the caller; hidden files there are the executor's own.
        """
        ...


class ThisProcess:
    """One shard after the other by one worker, here."""

    def run(self, work: Work[T, R], shards: Sequence[Shard[T]], folder: Path) -> Generator[Done[R], None, None]:
        """See `Executor`."""
        del folder
        with closing(work.start()) as worker:
            for shard in shards:
                records, dropped = worker.do(shard.items)
                yield Done(shard.index, records, dropped, worker.facts)


HERE = ThisProcess()
"""Where shards are done unless something else is said."""


def commit_shards(
    work: Work[T, R],
    shards: Sequence[Shard[T]],
    commit: Callable[[Done[R]], None],
    *,
    executor: Executor,
    folder: Path,
    description: str,
    num_before: int,
    should_stop: Callable[[], bool],
) -> None:
    """Let an executor do the shards, and commit each when it is finished; without shards no worker is started.

    Args:
        work: What is done.
        shards: What is missing.
        commit: Puts a finished shard on disk.
        executor: Where it is done.
        folder: Where the shards are committed.
        description: For the progress bar.
        num_before: Items that were committed before.
        should_stop: Asked before every shard, and by what waits inside one (`stopping.py`).

    Raises:
        Preempted: If `should_stop` said so; what is committed is kept.
    """
    if not shards:
        return
    sizes = {shard.index: len(shard.items) for shard in shards}
    total = num_before + sum(sizes.values())
    running = closing(executor.run(work, shards, folder))
    with progress(description, total) as bar, running as finished, stoppable(should_stop):
        bar.advance(num_before)
        while sizes and not should_stop():
            done = next(finished)
            commit(done)
            bar.advance(sizes.pop(done.index))
        if sizes:
            raise Preempted(f"stopped in {description} after {bar.done} of {total} items; they are kept")
        assert next(finished, None) is None  # its workers have ended


def part_path(folder: Path, index: int) -> Path:
    """The file of shard number `index`."""
    return folder / f"part-{index:05d}.parquet"


def _dropped_path(folder: Path, index: int) -> Path:
    return folder / f"dropped-{index:05d}.parquet"


def run_sharded(
    folder: Path,
    items: Sequence[T],
    work: Work[T, R],
    record_type: type[R],
    *,
    executor: Executor,
    shard_size: int,
    description: str,
    should_stop: Callable[[], bool],
) -> Facts:
    """Do `work` on every shard of `items` that is not committed yet.

    Args:
        folder: Where the parts go; parts already there are kept.
        items: All items of the stage, in an order that is the same in every run.
        work: From the items of one shard to its records and to what it left out.
        record_type: Type of the records.
        executor: Where the shards are done.
        shard_size: Items a shard; part of what decides the bytes, so part of the stage's settings.
        description: For the progress bar.
        should_stop: Asked before every shard.

    Returns:
        The workers' facts, those of an earlier call where this one did nothing; empty if there are no items.

    Raises:
        Preempted: If `should_stop` said so; the shards done are kept.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    starts = enumerate(range(0, len(items), shard_size))
    shards = [Shard(index, items[start : start + shard_size]) for index, start in starts]
    missing = [shard for shard in shards if not part_path(folder, shard.index).exists()]

    def commit(done: Done[R]) -> None:
        write_facts(folder, done.facts)
        write_records(_dropped_path(folder, done.index), list(done.dropped), Dropped)
        write_records(part_path(folder, done.index), list(done.records), record_type)

    commit_shards(
        work,
        missing,
        commit,
        executor=executor,
        folder=folder,
        description=description,
        num_before=len(items) - sum(len(shard.items) for shard in missing),
        should_stop=should_stop,
    )
    return read_facts(folder)


def write_facts(folder: Path, facts: Facts) -> None:
    """Keep what the workers told of themselves, unless it is kept already."""
    path = folder / FACTS_NAME
    if facts and not path.exists():
        write_atomic(path, json.dumps(dict(facts)))


def read_facts(folder: Path) -> Facts:
    """What the workers told of themselves, whenever that was; empty if they told nothing."""
    path = folder / FACTS_NAME
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def any_part(folder: Path) -> bool:
    """Whether some shard of a folder is committed."""
    return any(folder.glob("part-*.parquet"))


def read_parts(folder: Path, record_type: type[R]) -> list[R]:
    """The records of all parts of a folder, in order."""
    return [record for path in sorted(folder.glob("part-*.parquet")) for record in read_records(path, record_type)]


def read_dropped(folder: Path) -> list[Dropped]:
    """Everything that the shards of a folder left out, in order."""
    return [record for path in sorted(folder.glob("dropped-*.parquet")) for record in read_records(path, Dropped)]
