"""Responses as JSON lines: what `fairplay generate` writes, `rank` reads and extends, and `select` reads.

Left out: other formats of responses (`data/`), the run's own tables (`storage/`). Floor 7.

    {"id": ..., "prompt": text or messages, "responses": [text, ...]}                                    is enough;
    "token_ids", "logps", "prompt_token_ids", "finish_reasons" and "seeds" are kept where they are there.
"""

import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fairplay.data.faults import RowFault
from fairplay.data.ids import prompt_hash
from fairplay.data.text import check_prompt, prompt_of, text_of
from fairplay.errors import DataError
from fairplay.records import FinishReason, PreferenceGroup, Prompt, Response, ResponseGroup
from fairplay.storage.atomic import write_atomic
from fairplay.wording import plural

FINISH_REASONS: tuple[str, ...] = typing.get_args(FinishReason)
_LIMIT = 2**63  # what a table's integer column holds


@dataclass(frozen=True, slots=True)
class Line:
    """One object of a jsonl file, and where it stands, such as `file.jsonl: line 3`."""

    where: str
    columns: Mapping[str, Any]

    def fault(self, message: str, hint: str = "") -> DataError:
        """An error that says where."""
        return DataError(f"{self.where}: {message}", hint=hint or f"the line has {', '.join(sorted(self.columns))}")


def read_lines(path: Path) -> list[Line]:
    """The objects of a jsonl file.

    Raises:
        DataError: If there is no such file, or a line is no JSON object; the message has the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't read it ({error})") from error
    lines: list[Line] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        where = f"{path}: line {number}"
        try:
            columns = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error})") from error
        if not isinstance(columns, dict):
            raise DataError(f"{where}: expected an object, found {_told(columns)}")
        lines.append(Line(where, columns))
    if not lines:
        raise DataError(f"{path}: empty")
    return lines


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write objects as a jsonl file, in one step."""
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))


def group_of_line(line: Line) -> ResponseGroup:
    """The response group that a line holds.

    Raises:
        DataError: If prompt or responses are missing, or a column is not what it should be.
    """
    prompt = _prompt(line)
    texts = _texts(line)
    tokens = _column(line, "token_ids", [()] * len(texts), _are_ids, "a list of token ids")
    reasons = _column(line, "finish_reasons", ["given"] * len(texts), _is_reason, f"one of {', '.join(FINISH_REASONS)}")
    logps = _column(line, "logps", [()] * len(texts), _are_numbers, "a list of finite numbers")
    seeds = _column(line, "seeds", [-1] * len(texts), _is_seed, "a whole number from -1")
    prompt_ids = line.columns.get("prompt_token_ids", [])
    if not _are_ids(prompt_ids):
        raise line.fault(f"`prompt_token_ids` must be a list of token ids, not {_told(prompt_ids)}")
    rows = zip(texts, tokens, reasons, seeds, logps, strict=True)
    responses = tuple(
        Response(text, tuple(ids), reason, seed, tuple(map(float, told))) for text, ids, reason, seed, told in rows
    )
    return ResponseGroup(prompt, responses, tuple(prompt_ids))


def line_of_group(group: ResponseGroup) -> dict[str, Any]:
    """A response group as a line's columns."""
    return {
        "id": group.prompt.id,
        "prompt": [{"role": message.role, "content": message.content} for message in group.prompt.messages],
        "responses": [response.text for response in group.responses],
        "finish_reasons": [response.finish_reason for response in group.responses],
        "seeds": [response.seed for response in group.responses],
        "prompt_token_ids": list(group.prompt_token_ids),
        "token_ids": [list(response.token_ids) for response in group.responses],
        "logps": [list(response.logps) for response in group.responses],
    }


