"""Shards done by Ray Data: one actor a worker, which holds its model until the last shard is done.

Ray keeps the queue, places the actors, and starts one anew whose process died; its shard is begun again by it. What is
here: the way from shards to a dataset and back. Left out: what an actor does (`ray_worker.py`), joining Ray
(`ray_session.py`). Floor 3.
"""

import json
import logging
import os
import pickle
import socket
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from fairplay.cluster.meeting import Attempt, meeting_in
from fairplay.cluster.ray_session import RaySession
from fairplay.cluster.ray_worker import INDEX, PACKAGE, PAYLOAD, Answer, Assignment, RemoteWorker, shards_table
from fairplay.cluster.settings import ClusterSettings, Place
from fairplay.errors import ResourceError
from fairplay.storage.atomic import disk_errors
from fairplay.storage.run_directory import package_versions
from fairplay.storage.shards import HERE, Done, Shard, Work

T = TypeVar("T")
R = TypeVar("R")
logger = logging.getLogger(__name__)
_QUEUED = 2  # shards that are sent to an actor, the one that it does included
_SECONDS_TO_LEAVE = 60.0
_POLL = 0.05


@dataclass
class Account:
    """What became of one work so far.

    Attributes:
        folder: Where its shards were committed, as seen from the file of accounts.
        num_shards, num_workers: How many there were.
        num_done: Shards that came back.
        nodes: The machines that did them.
        num_deaths: Workers that died over one of them.
        seconds: From the first shard that was sent.
    """

    folder: str
    num_shards: int
    num_workers: int
    num_done: int = 0
    nodes: list[str] = field(default_factory=list)
    num_deaths: int = 0
    seconds: float = 0.0

    def add(self, index: int, attempts: Sequence[Attempt]) -> None:
        """Count a shard that came back, and those who died over it."""
        self.num_done += 1
        self.nodes = sorted({*self.nodes, *(attempt.node for attempt in attempts)})
        for dead in attempts[:-1]:
            self.num_deaths += 1
            logger.warning("shard %d: its worker died on %s (process %d), done anew", index, dead.node, dead.pid)


class RayExecutor:
    """Executor of a command; it joins Ray for the first work, and leaves when it is closed.

    Args:
        settings: Which Ray, how many workers, what each takes.
        account: The file to which every work adds a line, or None.
    """

    def __init__(self, settings: ClusterSettings, account: Path | None) -> None:
        self.settings, self.account = settings, account
        self.session = RaySession(settings)

    def close(self) -> None:
        """Leave Ray: whatever still runs for this command ends."""
        self.session.close()

    def run(self, work: Work[T, R], shards: Sequence[Shard[T]], folder: Path) -> Generator[Done[R], None, None]:
        """See `storage.shards.Executor`.

        Raises:
            ResourceError: If the cluster has no room for the workers, they don't share a file system with this process,
                run other versions, or die over one shard more than `max_retries` times.
        """
        if work.asks_server:
            yield from HERE.run(work, shards, folder)
            return
        place = self.session.place(work.num_gpus, len(shards))
        account = Account(self._seen(folder), len(shards), place.num_workers)
        started = time.monotonic()
        try:
            yield from self._run(work, shards, folder, place, account)
        finally:
            account.seconds = round(time.monotonic() - started, 3)
            self._keep(account)

    def _run(
        self, work: Work[T, R], shards: Sequence[Shard[T]], folder: Path, place: Place, account: Account
    ) -> Generator[Done[R], None, None]:
        with meeting_in(folder, max_retries=self.settings.max_retries) as meeting:
            level = logging.getLogger(PACKAGE).getEffectiveLevel()
            assignment = Assignment(work, meeting, os.getcwd(), tuple(sys.path), level)
            arguments = {"assignment": pickle.dumps(assignment), "versions": package_versions()}
            table = shards_table({shard.index: pickle.dumps(shard.items) for shard in shards})
            pids: set[int] = set()
            with closing(self.session.map(table, RemoteWorker, arguments, place, queued=_QUEUED)) as rows:
                for row in rows:
                    attempts = meeting.attempts(row[INDEX])
                    pids |= {one.pid for one in attempts if one.node == socket.gethostname()}
                    account.add(row[INDEX], attempts)
                    yield _result(row[PAYLOAD])
        _wait_for_exit(pids)

    def _seen(self, folder: Path) -> str:
        return os.path.relpath(folder, self.account.parent) if self.account else str(folder)

    def _keep(self, account: Account) -> None:
        logger.info(
            "%s: %d of %d shards by %d workers on %s in %.1f s, %d died",
            *(account.folder, account.num_done, account.num_shards, account.num_workers),
            *(", ".join(account.nodes) or "no machine", account.seconds, account.num_deaths),
        )
        if self.account:
            with disk_errors(self.account), self.account.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(account)) + "\n")


def _result(payload: bytes) -> Done[R]:
    answer: Answer = pickle.loads(payload)  # noqa: S301 - from our own workers
    for name, level, text in answer.said:
        logging.getLogger(name).log(level, "%s", text)
    if isinstance(answer.result, Exception):
        raise answer.result
    return answer.result


def _wait_for_exit(pids: set[int]) -> None:
    """Wait until the workers on this machine have left it, so that their memory is free.

    Raises:
        ResourceError: If one does not leave.
    """
    limit = time.monotonic() + _SECONDS_TO_LEAVE
    while pids := {pid for pid in pids if Path(f"/proc/{pid}").exists()}:
        if time.monotonic() > limit:
            raise ResourceError(
                f"workers did not end: processes {sorted(pids)}", hint="end them, then run the same command again"
            )
        time.sleep(_POLL)
