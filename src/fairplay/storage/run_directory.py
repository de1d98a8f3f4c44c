"""A run directory: its settings, its stages, and the rule that finished work is never done again or silently reused.

Left out: what the stages do (`pipeline/`). Floor 2.

    runs/<name>/settings.yaml  iteration-1/{1-prompts,2-responses,...}/manifest.json  iteration-2/...  report/
"""

import importlib.metadata
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.digests import sha256_files
from fairplay.storage.manifest import (
    MANIFEST_NAME,
    Manifest,
    is_finished,
    read_manifest,
    stage_fingerprint,
    verify_files,
    write_manifest,
)
from fairplay.storage.settings_file import dump_yaml, read_yaml, settings_difference

logger = logging.getLogger(__name__)
SETTINGS_NAME = "settings.yaml"
_STARTED_NAME = ".started.json"
_VERSIONS_OF = ("fairplay", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


@dataclass(frozen=True)
class Stage:
    """One stage before it runs: where it lies and what decides its content.

    Attributes:
        name: Folder name, such as "2-responses".
        iteration: Number of the iteration; 0 is the policy that the run starts from.
        settings: The settings that decide the content, seed included; plain data.
        inputs: Name -> content hash of everything it reads.
    """

    name: str
    iteration: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class StageOutcome:
    """What a stage reports when it has filled its folder; see `Manifest` for the fields."""

    num_in: int
    num_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    tokens: int = 0
    logs: tuple[str, ...] = ()


class RunDirectory:
    """The folder of one run.

    Args:
        path: The folder.
        replace_stale: Run stages again whose settings or inputs changed (a forked run), instead of refusing.
    """

    def __init__(self, path: Path, *, replace_stale: bool = False) -> None:
        self.path = path
        self.replace_stale = replace_stale

    def folder(self, iteration: int, name: str) -> Path:
        """Where a stage lies."""
        return self.path / f"iteration-{iteration}" / name

    def open(self, settings: Mapping[str, Any]) -> None:
        """Write the run's settings, or check that they are those of the run that is here already.

        Raises:
            SettingsError: If a run with other settings is here; the message lists every difference.
            ResourceError: If the folder can't be written.
        """
        path = self.path / SETTINGS_NAME
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if path.is_file() and not self.replace_stale:
            changed = settings_difference(read_yaml(path), settings)
            if changed:
                raise SettingsError(
                    f"{self.path}: this run was started with other settings:\n  " + "\n  ".join(changed),
                    hint="undo the changes to resume it, add --fork to start a new run beside it, or choose --out",
                )
        write_atomic(path, dump_yaml(settings))

    def run_stage(self, stage: Stage, fill: Callable[[Path], StageOutcome]) -> Manifest:
        """Fill the stage's folder, or skip it if it is finished; the manifest is written last.

        Args:
            stage: What is to be done.
            fill: Fills the folder it is given; finds there what an interrupted run left.

        Raises:
            SettingsError: If the folder holds the finished work of other settings or inputs.
            DataError: If finished work was damaged since.
        """
        folder = self.folder(stage.iteration, stage.name)
        fingerprint = stage_fingerprint(stage.name, stage.iteration, dict(stage.settings), dict(stage.inputs))
        if is_finished(folder):
            manifest = read_manifest(folder)
            if manifest.fingerprint == fingerprint:
                _refuse_damage(folder, manifest)
                logger.info("%s/%s: finished before, kept", folder.parent.name, folder.name)
                return manifest
            if not self.replace_stale:
                _refuse_stale(folder, manifest, stage)
            shutil.rmtree(folder)
        _prepare(folder, fingerprint)
        started = time.monotonic()
        with disk_errors(folder):
            outcome = fill(folder)
        logs = outcome.logs
        files = {name: digest for name, digest in sha256_files(folder).items() if name.split("/")[0] not in logs}
        manifest = Manifest(
            stage=stage.name,
            iteration=stage.iteration,
            settings=dict(stage.settings),
            inputs=dict(stage.inputs),
            num_in=outcome.num_in,
            num_out=outcome.num_out,
            dropped=dict(outcome.dropped),
            files=files,
            logs=logs,
            results=dict(outcome.results),
            versions=package_versions(),
            seconds=round(time.monotonic() - started, 3),
            tokens=outcome.tokens,
        )
        write_manifest(folder, manifest)
        return manifest

    def manifest(self, iteration: int, name: str) -> Manifest:
        """The manifest of a finished stage.

        Raises:
            DataError: If the stage is not finished.
        """
        return read_manifest(self.folder(iteration, name))

    def manifests(self) -> list[tuple[Path, Manifest]]:
        """Folder and manifest of every finished stage, by iteration and stage."""
        paths = self.path.glob(f"iteration-*/*/{MANIFEST_NAME}")
        found = [(path.parent, read_manifest(path.parent)) for path in paths]
        return sorted(found, key=lambda item: (item[1].iteration, item[1].stage))

    def fork(self) -> "RunDirectory":
        """A new run beside this one that starts with its finished stages and redoes those that no longer fit."""
        number = 1
        while (target := self.path.with_name(f"{self.path.name}-fork{number}")).exists():
            number += 1
        with disk_errors(target):
            shutil.copytree(self.path, target, ignore=shutil.ignore_patterns(".lock", "report", "results.json"))
        return RunDirectory(target, replace_stale=True)


def package_versions() -> dict[str, str]:
    """Versions of the packages that results can depend on."""
    return {name: importlib.metadata.version(name) for name in _VERSIONS_OF}


def _prepare(folder: Path, fingerprint: str) -> None:
    started = folder / _STARTED_NAME
    if folder.exists() and (not started.is_file() or json.loads(started.read_text()) != fingerprint):
        shutil.rmtree(folder)  # half-done work of other settings, never finished, never counted
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(started, json.dumps(fingerprint))


def _refuse_damage(folder: Path, manifest: Manifest) -> None:
    faults = verify_files(folder, manifest)
    if faults:
        raise DataError("; ".join(faults), hint=f"remove {folder} and run again to make it anew")


def _refuse_stale(folder: Path, manifest: Manifest, stage: Stage) -> None:
    old = {"settings": manifest.settings, "inputs": manifest.inputs}
    changed = settings_difference(old, {"settings": dict(stage.settings), "inputs": dict(stage.inputs)})
    raise SettingsError(
        f"{folder}: finished with other settings or inputs:\n  " + "\n  ".join(changed),
        hint="undo the change to resume, add --fork to start a new run beside it, or choose --out",
    )
