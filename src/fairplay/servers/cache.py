"""Replies on disk: one SQLite file, JSON by content hash, each reply in a transaction of its own.

Left out: failures, which are never kept, and what a key covers (`requests.py`). Floor 3. Safe under kill -9
(write-ahead log), many threads (one connection, one lock) and several processes (SQLite's own locks).
"""

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from fairplay.errors import ResourceError
from fairplay.servers.outcomes import Reply
from fairplay.servers.replies import MalformedReplyError, parse_reply, reply_json
from fairplay.storage.atomic import disk_errors

_BUSY_SECONDS = 60.0
_AT_ONCE = 500
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"


class ReplyCache(Protocol):
    """Where replies are kept."""

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there; their `attempts` are 0. Those that were broken off count as not there."""
        ...

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class NoCache:
    """Keeps nothing."""

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        del keys
        return {}

    def put(self, key: str, reply: Reply) -> None:
        del key, reply

    def close(self) -> None:
        pass


class SqliteCache:
    """Keeps replies in a file.

    Args:
        path: The file; it is made with its folder where there is none.

    Raises:
        ResourceError: If it can't be written, or is there and can't be used: no such cache, damaged, or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()  # a folder, or a file of others, is told here and not by SQLite
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            for line in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _TABLE):
                self._connection.execute(line)
            self._connection.execute("SELECT key, reply FROM replies LIMIT 1")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> ResourceError:
        return ResourceError(
            f"{self._path}: not a usable cache of replies ({error})", hint="name another file, or mend it"
        )

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        wanted, found = list(dict.fromkeys(keys)), {}
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, reply FROM replies WHERE key IN ({marks})"  # noqa: S608 - question marks only
            try:
                with self._lock:
                    rows = self._connection.execute(query, some).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error
            for key, text in rows:
                try:
                    reply = parse_reply(text, attempts=0)
                except MalformedReplyError as error:
                    raise ResourceError(
                        f"{self._path}: reply {key[:12]} is damaged ({error})", hint="remove that row to ask again"
                    ) from error
                if reply.has_ended:
                    found[key] = reply
        return found

    def put(self, key: str, reply: Reply) -> None:
        try:
            with self._lock:
                self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, reply_json(reply)))
        except sqlite3.DatabaseError as error:
            raise ResourceError(
                f"{self._path}: can't keep a reply ({error})", hint="free some space, then run the same command again"
            ) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def open_cache(path: str) -> ReplyCache:
    """The cache in this file; one that keeps nothing where no file is named."""
    return SqliteCache(Path(path)) if path else NoCache()
