"""The client: many requests to one chat server, each answered or failed with a reason.

Left out: single attempts (`transport.py`) and what replies mean. Floor 3.
"""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType

from fairplay.errors import Preempted
from fairplay.progress import progress
from fairplay.seeds import stable_seed
from fairplay.servers.cache import open_cache
from fairplay.servers.faults import Fault
from fairplay.servers.guard import Guard
from fairplay.servers.ledger import Ledger, cost_of
from fairplay.servers.outcomes import CAP_REACHED, Accounting, Failure, Outcome, Reply, count_outcomes
from fairplay.servers.requests import ChatRequest, estimated_tokens, request_key
from fairplay.servers.settings import ServerSettings
from fairplay.servers.throttle import Throttle
from fairplay.servers.transport import Transport

logger = logging.getLogger(__name__)

FIRST_WAIT = 0.5
FREE_RETRIES = 20
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """What requests would take, found without sending any.

    Attributes:
        requests: Asked for.
        cached: Of these, answered already.
        to_send: Different questions that are left.
        prompt_tokens, completion_tokens: Of those to send, at most, about.
        cost: Of these tokens at the prices set; 0 where none are.
    """

    requests: int
    cached: int
    to_send: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class ChatClient:
    """Asks one server; use it in a `with` block.

    Args:
        settings: Which server, with how much patience, at what cost at most.
        log_probs_hint: What to do where the server tells no log-probs, for whoever asks for them.

    Raises:
        SettingsError: If a key is needed and its variable is not set.
        DataError, ResourceError: If the cache can't be used.
    """

    def __init__(self, settings: ServerSettings, *, log_probs_hint: str = "") -> None:
        self.settings = settings
        self._transport = Transport(settings)
        self._cache = open_cache(settings.cache)
        self._throttle = Throttle(settings.max_concurrency)
        self._ledger = Ledger(settings)
        self._guard = Guard(settings, log_probs_hint)
        self._lock = threading.Lock()
        self._retries: Counter[str] = Counter()
        self._sent = 0
        self._requested = self._ok = self._cached = 0
        self._failures: Counter[str] = Counter()
        self._models: Counter[str] = Counter()

    def __enter__(self) -> "ChatClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections and cache."""
        self._transport.close()
        self._cache.close()

    def estimate(self, requests: Sequence[ChatRequest]) -> Estimate:
        """What `complete` would send, and what that could cost at most; sends nothing."""
        by_key = {request_key(request, self.settings): request for request in requests}
        found = self._cache.get(by_key)
        known = sum(request_key(request, self.settings) in found for request in requests)
        tokens = [estimated_tokens(request) for key, request in by_key.items() if key not in found]
        prompt, completion = sum(one for one, _ in tokens), sum(two for _, two in tokens)
        return Estimate(
            len(requests), known, len(tokens), prompt, completion, cost_of(self.settings, prompt, completion)
        )

    def complete(
        self,
        requests: Sequence[ChatRequest],
        *,
        what: str = "asking",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Outcome]:
        """Ask everything that is not in the cache; equal questions are asked once.

        Args:
            requests: What to ask.
            what: A word for the progress bar.
            should_stop: Polled twice a second; once it is true nothing more is sent.

        Returns:
            What became of each request, in their order.

        Raises:
            ServiceError: If no request can succeed (wrong key, unknown model, empty account, server gone, no log-probs
                there); what was answered is in the cache.
            Preempted: If `should_stop` said so; the same.
        """
        keys = [request_key(request, self.settings) for request in requests]
        by_key = dict(zip(keys, requests, strict=True))
        outcomes: dict[str, Outcome] = dict(self._cache.get(by_key))
        missing = {key: request for key, request in by_key.items() if key not in outcomes}
        outcomes |= self._ask_all(missing, what, should_stop)
        told = [outcomes[key] for key in keys]
        self._count(told)
        return told

    def accounting(self) -> Accounting:
        """What was asked of this client and what came of it, over all calls of `complete` that returned."""
        spent = self._ledger.spent
        return Accounting(
            requested=self._requested,
            ok=self._ok,
            cached=self._cached,
            failures=dict(sorted(self._failures.items())),
            retries=dict(sorted(self._retries.items())),
            models=dict(sorted(self._models.items())),
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            cost=spent.cost,
        )

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        ok, cached, failures, models = count_outcomes(outcomes)
        self._requested += len(outcomes)
        self._ok += ok
        self._cached += cached
        self._failures += failures
        self._models += models

    def _ask_all(
        self, missing: Mapping[str, ChatRequest], what: str, should_stop: Callable[[], bool]
    ) -> dict[str, Outcome]:
        if not missing:
            return {}
        self._throttle.start()
        outcomes: dict[str, Outcome] = {}
        with progress(what, len(missing)) as bar, ThreadPoolExecutor(self.settings.max_concurrency) as pool:
            asked = {pool.submit(self._ask, key, request): key for key, request in missing.items()}
            waiting: set[Future[Outcome]] = set(asked)
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                    outcomes |= {asked[future]: future.result() for future in done}
                    bar.advance(len(done))
                    if waiting and should_stop():
                        hint = "run the same command again" if self.settings.cache else "set `cache` to keep replies"
                        raise Preempted(f"stopped after {len(outcomes)} of {len(missing)} requests", hint=hint)
            except BaseException:
                self._throttle.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return outcomes

    def _ask(self, key: str, request: ChatRequest) -> Outcome:
        got, attempts = self._try(key, request)
        if got is None:
            return Failure(CAP_REACHED, "set max_cost or max_total_tokens higher to go on", attempts)
        if isinstance(got, Reply):
            self._cache.put(key, got)
        harmless = self._guard.watch(request, got)
        if harmless and (answer := self._paid_attempt(harmless, 1)):
            self._guard.watch_harmless(answer)
        return got if isinstance(got, Reply) else Failure(got.reason, got.detail, attempts)

    def _try(self, key: str, request: ChatRequest) -> tuple[Reply | Fault | None, int]:
        """Attempts until one succeeds, none can, patience ends, or the caps are reached (None); and their number."""
        number = 0
        while True:
            number += 1
            got = self._paid_attempt(request, number)
            if got is None:
                return None, number - 1
            if isinstance(got, Reply) or not self._may_retry(got, number):
                return got, number
            self._throttle.sleep(max(got.wait, self._backoff(key, number)))

    def _paid_attempt(self, request: ChatRequest, number: int) -> Reply | Fault | None:
        """One attempt within the caps; None if it could go beyond them."""
        worst = estimated_tokens(request)
        with self._ledger.set_aside(*worst) as entry:
            if entry is None:
                return None
            got = self._attempt(request, number)
            known = (got.prompt_tokens, got.completion_tokens)
            entry.taken = worst if isinstance(got, Fault) and got.may_be_charged else known
            return got

    def _attempt(self, request: ChatRequest, number: int) -> Reply | Fault:
        with self._lock:
            self._sent += number == 1
        began = self._throttle.enter()
        got: Reply | Fault | None = None
        try:
            got = self._transport.attempt(request, number)
        finally:
            fault = got if isinstance(got, Fault) else None
            overloaded = fault is not None and fault.overloaded
            asked = fault.wait if fault is not None else 0.0
            pause = asked if asked <= self.settings.max_wait else 0.0
            self._throttle.leave(began, clean=isinstance(got, Reply), overloaded=overloaded, pause=pause)
        return got

    def _may_retry(self, fault: Fault, number: int) -> bool:
        if not fault.again or fault.wait > self.settings.max_wait:
            return False
        with self._lock:
            allowed = FREE_RETRIES + self.settings.retry_budget * self._sent
            if number >= self.settings.max_attempts or self._retries.total() >= allowed:
                return False
            self._retries[fault.reason] += 1
            return True

    def _backoff(self, key: str, number: int) -> float:
        """Seconds before the next attempt: up to twice as many each time, at least half of that."""
        longest = min(self.settings.max_wait, FIRST_WAIT * 2.0 ** (number - 1))
        return longest * random.Random(stable_seed("backoff", key, number)).uniform(0.5, 1.0)  # noqa: S311 - no secret
