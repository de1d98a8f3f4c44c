"""What was spent and what may still be: each attempt's worst case is set aside before it is sent.

Left out: prices (settings), estimates (`requests.py`). Floor 3. So a cap holds with many requests in flight, as far as
the estimates are upper bounds.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fairplay.servers.settings import ServerSettings

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of prompts and replies, and their cost at the prices set."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def cost_of(settings: ServerSettings, prompt_tokens: int, completion_tokens: int) -> float:
    """Cost of these tokens in the currency of the prices."""
    return (prompt_tokens * settings.input_price + completion_tokens * settings.output_price) / _MILLION


class Entry:
    """An attempt's place in the ledger: say in `taken` how many tokens of prompt and replies it took."""

    taken = (0, 0)


class Ledger:
    """Spending of one client, under its caps."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._used = [0, 0]
        self._aside = [0, 0]
        self._changed = threading.Condition()

    @property
    def spent(self) -> Spent:
        """What was spent until now."""
        with self._changed:
            prompt, completion = self._used
            return Spent(prompt, completion, cost_of(self._settings, prompt, completion))

    @contextmanager
    def set_aside(self, prompt_tokens: int, completion_tokens: int) -> Iterator[Entry | None]:
        """Hold an attempt's worst case back while the block runs.

        Yields:
            Where to say what it took; None if it does not fit under the caps any more, whatever those in flight take.
        """
        need = (prompt_tokens, completion_tokens)
        with self._changed:
            while not (fits := self._fits(need, self._aside)) and any(self._aside) and self._fits(need, [0, 0]):
                self._changed.wait()
            if fits:
                self._move(self._aside, need, 1)
        if not fits:
            yield None
            return
        entry = Entry()
        try:
            yield entry
        finally:
            with self._changed:
                self._move(self._aside, need, -1)
                self._move(self._used, entry.taken, 1)
                self._changed.notify_all()

    def _move(self, place: list[int], tokens: tuple[int, int], sign: int) -> None:
        for side in (0, 1):
            place[side] += sign * tokens[side]

    def _fits(self, need: tuple[int, int], aside: list[int]) -> bool:
        prompt, completion = (self._used[side] + aside[side] + need[side] for side in (0, 1))
        settings = self._settings
        if settings.max_total_tokens and prompt + completion > settings.max_total_tokens:
            return False
        return not settings.max_cost or cost_of(settings, prompt, completion) <= settings.max_cost
