"""What is wrong with one value of a settings file, in words: what is wanted, and what was given.

Left out: which settings there are (`settings_file.py`). No text of pydantic's reaches a user. Floor 2.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from fairplay.lookup import nearest_hint

MISSING = "is needed, and not there"
_WANTED = (
    ("int", "a whole number"),
    ("float", "a number"),
    ("finite_number", "a number"),
    ("bool", "true or false"),
    ("string", "text"),
    ("tuple", "a list"),
    ("list", "a list"),
    ("dict", "keys and values"),
    ("mapping", "keys and values"),
    ("dataclass", "keys and values"),
    ("none", "null"),
)
_SHOWN = 60


def problem_of(fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors (type, input, message) as what is wanted and what was given."""
    kind = str(fault["type"])
    if kind == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    if kind == "missing":
        return MISSING
    if kind == "literal_error":
        return f"must be {fault['ctx']['expected']}, is {given(fault['input'])}"
    wanted = next((words for start, words in _WANTED if kind.startswith(start)), "")
    return f"must be {wanted}, is {given(fault['input'])}" if wanted else f"can't be {given(fault['input'])}"


def given(value: object) -> str:
    """A value as a user wrote it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "keys and values" + (f" ({', '.join(map(str, value))})" if value else "")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = str(value) if len(str(value)) <= _SHOWN else f"{str(value)[: _SHOWN - 1]}…"
    return f"`{text}`"


def placed(place: str, message: str, settings_type: Any) -> str:
    """A message of settings that stand under a key: by a setting's whole name where it begins with one of theirs.

    Args:
        place: The key, such as `evaluation.judge`.
        message: Such as `function: can't import it`, or without a setting's name.
        settings_type: The settings, or their class.
    """
    first = re.match(r"\w+(?=[.:,])", message)
    names = {one.name for one in dataclasses.fields(settings_type)}
    return f"{place}.{message}" if first and first[0] in names else f"{place}: {message}"


def missing_hint(settings_type: Any, location: Sequence[int | str], prefix: str = "") -> str:
    """What a missing setting means, by its class's docstring; which kinds there are, where it is one of several."""
    *parents, last = location
    inner: Any = settings_type
    for part in parents:
        inner = typing.get_type_hints(inner).get(str(part)) if dataclasses.is_dataclass(inner) else None
    if not dataclasses.is_dataclass(inner):
        return ""
    kinds = kinds_of(typing.get_type_hints(inner)[str(last)])
    name = prefix + ".".join(map(str, location))
    if kinds:
        return kinds_hint(name, kinds)
    meaning = attribute_text(inner, str(last))
    return f"{name}: {meaning}" if meaning else ""


def kinds_of(hint: Any) -> dict[str, Any]:
    """Kind -> class, where a setting is a union of settings classes that their field `kind` tells apart."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else ()
    if not members or not all(dataclasses.is_dataclass(member) for member in members):
        return {}
    return {kind: member for member in members for kind in typing.get_args(typing.get_type_hints(member).get("kind"))}


def kinds_hint(name: str, kinds: Mapping[str, Any], *, asked: str = "") -> str:
    """Which kinds there are, a line each; only the nearest one where a kind was asked for that is near to it."""
    near = nearest_hint(asked, kinds) if asked else ""
    if near.startswith("did you mean"):
        return near
    width = max(map(len, kinds))
    lines = [f"  {kind:<{width}}  {getattr(kinds[kind], 'about', '')}".rstrip() for kind in sorted(kinds)]
    return "\n".join([f"`{name}.kind` is one of", *lines])


def attribute_text(settings_type: Any, name: str) -> str:
    """What a class's docstring says of one of its attributes; empty where it says nothing.

    CPython 3.13 takes the docstrings' common indentation off, those before it don't.
    """
    lines = inspect.cleandoc(settings_type.__doc__ or "").splitlines()
    for place, line in enumerate(lines):
        found = re.fullmatch(rf" {{4}}(?:\w+, )*{re.escape(name)}(?:, \w+)*: (.*)", line)
        if found:
            more = []
            for following in lines[place + 1 :]:
                if not following.startswith(" " * 8):
                    break
                more.append(following.strip())
            return " ".join([found[1].strip(), *more])
    return ""