def preferences_of_line(line: Line) -> PreferenceGroup:
    """The judged group that a line of `fairplay rank` holds.

    Raises:
        DataError: If the line was not ranked, or its verdicts are not K rows of K finite numbers or null.
    """
    group = group_of_line(line)
    count = len(group.responses)
    if "pair_logits_ab" not in line.columns:
        raise line.fault("no `pair_logits_ab`", hint="make them with `fairplay rank`")

    def is_row(value: object) -> bool:
        return isinstance(value, list) and len(value) == count and all(v is None or _is_number(v) for v in value)

    logits = _column(line, "pair_logits_ab", [()] * count, is_row, f"a list of {count} finite numbers")
    truncated = _column(line, "truncated", [False] * count, lambda value: isinstance(value, bool), "true or false")
    prompt_truncated = line.columns.get("prompt_truncated", False)
    if not isinstance(prompt_truncated, bool):
        raise line.fault(f"`prompt_truncated` must be true or false, not {_told(prompt_truncated)}")
    anchors = line.columns.get("anchors", [])
    if not _are_ids(anchors) or any(place >= count for place in anchors):
        raise line.fault(f"`anchors` must be places of responses, not {_told(anchors)}")
    spread = _column(line, "disagreement", [()] * count, is_row, f"a list of {count} finite numbers")
    return PreferenceGroup(
        group,
        _numbers(logits),
        tuple(truncated),
        prompt_truncated,
        tuple(anchors),
        _numbers(spread) if "disagreement" in line.columns else (),
    )


def _numbers(rows: Sequence[Sequence[Any]]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if value is None else float(value) for value in row) for row in rows)


def temperature_of_line(line: Line) -> float:
    """The temperature of the oracle that ranked a line; 1 where it does not say.

    Raises:
        DataError: If it is no positive number.
    """
    value = line.columns.get("temperature", 1.0)
    if not _is_number(value) or value <= 0:
        raise line.fault(f"`temperature` must be a positive number, not {_told(value)}")
    return float(value)


def scores_of_line(line: Line) -> tuple[float, ...]:
    """Someone else's scores of the responses, [K], higher is better; empty where the line has none.

    Raises:
        DataError: If they are not one finite number a response.
    """
    if "scores" not in line.columns:
        return ()
    return tuple(map(float, _column(line, "scores", [0.0] * len(_texts(line)), _is_number, "a finite number")))


def _prompt(line: Line) -> Prompt:
    if "prompt" not in line.columns:
        raise line.fault("`prompt` is missing")
    try:
        messages = prompt_of(line.columns["prompt"], "prompt")
        check_prompt(messages)
    except RowFault as fault:
        raise line.fault(str(fault), fault.reason.hint) from fault
    own = line.columns.get("id", "")
    if isinstance(own, bool) or not isinstance(own, str | int):
        raise line.fault(f"`id` must be a text or a whole number, not {_told(own)}")
    return Prompt(str(own) or prompt_hash(messages), messages)


def _texts(line: Line) -> list[str]:
    texts = line.columns.get("responses")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise line.fault("`responses` must be a list of texts, and not empty")
    try:
        return [text_of(text, "responses") for text in texts]
    except RowFault as fault:
        raise line.fault(str(fault), fault.reason.hint) from fault


def _column(
    line: Line, name: str, default: Sequence[Any], is_right: Callable[[object], bool], wanted: str
) -> Sequence[Any]:
    """A column with one entry a response, each of them as wanted; the default where the line does not have it."""
    values = line.columns.get(name, default)
    if not isinstance(values, list):
        raise line.fault(f"`{name}` must be a list with one entry a response, not {_told(values)}")
    if len(values) != len(default):
        raise line.fault(f"{len(values)} `{name}` for {plural(len(default), 'response')}")
    if values is not default:
        for place, value in enumerate(values):
            if not is_right(value):
                raise line.fault(f"`{name}`, entry {place}: must be {wanted}, not {_told(value)}")
    return values


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < _LIMIT


def _is_seed(value: object) -> bool:
    return _is_whole(value, -1)


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(_is_whole(item, 0) for item in value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(_is_number(item) for item in value)


def _is_reason(value: object) -> bool:
    return isinstance(value, str) and value in FINISH_REASONS


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _LIMIT and isfinite(value)  # a JSON integer may be too large for a float


def _told(value: object) -> str:
    """A value in an error message: as JSON, but never a long text or list."""
    told = json.dumps(value)
    return told if len(told) <= 40 else f"a {type(value).__name__}"
