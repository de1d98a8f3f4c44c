"""Where an oracle's weights, code or records lie, and what identifies what lies there: a hub's commit, or the bytes.

Left out: reading it (each oracle does), and the settings (`kinds/`). Floor 4; imports no torch.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fairplay.errors import DataError
from fairplay.storage.digests import content_digest, is_hub_id
from fairplay.storage.model_folders import not_a_model_hint

_SHOWN = 12


@dataclass(frozen=True)
class Source:
    """A file, a folder, or a hub id at a revision.

    Attributes:
        place: The file or folder, or the hub id.
        revision: Branch, tag or commit of a hub id; empty for its main branch, and for what is local.
    """

    place: str
    revision: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a file or folder that is there."""
        return Path(self.place).expanduser().exists()

    @property
    def name(self) -> str:
        """What it is called wherever it lies: the last part of a path, or the hub id."""
        return Path(self.place).expanduser().resolve().name if self.is_local else self.place

    def check(self) -> None:
        """Refuse what can't be there, without reading it.

        Raises:
            DataError: If it is a path and nothing is there, or a folder without a config.json.
        """
        path = Path(self.place).expanduser()
        if path.is_dir() and not (path / "config.json").is_file():
            raise DataError(f"{self.place}: the folder has no config.json", hint=not_a_model_hint(path))
        if not path.exists() and not is_hub_id(self.place):
            raise DataError(f"{self.place}: no such file or folder", hint="name a folder, or a hub id `owner/name`")

    def commit(self) -> str:
        """The hub's commit that the revision stands for now; empty for what is local.

        Raises:
            DataError: If there is no such repository or revision, or a local place was given a revision.
            ServiceError: If it is not in the cache, and the hub can't be reached.
        """
        if self.is_local:
            if self.revision:
                raise DataError(f"{self.place}: a local folder has no revision `{self.revision}`")
            return ""
        return hub_file(self, "config.json").parent.name

    def digest(self) -> str:
        """Hash of the bytes of what is local; hub id and commit of what is not.

        Raises:
            DataError: If nothing is there.
            ServiceError: As `commit`.
        """
        commit = self.commit()
        return f"{self.place}@{commit}" if commit else _digest_of(self.place, _stamp(Path(self.place).expanduser()))

    def short_digest(self) -> str:
        """Twelve digits that tell it from others of its name, for names in tables."""
        return self.commit()[:_SHOWN] or self.digest()[:_SHOWN]


def hub_file(source: Source, name: str) -> Path:
    """A file of a hub repository, in the cache, below a folder with the commit's name.

    Raises:
        DataError: If there is no such repository, revision or file.
        ServiceError: If it is not in the cache, and the hub can't be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from fairplay.hub import meet_hub, told_by_hub

    source.check()
    meet_hub()
    try:
        return Path(hf_hub_download(source.place, name, revision=source.revision or None))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        told = told_by_hub(source.place, error)
        raise told or DataError(f"{source.place}: no {name} could be fetched: {reason}") from error


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files: as long as these are the same, large weights are not hashed again."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    found = [(file, file.stat()) for file in files]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in found)


@lru_cache(maxsize=32)
def _digest_of(place: str, stamp: tuple[tuple[str, int, int], ...]) -> str:
    return content_digest(place)
