"""Settings files: YAML in, frozen dataclasses out, with every fault named at once.

Left out: what the settings mean (each part has its own dataclass). The only place where untyped data enters. Floor 2.
"""

import dataclasses
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from fairplay.errors import SettingsError
from fairplay.lookup import nearest_hint
from fairplay.storage.faults import MISSING, given, kinds_hint, kinds_of, missing_hint, placed, problem_of

S = TypeVar("S")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_YAML_FILE = "settings are a YAML file (.yaml), such as those in recipes/; data is named inside it, or by --data"


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key written twice (YAML would silently keep the last one), or that is no text.

    The check comes before merge keys (`<<`) are put in, whose keys may well be written again.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key `{key.value}` twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping, by the safe loader.

    Raises:
        SettingsError: If the text is no YAML mapping, or has a key twice; the message has line and column.
    """
    try:
        document = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - _UniqueKeys is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise SettingsError(f"{source}:{where} {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{source}: not YAML ({error})") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{source}: expected keys and values, found a {type(document).__name__}")
    return document


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SettingsError: If there is no such file, or it is no YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{path}: can't read this settings file ({reason})", hint=_YAML_FILE) from error
    try:
        return parse_yaml(text, str(path))
    except SettingsError as error:
        if path.suffix in (".yaml", ".yml"):
            raise
        raise SettingsError(error.message, hint=_YAML_FILE) from error


def apply_overrides(document: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The document with `key.inner=value` overrides put in, and files laid over it (`@FILE`); values are read as YAML.

    A file's mappings are merged into the document's, key by key; one that says its `name` or `kind` replaces the other,
    whose keys belong to another objective or oracle.

    Raises:
        SettingsError: If an override is not of the form key=value, or goes through something that is no mapping, or a
            file can't be read.
    """
    result: dict[str, Any] = _deep_copy(document)
    for override in overrides:
        if override.startswith("@"):
            _lay_over(result, read_yaml(Path(override[1:]).expanduser()))
            continue
        key, equals, raw = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set {override}: expected key=value")
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            inner = place.setdefault(parent, {})
            if isinstance(inner, str):  # `objective: dpo` may be written short; --set objective.beta=... opens it up
                inner = place[parent] = {"name": inner}
            if not isinstance(inner, dict):
                raise SettingsError(f"--set {override}: `{parent}` is a single value, it has no keys inside")
            place = inner
        place[last] = parse_yaml(f"value: {raw}", f"--set {override}")["value"]
    return result


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        there = below.get(key)
        if isinstance(value, Mapping) and isinstance(there, dict) and not {"name", "kind"} & set(value):
            _lay_over(there, value)
        else:
            below[key] = _deep_copy(value)


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _deep_copy(inner) for key, inner in value.items()}
    return value


def build_settings(settings_type: type[S], document: Mapping[str, Any], source: str) -> S:
    """Settings of this type from plain data; types are coerced (`5e-7` is a float), unknown keys refused.

    Args:
        settings_type: A frozen dataclass, possibly with dataclasses inside. Where one of these is a union of
            dataclasses, the document's `kind` says which.
        document: Plain data, as read from YAML.
        source: Where it comes from, for messages.

    Raises:
        SettingsError: With all faults at once, one a line, each with the key's whole name.
    """
    faults: list[_Fault] = []
    result = _build(settings_type, document, "", faults)
    if faults:
        lines = [": ".join(part for part in (source, key, problem) if part) for key, problem, _ in faults]
        hints = [hint for _, _, hint in faults if hint]
        raise SettingsError("\n".join(lines), hint="; ".join(hints))
    return typing.cast(S, result)


_Fault = tuple[str, str, str]  # key, problem, hint
_UNUSABLE = object()  # stands where settings could not be built; their faults are known


