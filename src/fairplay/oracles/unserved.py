"""Which failures are the service's and which a question's own, and what becomes of the first: the command ends.

A question that was refused, or whose reply says nothing, stays without a verdict however often it is asked; it is left
out and counted. One that was never answered because of the cap or the server would be answered tomorrow: to leave it
out would make a gap for good. A server error, a time-out or a lost connection that outlived all retries can be the
question's, so it is taken for that. Left out: how failures are recognised (`servers/faults.py`). Floor 4; no torch.
"""

from collections import Counter
from collections.abc import Sequence

from fairplay.errors import ServiceError
from fairplay.oracles.judge_verdicts import NoVerdict, Verdict
from fairplay.servers.outcomes import CAP_REACHED, NO_CONNECTION, RATE_LIMITED
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
    if not lost:
        return
    kept = (
        f"the replies that came are kept in {server.cache}, only what is missing is asked again"
        if server.cache
        else "the replies that came are not kept, for `server.cache` is not set"
    )
    mend = ["raise server.max_cost or server.max_total_tokens"] if CAP_REACHED in lost else []
    mend += ["see that the server runs, and takes so many questions"] if set(lost) - {CAP_REACHED} else []
    raise ServiceError(
        f"{server.base_url}: {lost.total()} of {plural(len(verdicts), 'question')} without an answer "
        f"({reasons(dict(lost))})",
        hint=f"{' and '.join(mend)}, then run the same command again; {kept}",
    )
