"""Whether the Hugging Face hub can be reached: asked once a process, so that no file is waited for where it can't.

Left out: fetching anything: each reader does, and has what the hub's client raises told here in our words. Floor 1.
"""

import logging
import os
from functools import lru_cache
from importlib import import_module

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from fairplay.errors import DataError, FairplayError, ServiceError

logger = logging.getLogger(__name__)
SECONDS = 5.0
"""For one attempt; a hub that is there answers within one."""
ATTEMPTS = 2
UNREACHED = (
    "a typo in a folder's name? a hub id needs a network (and HF_HUB_OFFLINE unset), unless it is in the cache already"
)
"""The hint where a hub id is neither in the cache nor can be fetched."""
UNKNOWN = "a typo? a folder that lies elsewhere? for a private hub id, log in by `hf auth login`"
"""The hint where the hub has nothing of that name."""
GATED = "ask for access on the model's page, then log in by `hf auth login`"
"""The hint where the hub has it, and who asks was not let in."""
_SWITCHED_OFF_HERE = "FAIRPLAY_HUB_UNREACHED"  # beside HF_HUB_OFFLINE, for the processes that this one starts


@lru_cache(maxsize=1)
def meet_hub() -> None:
    """Ask the hub for a sign of life, once; where there is none, read the cache alone from here on.

    `huggingface_hub` itself asks six times for each file, most of a minute, and then reads the cache too. Where
    `HF_HUB_OFFLINE` is set, nothing is asked.
    """
    if is_away():
        return
    client = get_session()
    library = import_module(type(client).__module__.partition(".")[0])  # httpx, or the fork that version 2 uses
    for _ in range(ATTEMPTS):
        try:
            client.head(constants.ENDPOINT, timeout=SECONDS, follow_redirects=False)
        except library.TransportError as error:
            logger.info("%s: %s", constants.ENDPOINT, error)
        else:
            return
    constants.HF_HUB_OFFLINE = True
    os.environ[_SWITCHED_OFF_HERE] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"  # for `datasets`, and for the processes that this one starts


def is_away() -> bool:
    """Whether the hub is not asked: switched off, or met and not there."""
    return constants.is_offline_mode()


def absence() -> str:
    """Why the hub answers nothing, in words: a user who has switched it off is not told of a network."""
    if is_away() and _SWITCHED_OFF_HERE not in os.environ:
        return "access to the hub is switched off (HF_HUB_OFFLINE)"
    return "the hub can't be reached"


def told_by_hub(place: str, error: BaseException | None) -> FairplayError | None:
    """What the hub's client raised over a hub id, as an error of ours; None where it is none of the hub's answers.

    Args:
        place: The hub id.
        error: What was raised.
    """
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return ServiceError(f"{place}: no such folder, not in the cache, and {absence()}", hint=UNREACHED)
    if isinstance(error, GatedRepoError):  # to the client it is a repository that was not found, too
        return DataError(f"{place}: the hub has it, but gives it only to those it has let in", hint=GATED)
    if isinstance(error, RepositoryNotFoundError):
        return DataError(f"{place}: no such folder, and nothing of that name on the hub", hint=UNKNOWN)
    return None
