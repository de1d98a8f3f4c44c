"""What is asked of a chat server: messages and sampling, and the hash that stands for them in the cache.

Left out: the server (`settings.py`), sending (`transport.py`). Floor 3.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from fairplay.records import Message
from fairplay.servers.settings import ServerSettings
from fairplay.storage.digests import sha256_value

_BYTES_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 8


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a chat server.

    Attributes:
        messages: The chat; it ends with a user turn.
        max_tokens: Tokens at which a reply is cut.
        temperature, top_p: How replies are sampled.
        seed: Of the sample; -1 sends none.
        num_choices: Replies wanted; a server that gives fewer has failed.
        stop: Texts that end a reply.
        top_logprobs: Likeliest tokens wanted at each position, with their log-probs; 0 asks for none.
        schema: JSON schema that the reply has to follow, as JSON text; empty for free text.
        must_end: Whether a reply that is cut at `max_tokens` is a failure.
        repeat: Number of the repetition, where the same question is asked several times on purpose.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = -1
    num_choices: int = 1
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    schema: str = ""
    must_end: bool = False
    repeat: int = 0


def request_body(request: ChatRequest, settings: ServerSettings) -> dict[str, Any]:
    """The fields that are sent to the server."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        settings.token_limit_field: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "n": request.num_choices,
    }
    if request.seed >= 0:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema:
        named = {"name": "reply", "strict": True, "schema": json.loads(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def request_key(request: ChatRequest, settings: ServerSettings) -> str:
    """The content hash under which the reply is kept: model, messages, sampling; no key and no patience."""
    document: Mapping[str, Any] = {
        "server": settings.identity or settings.base_url,
        "body": request_body(request, settings) | settings.extra_body,
        "must_end": request.must_end,
        "repeat": request.repeat,
    }
    return sha256_value(document)


def estimated_tokens(request: ChatRequest) -> tuple[int, int]:
    """What a request takes at most, about: tokens of the prompt and of the replies.

    A token has 4 bytes of English and 3 of most other scripts; 3 is taken for all.
    """
    num_bytes = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    prompt = ceil(num_bytes / _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(request.messages)
    return prompt, request.max_tokens * request.num_choices
