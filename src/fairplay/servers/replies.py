"""A chat server's JSON to a `Reply` and back, with nothing taken on trust.

Left out: which replies are failures (`faults.py`). Floor 3; never pickle, never `eval`.
"""

import json
from math import isnan
from typing import Any

from fairplay.servers.outcomes import Choice, Position, Reply


class MalformedReplyError(ValueError):
    """A reply that is not what a chat server replies; the text says where."""


def parse_reply(text: str, attempts: int) -> Reply:
    """The reply in a body.

    Args:
        text: The body.
        attempts: What it took to get it.

    Raises:
        MalformedReplyError: If it is not JSON, or lacks what every reply has.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(f"not JSON, or too deep: {text[:80]!r}") from error
    if not isinstance(document, dict):
        raise MalformedReplyError("not an object")
    listed = document.get("choices")
    if not isinstance(listed, list):
        raise MalformedReplyError(f"no `choices`: {text[:80]!r}")
    ordered = sorted(enumerate(listed), key=lambda item: _index(item[1], item[0]))
    usage = document.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(
        choices=tuple(_choice(choice) for _, choice in ordered),
        model=str(document.get("model", "")),
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
        attempts=attempts,
        prompt_token_ids=_ids(document.get("prompt_token_ids")),
    )


def reply_json(reply: Reply) -> str:
    """A reply in the server's own form, as the cache keeps it."""
    choices = [
        {
            "index": index,
            "finish_reason": choice.finish_reason,
            "message": {"role": "assistant", "content": choice.text},
            "logprobs": {"content": [_position_document(position) for position in choice.positions]},
            "token_ids": choice.token_ids,
        }
        for index, choice in enumerate(reply.choices)
    ]
    usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    document = {"model": reply.model, "choices": choices, "usage": usage, "prompt_token_ids": reply.prompt_token_ids}
    return json.dumps(document)


def _position_document(position: Position) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in position.top]
    return {"token": position.token, "logprob": position.logprob, "top_logprobs": top}


def _index(choice: Any, place: int) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else place


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _ids(value: Any) -> tuple[int, ...]:
    """Token ids; none where there are none."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, int) and item >= 0 for item in value):
        raise MalformedReplyError("token ids that are no list of numbers")
    return tuple(value)


def _choice(document: Any) -> Choice:
    if isinstance(document, dict) and document.get("error"):  # what some routers put below a status of 200
        return Choice(_words(document["error"]), "error")
    message = document.get("message") if isinstance(document, dict) else None
    if not isinstance(message, dict):
        raise MalformedReplyError("a choice without `message`")
    reason, content = document.get("finish_reason"), message.get("content")
    if message.get("refusal"):
        return Choice(str(message["refusal"]), "refusal")
    if content is None and reason != "stop":
        content = ""  # all tokens went into a reasoning that is not shown, or something took the text away
    if not isinstance(content, str) or not isinstance(reason, str):
        raise MalformedReplyError("a choice without text or `finish_reason`")
    logprobs = document.get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, dict) else None
    if positions is not None and not isinstance(positions, list):
        raise MalformedReplyError("log-probs that are no list")
    known = tuple(_position(item) for item in positions or ())
    return Choice(content, reason, known, _ids(document.get("token_ids")))


def _words(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _position(document: Any) -> Position:
    token, logprob = _token(document)
    listed = document.get("top_logprobs")
    if listed is not None and not isinstance(listed, list):
        raise MalformedReplyError("`top_logprobs` is no list")
    return Position(token, logprob, tuple(_token(item) for item in listed or ()))


def _token(document: Any) -> tuple[str, float]:
    token = document.get("token") if isinstance(document, dict) else None
    logprob = document.get("logprob") if isinstance(document, dict) else None
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        raise MalformedReplyError("a log-prob without token or number")
    try:
        value = float(logprob)
    except OverflowError as error:
        raise MalformedReplyError("a log-prob of more digits than a number has") from error
    if isnan(value) or value > 1e-3:  # rounding may put a sure token a little above 0
        raise MalformedReplyError(f"{value} is no log-prob")
    return token, value
