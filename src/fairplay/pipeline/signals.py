"""Ctrl-C and SIGTERM ask for a clean stop; the work in flight is finished to its next commit.

Left out: what is printed (the command line says how to resume). Floor 7.
"""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fairplay.errors import Preempted

logger = logging.getLogger(__name__)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Catch the first SIGINT or SIGTERM while the block runs; a second one stops at once (nothing committed is lost).

    Yields:
        A function that says whether a stop was asked for.

    Raises:
        Preempted: From wherever the process is, at the second signal.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise Preempted("stopped at once; everything committed is kept")
        asked = True
        logger.warning("%s: stopping at the next commit; once more to stop at once", signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():  # a process that stops already needs no second word while it exits
            signal.signal(number, signal.SIG_IGN if asked else handler)
