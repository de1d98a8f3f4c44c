"""Looking a name up in a table of choices, with "did you mean" where there is none of that name.

Left out: the tables themselves (each lies beside what it lists). Floor 1.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fairplay.errors import SettingsError

T = TypeVar("T")


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, else lists all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names)}"


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """The table's entry of this name.

    Args:
        table: Choices by name.
        name: The name asked for.
        what: What the table lists, for the message ("objective", "oracle").

    Raises:
        SettingsError: If there is no such name; the hint has the nearest one, or all.
    """
    if name not in table:
        raise SettingsError(f"unknown {what} `{name}`", hint=nearest_hint(name, table))
    return table[name]
