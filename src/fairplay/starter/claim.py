"""One folder, one making: who makes something there holds its lock, and other settings than before are refused.

Left out: what is made. Floor 6.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairplay.errors import SettingsError
from fairplay.storage.atomic import disk_errors, write_atomic
from fairplay.storage.locking import lock
from fairplay.storage.run_directory import SETTINGS_NAME
from fairplay.storage.settings_file import dump_yaml, read_yaml, settings_difference


@contextmanager
def claim(folder: Path, document: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder for making something from these settings; they are written to `settings.yaml`.

    Args:
        folder: The folder; made if it is not there.
        document: Everything that decides what is made, seed included, as plain data.

    Raises:
        SettingsError: If something of other settings is there; the message lists every difference.
        LockedError: If another process works there.
        ResourceError: If the folder can't be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        path = folder / SETTINGS_NAME
        changed = settings_difference(read_yaml(path), document) if path.is_file() else []
        if changed:
            raise SettingsError(
                f"{folder}: holds a starter of other settings:\n  " + "\n  ".join(changed),
                hint="choose another folder, or remove this one",
            )
        write_atomic(path, dump_yaml(document))
        yield
