"""Which server is asked, with how much patience, and at what cost at most.

Left out: what is asked (`requests.py`) and the key itself (only the name of its variable is a setting). Floor 3.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from fairplay.errors import SettingsError
from fairplay.lookup import lookup

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"

TOKEN_LIMITS: Mapping[str, str] = {
    "max_tokens": "most servers",
    "max_completion_tokens": "newer models of OpenAI, which refuse the other",
}

PATIENCE = (
    *("api_key_env", "timeout", "max_attempts", "max_wait", "retry_budget", "max_concurrency"),
    *("input_price", "output_price", "max_cost", "max_total_tokens", "cache"),
)
"""Settings that change no reply."""

_OURS = frozenset({"model", "messages", "n", "stream", "temperature", "top_p", "seed", "stop", "logprobs"})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """An OpenAI-compatible chat server, and how it is asked.

    Attributes:
        model: The name by which the server knows the model; pin a dated one where there is one.
        base_url: Where the server is, `/v1` included.
        api_key_env: The environment variable that holds the key; empty sends none. A server on this machine is sent
            none either, unless this names another variable than the default.
        identity: What the model is where its name does not say it, such as the hash of a checkpoint; it stands in the
            cache's keys in place of `base_url`.
        extra_body: More fields of the request, such as `{chat_template_kwargs: {enable_thinking: false}}`.
        token_limit_field: The field that limits a reply, a name in `TOKEN_LIMITS`.
        timeout: Seconds for one attempt, from sending it to the last byte of the reply.
        max_attempts: Attempts at one request, the first included.
        max_wait: Longest wait before another attempt, in seconds; where a server asks for more, the request fails.
        retry_budget: Retries over all requests, for each request; 20 are always allowed.
        max_concurrency: Requests in flight at most; fewer while the server is overloaded.
        input_price, output_price: For a million tokens, in any currency; 0 if nothing is charged or it is not known.
        max_cost: What one command may spend at most on this model of this server, in that currency; 0 sets no limit.
            All of the command's clients count together (`ledger.one_command`).
        max_total_tokens: The same in tokens, of prompts and replies together.
        cache: The SQLite file that keeps every reply; without it nothing can be resumed.
    """

    model: str
    base_url: str = OPENAI_URL
    api_key_env: str = OPENAI_KEY
    identity: str = ""
    extra_body: dict[str, Any] = field(default_factory=dict)
    token_limit_field: str = "max_tokens"  # noqa: S105 - tokens of text
    timeout: float = 120.0
    max_attempts: int = 6
    max_wait: float = 60.0
    retry_budget: float = 1.0
    max_concurrency: int = 16
    input_price: float = 0.0
    output_price: float = 0.0
    max_cost: float = 0.0
    max_total_tokens: int = 0
    cache: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise SettingsError("model: the server needs the name of a model")
        self._check_url()
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env, re.ASCII):
            raise SettingsError(  # what it is stays untold: it may be the key
                "api_key_env: is no name of an environment variable",
                hint=f"such as {OPENAI_KEY}; keys are taken from the environment only",
            )
        lookup(TOKEN_LIMITS, self.token_limit_field, "token limit")
        if taken := sorted(set(self.extra_body) & (_OURS | set(TOKEN_LIMITS) | {"top_logprobs"})):
            raise SettingsError(f"extra_body.{taken[0]}: is set by whoever asks, not here")
        for name in ("max_attempts", "max_concurrency"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)} is less than 1")
        if not (isfinite(self.timeout) and self.timeout > 0):
            raise SettingsError(f"timeout: {self.timeout} is not a positive number of seconds")
        for name in ("max_wait", "retry_budget", "input_price", "output_price", "max_cost", "max_total_tokens"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise SettingsError(f"{name}: {value} is not a number of 0 or more")
        if self.max_cost and not (self.input_price or self.output_price):
            raise SettingsError(
                "max_cost: a limit on the cost needs prices",
                hint="set input_price and output_price, or max_total_tokens",
            )

    def _check_url(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"base_url: {self.base_url} is no http address", hint=f"such as {OPENAI_URL}")
        if parts.username or parts.password or parts.query:
            raise SettingsError(
                "base_url: an address with a user, a password or a query is refused: it would be written to files",
                hint="put the key into an environment variable and name it in api_key_env",
            )
        if parts.scheme == "http" and self.sends_key and not self.is_local:
            raise SettingsError(
                f"base_url: {self.base_url} would carry the key without encryption",
                hint="use https, or api_key_env='' for a server without keys",
            )

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine (loopback)."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def is_openai(self) -> bool:
        """Whether the server is OpenAI's own, in whatever region."""
        return (urlsplit(self.base_url).hostname or "").endswith(".openai.com")

    @property
    def sends_key(self) -> bool:
        """Whether requests carry a key; one for OpenAI is never sent to a server on this machine."""
        return bool(self.api_key_env) and not (self.is_local and self.api_key_env == OPENAI_KEY)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
