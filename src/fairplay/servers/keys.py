"""The key of a server: read from the environment, and taken out of whatever comes back.

Left out: sending it (`transport.py`). Floor 3. No text here, and no error, repeats a key.
"""

import re
from collections.abc import Callable, Mapping

from fairplay.errors import SettingsError
from fairplay.servers.settings import ServerSettings

SHORTEST = 12
"""Characters of a key that is one; shorter ones are dummies, such as `EMPTY`, which are words of replies too."""


def read_key(settings: ServerSettings, environment: Mapping[str, str]) -> str:
    """The key for this server; empty where none is sent.

    Raises:
        SettingsError: If the variable that should hold it is not set, empty, or holds what no header can carry.
    """
    if not settings.sends_key:
        return ""
    key = environment.get(settings.api_key_env, "").strip()
    if not key:
        state = "is empty" if settings.api_key_env in environment else "is not set"
        raise SettingsError(
            f"no API key for {settings.base_url}: the variable {settings.api_key_env} {state}",
            hint="export it, or name another one in api_key_env; keys are taken from the environment only",
        )
    if not re.fullmatch(r"[!-\[\]-~]+", key):  # what it is stays untold
        raise SettingsError(
            f"the variable {settings.api_key_env} holds no API key: there are blanks, line breaks, backslashes or "
            "characters beyond ASCII in it",
            hint="export the key alone, on one line and without a word processor's quotes",
        )
    return key


def redactor(key: str) -> Callable[[str], str]:
    """What puts `[key]` in place of a key, in plain text and in JSON, however that escapes it.

    Servers repeat keys in their errors. JSON redacted so has no key left after it is read either.
    """
    if len(key) < SHORTEST:
        return str
    # A run of backslashes is entered at its first one, or a long run would be searched anew at each.
    pattern = re.compile(r"(?:(?<!\\)|(?!\\))" + "".join(map(_spellings, key)))
    return lambda text: pattern.sub("[key]", text)


def _spellings(character: str) -> str:
    code, plain = f"(?i:u{ord(character):04x})", re.escape(character)
    return rf"(?:\\+{code}|\\*{plain})" if character in '"/' else rf"(?:\\+{code}|{plain})"
