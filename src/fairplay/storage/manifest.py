"""The manifest of a finished stage: what went in, what came out, what was dropped and why, and every file's hash.

A folder counts only when its `manifest.json` exists; it is written last. Left out: running stages (`pipeline/`).
Floor 2.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.storage.atomic import write_atomic
from fairplay.storage.digests import sha256_file, sha256_value

STATISTICS = "statistics"
MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What a finished stage did.

    Attributes:
        stage: Name of the stage, such as "2-responses".
        iteration: Number of the self-play iteration, from 1; 0 outside the loop.
        settings: The settings that decide this stage's content, seed included.
        inputs: Name -> content hash of what the stage read.
        num_in, num_out: Rows read and written.
        dropped: Reason -> number of rows left out.
        files: Relative path -> SHA-256, for files whose bytes are the same in every run of these inputs and settings.
        logs: Names of files and folders that hold times or other things that differ between runs.
        results: Figures that the stage reports, the same in every run.
        versions: Package -> version at the time of writing; and under `STATISTICS` that of the statistics.
        seconds: Wall time of the process that finished the stage.
        tokens: Tokens generated, read or trained on.
    """

    stage: str
    iteration: int
    settings: dict[str, Any]
    inputs: dict[str, str]
    num_in: int
    num_out: int
    dropped: dict[str, int]
    files: dict[str, str]
    logs: tuple[str, ...] = ()
    results: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    schema_version: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the content; a stage with the same fingerprint need not run again."""
        return stage_fingerprint(self.stage, self.iteration, self.settings, self.inputs)

    @property
    def content(self) -> str:
        """Hash of everything but times and versions: equal for runs that made the same bytes."""
        return sha256_value([self.fingerprint, self.num_in, self.num_out, self.dropped, self.files, self.results])


def stage_fingerprint(stage: str, iteration: int, settings: dict[str, Any], inputs: dict[str, str]) -> str:
    """Hash of what decides a stage's content."""
    return sha256_value([SCHEMA_VERSION, stage, iteration, settings, inputs])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; from then on the folder counts as finished."""
    document = {"fingerprint": manifest.fingerprint, "content": manifest.content, **asdict(manifest)}
    write_atomic(folder / MANIFEST_NAME, json.dumps(document, indent=1, sort_keys=True) + "\n")


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished stage."""
    return (folder / MANIFEST_NAME).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished stage.

    Raises:
        DataError: If it is missing, damaged, or from another version of the schema.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{folder}: no {MANIFEST_NAME}, so this stage is not finished", hint="run the recipe again")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stored = (document.pop("fingerprint"), document.pop("content"))
        manifest = Manifest(**{**document, "logs": tuple(document["logs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error})", hint="remove this stage's folder and run again") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise DataError(f"{path}: schema {manifest.schema_version}, this version reads {SCHEMA_VERSION}")
    if stored != (manifest.fingerprint, manifest.content):
        raise DataError(f"{path}: changed after it was written", hint="remove this stage's folder and run again")
    return manifest


def refuse_damage(folder: Path, manifest: Manifest) -> None:
    """Refuse a finished stage whose files are not those that it was finished with.

    Raises:
        DataError: With every file that is missing or whose bytes differ.
    """
    faults = verify_files(folder, manifest)
    if faults:
        raise DataError("; ".join(faults), hint=f"remove {folder} and run again to make it anew")


def verify_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the stage's files that are missing or whose bytes differ from the manifest, with which of the two."""
    faults = []
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif sha256_file(path) != digest:
            faults.append(f"{path}: its bytes differ from the manifest")
    return faults
