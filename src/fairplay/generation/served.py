"""Whether a chat server answers with the policy's own weights: what our model would say, and what the server says.

Our own model is loaded first and gone before a server is started. Where the server tells log-probs, those of the
likeliest tokens are compared at every step of some greedy continuations; where it tells none, the texts are. Left out:
sampling (`openai_engine.py`). Floor 4.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch

from fairplay.errors import DataError, ServiceError
from fairplay.generation.agreement import TOLERANCES, refuse_disagreement
from fairplay.generation.settings import GenerationSettings
from fairplay.generation.transcriber import Transcriber
from fairplay.models.adapters import scoring_mode
from fairplay.models.loading import Policy, load_policy
from fairplay.models.settings import ModelSettings
from fairplay.records import Message
from fairplay.servers.client import ChatClient
from fairplay.servers.outcomes import Failure, Reply
from fairplay.servers.requests import ChatRequest

logger = logging.getLogger(__name__)

NUM_TOP = 5
_NUM_TOKENS = 16
_QUESTIONS = (
    *("Why?", "Hello", "red cat", "2 + 2 =", "Name three colours.", "Is water wet?"),
    *("Which of two answers is better, and why?", "Sort these words: pear, fig, apple"),
)
_OTHER_WEIGHTS = "was the server started on these weights, in the same dtype, and without settings of its own?"


@dataclass(frozen=True, slots=True)
class Continuation:
    """What our own model says to a question, taking the likeliest token every time.

    Attributes:
        messages: The question.
        prompt_ids: As our own chat rendering has it.
        token_ids: The tokens taken, an end token included.
        text: The same as text, without the end token.
        top: Log-probs of the likeliest tokens at each step, nats, falling, [tokens][`NUM_TOP`].
    """

    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    top: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Expected:
    """What a server on the policy's weights has to say; also how its prompts and ids are read.

    Attributes:
        transcriber: The policy's.
        continuations: At least one.
        dtype: Of the weights.
    """

    transcriber: Transcriber
    continuations: tuple[Continuation, ...]
    dtype: str


def expected_of(model: str, settings: GenerationSettings, model_settings: ModelSettings) -> Expected:
    """Our own model's continuations; the model is not kept.

    Args:
        model: Folder in Hugging Face format, or hub id.
        settings: How to sample.
        model_settings: How training loads it.

    Raises:
        DataError, ServiceError: If it can't be loaded.
        SettingsError: If no prompt fits into its context.
    """
    policy = load_policy(model, model_settings)
    transcriber = Transcriber(policy, settings)
    asked = [(Message("user", question),) for question in _QUESTIONS]
    rendered = [(messages, transcriber.encoder.prompt(messages)) for messages in asked]
    shortest = min(len(ids) for _, ids in rendered)
    fitting = [(messages, ids) for messages, ids in rendered if len(ids) <= max(transcriber.room, shortest)]
    length = min(_NUM_TOKENS, settings.max_new_tokens)
    found = tuple(_continue(policy, transcriber, messages, ids, length) for messages, ids in fitting)
    return Expected(transcriber, found, str(policy.model.dtype).removeprefix("torch."))


def _continue(
    policy: Policy, transcriber: Transcriber, messages: tuple[Message, ...], prompt_ids: tuple[int, ...], length: int
) -> Continuation:
    model: Any = policy.model
    token_ids: list[int] = []
    top: list[tuple[float, ...]] = []
    with scoring_mode(model):
        while len(token_ids) < length and not (token_ids and token_ids[-1] in transcriber.stop_ids):
            ids = torch.tensor([[*prompt_ids, *token_ids]], device=model.device)
            logps = model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
            likeliest = logps.topk(NUM_TOP)
            token_ids.append(int(likeliest.indices[0]))
            top.append(tuple(likeliest.values.double().tolist()))
    text = transcriber.response(tuple(token_ids), (0.0,) * len(token_ids), 0).text
    return Continuation(messages, prompt_ids, tuple(token_ids), text, tuple(top))


def check_weights(client: ChatClient, expected: Expected, *, token_ids: bool) -> None:
    """Stop before anything is sampled from a server that holds other weights, or computes them otherwise.

    Args:
        client: Asks the server.
        expected: What our own model says.
        token_ids: Whether the server tells token ids and log-probs.

    Raises:
        ServiceError: If the server does not answer, or tells no log-probs though it should.
        DataError: If it says something else than our own model.
    """
    where = f"{client.settings.base_url} ({client.settings.model})"
    wanted = NUM_TOP if token_ids else 0
    requests = [
        ChatRequest(own.messages, max_tokens=len(own.top), top_logprobs=wanted) for own in expected.continuations
    ]
    replies = []
    for outcome in client.complete(requests, what="checking the server's weights"):
        if isinstance(outcome, Failure):
            raise ServiceError(
                f"{where}: no answer to a question that checks its weights: {outcome.reason} ({outcome.detail})",
                hint=TELLS_NO_IDS if token_ids else "see that the server is well",
            )
        replies.append(outcome)
    if token_ids:
        _compare_logps(where, expected, replies)
    else:
        _compare_texts(where, expected, replies)


TELLS_NO_IDS = "a server that tells no token ids and log-probs wants generation.serve.token_ids: false"


def _compare_logps(where: str, expected: Expected, replies: Sequence[Reply]) -> None:
    ours, theirs = [], []
    for own, reply in zip(expected.continuations, replies, strict=True):
        ids, positions = reply.choices[0].token_ids, reply.choices[0].positions
        if not ids or not reply.prompt_token_ids or len(ids) != len(positions):
            raise ServiceError(f"{where}: told no token ids", hint=TELLS_NO_IDS)
        _refuse_other_prompt(where, own.prompt_ids, reply.prompt_token_ids)
        same = next((at for at, pair in enumerate(zip(own.token_ids, ids, strict=False)) if pair[0] != pair[1]), None)
        steps = min(len(own.top), len(positions)) if same is None else same + 1
        for step in range(steps):
            told = sorted((logprob for _, logprob in positions[step].top), reverse=True)[:NUM_TOP]
            ours.append(own.top[step][: len(told)])
            theirs.append([value if isfinite(value) else -1e9 for value in told])
    try:
        refuse_disagreement(ours, theirs, dtype=expected.dtype, engine="openai")
    except DataError as error:
        raise DataError(f"{where}: {error.message}", hint=_OTHER_WEIGHTS) from error


def _refuse_other_prompt(where: str, ours: Sequence[int], theirs: Sequence[int]) -> None:
    if tuple(ours) != tuple(theirs):
        raise DataError(
            f"{where}: renders a chat to {len(theirs)} tokens which are not the {len(ours)} of training",
            hint="give it the checkpoint's own chat template; where that writes today's date, set it by "
            "generation.server.extra_body.chat_template_kwargs",
        )


def _settled(text: str) -> str:
    """Without white space around it and without an unfinished character at its end, which some servers hold back."""
    return re.sub(r"[\s\N{REPLACEMENT CHARACTER}]+\Z", "", text).lstrip()


def _compare_texts(where: str, expected: Expected, replies: Sequence[Reply]) -> None:
    """In float32 every greedy text has to be ours; in few bits rounding may turn a close choice, but not most."""
    pairs = [
        (_settled(own.text), _settled(reply.choices[0].text))
        for own, reply in zip(expected.continuations, replies, strict=True)
    ]
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    if len(differing) > (0 if TOLERANCES.get(expected.dtype, 0.0) <= TOLERANCES["float32"] else len(pairs) // 2):
        raise DataError(
            f"{where}: says something else than our own model to {len(differing)} of {len(pairs)} questions, "
            f"such as {differing[0][1]!r} for {differing[0][0]!r}",
            hint=_OTHER_WEIGHTS,
        )
    logger.warning(
        "%s: tells no log-probs, so the difference between its sampling and our training is not measured; "
        "its greedy texts are those of our own model",
        where,
    )
