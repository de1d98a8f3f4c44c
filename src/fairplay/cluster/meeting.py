"""The folder in which driver and workers meet: a token that every worker must find, and who began what.

It is on a file system that all machines of a cluster share. Left out: Ray itself. Floor 3.
"""

import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairplay.errors import ResourceError
from fairplay.storage.atomic import disk_errors, write_atomic

FOLDER_NAME = ".workers"
_TOKEN_NAME = "token"  # noqa: S105 - what shows that a folder is the same one


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who began a shard."""

    node: str
    pid: int


@dataclass(frozen=True)
class Meeting:
    """Such a folder, as it is called on every machine.

    Attributes:
        folder: Its absolute path.
        token: What its token says.
        max_retries: How often a shard may be begun anew.
    """

    folder: Path
    token: str
    max_retries: int

    def begin(self, index: int) -> None:
        """Note that this process begins a shard.

        Raises:
            ResourceError: If this machine does not see the folder, or too many have died of this shard.
        """
        node = socket.gethostname()
        try:
            seen = (self.folder / _TOKEN_NAME).read_text(encoding="utf-8")
        except OSError:
            seen = ""
        if seen != self.token:
            raise ResourceError(
                f"{self.folder.parent}: is not the same folder on {node}, where a worker runs",
                hint="on a cluster the output and the models are on a file system that all its machines share",
            )
        before = self.attempts(index)
        if len(before) > self.max_retries:
            last = before[-1]
            raise ResourceError(
                f"{self.folder.parent}: shard {index}: its worker died {len(before)} times, "
                f"the last time on {last.node} (process {last.pid})",
                hint="mostly memory was too small: lower the batch_size of generation or oracle, or run fewer workers "
                "on a machine (cluster.num_workers); what is finished is kept",
            )
        write_atomic(self._path(index, len(before)), json.dumps({"node": node, "pid": os.getpid()}))

    def attempts(self, index: int) -> list[Attempt]:
        """Who began a shard, in their order."""
        found: list[Attempt] = []
        while (path := self._path(index, len(found))).is_file():
            found.append(Attempt(**json.loads(path.read_bytes())))
        return found

    def _path(self, index: int, number: int) -> Path:
        return self.folder / f"{index:05d}-{number}.json"


@contextmanager
def meeting_in(folder: Path, *, max_retries: int) -> Iterator[Meeting]:
    """A meeting of its own while the block runs, below the folder where shards are committed.

    Raises:
        ResourceError: If the folder can't be written.
    """
    meeting = Meeting(folder.resolve() / FOLDER_NAME, uuid.uuid4().hex, max_retries)
    with disk_errors(folder):
        shutil.rmtree(meeting.folder, ignore_errors=True)
        meeting.folder.mkdir(parents=True)
    write_atomic(meeting.folder / _TOKEN_NAME, meeting.token)
    try:
        yield meeting
    finally:
        shutil.rmtree(meeting.folder, ignore_errors=True)
