"""What a pair-preference language model reads: one user turn with the conversation, response A and response B.

The text is RLHFlow's, character by character, where nothing is cut. Left out: the model (`pair_lm.py`), the queue of
pairs (`pair_queue.py`). Floor 4.

Source: RLHFlow/pair-preference-model-LLaMA3-8B (model card); Dong et al. 2024, arXiv:2405.07863.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairplay.errors import DataError, SettingsError
from fairplay.models.chat import ChatEncoder, ChatRefused
from fairplay.oracles.pair_encoding import EncodedTexts
from fairplay.records import Message, Prompt

QUESTION = "[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"
LABELS = ("A", "B")
_TURNS = (  # a chat template: transformers drops the line break after each tag, and so it must stay one
    "\n{% for message in messages %}{% if loop.index0 % 2 == 0 %}\n\n<turn> user\n {{ message['content'] }}{% else %}"
    "\n\n<turn> assistant\n {{ message['content'] }}{% endif %}{% endfor %}\n\n\n"
)


@dataclass(frozen=True, slots=True)
class QuestionTexts(EncodedTexts):
    """The same as texts: the conversation and what may stand for A and B, each cut where it is too long."""

    context: str
    texts: tuple[str, ...]


class QuestionEncoder:
    """Asks about pairs of texts.

    The conversation takes at most half of the room; each text at most half of what that leaves. So how a text is cut
    depends on its prompt alone. Control tokens written in texts are read as the text they are.

    Args:
        tokenizer: The language model's, with a chat template.
        max_length: Tokens of a whole row.

    Raises:
        DataError: If the tokenizer has no chat template, or no single token for A and for B.
    """

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        self.tokenizer, self.chat, self.max_length = tokenizer, ChatEncoder(tokenizer), max_length
        ids = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in LABELS]
        if any(len(one) != 1 for one in ids):
            raise DataError(
                f"{tokenizer.name_or_path or 'the tokenizer'}: A and B are no single tokens",
                hint="a pair-preference language model answers with one of them",
            )
        self.label_ids: tuple[int, int] = (ids[0][0], ids[1][0])

    def encode(self, prompt: Prompt, texts: Sequence[str]) -> QuestionTexts:
        """The conversation, its beginning cut where it is too long, and texts that answer it, their ends cut.

        Raises:
            DataError: If user and assistant don't alternate; the message names the prompt.
            SettingsError: If `max_length` leaves no room for a single token of text.
        """
        room = self.max_length - len(self._ids(prompt, "", "", ""))
        whole = self._context(prompt)
        context_ids, offsets = self._offsets(whole)
        start = offsets[-(room // 2)][0] if 0 < room // 2 < len(offsets) else 0
        context_ids = context_ids[-(room // 2) :] if start else context_ids
        limit = (room - len(context_ids)) // 2
        if limit < 1:
            raise SettingsError(f"max_length {self.max_length} leaves no room for two responses")
        encoded = [self._offsets(text) for text in texts]
        return QuestionTexts(
            prompt_ids=tuple(context_ids),
            text_ids=tuple(tuple(ids[:limit]) for ids, _ in encoded),
            prompt_truncated=start > 0,
            text_truncated=tuple(len(ids) > limit for ids, _ in encoded),
            context=whole[start:],
            texts=tuple(
                text[: places[limit - 1][1]] if len(ids) > limit else text
                for text, (ids, places) in zip(texts, encoded, strict=True)
            ),
        )

    def row(self, encoded: QuestionTexts, first: int, second: int) -> tuple[int, ...]:
        """Token ids of the question that shows text `first` as A and text `second` as B."""
        return self._ids(None, encoded.context, encoded.texts[first], encoded.texts[second])

    def row_length(self, encoded: QuestionTexts, first: int, second: int) -> int:
        """Tokens of that row, up to those that join at the borders of its parts."""
        return len(encoded.prompt_ids) + len(encoded.text_ids[first]) + len(encoded.text_ids[second])

    def _ids(self, prompt: Prompt | None, context: str, first: str, second: str) -> tuple[int, ...]:
        """The question rendered as a user turn, without a BOS, as these models were trained."""
        question = QUESTION.format(context=context, first=first, second=second)
        try:
            ids = self.chat.prompt((Message("user", question),))
        except ChatRefused as error:
            where = f"prompt {prompt.id}: " if prompt else ""
            raise DataError(f"{where}{error.message}", hint=error.hint) from error
        return ids[1:] if ids[0] == self.tokenizer.bos_token_id else ids

    def _context(self, prompt: Prompt) -> str:
        messages = prompt.messages
        if messages[0].role == "system" and len(messages) > 1:  # these models know no system turn
            opening = f"{messages[0].content}\n\n{messages[1].content}"
            messages = (Message(messages[1].role, opening), *messages[2:])
        roles = [message.role for message in messages]
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise DataError(
                f"prompt {prompt.id}: a pair-preference language model can't read turns of {', '.join(roles)}",
                hint="user and assistant must alternate and the user speak last; only a system message may come before",
            )
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return str(self.tokenizer.apply_chat_template(chat, chat_template=_TURNS, tokenize=False))

    def _offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        batch = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        return batch["input_ids"], batch["offset_mapping"]