def _build(settings_type: Any, document: Mapping[str, Any], prefix: str, faults: list[_Fault]) -> object:
    """Settings of this type; `_UNUSABLE` where there are new faults."""
    kept = _kept(settings_type, document, prefix, faults)
    try:
        return TypeAdapter(settings_type).validate_python(kept)
    except ValidationError as error:
        for fault in error.errors():
            if fault["input"] is not _UNUSABLE:
                key, problem = _key(fault["loc"]), problem_of(fault)
                hint = missing_hint(settings_type, fault["loc"], prefix) if fault["type"] == "missing" else ""
                whole = placed(prefix.removesuffix("."), problem, settings_type) if prefix else problem
                faults.append((f"{prefix}{key}", problem, hint) if key else ("", whole, ""))
        return _UNUSABLE


def _key(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _inner_types(settings_type: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(settings_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings_type)}


def _kept(settings_type: Any, document: Mapping[str, Any], prefix: str, faults: list[_Fault]) -> dict[str, Any]:
    """What `settings_type` knows of, with inner settings of several kinds built.

    Faults are unknown keys, and `true` where a number belongs (which Python would take for 1). A single text where a
    list of texts belongs becomes a list of one.
    """
    known = _inner_types(settings_type)
    kept: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if key not in known:
            faults.append((name, "unknown setting", _hint(settings_type, str(key), prefix)))
        elif isinstance(value, bool) and known[key] in (int, float):
            faults.append((name, f"must be a number, is {given(value)}", ""))
            kept[key] = _UNUSABLE
        else:
            kept[key] = _inner(known[key], value, name, faults)
    return kept


def _hint(settings_type: Any, key: str, prefix: str) -> str:
    """What is meant by a key that is not known; `ELSEWHERE` of a settings class names what is set by other keys."""
    elsewhere: Mapping[str, str] = getattr(settings_type, "ELSEWHERE", {})
    if key in elsewhere:
        return elsewhere[key]
    hint = nearest_hint(key, _inner_types(settings_type))
    return hint.replace("`", f"`{prefix}", 1) if "`" in hint else hint


def _inner(hint: Any, value: Any, name: str, faults: list[_Fault]) -> Any:
    """The value of a key, its inner settings looked through."""
    kinds = kinds_of(hint)
    if kinds:
        return _build_kind(kinds, value, name, faults)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return [_inner(typing.get_args(hint)[0], item, f"{name}.{place}", faults) for place, item in enumerate(value)]
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _kept(hint, value, f"{name}.", faults)
    return [value] if hint == tuple[str, ...] and isinstance(value, str) else value


def _build_kind(kinds: Mapping[str, Any], value: Any, name: str, faults: list[_Fault]) -> object:
    if not isinstance(value, Mapping):
        faults.append((name, f"must be keys and values, is {given(value)}", kinds_hint(name, kinds)))
        return _UNUSABLE
    kind = value.get("kind")
    if isinstance(kind, str) and kind in kinds:
        return _build(kinds[kind], value, f"{name}.", faults)
    if kind is None:
        faults.append((f"{name}.kind", MISSING, kinds_hint(name, kinds)))
    else:
        faults.append((f"{name}.kind", f"unknown kind `{kind}`", kinds_hint(name, kinds, asked=str(kind))))
    return _UNUSABLE


def settings_document(settings: Any) -> dict[str, Any]:
    """Settings as plain data: what is hashed, compared and written to `settings.yaml`."""
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def dump_yaml(document: Mapping[str, Any]) -> str:
    """Plain data as YAML text, keys in their order."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)


def without(document: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """The document without some keys, inner ones as `training.save_steps`."""
    return {
        key: without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in document.items()
        if f"{prefix}{key}" not in keys
    }


def settings_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every setting that differs; of a hash, which tells a reader nothing, that it does."""
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += settings_difference(before, after, f"{prefix}{key}.")
        elif before != after:
            hashed = all(isinstance(value, str) and _SHA256.fullmatch(value) for value in (before, after))
            lines.append(f"{prefix}{key}: {'other content than before' if hashed else f'{before!r} -> {after!r}'}")
    return lines
