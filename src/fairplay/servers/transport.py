"""One attempt at one request, through the official client; keys stay inside.

Left out: trying again (`client.py`): the client's own retries are off, or attempts would multiply. Floor 3.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fairplay.servers.faults import Fault, lost_fault, reply_fault, status_fault
from fairplay.servers.keys import read_key, redactor
from fairplay.servers.outcomes import MALFORMED, Reply
from fairplay.servers.replies import MalformedReplyError, parse_reply
from fairplay.servers.requests import ChatRequest, estimated_tokens, request_body
from fairplay.servers.settings import ServerSettings

_CONNECT_SECONDS = 10.0
_OF_OPENAI = (
    "OpenAI-Organization",
    "OpenAI-Project",
)  # whose they are in the environment is no other server's business
_MAX_BYTES = 64 * 2**20
_MAX_ERROR_BYTES = 64 * 2**10


class _StatusError(Exception):
    """A response whose status is an error."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(status)
        self.status, self.headers, self.text = status, headers, text


class Transport:
    """A connection to the server, shared by all threads. The key appears in nothing that it returns or raises."""

    def __init__(self, settings: ServerSettings) -> None:
        import openai  # nearly a second

        self._settings, self._openai = settings, openai
        key = read_key(settings, os.environ)
        self._redacted = redactor(key)
        self._attempt = threading.local()
        own = openai.DefaultHttpxClient(
            trust_env=not settings.is_local,  # no proxy stands before this machine
            event_hooks={"response": [self._raise_for_status]},  # the official client reads such bodies without end
        )
        left_out: Any = openai.Omit()
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=settings.base_url,
            max_retries=0,
            timeout=openai.Timeout(settings.timeout, connect=min(_CONNECT_SECONDS, settings.timeout)),
            default_headers={} if settings.is_openai else dict.fromkeys(_OF_OPENAI, left_out),
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
        self._attempt.deadline = time.monotonic() + self._settings.timeout
        try:
            text = self._post(request_body(request, self._settings))
        except Exception as error:
            cause = error.__cause__ or error if isinstance(error, self._openai.APIConnectionError) else error
            if isinstance(cause, _StatusError):
                return status_fault(cause.status, cause.headers, cause.text)
            fault = lost_fault(cause, self._redacted(f"{type(cause).__name__}: {cause}"))
            if fault is None:
                raise
            return fault
        try:
            reply = parse_reply(text, number)
        except MalformedReplyError as error:
            return Fault(MALFORMED, str(error), again=True, may_be_charged=True)
        return reply_fault(reply, request) or self._with_counts(reply, request)

    def _post(self, body: dict[str, Any]) -> str:
        create: Any = self._client.chat.completions.with_streaming_response.create
        with create(**body, extra_body=self._settings.extra_body) as response:
            text = self._read(response.iter_bytes(), _MAX_BYTES)
        if time.monotonic() > self._attempt.deadline:
            raise TimeoutError
        return text

    def _raise_for_status(self, response: Any) -> None:
        if response.status_code >= 400:
            text = self._read(response.iter_bytes(), _MAX_ERROR_BYTES)
            raise _StatusError(response.status_code, response.headers, text)

    def _read(self, blocks: Iterable[bytes], most: int) -> str:
        """A body without the key; empty if it did not come in time, or is larger: part of it could end in the key."""
        read = bytearray()
        for block in blocks:
            read += block
            if len(read) > most or time.monotonic() > self._attempt.deadline:  # a drip never trips the client's limit
                return ""
        return self._redacted(read.decode("utf-8", "replace"))

    def _with_counts(self, reply: Reply, request: ChatRequest) -> Reply:
        """The reply with tokens counted, where the server does not count: as estimated."""
        if reply.prompt_tokens or reply.completion_tokens:
            return reply
        prompt, completion = estimated_tokens(request)
        return replace(reply, prompt_tokens=prompt, completion_tokens=completion)
