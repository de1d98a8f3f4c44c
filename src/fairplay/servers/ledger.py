"""What was spent and what may still be: each attempt's worst case is set aside before it is sent.

So a cap holds with many requests in flight, as far as the estimates are upper bounds. A command has many clients, one
after the other and side by side; inside `one_command` they spend from one account. Left out: prices (settings),
estimates (`requests.py`). Floor 3.
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


class Account:
    """What all clients of a command together spent on one model of one server, and have set aside.

    Attributes:
        used, aside: Tokens of prompts and of replies.
        changed: Held to read or change these.
    """

    def __init__(self) -> None:
        self.used, self.aside = [0, 0], [0, 0]
        self.changed = threading.Condition()


class _Command:
    """The accounts of the command that this process works for; of the process, so that all its threads see them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.accounts: dict[tuple[str, str, float, float], Account] = {}


_command = _Command()


@contextmanager
def one_command() -> Iterator[None]:
    """Let all clients that are made in the block share what they may spend, in whatever thread they are made.

    A block within another belongs to that one. Clients outside of any have an account of their own.
    """
    with _command.lock:
        _command.depth += 1
    try:
        yield
    finally:
        with _command.lock:
            _command.depth -= 1
            if not _command.depth:
                _command.accounts = {}


def _open_account(settings: ServerSettings) -> Account:
    with _command.lock:
        if not _command.depth:
            return Account()
        whose = (settings.base_url, settings.model, settings.input_price, settings.output_price)
        return _command.accounts.setdefault(whose, Account())


class Ledger:
    """Spending of one client, under its caps on what the command spends on this model of this server."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._account = _open_account(settings)
        self._own = [0, 0]

    @property
    def spent(self) -> Spent:
        """What this client spent until now."""
        with self._account.changed:
            prompt, completion = self._own
            return Spent(prompt, completion, cost_of(self._settings, prompt, completion))

    @contextmanager
    def set_aside(self, prompt_tokens: int, completion_tokens: int) -> Iterator[Entry | None]:
        """Hold an attempt's worst case back while the block runs.

        Yields:
            Where to say what it took; None if it does not fit under the caps any more, whatever those in flight take.
        """
        need, account = (prompt_tokens, completion_tokens), self._account
        with account.changed:
            while not (fits := self._fits(need, account.aside)) and any(account.aside) and self._fits(need, [0, 0]):
                account.changed.wait()
            if fits:
                _move(account.aside, need, 1)
        if not fits:
            yield None
            return
        entry = Entry()
        try:
            yield entry
        finally:
            with account.changed:
                _move(account.aside, need, -1)
                _move(account.used, entry.taken, 1)
                _move(self._own, entry.taken, 1)
                account.changed.notify_all()

    def _fits(self, need: tuple[int, int], aside: list[int]) -> bool:
        prompt, completion = (self._account.used[side] + aside[side] + need[side] for side in (0, 1))
        settings = self._settings
        if settings.max_total_tokens and prompt + completion > settings.max_total_tokens:
            return False
        return not settings.max_cost or cost_of(settings, prompt, completion) <= settings.max_cost


def _move(place: list[int], tokens: tuple[int, int], sign: int) -> None:
    for side in (0, 1):
        place[side] += sign * tokens[side]
