"""When to give up on a server: what no request can mend, and what meets one request after the other.

Left out: trying one request again (`client.py`), what a fault is (`faults.py`). Floor 3.
"""

import threading
from dataclasses import replace

from fairplay.errors import ServiceError
from fairplay.records import Message
from fairplay.servers.faults import Fault
from fairplay.servers.outcomes import (
    BROKEN_OFF,
    LOST_CONNECTION,
    MALFORMED,
    NO_CONNECTION,
    NO_LOGPROBS,
    RATE_LIMITED,
    SERVER_ERROR,
    TIMED_OUT,
    Reply,
)
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings

HOPELESS = 20
WITHOUT_LOG_PROBS = 8
HARMLESS = (Message("user", "Please say hello."),)

_LOST = frozenset({RATE_LIMITED, SERVER_ERROR, TIMED_OUT, NO_CONNECTION, LOST_CONNECTION, MALFORMED, BROKEN_OFF})
_LOOK = {
    RATE_LIMITED: "it takes no more for now: wait, or lower `max_concurrency`;",
    SERVER_ERROR: "it runs, and fails at these questions: look at its log;",
    TIMED_OUT: "is it too slow? raise `timeout`, or lower `max_concurrency`;",
    MALFORMED: "it answers, but not as a chat server does: is `base_url` right, such as http://HOST:PORT/v1?",
    BROKEN_OFF: "it answers, and breaks its replies off: look at its log;",
}
_MEND = "mend key, model or account, then run the same again"


class Guard:
    """Watches what becomes of a client's requests, over all its calls; only a reply starts its counts anew.

    Args:
        settings: Which server.
        log_probs_hint: What to do where the server tells no log-probs.
    """

    def __init__(self, settings: ServerSettings, log_probs_hint: str) -> None:
        self._settings, self._log_probs_hint = settings, log_probs_hint
        self._lock = threading.Lock()
        self._lost = self._refused = self._status = self._without_log_probs = 0
        self._tells_log_probs = False

    def watch(self, request: ChatRequest, got: Reply | Fault) -> ChatRequest | None:
        """Note what became of a request.

        Returns:
            A harmless question of the same settings, where so many requests were refused one after the other that it
            may not be their own fault: if it is refused too (`watch_harmless`), all are. One prompt that a filter
            refuses gives many refusals in a row, for a judge sees it with every pair of its responses.

        Raises:
            ServiceError: If no request can succeed, or none does any more.
        """
        if isinstance(got, Fault) and got.fatal:
            raise ServiceError(f"{self._settings.base_url}: {got.detail}", hint=_MEND)
        with self._lock:
            is_suspicious = self._count(got)
            self._count_log_probs(request, got)
            lost = self._lost
            tells_none = self._without_log_probs >= WITHOUT_LOG_PROBS and not self._tells_log_probs
        if isinstance(got, Fault) and got.reason in _LOST and lost >= HOPELESS:
            raise ServiceError(
                f"{self._settings.base_url}: {HOPELESS} requests in a row failed, the last one {got.reason}"
                f" ({got.detail})",
                hint=_lost_hint(got.reason, self._settings.cache),
            )
        if tells_none:
            raise ServiceError(
                f"{self._settings.base_url}: tells no log-probs of {self._settings.model}: they were asked for, and "
                f"the first {WITHOUT_LOG_PROBS} replies had none",
                hint=self._log_probs_hint,
            )
        return replace(request, messages=HARMLESS) if is_suspicious else None

    def watch_harmless(self, got: Reply | Fault) -> None:
        """Note what became of the harmless question.

        Raises:
            ServiceError: If it was refused.
        """
        with self._lock:
            self._count(got)
        if isinstance(got, Fault) and got.status:
            raise ServiceError(
                f"{self._settings.base_url}: {HOPELESS} requests in a row were refused, and so is a harmless question"
                f" ({got.detail})",
                hint=_MEND,
            )

    def _count(self, got: Reply | Fault) -> bool:
        """Whether this was the last of many refusals in a row."""
        if isinstance(got, Reply) or got.is_reply:
            self._lost = self._refused = 0
        elif got.reason in _LOST:
            self._lost += 1
        elif got.status:
            self._refused = self._refused + 1 if got.status == self._status else 1
            self._status = got.status
            if self._refused == HOPELESS:
                self._refused = 0
                return True
        return False

    def _count_log_probs(self, request: ChatRequest, got: Reply | Fault) -> None:
        if isinstance(got, Reply):
            self._tells_log_probs |= request.top_logprobs > 0
        elif got.reason == NO_LOGPROBS:
            self._without_log_probs += 1


def _lost_hint(reason: str, cache: str) -> str:
    """What to look at where the last of many lost requests was lost for this reason."""
    kept = f"what was answered is kept in {cache}" if cache else "nothing is kept, for `cache` is not set"
    look = _LOOK.get(reason, "is the server running, and `base_url` right?")
    return f"{look} {kept}; run the same again when it is mended"
