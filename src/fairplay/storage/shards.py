"""Work committed shard by shard, so that a kill loses at most the shard in flight.

The parts stay as they are (`part-00000.parquet`, ...): they are the stage's output. What a shard left out lies beside
it, written first, so that a part that exists is complete. Left out: what the work is. Floor 2.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fairplay.errors import Preempted
from fairplay.progress import progress
from fairplay.records import Dropped
from fairplay.storage.tables import read_records, write_records

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[Sequence[T]], tuple[Sequence[R], Sequence[Dropped]]]


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
    shard_size: int,
    description: str,
    should_stop: Callable[[], bool],
) -> None:
    """Do `work` on every shard of `items` that is not committed yet.

    Args:
        folder: Where the parts go; parts already there are kept.
        items: All items of the stage, in an order that is the same in every run.
        work: Maps the items of one shard to its records and to what it left out.
        record_type: Type of the records.
        shard_size: Items a shard; part of what decides the bytes, so part of the stage's settings.
        description: For the progress bar.
        should_stop: Asked between shards.

    Raises:
        Preempted: If `should_stop` said so; the shards done are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with progress(description, len(items)) as bar:
        for index, start in enumerate(range(0, len(items), shard_size)):
            shard = items[start : start + shard_size]
            if not part_path(folder, index).exists():
                if should_stop():
                    raise Preempted(f"stopped in {description} after {start} of {len(items)} items; they are kept")
                records, dropped = work(shard)
                write_records(_dropped_path(folder, index), list(dropped), Dropped)
                write_records(part_path(folder, index), list(records), record_type)
            bar.advance(len(shard))


def read_parts(folder: Path, record_type: type[R]) -> list[R]:
    """The records of all parts of a folder, in order."""
    return [record for path in sorted(folder.glob("part-*.parquet")) for record in read_records(path, record_type)]


def read_dropped(folder: Path) -> list[Dropped]:
    """Everything that the shards of a folder left out, in order."""
    return [record for path in sorted(folder.glob("dropped-*.parquet")) for record in read_records(path, Dropped)]
