"""Records as Parquet and back: the schema follows from the dataclass, so a record has one definition.

Left out: sharding (`shards.py`) and user data in foreign formats (`data/`). Floor 2.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fairplay.errors import DataError
from fairplay.storage.atomic import disk_errors, fsync_file, fsync_folder, temporary_sibling

R = TypeVar("R")
_SCALARS: dict[object, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_FIELDS: dict[Any, tuple[tuple[str, Any], ...]] = {}


def arrow_type(hint: Any) -> Any:
    """The Arrow type of a field's annotation: scalars (or None), literals, tuples (lists), dataclasses (structs)."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin = typing.get_origin(hint)
    if origin is types.UnionType and _is_scalar(hint):
        return _SCALARS[typing.get_args(hint)[0]]
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(arrow_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pa.struct([pa.field(name, arrow_type(kind)) for name, kind in _fields(hint)])
    raise TypeError(f"no Arrow type for {hint}")


def _is_scalar(hint: Any) -> bool:
    """Whether values of this type are stored as they are: a scalar, or a scalar that may be None."""
    return hint in _SCALARS or (typing.get_args(hint)[1:] == (types.NoneType,) and typing.get_args(hint)[0] in _SCALARS)


def _fields(record_type: Any) -> tuple[tuple[str, Any], ...]:
    if record_type not in _FIELDS:  # type hints are slow to resolve, and asked for once a row
        hints = typing.get_type_hints(record_type)
        _FIELDS[record_type] = tuple((field.name, hints[field.name]) for field in dataclasses.fields(record_type))
    return _FIELDS[record_type]


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _to_plain(getattr(value, name)) for name, _ in _fields(type(value))}
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value


def _from_plain(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(value) if _is_scalar(inner) else tuple(_from_plain(inner, item) for item in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and not isinstance(hint, types.GenericAlias):
        return hint(**{name: _from_plain(kind, value[name]) for name, kind in _fields(hint) if name in value})
    return value


def write_records(path: Path, records: Sequence[R], record_type: type[R]) -> None:
    """Write records to one Parquet file, in one step; the same records give the same bytes.

    Args:
        path: The file; an older one is replaced.
        records: Instances of `record_type`, in order.
        record_type: The dataclass; its annotations are the schema.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    schema = pa.schema([pa.field(name, arrow_type(hint)) for name, hint in _fields(record_type)])
    table = pa.Table.from_pylist([_to_plain(record) for record in records], schema=schema)
    with disk_errors(path):
        temporary = temporary_sibling(path)
        pq.write_table(table, temporary, compression="zstd")
        fsync_file(temporary)
        temporary.replace(path)
        fsync_folder(path.parent)


def read_records(path: Path, record_type: type[R]) -> list[R]:
    """Records of one Parquet file, in order; a column that an older release did not write has its default.

    Raises:
        DataError: If the file is missing, damaged, or holds another kind of record.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
    fields = _fields(record_type)
    present = set(table.column_names)
    missing = sorted({name for name, _ in fields} - present - _with_default(record_type))
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    found = [(name, hint) for name, hint in fields if name in present]
    return [record_type(**{name: _from_plain(hint, row[name]) for name, hint in found}) for row in table.to_pylist()]


def _with_default(record_type: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(record_type) if item.default is not dataclasses.MISSING}
