"""Whether a stop was asked for, told to what waits long inside one shard: a server's replies.

Everything else is handed `should_stop` and asks it between its commits; a shard's work can't be, for it may be done in
another process. Left out: signals (`pipeline/signals.py`). Floor 1.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SHOULD_STOP: ContextVar[Callable[[], bool]] = ContextVar("should_stop", default=lambda: False)


@contextmanager
def stoppable(should_stop: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, `stop_asked` says what this says; only work that loses nothing by it may ask."""
    token = _SHOULD_STOP.set(should_stop)
    try:
        yield
    finally:
        _SHOULD_STOP.reset(token)


def stop_asked() -> bool:
    """Whether the command that this work is done for was asked to stop."""
    return _SHOULD_STOP.get()()
