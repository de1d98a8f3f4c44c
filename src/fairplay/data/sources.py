"""Where a user's data lies: a file, a folder of files, or a data set on the hub, from one string.

Left out: what is in the rows (`formats.py`). Floor 2. What exists on disk wins over a hub id of the same name.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairplay.data.rows import READERS, BrokenRow, RawRows, Row, read_rows
from fairplay.errors import DataError, ResourceError, ServiceError, SettingsError
from fairplay.lookup import nearest_hint

DEFAULT_SPLIT = "train"
_SPLITS = frozenset({"train", "test", "validation", "valid", "val", "dev", "eval"})
_METADATA = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "manifest.json", "config.json"}
)
_HUB_ID = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[^@:\s/]+))?(@(?P<split>[^@\s/]+))?"
)

_CLASS_AT_END = re.compile(r" \(\w+\)$")  # of an exception, where `datasets` tells why a hub can't be reached


@dataclass(frozen=True, slots=True)
class Files:
    """Local files, read one after the other."""

    name: str
    paths: tuple[Path, ...]

    def rows(self) -> RawRows:
        """All rows; with several files each place begins with the file's name."""
        for path in self.paths:
            for row in read_rows(path):
                yield row if len(self.paths) == 1 else _renamed(row, f"{path.name} {row.where}")


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set on the hub; an empty config means the default one. Needs the optional package `datasets`."""

    repository: str
    config: str
    split: str

    @property
    def name(self) -> str:
        """The id in the form in which users write it."""
        return f"{self.repository}{':' + self.config if self.config else ''}@{self.split}"

    def rows(self) -> RawRows:
        """All rows of the split, from the cache of `datasets`, which downloads it the first time.

        Raises:
            ResourceError: If `datasets` is not installed.
            DataError: If there is no such data set, config or split.
            ServiceError: If the hub can't be reached.
        """
        from fairplay.hub import meet_hub

        meet_hub()
        try:
            import datasets
        except ImportError as error:
            message = f"{self.name}: reading from the hub needs the package `datasets`"
            raise ResourceError(message, hint="pip install 'fairplay[data]'") from error
        with _hub_errors(self.name):
            data = datasets.load_dataset(self.repository, self.config or None, split=self.split)
        for number, columns in enumerate(data, 1):
            yield Row(f"row {number}", columns)


Source = Files | HubData


def open_source(source: str, *, split: str = DEFAULT_SPLIT) -> Source:
    """Find the data that a string names.

    Args:
        source: A file, a folder (`FOLDER` or `FOLDER@split`), or a hub id `owner/name[:config][@split]`.
        split: The split where the string names none.

    Raises:
        DataError: If nothing of that name exists, or a folder holds no data of the split.
        SettingsError: If the string and `split` name different splits.
    """
    if not source.strip():  # as a path it would be the current folder
        raise DataError("the name of the data is empty", hint="name a file, a folder, or a hub id `owner/name`")
    path = Path(source).expanduser()
    if path.is_file():
        return _one_file(source, path, split)
    if path.is_dir():
        return Files(source, _folder_files(path, split))
    head, at, tail = source.rpartition("@")
    if at and (folder := Path(head).expanduser()).is_dir():
        return Files(source, _folder_files(folder, _one_split(source, tail, split)))
    match = _HUB_ID.fullmatch(source)
    if match is None or source.endswith(tuple(READERS)) or path.is_absolute():
        raise DataError(f"{source}: no such file or folder", hint=_missing_hint(path))
    return HubData(match["repository"], match["config"] or "", _one_split(source, match["split"] or "", split))


def _one_split(source: str, named: str, split: str) -> str:
    if named and split not in (DEFAULT_SPLIT, named):
        raise SettingsError(f"{source}: it names the split `{named}`, but the split `{split}` is asked for")
    return named or split


def _one_file(source: str, path: Path, split: str) -> Files:
    if not path.name.endswith(tuple(READERS)):
        raise DataError(f"{source}: not a file of a known kind", hint=f"known: {', '.join(sorted(READERS))}")
    if split != DEFAULT_SPLIT:
        raise SettingsError(f"{source}: a single file has no split `{split}`", hint="name the file of that split")
    return Files(source, (path,))


def _folder_files(folder: Path, split: str) -> tuple[Path, ...]:
    """The folder's data files of this split, sorted; all of them where no file name speaks of a split."""
    files = sorted(p for p in folder.iterdir() if p.name.endswith(tuple(READERS)) and p.name not in _METADATA)
    if not files and (folder / "data").is_dir():  # the layout of hub repositories
        return _folder_files(folder / "data", split)
    if not files:
        hint = "save the data set with to_parquet or to_json" if any(folder.rglob("*.arrow")) else _kinds_hint()
        raise DataError(f"{folder}: no data files in this folder", hint=hint)
    named = [path for path in files if _label(path) == split]
    if named:
        return tuple(named)
    labels = sorted({_label(path) for path in files})
    if split != DEFAULT_SPLIT or any(_SPLITS.intersection(re.split(r"[-_]", label)) for label in labels):
        hint = f"splits by file name: {', '.join(labels)}; ask for one as {folder}@SPLIT, or name a file"
        raise DataError(f"{folder}: no files of the split `{split}`", hint=hint)
    return tuple(files)


def _label(path: Path) -> str:
    """A file's name without suffix and shard number: `train` for `train-00000-of-00002.parquet`."""
    return re.sub(r"-\d+-of-\d+$", "", path.name.partition(".")[0])


def _kinds_hint() -> str:
    return f"data files end in {', '.join(sorted(READERS))}"


def _missing_hint(path: Path) -> str:
    if not path.parent.is_dir():
        return "paths are relative to the current folder; a hub id is owner/name[:config][@split]"
    known = [p.name for p in path.parent.iterdir() if p.is_dir() or p.name.endswith(tuple(READERS))]
    return nearest_hint(path.name, known) if 0 < len(known) <= 20 else _kinds_hint()


def _renamed(row: Row | BrokenRow, where: str) -> Row | BrokenRow:
    return Row(where, row.columns) if isinstance(row, Row) else BrokenRow(where, row.fault)


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn what `datasets` raises into our errors."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:  # unknown data set, config or split
        raise DataError(f"{name}: {_first_line(error)}", hint="owner/name[:config][@split]") from error
    except OSError as error:  # ConnectionError and the errors of the hub's client
        from fairplay.hub import UNREACHED, absence, is_away

        reason = "" if is_away() else ": " + _CLASS_AT_END.sub("", _first_line(error))
        raise ServiceError(f"{name}: no such file or folder, and {absence()}{reason}", hint=UNREACHED) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def head_rows(rows: RawRows, count: int) -> tuple[Sequence[Row | BrokenRow], RawRows]:
    """The first `count` rows, and an iterator over all of them that starts again at the first."""
    head = list(itertools.islice(rows, count))

    def again() -> RawRows:
        yield from head
        yield from rows

    return head, again()
