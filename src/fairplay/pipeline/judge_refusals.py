"""What `fairplay judge` says where questions are without a verdict or a grade: the service's fault, or the replies'.

Left out: which reasons are the service's, and what mends them (`oracles/unserved.py`). Floor 7; no torch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairplay.errors import DataError
from fairplay.evaluation.protocols.games import Played
from fairplay.evaluation.protocols.mt_bench import FORM, UNREADABLE, Grade
from fairplay.oracles.judge_settings import REPLIES_NAME, JudgeSettings
from fairplay.oracles.unserved import SERVICE, unserved_error
from fairplay.servers.outcomes import CAP_REACHED
from fairplay.servers.requests import ChatRequest
from fairplay.servers.settings import ServerSettings
from fairplay.wording import reasons

PLACE = "judge.server"
SHOWN = 80
"""Characters of a reply that an error shows."""


def refuse_unplayed(played: Played, server: ServerSettings, requests: Sequence[ChatRequest]) -> None:
    """End the command where no pair was judged, and only because of the service.

    Raises:
        ServiceError: If so; it says how to go on.
    """
    if all(item.win_prob is None for item in played.pairs):
        _refuse([reason for item in played.pairs for reason in item.failures], server, requests)


def refuse_ungraded(grades: Sequence[Grade], server: ServerSettings, requests: Sequence[ChatRequest]) -> None:
    """End the command where no answer was graded, and only because of the service.

    Raises:
        ServiceError: If so; it says how to go on.
    """
    if all(item.rating is None for item in grades):
        _refuse([item.reason for item in grades], server, requests)


def refuse_unreadable(grades: Sequence[Grade], written: Path) -> None:
    """End the command where answers were asked about, and none has a grade.

    Args:
        grades: One for each answer.
        written: The file with all replies.

    Raises:
        DataError: If so; it shows a reply, and the form that is read.
    """
    if not grades or any(item.rating is not None for item in grades):
        return
    failures = Counter(item.reason for item in grades)
    unread = [item.text for item in grades if item.reason in UNREADABLE]
    shown = f"; a reply: {unread[0][:SHOWN]!r}" if unread else ""
    raise DataError(
        f"no answer was graded: {len(grades)} of {len(grades)} without a grade ({reasons(failures)}){shown}",
        hint=f"a grade from 1 to 10 is read in the form {FORM}, for which the template asks; "
        f"the replies are in {written}",
    )


def refuse_capped(document: Mapping[str, Any], judge: JudgeSettings, folder: Path) -> None:
    """End the command, its results written, where the cap left some questions of them unasked.

    Args:
        document: The results, of pairs or of grades.
        judge: Who was asked.
        folder: Of the results.

    Raises:
        ServiceError: If so; it says how to go on.
    """
    account = document["account"]
    if unasked := account["failures"].get(CAP_REACHED):
        server = judge.with_cache(str(folder / REPLIES_NAME)).server
        raise unserved_error({CAP_REACHED: unasked}, account["requested"], server, place=PLACE)


def _refuse(failures: Sequence[str], server: ServerSettings, requests: Sequence[ChatRequest]) -> None:
    if failures and SERVICE.issuperset(failures):
        raise unserved_error(Counter(failures), len(requests), server, place=PLACE, requests=requests)
