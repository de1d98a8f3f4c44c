"""Why an attempt gave no usable reply, whether to try again, and how long the server wants to be left alone.

Left out: sending (`transport.py`), waiting (`client.py`). Floor 3.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from fairplay.servers.outcomes import (
    BROKEN_OFF,
    CUT,
    FEW_CHOICES,
    LOST_CONNECTION,
    NO_CONNECTION,
    NO_LOGPROBS,
    RATE_LIMITED,
    REFUSED,
    SERVER_ERROR,
    TIMED_OUT,
    Reply,
)
from fairplay.servers.requests import ChatRequest

_AGAIN = frozenset({408, 409})
_FATAL = frozenset({401, 402, 404})
_OVERLOADED = frozenset({429, 503, 529})
_FILTERED = frozenset({"content_filter", "refusal"})
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_LOST = frozenset({"RequestError", "SSLError", "EndOfStream"})
_SHOWN, _QUOTED = 200, 80


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that gave no usable reply.

    Attributes:
        reason: A name in `outcomes.FAILURES`.
        detail: What happened, in one line.
        again: Whether another attempt may do better.
        fatal: Whether no request at all can succeed: a wrong key, an unknown model, an empty account.
        status: Of a refusal, in HTTP; 0 if it is none.
        is_reply: Whether the server did reply, though not usably.
        overloaded: Whether the server has too much to do.
        wait: Seconds for which it wants to be left alone; 0 if it does not say.
        prompt_tokens, completion_tokens: What the attempt is known to have used.
        may_be_charged: Whether it may have used tokens that are not known.
    """

    reason: str
    detail: str
    again: bool = False
    fatal: bool = False
    status: int = 0
    is_reply: bool = False
    overloaded: bool = False
    wait: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    may_be_charged: bool = False


def status_fault(status: int, headers: Mapping[str, str], text: str) -> Fault:
    """The fault behind an HTTP status that is an error.

    Args:
        status: At least 400.
        headers: Of the response, looked up in lower case.
        text: Its body, without any key.
    """
    code, message = _error(text)
    detail = f"status {status}: {message[:_SHOWN] or 'without a word'}"
    if status == 429:
        if code == "insufficient_quota":  # looks like a rate limit, and never ends
            return Fault(RATE_LIMITED, detail, fatal=True)
        return Fault(RATE_LIMITED, detail, again=True, overloaded=True, wait=retry_after(headers, now=time.time()))
    if status in _AGAIN or status >= 500:
        wait = retry_after(headers, now=time.time())
        return Fault(SERVER_ERROR, detail, again=True, overloaded=status in _OVERLOADED, wait=wait)
    return Fault(REFUSED, detail, fatal=status in _FATAL, status=status)


def lost_fault(cause: BaseException, told: str) -> Fault | None:
    """The fault behind an attempt to which there was no response, or none that was whole; None if it is no such error.

    Once a question was sent, its reply may have been written and charged for, whether it arrived or not.

    Args:
        cause: As the HTTP library raised it. There are two of them, with the same names.
        told: What it says, without any key.
    """
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    was_sent = not kinds & _UNSENT
    if isinstance(cause, TimeoutError) or "TimeoutException" in kinds:
        if was_sent:
            return Fault(TIMED_OUT, "no whole reply in time", again=True, may_be_charged=True)
        return Fault(NO_CONNECTION, "none in time", again=True)
    if isinstance(cause, UnicodeError):  # half of a surrogate pair is no text that JSON can carry
        return Fault(REFUSED, "the question is not valid Unicode")
    if kinds & _LOST or "APIConnectionError" in kinds:
        reason = LOST_CONNECTION if was_sent else NO_CONNECTION
        return Fault(reason, told[:_SHOWN], again=True, may_be_charged=was_sent)
    return None


def reply_fault(reply: Reply, request: ChatRequest) -> Fault | None:
    """What is wrong with a well-formed reply to this request, if anything.

    Another attempt may do better only where the reply was broken off.
    """
    used = (reply.prompt_tokens, reply.completion_tokens)
    reasons = [choice.finish_reason for choice in reply.choices]
    if any(reason in _FILTERED for reason in reasons):
        return _spent(REFUSED, f"the reply ended with {', '.join(reasons)}", used)
    if not reply.has_ended:
        told = ", ".join(f"`{choice.finish_reason}`: {choice.text[:_QUOTED]!r}" for choice in reply.choices)
        broken = _spent(BROKEN_OFF, f"the reply ended with {told[:_SHOWN]}", used)
        return replace(broken, again=True, is_reply=False)
    if len(reply.choices) < request.num_choices:
        return _spent(FEW_CHOICES, f"{len(reply.choices)} of {request.num_choices}", used)
    if request.must_end and "length" in reasons:
        return _spent(CUT, f"cut at {request.max_tokens} tokens", used)
    if request.top_logprobs and not all(choice.positions and choice.positions[0].top for choice in reply.choices):
        return _spent(NO_LOGPROBS, "the server does not tell log-probs", used)
    return None


def _spent(reason: str, detail: str, used: tuple[int, int]) -> Fault:
    prompt, completion = used
    return Fault(
        reason,
        detail,
        is_reply=True,
        prompt_tokens=prompt,
        completion_tokens=completion,
        may_be_charged=not any(used),
    )


def retry_after(headers: Mapping[str, str], *, now: float) -> float:
    """Seconds that a response asks to wait, given in seconds or as a date; 0 if it asks for nothing sensible.

    Args:
        headers: Of the response, looked up in lower case.
        now: Seconds since 1970.
    """
    given = headers.get("retry-after", "").strip()
    try:
        seconds = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - now
        except (ValueError, TypeError):
            return 0.0
    return max(seconds, 0.0) if isfinite(seconds) else 0.0


def _error(text: str) -> tuple[str, str]:
    """Code and message of an error's body; the body's own beginning where it has no such form."""
    try:
        return _fields(json.loads(text))
    except (ValueError, RecursionError):
        return "", " ".join(text.split())


def _fields(document: Any) -> tuple[str, str]:
    inner = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(inner, dict):
        return "", " ".join(str(inner).split())
    return str(inner.get("code") or inner.get("type") or ""), " ".join(str(inner.get("message", inner)).split())
