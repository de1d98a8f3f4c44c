"""One attempt at one request, through the official client; keys stay inside.

Left out: trying again (`client.py`): the client's own retries are off, or attempts would multiply. Floor 3.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fairplay.errors import SettingsError
from fairplay.servers.faults import Fault, reply_fault, status_fault
from fairplay.servers.outcomes import MALFORMED, NO_CONNECTION, REFUSED, TIMED_OUT, Reply
from fairplay.servers.replies import MalformedReplyError, parse_reply
from fairplay.servers.requests import ChatRequest, estimated_tokens, request_body
from fairplay.servers.settings import ServerSettings

_CONNECT_SECONDS = 10.0
_MAX_BYTES = 64 * 2**20


def read_key(settings: ServerSettings, environment: Mapping[str, str]) -> str:
    """The key for this server; empty where none is sent.

    Raises:
        SettingsError: If the variable that should hold it is not set.
    """
    if not settings.sends_key:
        return ""
    key = environment.get(settings.api_key_env, "").strip()
    if not key:
        raise SettingsError(
            f"no API key for {settings.base_url}: the variable {settings.api_key_env} is not set",
            hint="export it, or name another one in api_key_env; keys are taken from the environment only",
        )
    return key


class Transport:
    """A connection to the server, shared by all threads. The key appears in nothing that it returns or raises."""

    def __init__(self, settings: ServerSettings) -> None:
        import openai  # nearly a second

        self._settings, self._openai = settings, openai
        self._key = read_key(settings, os.environ)
        own = openai.DefaultHttpxClient(trust_env=not settings.is_local)  # no proxy stands before this machine
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=settings.base_url,
            max_retries=0,
            timeout=openai.Timeout(settings.timeout, connect=min(_CONNECT_SECONDS, settings.timeout)),
            http_client=own,
        )

    def __repr__(self) -> str:
        return f"Transport({self._settings.base_url})"

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def attempt(self, request: ChatRequest, number: int) -> Reply | Fault:
        """Send a request once.

        Args:
            request: What is asked.
            number: Which attempt this is, from 1; it is noted in the reply.
        """
        try:
            text = self._post(request_body(request, self._settings))
        except self._openai.APIStatusError as error:
            return status_fault(error.status_code, error.response.headers, self._told(_body(error.response)))
        except (self._openai.APITimeoutError, TimeoutError):
            return Fault(
                TIMED_OUT, f"no whole reply within {self._settings.timeout:g} s", again=True, may_be_charged=True
            )
        except self._openai.APIConnectionError as error:
            return Fault(NO_CONNECTION, self._told(_reason(error)), again=True)
        except Exception as error:
            fault = self._broken(error)
            if fault is None:
                raise
            return fault
        try:
            reply = parse_reply(text, number)
        except MalformedReplyError as error:
            return Fault(MALFORMED, str(error), again=True, may_be_charged=True)
        return reply_fault(reply, request) or self._with_counts(reply, request)

    def _post(self, body: dict[str, Any]) -> str:
        deadline = time.monotonic() + self._settings.timeout
        create: Any = self._client.chat.completions.with_streaming_response.create
        read = bytearray()
        with create(**body, extra_body=self._settings.extra_body) as response:
            for block in response.iter_bytes():
                read += block
                if time.monotonic() > deadline:  # a drip of bytes never trips the client's own limit
                    raise TimeoutError
                if len(read) > _MAX_BYTES:
                    return ""
        return self._told(read.decode("utf-8", "replace"))

    def _told(self, text: str) -> str:
        """The text without the key: servers repeat keys in their errors."""
        return text.replace(self._key, "[key]") if self._key else text

    def _broken(self, error: Exception) -> Fault | None:
        """The fault where a connection broke while the reply was read; the official client does not name these."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "TimeoutException" in kinds:
            return Fault(TIMED_OUT, "the reply stopped in its middle", again=True, may_be_charged=True)
        if isinstance(error, UnicodeError):  # half of a surrogate pair is no text that JSON can carry
            return Fault(REFUSED, "the question is not valid Unicode")
        if "TransportError" in kinds or "DecodingError" in kinds:
            return Fault(NO_CONNECTION, self._told(_reason(error)), again=True, may_be_charged=True)
        return None

    def _with_counts(self, reply: Reply, request: ChatRequest) -> Reply:
        """The reply with tokens counted, where the server does not count: as estimated."""
        if reply.prompt_tokens or reply.completion_tokens:
            return reply
        prompt, completion = estimated_tokens(request)
        return replace(reply, prompt_tokens=prompt, completion_tokens=completion)


def _body(response: Any) -> str:
    try:
        return str(response.text)
    except RuntimeError:  # a body that was not read
        return ""


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"[:200]
