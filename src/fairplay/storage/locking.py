"""One process at a time in a run directory; the lock goes with its process, also when it is killed.

Left out: locks across machines (flock on a network file system is only as good as that file system). Floor 2.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairplay.errors import LockedError
from fairplay.storage.atomic import disk_errors

LOCK_NAME = ".lock"


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs.

    Raises:
        LockedError: If another process holds it; the message names host and process id.
        ResourceError: If the folder can't be written.
    """
    path = folder / LOCK_NAME
    with disk_errors(path):
        held = path.open("a+", encoding="utf-8")
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another process works here ({holder})", hint="wait for it, or choose another folder"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield
