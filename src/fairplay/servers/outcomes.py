"""What became of a request: a reply, or a failure with its reason; and their counts.

Left out: how failures are recognised (`faults.py`). Floor 3.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairplay.records import FinishReason

RATE_LIMITED = "rate limited"
SERVER_ERROR = "server error"
TIMED_OUT = "timed out"
NO_CONNECTION = "no connection"
LOST_CONNECTION = "lost connection"
REFUSED = "refused"
MALFORMED = "malformed reply"
BROKEN_OFF = "broken-off reply"
CUT = "cut reply"
NO_LOGPROBS = "no log-probs"
FEW_CHOICES = "fewer choices than asked for"
CAP_REACHED = "cost cap reached"

ENDS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
"""How a reply may end: by itself, or at its limit of tokens. One that ended otherwise is no reply."""

FAILURES: Mapping[str, str] = {
    RATE_LIMITED: "429 at every attempt",
    SERVER_ERROR: "a status of 408, 409 or 500 and above at every attempt",
    TIMED_OUT: "no whole reply within the time at every attempt",
    NO_CONNECTION: "nobody could be asked, at the last attempt as before",
    LOST_CONNECTION: "the connection broke over the question, at every attempt",
    REFUSED: "the server does not take this request, its filter stopped the reply, or the model refused",
    MALFORMED: "a reply that is not what a chat server replies, at every attempt",
    BROKEN_OFF: "the reply ended neither by itself nor at its limit of tokens, such as by an error, at every attempt",
    CUT: "the reply reached its limit of tokens and had to end",
    NO_LOGPROBS: "log-probs were asked for and did not come",
    FEW_CHOICES: "fewer replies than asked for",
    CAP_REACHED: "not sent: it could have cost more than was left",
}


@dataclass(frozen=True, slots=True)
class Position:
    """One generated token with the likeliest tokens at its place: (token, log-prob), at most as many as asked for."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One reply's text, why it ended, and its log-probs and token ids, empty if not asked for.

    The client returns and keeps only those that ended as `ENDS` says; `faults.py` sees the others.
    """

    text: str
    finish_reason: str
    positions: tuple[Position, ...] = ()
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server replied.

    Attributes:
        choices: As many as asked for.
        model: The model's name as the server gives it.
        prompt_tokens, completion_tokens: As the server counts them.
        attempts: What it took; 0 if the reply was in the cache.
        prompt_token_ids: The question as the server rendered it, where that was asked for.
    """

    choices: tuple[Choice, ...]
    model: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int = 0
    prompt_token_ids: tuple[int, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether every choice ended as `ENDS` says."""
        return all(choice.finish_reason in ENDS for choice in self.choices)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a usable reply: the reason (a name in `FAILURES`), what happened last, and the attempts."""

    reason: str
    detail: str
    attempts: int = 0


Outcome = Reply | Failure


@dataclass(frozen=True, slots=True)
class Accounting:
    """What was asked for and what came of it; `requested` is `ok` and all of `failures` together.

    Attributes:
        cached: How many of the `ok` came from the cache.
        failures: Reason -> number of requests.
        retries: Reason -> number of attempts that were made again.
        models: The model's name as the server gave it -> number of replies.
        prompt_tokens, completion_tokens: Of this client's own attempts; none for the cached.
        cost: Of these tokens at the prices set; 0 where none are.
    """

    requested: int
    ok: int
    cached: int
    failures: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def count_outcomes(outcomes: Sequence[Outcome]) -> tuple[int, int, Counter[str], Counter[str]]:
    """Number of replies, how many of them cached, failures by reason, and replies by the model's name."""
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    failures = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Failure))
    cached = sum(reply.attempts == 0 for reply in replies)
    return len(replies), cached, failures, Counter(reply.model for reply in replies)
