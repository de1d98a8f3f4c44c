"""What runs in the process of a worker: it loads what the work needs at the first shard, and answers every shard.

Errors come back as values: they are of the same class and say the same as those of a single process, and Ray takes none
of them for a reason to try again. Left out: the process that sends the shards (`ray_executor.py`). Imports no Ray, no
torch. Floor 3.
"""

import logging
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fairplay.cluster.meeting import Meeting
from fairplay.errors import FairplayError, ResourceError
from fairplay.progress import hide_bars
from fairplay.storage.run_directory import package_versions
from fairplay.storage.shards import Done, Work, Worker

PACKAGE = "fairplay"
INDEX, PAYLOAD = "index", "payload"
_SCHEMA = pa.schema([(INDEX, pa.int64()), (PAYLOAD, pa.large_binary())])


@dataclass(frozen=True)
class Assignment:
    """All that a worker must know besides its shards.

    Attributes:
        work: What it does.
        meeting: Where it notes what it begins.
        directory: The working directory of the command; relative paths begin there.
        python_path: Where the command finds its modules, the user's own too.
        log_level: From which level on messages are sent back.
    """

    work: Work[Any, Any]
    meeting: Meeting
    directory: str
    python_path: tuple[str, ...]
    log_level: int


@dataclass(frozen=True)
class Answer:
    """What came of a shard.

    Attributes:
        result: The finished shard, or the error that it ended with.
        said: Logger, level and text of what was logged meanwhile.
    """

    result: Done[Any] | Exception
    said: tuple[tuple[str, int, str], ...] = ()


@dataclass
class RemoteWorker:
    """The class that Ray makes an actor of.

    Args:
        assignment: A pickled `Assignment`, opened once the versions were seen to agree.
        versions: Of the packages that results depend on, where the command runs.
    """

    assignment: bytes
    versions: Mapping[str, str]
    _opened: list[Assignment] = field(default_factory=list)
    _worker: list[Worker[Any, Any]] = field(default_factory=list)

    def __call__(self, shards: pa.Table) -> pa.Table:
        """From a table of numbers and pickled items to one of numbers and pickled answers."""
        rows = [
            {INDEX: row[INDEX], PAYLOAD: pickle.dumps(self._answer(row[INDEX], row[PAYLOAD]))}
            for row in shards.to_pylist()
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def __del__(self) -> None:
        for worker in self._worker:  # Ray drops the actor's instance when the last shard is done
            worker.close()

    def _answer(self, index: int, items: bytes) -> Answer:
        said: list[tuple[str, int, str]] = []
        try:
            assignment = self._open()
            with _collected(assignment.log_level, said):
                assignment.meeting.begin(index)
                if not self._worker:
                    self._worker.append(assignment.work.start())
                records, dropped = self._worker[0].do(pickle.loads(items))  # noqa: S301 - of our own command
                return Answer(Done(index, records, dropped, self._worker[0].facts), tuple(said))
        except Exception as error:  # noqa: BLE001 - it is raised where the command runs
            return Answer(_portable(error), tuple(said))

    def _open(self) -> Assignment:
        if not self._opened:
            node = socket.gethostname()
            here = package_versions()
            other = [
                f"{name} {here.get(name)}, not {own}" for name, own in self.versions.items() if here.get(name) != own
            ]
            if other:
                raise ResourceError(
                    f"{node}: a worker has {'; '.join(other)}", hint="install the same packages on every machine"
                )
            assignment: Assignment = pickle.loads(self.assignment)  # noqa: S301 - of our own command
            _settle(assignment, node)
            self._opened.append(assignment)
        return self._opened[0]


def shards_table(shards: Mapping[int, bytes]) -> pa.Table:
    """Numbers and pickled items of shards as a table."""
    return pa.Table.from_pylist([{INDEX: i, PAYLOAD: items} for i, items in shards.items()], schema=_SCHEMA)


def _settle(assignment: Assignment, node: str) -> None:
    """Be where the command is, and find what it finds."""
    try:
        os.chdir(assignment.directory)
    except OSError as error:
        raise ResourceError(
            f"{assignment.directory}: is not there on {node}, where a worker runs ({error.strerror})",
            hint="start the command in a folder that all machines of the cluster share",
        ) from error
    sys.path += [place for place in assignment.python_path if place not in sys.path]
    hide_bars()


@contextmanager
def _collected(level: int, said: list[tuple[str, int, str]]) -> Iterator[None]:
    """Keep what our own loggers say while the block runs."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.name, record.levelno, record.getMessage()))

    ours, keeper = logging.getLogger(PACKAGE), Keep()
    before = ours.level
    ours.addHandler(keeper)
    ours.setLevel(level)
    try:
        yield
    finally:
        ours.removeHandler(keeper)
        ours.setLevel(before)


def _portable(error: Exception) -> Exception:
    """The error as it can be sent; with where it came from, if it is none of ours."""
    if not isinstance(error, FairplayError):
        error.add_note(f"in a worker on {socket.gethostname()}:\n{''.join(traceback.format_exception(error))}")
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - whatever it is that can't be sent
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__notes__ = getattr(error, "__notes__", [])
        return told
    return error
