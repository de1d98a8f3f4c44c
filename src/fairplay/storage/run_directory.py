"""A run directory: its settings, its stages, and the rule that finished work is never done again or silently reused.

Left out: what the stages do, and which settings must stay as they are (`pipeline/`). Floor 2.

    runs/<name>/settings.yaml  iteration-1/{1-prompts,2-responses,...}/manifest.json  iteration-2/...  report/
"""

import importlib.metadata
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.records import STATISTICS_VERSION
from fairplay.storage.atomic import TEMPORARY_SUFFIX, disk_errors, folder_atomic, full_disk, write_atomic
from fairplay.storage.digests import sha256_files
from fairplay.storage.locking import LOCK_NAME, lock
from fairplay.storage.manifest import (
    MANIFEST_NAME,
    STATISTICS,
    Manifest,
    is_finished,
    read_manifest,
    refuse_damage,
    stage_fingerprint,
    write_manifest,
)
from fairplay.storage.settings_file import dump_yaml, read_yaml, settings_difference

logger = logging.getLogger(__name__)
SETTINGS_NAME = "settings.yaml"
_STARTED_NAME = ".started.json"
_MANIFESTS = f"iteration-*/*/{MANIFEST_NAME}"
_COPIED_NAME = ".copied"  # in a fork: a stage of the run it came from, which counts once it is seen to fit here
_NOT_FORKED = frozenset({SETTINGS_NAME, "report", "results.json"})
_VERSIONS_OF = ("fairplay", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


@dataclass(frozen=True)
class Stage:
    """One stage before it runs: where it lies and what decides its content.

    Attributes:
        name: Folder name, such as "2-responses".
        iteration: Number of the iteration; 0 is the policy that the run starts from.
        settings: The settings that decide the content, seed included; plain data.
        inputs: Name -> content hash of everything it reads.
        places: Name -> where that input lies, for messages: a file that was moved is the same input.
    """

    name: str
    iteration: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    places: Mapping[str, str] = field(default_factory=dict)


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, iteration: int, name: str) -> Path:
        """Where a stage lies."""
        return self.path / f"iteration-{iteration}" / name

    @contextmanager
    def open(
        self, settings: Mapping[str, Any], *, identity: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    ) -> Iterator[None]:
        """Hold the run's lock while the block runs, its settings written or found to be those it was started with.

        Settings with which no stage was ever finished are overwritten.

        Args:
            settings: The settings, as plain data.
            identity: From settings, those of an older release too, to what must be equal for the run to go on.

        Raises:
            SettingsError: If finished work of other settings is here; the message lists every difference.
            LockedError: If another process works here.
            ResourceError: If the folder can't be written.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with lock(self.path):
            path = self.path / SETTINGS_NAME
            if path.is_file() and any(self.path.glob(_MANIFESTS)):
                self._refuse_other(identity(settings), identity)
            else:
                write_atomic(path, dump_yaml(settings))
            yield

    def _refuse_other(
        self, wanted: Mapping[str, Any], identity: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> None:
        path = self.path / SETTINGS_NAME
        try:
            changed = settings_difference(identity(read_yaml(path)), wanted)
        except SettingsError as error:
            raise SettingsError(
                f"{self.path}: holds a run of another kind or release:\n{error.message}", hint="choose another --out"
            ) from error
        if changed:
            raise SettingsError(
                f"{self.path}: this run was started with other settings:\n  " + "\n  ".join(changed),
                hint="undo the changes to resume it, add --fork to start a new run beside it, or choose --out",
            )

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
                refuse_damage(folder, manifest)
                with disk_errors(folder):
                    (folder / _COPIED_NAME).unlink(missing_ok=True)
                logger.info("%s/%s: finished before, kept", folder.parent.name, folder.name)
                return manifest
            if not _is_copied(folder):
                _refuse_stale(folder, manifest, stage)
            _discard(folder)
        _prepare(folder, fingerprint, stage)
        started = time.monotonic()
        with full_disk(folder):
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
            versions={**package_versions(), STATISTICS: str(STATISTICS_VERSION)},
            seconds=round(time.monotonic() - started, 3),
            tokens=outcome.tokens,
        )
        write_manifest(folder, manifest)
        return manifest

    def manifest(self, iteration: int, name: str) -> Manifest:
        """The manifest of a finished stage.

        Raises:
            DataError: If the stage is not finished, or copied from another run and not seen to fit here yet.
        """
        folder = self.folder(iteration, name)
        if _is_copied(folder):
            raise DataError(f"{folder}: copied from another run, not used here yet", hint="run the recipe again")
        return read_manifest(folder)

    def manifests(self) -> list[tuple[Path, Manifest]]:
        """Folder and manifest of every finished stage, by iteration and stage."""
        folders = [path.parent for path in self.path.glob(_MANIFESTS)]
        found = [(folder, read_manifest(folder)) for folder in folders if not _is_copied(folder)]
        return sorted(found, key=lambda item: (item[1].iteration, item[1].stage))

    def finish_times(self) -> dict[Path, int]:
        """Folder of each finished stage -> when it was finished, in nanoseconds; a fork keeps the times."""
        return {path.parent: path.stat().st_mtime_ns for path in self.path.glob(_MANIFESTS)}

    def check_started(self) -> None:
        """Refuse a folder that holds no run.

        Raises:
            SettingsError: If there is no run.
        """
        if not (self.path / SETTINGS_NAME).is_file():
            raise SettingsError(f"{self.path}: there is no run here to fork", hint="leave --fork out to start one")

    def fork(self) -> "RunDirectory":
        """A new run beside this one, with a copy of its finished stages; those that no longer fit are made anew there.

        Raises:
            SettingsError: If there is no run to fork.
            LockedError: If another process works in it.
            ResourceError: If the copy can't be written.
        """
        self.check_started()
        with lock(self.path):
            here = self.path if self.path.name not in ("", "..") else self.path.resolve()
            number = 1
            while (target := here.with_name(f"{here.name}-fork{number}")).exists():
                number += 1
            with folder_atomic(target) as copy:
                for path in self._forked_files():
                    place = copy / path.relative_to(self.path)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, place)
                for path in list(copy.glob(_MANIFESTS)):
                    (path.parent / _COPIED_NAME).touch()
        return RunDirectory(target)

    def _forked_files(self) -> Iterator[Path]:
        """Files of finished stages, and whatever lies beside the iterations, such as the demo's world."""
        for path in sorted(self.path.rglob("*")):
            top, *below = path.relative_to(self.path).parts
            unfinished = top.startswith("iteration-") and not (below and is_finished(self.path / top / below[0]))
            passing = path.name == LOCK_NAME or any(part.endswith(TEMPORARY_SUFFIX) for part in (top, *below))
            if path.is_file() and not (top in _NOT_FORKED or unfinished or passing):
                yield path


