"""Writing so that a file or folder is either whole or not there, whatever kills the process.

Order: write under a temporary name in the same folder, flush, fsync, rename, fsync the folder. Left out: what is
written. Floor 2.
"""

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairplay.errors import ResourceError

TEMPORARY_SUFFIX = ".partial"
# What only a write can meet, and what a path that can't be written to meets: reading an input gives the latter too.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_NO_PLACE = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)


def fsync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make the bytes of a file that is already written survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def temporary_sibling(path: Path) -> Path:
    """The name under which `path` is written before it is renamed."""
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a path that can't be written to into a `ResourceError`; for blocks that do nothing but write there."""
    with _told(path, (*_NO_ROOM, *_NO_PLACE), "name another place, or mend this one"):
        yield


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `ResourceError`; for blocks that read other files too."""
    with _told(path, _NO_ROOM, "free some space, or name another place"):
        yield


@contextmanager
def _told(path: Path, numbers: Collection[int], mend: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in numbers:
            raise
        raise ResourceError(
            f"{path}: can't write ({os.strerror(error.errno)})", hint=f"{mend}, then run the same command again"
        ) from error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file in one step: afterwards it has the old content or all of the new one.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    raw = content.encode() if isinstance(content, str) else content
    with disk_errors(path):
        temporary = temporary_sibling(path)
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)


@contextmanager
def folder_atomic(folder: Path) -> Iterator[Path]:
    """Fill a folder in one step: the block writes into a temporary sibling, which becomes `folder` when it ends well.

    An older `folder` is replaced, a left-over temporary one removed.

    Yields:
        The temporary folder to write into.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    temporary = temporary_sibling(folder)
    with disk_errors(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    with full_disk(folder):
        yield temporary
    with disk_errors(folder):
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                fsync_file(path)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        fsync_folder(folder.parent)
