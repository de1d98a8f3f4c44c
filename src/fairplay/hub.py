"""Whether the Hugging Face hub can be reached: asked once a process, so that no file is waited for where it can't.

Left out: fetching anything (each reader does), and what the hub answers: a name that it does not know is the reader's
error. Floor 1.
"""

import logging
import os
from functools import lru_cache
from importlib import import_module

from huggingface_hub import constants, get_session

logger = logging.getLogger(__name__)
SECONDS = 5.0
"""For one attempt; a hub that is there answers within one."""
ATTEMPTS = 2
UNREACHED = (
    "a typo in a folder's name? a hub id needs a network (and HF_HUB_OFFLINE unset), unless it is in the cache already"
)
"""The hint where a hub id is neither in the cache nor can be fetched."""
UNKNOWN = "a typo? a folder that lies elsewhere? for a private or gated hub id, log in by `hf auth login`"
"""The hint where the hub has nothing of that name."""


@lru_cache(maxsize=1)
def meet_hub() -> None:
    """Ask the hub for a sign of life, once; where there is none, read the cache alone from here on.

    `huggingface_hub` itself asks six times for each file, most of a minute, and then reads the cache too. Where
    `HF_HUB_OFFLINE` is set, nothing is asked.
    """
    if constants.is_offline_mode():
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
    os.environ["HF_HUB_OFFLINE"] = "1"  # for `datasets`, and for the processes that this one starts