def package_versions() -> dict[str, str]:
    """Versions of the packages that results can depend on."""
    return {name: importlib.metadata.version(name) for name in _VERSIONS_OF}


def _is_copied(folder: Path) -> bool:
    return (folder / _COPIED_NAME).is_file()


def _discard(folder: Path) -> None:
    """Remove a stage; a kill half-way leaves one that is not finished, rather than a damaged one."""
    with disk_errors(folder):
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _prepare(folder: Path, fingerprint: str, stage: Stage) -> None:
    """An empty folder, or one with half-done work of the same settings and inputs; that of others is never counted."""
    started = folder / _STARTED_NAME
    before = json.loads(started.read_bytes()) if started.is_file() else {}
    before = before if isinstance(before, dict) else {}  # a release before wrote a fingerprint alone
    if folder.exists() and before.get("fingerprint") != fingerprint:
        if before and any(path != started for path in folder.iterdir()):  # else nothing of it was done
            changed = "; ".join(_changes(before, stage))
            logger.warning("%s: half-done with other settings or inputs, made anew: %s", folder, changed)
        _discard(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    about = {"fingerprint": fingerprint, "settings": dict(stage.settings), "inputs": dict(stage.inputs)}
    write_atomic(started, json.dumps(about))


def _changes(before: Mapping[str, Any], stage: Stage) -> list[str]:
    old, new = (
        {
            f"{name} ({stage.places[name]})" if stage.places.get(name) else name: digest
            for name, digest in inputs.items()
        }
        for inputs in (before["inputs"], stage.inputs)
    )
    settings = settings_difference({"settings": before["settings"]}, {"settings": dict(stage.settings)})
    return settings + settings_difference({"inputs": old}, {"inputs": new})


def _refuse_stale(folder: Path, manifest: Manifest, stage: Stage) -> None:
    changed = _changes({"settings": manifest.settings, "inputs": manifest.inputs}, stage)
    raise SettingsError(
        f"{folder}: finished with other settings or inputs:\n  " + "\n  ".join(changed),
        hint="undo the change, a file's content too, to resume, add --fork for a new run beside it, or choose --out",
    )
