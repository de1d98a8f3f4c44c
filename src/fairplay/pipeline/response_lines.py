"""Responses as JSON lines: what `fairplay generate` writes, `rank` reads and extends, and `select` reads.

Left out: other formats of responses (`data/`), the run's own tables (`storage/`). Floor 7.

    {"id": ..., "prompt": text or messages, "responses": [text, ...]}                                    is enough;
    "token_ids", "prompt_token_ids", "finish_reasons" and "seeds" are kept where they are there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.records import Message, PreferenceGroup, Prompt, Response, ResponseGroup
from fairplay.seeds import stable_seed
from fairplay.storage.atomic import write_atomic

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """The objects of a jsonl file.

    Raises:
        DataError: If there is no such file, or a line is no JSON object; the message has the line's number.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't read it ({error})") from error
    lines: list[Line] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: not JSON ({error})") from error
        if not isinstance(line, dict):
            raise DataError(f"{path}: line {number}: expected an object, found {type(line).__name__}")
        lines.append(line)
    if not lines:
        raise DataError(f"{path}: empty")
    return lines


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write objects as a jsonl file, in one step."""
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))


def group_of_line(line: Line, where: str) -> ResponseGroup:
    """The response group that a line holds.

    Raises:
        DataError: If prompt or responses are missing or of the wrong kind.
    """
    prompt = _prompt(line, where)
    texts = line.get("responses")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{where}: `responses` must be a list of texts, and not empty", hint=f"it has {', '.join(sorted(line))}"
        )
    tokens = _column(line, "token_ids", [()] * len(texts), where)
    reasons = _column(line, "finish_reasons", ["given"] * len(texts), where)
    seeds = _column(line, "seeds", [-1] * len(texts), where)
    rows = zip(texts, tokens, reasons, seeds, strict=True)
    responses = tuple(Response(text, tuple(ids), reason, seed) for text, ids, reason, seed in rows)
    return ResponseGroup(prompt, responses, tuple(line.get("prompt_token_ids", ())))


def _column(line: Line, name: str, default: Sequence[Any], where: str) -> Sequence[Any]:
    values: Sequence[Any] = line.get(name, default)
    if len(values) != len(default):
        raise DataError(f"{where}: {len(values)} `{name}` for {len(default)} responses")
    return values


def _prompt(line: Line, where: str) -> Prompt:
    content = line.get("prompt")
    if isinstance(content, str) and content.strip():
        messages: tuple[Message, ...] = (Message("user", content),)
    elif isinstance(content, list) and content:
        try:
            messages = tuple(Message(turn["role"], turn["content"]) for turn in content)
        except (TypeError, KeyError) as error:
            raise DataError(f"{where}: `prompt` must be a text, or messages with `role` and `content`") from error
    else:
        raise DataError(f"{where}: `prompt` is missing or empty", hint=f"it has {', '.join(sorted(line))}")
    key = json.dumps([[message.role, message.content] for message in messages])
    return Prompt(str(line.get("id", f"{stable_seed(key):016x}")), messages)


def line_of_group(group: ResponseGroup) -> Line:
    """A response group as a line."""
    return {
        "id": group.prompt.id,
        "prompt": [{"role": message.role, "content": message.content} for message in group.prompt.messages],
        "responses": [response.text for response in group.responses],
        "finish_reasons": [response.finish_reason for response in group.responses],
        "seeds": [response.seed for response in group.responses],
        "prompt_token_ids": list(group.prompt_token_ids),
        "token_ids": [list(response.token_ids) for response in group.responses],
    }


def preferences_of_line(line: Line, where: str) -> PreferenceGroup:
    """The judged group that a line of `fairplay rank` holds.

    Raises:
        DataError: If the line was not ranked.
    """
    group = group_of_line(line, where)
    logits = line.get("pair_logits_ab")
    if not isinstance(logits, list):
        raise DataError(f"{where}: no `pair_logits_ab`", hint="make them with `fairplay rank`")
    truncated = line.get("truncated", [False] * len(group.responses))
    return PreferenceGroup(group, tuple(tuple(map(float, row)) for row in logits), tuple(truncated))
