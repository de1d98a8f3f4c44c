"""What the length model needs beside the annotations: instruction difficulties, and the rows of the gamed baselines.

They come from a local file, an installed `alpaca_eval`, or the hub, and every result says from which; nothing takes
their place if they can't be had. Left out: fitting difficulties anew (`difficulty_fit`). Floor 5.
"""

import csv
import hashlib
import importlib.util
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from fairplay.data.rows import READERS, BrokenRow, read_rows
from fairplay.errors import DataError, ServiceError
from fairplay.evaluation.alpaca_eval.annotations import Instruction
from fairplay.evaluation.alpaca_eval.instruction_order import instruction_index
from fairplay.evaluation.alpaca_eval.rows import GamedRows
from fairplay.evaluation.alpaca_eval.settings import Variant
from fairplay.storage.atomic import write_atomic

DIFFICULTY_FILE = "instruction_difficulty.csv"
GAMED_FILE = "df_gamed.csv"

_REPOSITORY = "tatsu-lab/alpaca_eval"
_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
_WIN_PROB_COLUMNS = ("preference", "preference_maxent")


@dataclass(frozen=True)
class LcInputs:
    """What a variant of the length model needs.

    Attributes:
        difficulties: Of each instruction, in the order of their file; empty for a variant without them.
        gamed: Rows of the gamed baselines; None for a variant without them.
        difficulty_source, gamed_source: Where they came from, with the start of their SHA-256; empty if not needed.
    """

    difficulties: Mapping[Instruction, float]
    gamed: GamedRows | None
    difficulty_source: str
    gamed_source: str


def load_inputs(variant: Variant, *, difficulty: Path | None = None, gamed: Path | None = None) -> LcInputs:
    """The inputs of a variant; what it does not need is not read.

    Args:
        variant: Which length model.
        difficulty: File with `instruction_difficulty` by `index` (or in the order of the evaluation set, or by the text
            in `instruction`): csv, json, jsonl or parquet. Without it, the difficulties of the gamed file, if that is
            given (they are the same), else the official file.
        gamed: File with `std_delta_len`, `instruction_difficulty` and `preference`, which is in [0, 1] there. Without
            it, the official file.

    Raises:
        DataError: If a file is missing or has other contents.
        ServiceError: If the official files are neither in an installed `alpaca_eval` nor within reach on the hub.
    """
    difficulties: dict[Instruction, float] = {}
    difficulty_source = gamed_source = ""
    rows = None
    if variant.uses_difficulty:
        path = difficulty or gamed or official_file(DIFFICULTY_FILE)
        difficulties, difficulty_source = _read_difficulties(path, repeated=path == gamed), _source(path)
    if variant.uses_gamed:
        path = gamed or official_file(GAMED_FILE)
        rows, gamed_source = _read_gamed(path), _source(path)
    return LcInputs(difficulties, rows, difficulty_source, gamed_source)


def official_file(name: str) -> Path:
    """The authors' file of this name, from an installed `alpaca_eval` or from the hub (and its cache).

    Raises:
        ServiceError: If neither has it.
    """
    package = importlib.util.find_spec("alpaca_eval")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in sorted(Path(folder).rglob(name)):
            return path
    from huggingface_hub import hf_hub_download

    from fairplay.hub import meet_hub

    meet_hub()
    try:
        return Path(hf_hub_download(_REPOSITORY, name, repo_type="dataset", revision=_REVISION))
    except OSError as error:  # the hub's errors of connection, of offline mode, and of missing files
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ServiceError(
            f"{name} is neither in an installed `alpaca_eval` nor within reach on the hub: {reason}",
            hint="give the file with --difficulty or --gamed, or use `--lc minimal`, which needs neither",
        ) from error


def write_difficulties(path: Path, difficulties: Mapping[Instruction, float]) -> None:
    """Write difficulties as a csv that `load_inputs` reads: `index`, `instruction` (where it has no number), value.

    Raises:
        ResourceError: If the file can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "instruction", "instruction_difficulty"))
    for key, value in difficulties.items():
        writer.writerow((key, "", repr(value)) if isinstance(key, int) else ("", key, repr(value)))
    write_atomic(path, text.getvalue())


def _read_difficulties(path: Path, *, repeated: bool) -> dict[Instruction, float]:
    found: dict[Instruction, float] = {}
    for number, (place, columns) in enumerate(read_table(path)):
        key = _key(columns, number, place)
        value = number_in(columns, "instruction_difficulty", place)
        if key in found and not (repeated and found[key] == value):
            raise DataError(f"{place}: this instruction has a difficulty already", hint="one row an instruction")
        found[key] = value
    if not found:
        raise DataError(f"{path}: there are no difficulties in it")
    return found


def _read_gamed(path: Path) -> GamedRows:
    names = ("std_delta_len", "instruction_difficulty")
    rows = []
    for place, columns in read_table(path):
        verdict = next((name for name in _WIN_PROB_COLUMNS if columns.get(name) not in (None, "")), "preference")
        win_prob = number_in(columns, verdict, place)
        if not 0 <= win_prob <= 1:
            raise DataError(f"{place}: {verdict} {win_prob:g} is outside [0, 1]", hint=f"is it the file {GAMED_FILE}?")
        rows.append((win_prob, *(number_in(columns, name, place) for name in names)))
    if not rows:
        raise DataError(f"{path}: there are no gamed rows in it")
    win_probs, gaps, difficulties = np.array(rows, dtype=np.float64).T
    return GamedRows(win_probs=win_probs.copy(), gaps=np.tanh(gaps), difficulties=difficulties.copy())


def read_table(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Rows with their places; of a csv as texts, its first column under `index` if it has no name.

    Raises:
        DataError: If the file is missing, or is not what its name says.
    """
    if path.name.endswith(tuple(READERS)):
        for row in read_rows(path):
            if isinstance(row, BrokenRow):
                raise DataError(f"{path} {row.where}: {row.fault}", hint=row.fault.reason.hint)
            yield f"{path} {row.where}", row.columns
        return
    if path.suffix != ".csv":
        raise DataError(f"{path}: not a file of a known kind", hint=f"known: .csv, {', '.join(sorted(READERS))}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, columns in enumerate(csv.DictReader(file), 1):
                unnamed = {"index": columns[""]} if "" in columns and "index" not in columns else {}
                yield f"{path} row {number}", {**columns, **unnamed}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error


def _key(columns: Mapping[str, object], number: int, place: str) -> Instruction:
    text = columns.get("instruction")
    if isinstance(text, str) and text:
        known = instruction_index(text)
        return text if known is None else known
    if columns.get("index") is None:
        return number
    index = number_in(columns, "index", place)
    if index != int(index) or index < 0:
        raise DataError(f"{place}: index {index:g} is not the number of an instruction")
    return int(index)


def number_in(columns: Mapping[str, object], name: str, place: str) -> float:
    """The finite number in a column.

    Raises:
        DataError: If there is none.
    """
    value = columns.get(name)
    try:
        number = float(value) if isinstance(value, str | int | float) else float("nan")
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise DataError(f"{place}: `{name}` is {value!r}, not a finite number")
    return number


def _source(path: Path) -> str:
    return f"{path} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
