"""What engines that work on token ids share: prompts to ids that fit, sampled ids to responses.

Left out: sampling itself (the engines), how a chat is rendered (`models/chat.py`). Floor 4.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairplay.errors import SettingsError
from fairplay.generation.settings import GenerationSettings
from fairplay.models.chat import ChatEncoder, ChatRefused, stop_token_ids
from fairplay.records import Dropped, Prompt, Response

if TYPE_CHECKING:
    from fairplay.models.loading import Policy

logger = logging.getLogger(__name__)

PROMPT_TOO_LONG = "prompt too long"
PROMPT_REFUSED = "refused by the chat template"


class Transcriber:
    """A policy's tokenizer at work for an engine.

    Args:
        policy: Whose tokenizer, end tokens and context; the policy itself is not kept.
        settings: How long prompts and responses may be.

    Attributes:
        stop_ids: Every token that ends a response.
        room: Tokens that a prompt may have, so that the longest response still fits into the model's context.

    Raises:
        DataError: If nothing would ever end a response.
        SettingsError: If the model's context has no room for any prompt.
    """

    def __init__(self, policy: "Policy", settings: GenerationSettings) -> None:
        model: Any = policy.model
        self.tokenizer = policy.tokenizer
        self.encoder = ChatEncoder(policy.tokenizer)
        self.stop_ids = stop_token_ids(policy.tokenizer, model.generation_config)
        self.room = _room_for_prompts(
            settings, getattr(model.config.get_text_config(), "max_position_embeddings", None)
        )

    def encode(self, prompts: Sequence[Prompt]) -> tuple[dict[int, tuple[int, ...]], list[Dropped]]:
        """Ids of the prompts that can be responded to, by their index, and the dropped prompts with reasons."""
        kept: dict[int, tuple[int, ...]] = {}
        dropped: list[Dropped] = []
        for index, prompt in enumerate(prompts):
            try:
                ids = self.encoder.prompt(prompt.messages)
            except ChatRefused as refusal:
                logger.warning("prompt %s dropped: %s", prompt.id, refusal.message)
                dropped.append(Dropped(prompt.id, PROMPT_REFUSED))
                continue
            if len(ids) > self.room:
                dropped.append(Dropped(prompt.id, PROMPT_TOO_LONG))
            else:
                kept[index] = ids
        return kept, dropped

    def until_stop(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """The ids up to the first end token, which is kept."""
        ends = (place for place, token in enumerate(token_ids) if token in self.stop_ids)
        return tuple(token_ids[: next(ends, len(token_ids)) + 1])

    def response(self, token_ids: tuple[int, ...], logps: Sequence[float], seed: int) -> Response:
        """The response that these sampled ids are, their end token included where they have one.

        Args:
            token_ids: As sampled; at least one.
            logps: log pi of each of them, nats.
            seed: The sample's.
        """
        stopped = token_ids[-1] in self.stop_ids
        text_ids = token_ids[:-1] if stopped else token_ids
        text = self.tokenizer.decode(list(text_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Response(
            text=str(text),
            token_ids=token_ids,
            finish_reason="stop" if stopped else "length",
            seed=seed,
            logps=tuple(logps),
        )


def _room_for_prompts(settings: GenerationSettings, context: int | None) -> int:
    room = settings.max_prompt_length
    if context is not None:
        room = min(room, context - settings.max_new_tokens)
    if room < 1:
        raise SettingsError(
            f"generation.max_new_tokens: {settings.max_new_tokens} leaves no room for a prompt "
            f"in the model's context of {context} tokens",
            hint="lower it",
        )
    return room
