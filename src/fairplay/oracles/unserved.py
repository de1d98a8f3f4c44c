"""Which failures are the service's and which a question's own, and what becomes of the first: the command ends.

A question that was refused, or whose reply says nothing, stays without a verdict however often it is asked; it is left
out and counted. One that was never answered because of the cap or the server would be answered tomorrow: to leave it
out would make a gap for good. A server error, a time-out or a lost connection that outlived all retries can be the
question's, so it is taken for that. Left out: how failures are recognised (`servers/faults.py`). Floor 4; no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from fairplay.errors import ServiceError
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.servers.ledger import cost_of
from fairplay.servers.outcomes import CAP_REACHED, NO_CONNECTION, RATE_LIMITED
from fairplay.servers.requests import ChatRequest, estimated_tokens
from fairplay.servers.settings import ServerSettings
from fairplay.wording import plural, reasons

SERVICE = frozenset({CAP_REACHED, NO_CONNECTION, RATE_LIMITED})
"""Reasons that say nothing about the question."""


def refuse_unserved(verdicts: Sequence[Verdict | NoVerdict], server: ServerSettings) -> None:
    """End the command where questions are without an answer for reasons of the service.

    Args:
        verdicts: What came of all questions that were asked together.
        server: Where they were asked.

    Raises:
        ServiceError: If there is such a question; it says how to go on.
    """
    lost = Counter(one.reason for one in verdicts if isinstance(one, NoVerdict) and one.reason in SERVICE)
    if lost:
        raise unserved_error(lost, len(verdicts), server)


def unserved_error(
    lost: Mapping[str, int],
    num_questions: int,
    server: ServerSettings,
    *,
    place: str = "server",
    requests: Sequence[ChatRequest] = (),
) -> ServiceError:
    """What to say where the service left questions without an answer.

    Args:
        lost: Reason in `SERVICE` -> number of questions.
        num_questions: That were asked together.
        server: Where they were asked.
        place: The key of the server's settings, as far as it is known.
        requests: The questions, where it helps to tell what the dearest of them may cost.
    """
    kept = (
        f"the replies that came are kept in {server.cache}, only what is missing is asked again"
        if server.cache
        else f"the replies that came are not kept, for `{place}.cache` is not set"
    )
    mend = [_higher_cap(server, place, requests)] if CAP_REACHED in lost else []
    mend += ["see that the server runs, and takes so many questions"] if set(lost) - {CAP_REACHED} else []
    return ServiceError(
        f"{server.base_url}: {sum(lost.values()):,} of {plural(num_questions, 'question')} without an answer "
        f"({reasons(lost)})",
        hint=f"{' and '.join(mend)}, then run the same command again; {kept}",
    )


def _higher_cap(server: ServerSettings, place: str, requests: Sequence[ChatRequest]) -> str:
    """Which caps are set, by their keys, and what one question may take of each at worst."""
    tokens = [estimated_tokens(request) for request in requests]
    told = []
    if server.max_cost:
        worst = max((cost_of(server, *one) for one in tokens), default=0.0)
        told.append(f"{place}.max_cost" + (f" (one question may cost up to {worst:.4g})" if tokens else ""))
    if server.max_total_tokens:
        most = max(map(sum, tokens), default=0)
        told.append(f"{place}.max_total_tokens" + (f" (one question may take up to {most:,})" if tokens else ""))
    return f"raise {' or '.join(told)}"
