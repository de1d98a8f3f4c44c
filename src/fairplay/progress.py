"""Progress of long work on stderr: a rich bar on a terminal, elsewhere a plain line now and then.

Left out: results (stdout, printed by the command line). Floor 1.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)
_hidden = False
SECONDS_A_LINE = 20.0
"""Between two plain lines; what takes less has none."""


def hide_bars() -> None:
    """Show no bars in this process: another one shows them for it."""
    global _hidden  # noqa: PLW0603 - of the whole process, like its terminal
    _hidden = True


class Progress:
    """A running count of finished units; `advance` moves it."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total, self.done = description, total, 0

    def advance(self, units: int = 1) -> None:
        """Count `units` more as finished."""
        self.done += units


class _Lines(Progress):
    """Plain lines, with the time that is left at the pace so far."""

    def __init__(self, description: str, total: int) -> None:
        super().__init__(description, total)
        self.began = self.told = time.monotonic()

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        now = time.monotonic()
        if now - self.told >= SECONDS_A_LINE and self.done < self.total:
            self.told = now
            left = (now - self.began) * (self.total - self.done) / max(self.done, 1)
            logger.info("%s: %d of %d, about %s left", self.description, self.done, self.total, _in_words(left))


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class _Bar(Progress):
    def __init__(self, description: str, total: int) -> None:
        super().__init__(description, total)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.rich = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.rich.add_task(description, total=total)

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self.rich.advance(self.task, units)


@contextmanager
def progress(description: str, total: int) -> Iterator[Progress]:
    """Show progress of `total` units while the block runs.

    Args:
        description: What is being done, in a word or three.
        total: Number of units.

    Yields:
        The counter; call its `advance`.
    """
    if _hidden or not sys.stderr.isatty():
        yield Progress(description, total) if _hidden else _Lines(description, total)
        return
    bar = _Bar(description, total)
    with bar.rich:
        yield bar
