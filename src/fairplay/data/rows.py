r"""Raw rows of local files: json, jsonl, jsonl.gz and parquet, one at a time, each with the place it came from.

Left out: which files (`sources.py`) and what the columns mean (`formats.py`). Floor 2.
Lines are split on `\n` only, so U+2028 stays inside its text; memory holds one row at a time (json arrays: the file).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from fairplay.data.faults import INVALID_JSON, NOT_AN_OBJECT, NOT_UTF8, TORN_LINE, RowFault
from fairplay.errors import DataError

Columns = Mapping[str, object]
_BOM = b"\xef\xbb\xbf"
_START = 64  # bytes that tell an array from lines
_PARQUET_BATCH = 1000
_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands, such as `line 17`."""

    where: str
    columns: Columns


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that could not be read at all."""

    where: str
    fault: RowFault


RawRows = Iterator[Row | BrokenRow]


def read_rows(path: Path) -> RawRows:
    """The rows of one file, in order.

    Args:
        path: A file whose name ends in one of `READERS`.

    Raises:
        DataError: If its name ends in none of them, or it can't be opened, is cut off, or is not what its name says.
    """
    reader = next((reader for suffix, reader in READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise DataError(f"{path}: not a file of a known kind", hint=f"known: {', '.join(sorted(READERS))}")
    try:
        yield from reader(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: {error}", hint="the gzip file is damaged or cut off; copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _json_lines(stream: IO[bytes]) -> RawRows:
    for number, line in enumerate(stream, 1):
        body = line.removeprefix(_BOM) if number == 1 else line
        if not body.strip():
            continue
        where = f"line {number}"
        try:
            yield _row(where, json.loads(body.decode()))
        except UnicodeDecodeError as error:
            yield BrokenRow(where, RowFault(NOT_UTF8, f"byte {error.start}"))
        except (ValueError, RecursionError) as error:
            detail = f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
            yield BrokenRow(where, RowFault(INVALID_JSON if line.endswith(b"\n") else TORN_LINE, detail))


def _row(where: str, value: object) -> Row | BrokenRow:
    if isinstance(value, dict):
        return Row(where, value)
    return BrokenRow(where, RowFault(NOT_AN_OBJECT, f"it is {_KINDS.get(type(value), type(value).__name__)}"))


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines_file(path: Path) -> RawRows:
    with _opened(path) as stream:
        yield from _json_lines(stream)


def _json_file(path: Path) -> RawRows:
    """A json array of rows; or lines of json, which many tools also call .json."""
    with _opened(path) as stream:
        start = stream.read(_START)
    if not start.removeprefix(_BOM).lstrip().startswith(b"["):
        yield from _lines_file(path)
        return
    with _opened(path) as stream:
        body = stream.read().removeprefix(_BOM)
    try:
        values = json.loads(body.decode())
    except json.JSONDecodeError as error:
        message = f"{path}: line {error.lineno} column {error.colno}: invalid JSON: {error.msg}"
        raise DataError(
            message, hint="is the file complete? with one row a line (.jsonl) the other rows could still be read"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: invalid JSON: {error}") from error
    for number, value in enumerate(values, 1):
        yield _row(f"row {number}", value)


def _parquet_file(path: Path) -> RawRows:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH):
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", columns)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: after row {number}: {reason}", hint="is it a complete parquet file?") from error


READERS: Mapping[str, Callable[[Path], RawRows]] = {
    ".jsonl": _lines_file,
    ".jsonl.gz": _lines_file,
    ".json": _json_file,
    ".json.gz": _json_file,
    ".parquet": _parquet_file,
}
