"""How many requests are in flight: slowly more while all is well, half as many when the server is overloaded.

Left out: what is sent. Floor 3.
"""

import threading
import time

_START = 4


class StoppedError(Exception):
    """The work was called off while a request waited for its turn."""


class Throttle:
    """Turns for requests; additive increase, multiplicative decrease.

    A clean reply adds 1 / limit to the limit, so that it grows by one each time all in flight came back. Overload
    halves it, once for all requests that were in flight together.

    Args:
        most: Requests in flight at most.
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit = most, float(min(_START, most))
        self._in_flight = 0
        self._pause_until = self._last_cut = 0.0
        self._stopped = False
        self._changed = threading.Condition()

    def enter(self) -> float:
        """Wait for a turn.

        Returns:
            When it began, for `leave`.

        Raises:
            StoppedError: If the work was called off.
        """
        with self._changed:
            while True:
                if self._stopped:
                    raise StoppedError
                pause = self._pause_until - time.monotonic()
                if pause <= 0 and self._in_flight < int(self.limit):
                    self._in_flight += 1
                    return time.monotonic()
                self._changed.wait(pause if pause > 0 else None)

    def leave(self, began: float, *, clean: bool, overloaded: bool = False, pause: float = 0.0) -> None:
        """Give a turn back.

        Args:
            began: What `enter` returned.
            clean: Whether the server replied.
            overloaded: Whether it has too much to do.
            pause: Seconds in which nobody is to begin.
        """
        with self._changed:
            self._in_flight -= 1
            now = time.monotonic()
            if overloaded and began > self._last_cut:
                self.limit, self._last_cut = max(1.0, self.limit / 2), now
            elif clean:
                self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self._pause_until = max(self._pause_until, now + pause)
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait without a turn.

        Raises:
            StoppedError: If the work was called off meanwhile.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while not self._stopped and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._stopped:
                raise StoppedError

    def stop(self) -> None:
        """Call the work off: whoever waits for a turn gets `StoppedError`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def start(self) -> None:
        """Let new work begin."""
        with self._changed:
            self._stopped = False
