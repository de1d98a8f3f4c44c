"""`oracle.json`: what is kept with an oracle's weights besides them, such as the temperature fitted on labelled pairs.

A `pair_model` and a `pair_ranker` have files of their own for this. Left out: the fit (`calibrating.py`). Floor 4.
"""

import json
import logging
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fairplay.errors import DataError, ServiceError
from fairplay.oracles.kinds.pair_ranker import read_document
from fairplay.oracles.source import Source, hub_file
from fairplay.storage.atomic import write_atomic

logger = logging.getLogger(__name__)
FACTS_FILE = "oracle.json"


@dataclass(frozen=True, slots=True)
class OracleFacts:
    """What an oracle's folder says of itself.

    Attributes:
        temperature: What its logits, or differences of its scores, are divided by to be log-odds.
        label_weights: For a classifier with several labels: what each counts in the score; empty for one label.
        max_length: Longest row in tokens that it was trained to read; 0 where that is not known.
    """

    temperature: float = 1.0
    label_weights: tuple[float, ...] = ()
    max_length: int = 0


def read_facts(source: Source, *, temperature: float = 1.0) -> OracleFacts:
    """The facts of a folder or hub id; the defaults where it has no `oracle.json`.

    Args:
        source: Where the weights are.
        temperature: What it is where the file does not say.

    Raises:
        DataError: If the file is not what it should be; the message names the key.
    """
    path = Path(source.place).expanduser() / FACTS_FILE if source.is_local else _on_hub(source)
    if path is None or not path.is_file():
        return OracleFacts(temperature)
    document = read_document(path)
    unknown = sorted(document.keys() - OracleFacts.__dataclass_fields__.keys())
    if unknown:
        raise DataError(f"{path}: unknown key `{unknown[0]}`", hint="known: temperature, label_weights, max_length")
    kept, weights = document.get("temperature", temperature), document.get("label_weights", [])
    longest = document.get("max_length", 0)
    if not _is_number(kept) or kept <= 0:
        raise DataError(f"{path}: the temperature must be a positive number, not {kept!r}")
    if not isinstance(weights, list) or not all(map(_is_number, weights)):
        raise DataError(f"{path}: label_weights must be a list of numbers, not {weights!r:.40}")
    if not _is_number(longest) or longest != int(longest) or longest < 0:
        raise DataError(f"{path}: max_length must be a number of tokens, not {longest!r}")
    return OracleFacts(float(kept), tuple(map(float, weights)), int(longest))


def write_facts(folder: Path, facts: OracleFacts) -> None:
    """Write `oracle.json` beside an oracle's weights."""
    write_atomic(folder / FACTS_FILE, json.dumps(asdict(facts), indent=1) + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _on_hub(source: Source) -> Path | None:
    try:
        return hub_file(source, FACTS_FILE)
    except DataError:
        logger.info("%s has no %s; its own temperature is taken", source.place, FACTS_FILE)
    except ServiceError:
        logger.warning("%s: no %s in the cache, and the hub can't be asked", source.place, FACTS_FILE)
    return None
