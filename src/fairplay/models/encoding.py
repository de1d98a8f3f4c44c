"""Training examples as token ids; what is too long is dropped and counted, never cut.

Left out: how a chat is rendered (`chat.py`), batches (`training/`). Floor 3.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairplay.models.chat import ChatEncoder, ChatRefused
from fairplay.records import Dropped, TrainingExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PROMPT_TOO_LONG = "prompt too long"
TOO_LONG = "prompt and response too long"
REFUSED = "refused by the chat template"
NO_RESPONSES = "no responses"


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A training example with its token ids.

    Attributes:
        example: The example.
        prompt_ids: The prompt with the assistant header, shared by all responses; at least one token.
        response_ids: One tuple a response, end-of-turn token included where there is one; none is empty.
    """

    example: TrainingExample
    prompt_ids: tuple[int, ...]
    response_ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded examples in the order given, and those left out."""

    examples: tuple[EncodedExample, ...]
    dropped: tuple[Dropped, ...]


def encode_examples(
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[TrainingExample],
    *,
    max_length: int,
    max_prompt_length: int,
) -> Encoded:
    """Token ids of examples; ids that the policy sampled are taken as they are, other text is rendered.

    Args:
        tokenizer: The policy's, with a chat template.
        examples: What to encode; an example is kept whole or dropped whole.
        max_length: Tokens that the prompt and any one response may have together.
        max_prompt_length: Tokens that the prompt may have.

    Returns:
        The examples that fit, and the dropped ones with reasons.

    Raises:
        DataError: If the chat template itself is unusable.
    """
    encoder = ChatEncoder(tokenizer)
    kept: list[EncodedExample] = []
    dropped: list[Dropped] = []
    for example in examples:
        try:
            encoded = encode_example(encoder, example)
        except ChatRefused as refusal:
            logger.warning("example %s dropped: %s", example.id, refusal.message)
            dropped.append(Dropped(example.id, REFUSED))
            continue
        reason = _reason_to_drop(encoded, max_length, max_prompt_length)
        if reason:
            dropped.append(Dropped(example.id, reason))
        else:
            kept.append(encoded)
    if dropped:
        logger.info("encoded %d examples, dropped %d", len(kept), len(dropped))
    return Encoded(tuple(kept), tuple(dropped))


def encode_example(encoder: ChatEncoder, example: TrainingExample) -> EncodedExample:
    """Token ids of one example, whatever its length.

    Raises:
        ChatRefused: If the template or tokenizer can't carry this example.
        DataError: If the chat template itself is unusable.
    """
    messages = example.prompt.messages
    prompt_ids = example.prompt_token_ids
    response_ids: list[tuple[int, ...]] = []
    for response in example.responses:
        if response.token_ids:
            response_ids.append(response.token_ids)
        else:
            rendered_prompt_ids, ids = encoder.response(messages, response.text)
            prompt_ids = prompt_ids or rendered_prompt_ids
            is_cut = response.finish_reason == "length" and len(ids) > 1
            response_ids.append(ids[:-1] if is_cut else ids)  # what was cut did not end there
    return EncodedExample(example, prompt_ids or encoder.prompt(messages), tuple(response_ids))


def _reason_to_drop(encoded: EncodedExample, max_length: int, max_prompt_length: int) -> str:
    if not encoded.response_ids:
        return NO_RESPONSES
    if len(encoded.prompt_ids) > max_prompt_length:
        return PROMPT_TOO_LONG
    longest = max(map(len, encoded.response_ids))
    return TOO_LONG if len(encoded.prompt_ids) + longest > max_length else ""
