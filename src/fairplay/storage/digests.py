"""Content hashes of files and folders, and of plain values: what fingerprints are made of.

Left out: what a fingerprint covers (`manifest.py`). Floor 2.
"""

import hashlib
import json
from pathlib import Path

from fairplay.storage.atomic import TEMPORARY_SUFFIX


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_value(value: object) -> str:
    """SHA-256 of a JSON-able value; the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def sha256_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by relative path; hidden and half-written files are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return {str(p.relative_to(folder)): sha256_file(p) for p in kept if not p.name.endswith(TEMPORARY_SUFFIX)}


def content_digest(source: str) -> str:
    """What identifies the content behind a name in a recipe.

    Args:
        source: A local file, a local folder, or a hub id.

    Returns:
        The hash of the bytes for something local, so that the place does not matter; else the name itself.
    """
    path = Path(source)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        return sha256_value(sha256_files(path))
    return source
