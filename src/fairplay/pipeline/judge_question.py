"""What a folder of `fairplay judge` was asked, so that another question does not write over its answer.

Left out: asking it (`judge_files.py`, `grade_files.py`). Floor 7; no torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairplay.errors import SettingsError
from fairplay.pipeline.results import RESULTS_NAME
from fairplay.records import ResponseGroup
from fairplay.storage.digests import sha256_value
from fairplay.storage.settings_file import settings_difference, without

_READING_AND_PLACES = ("base_url", "min_mass", "reader_version", "template", "template_source")
_MAY_CHANGE = frozenset(
    {
        "protocol.title",
        "protocol.source",
        "protocol.published_opponent",
        *(f"asked.{key}" for key in _READING_AND_PLACES),
    }
)
"""How replies are read, places, and names of what is known by its hash."""


def responses_digest(groups: Sequence[ResponseGroup]) -> str:
    """What identifies the responses of a side: prompts and texts, wherever they lie."""
    told = [
        [[[message.role, message.content] for message in group.prompt.messages], [one.text for one in group.responses]]
        for group in groups
    ]
    return sha256_value(told)


def refuse_other_question(folder: Path, question: Mapping[str, Any]) -> None:
    """Refuse a folder that holds the answer to another question; a result that can't be read is made anew.

    Args:
        folder: Where the answer would go.
        question: `kind`, `asked` and the rest that decides it, under the keys that `results.json` has them under.

    Raises:
        SettingsError: If it does; the message lists every difference.
    """
    try:
        before = json.loads((folder / RESULTS_NAME).read_text(encoding="utf-8"))
        found = _shared(before, without(question, _MAY_CHANGE))
    except (OSError, ValueError, TypeError, AttributeError):
        return
    changed = settings_difference(found, _shared(question, found))
    if changed:
        raise SettingsError(
            f"{folder}: holds the results of another judging:\n  " + "\n  ".join(changed),
            hint="choose another --out, or undo the changes to have these results again",
        )


def _shared(document: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """What of a document stands under the keys of another one too: releases differ in what they write."""
    return {
        key: _shared(value, keys[key]) if isinstance(value, Mapping) and isinstance(keys[key], Mapping) else value
        for key, value in document.items()
        if key in keys
    }
