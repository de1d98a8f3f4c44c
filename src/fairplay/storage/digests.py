"""Content hashes of files and folders, and of plain values: what fingerprints are made of.

Left out: what a fingerprint covers (`manifest.py`). Floor 2.
"""

import hashlib
import json
import re
from pathlib import Path

from fairplay.errors import DataError
from fairplay.storage.atomic import TEMPORARY_SUFFIX

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: If it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can't read it ({error.strerror})") from error


def sha256_value(value: object) -> str:
    """SHA-256 of a JSON-able value; the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def sha256_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by relative path; hidden and half-written files are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return {str(p.relative_to(folder)): sha256_file(p) for p in kept if not p.name.endswith(TEMPORARY_SUFFIX)}


def content_digest(source: str) -> str:
    """What identifies the content behind the name of a model in a recipe.

    Args:
        source: A local file, a local folder, or a hub id.

    Returns:
        The hash of the bytes for something local, so that the place does not matter; else the hub id itself.

    Raises:
        DataError: If it is a path, and nothing is there that can be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return sha256_file(path)
    if source and path.is_dir():  # an empty name is no name for the current folder
        return sha256_value(sha256_files(path))
    if not is_hub_id(source):
        raise DataError(f"{source}: no such file or folder", hint="name a folder, or a hub id `owner/name`")
    return source


def is_hub_id(source: str) -> bool:
    """Whether a name has the form of a hub id, `name` or `owner/name`."""
    return _HUB_ID.fullmatch(source) is not None
