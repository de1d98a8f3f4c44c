"""One rendering of chats into token ids, for generation and for training alike.

The conversation is rendered once by the tokenizer's chat template and that text is tokenised once. The prompt's ids are
those of the generation prompt, so they equal what an engine reads and are the same for every response to the prompt.
The response's ids run up to its end-of-turn token, which is scored; the assistant header belongs to the prompt. At most
one BOS leads, whoever writes it. Control tokens inside messages are tokenised as the text they are.
Left out: lengths and batches of examples (`encoding.py`). Floor 3.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from fairplay.errors import DataError
from fairplay.records import Message

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

# Stands for a response when the template is probed; no template or tokenizer treats it specially.
_PROBE = "zqxj"
# Llama 3 templates print today's date unless given one: then the same prompt has other ids tomorrow. Its own default.
_DATE = "26 Jul 2024"


class ChatRefused(DataError):
    """The chat template or tokenizer can't carry this one conversation; others may pass."""


class ChatEncoder:
    """A tokenizer's chat format; make one and use it for many conversations.

    Args:
        tokenizer: A fast tokenizer with a chat template.

    Raises:
        DataError: If it has no chat template.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        if not tokenizer.chat_template:
            raise DataError(
                f"{tokenizer.name_or_path or 'the tokenizer'}: has no chat template",
                hint="add a chat_template.jinja to the model folder (the one of the model's instruct version)",
            )
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        controls = {token.content: index for index, token in added.items() if token.special}
        self._controls = sorted(controls, key=len, reverse=True)
        self._control_ids = frozenset(controls.values())
        self._control_pattern = re.compile("|".join(map(re.escape, self._controls)) or r"(?!)")
        self._bos_id: int | None = tokenizer.bos_token_id
        self._adds_bos = self._bos_id is not None and tokenizer("a")["input_ids"][:1] == [self._bos_id]
        # Metaspace tokenizers put a space before every text; text that goes on must not get one.
        self._adds_space = len(self._ids("a")) > 0 and tokenizer.decode(2 * self._ids("a")) != "aa"

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a conversation that ends with a user turn, with the assistant header, [prompt tokens].

        Raises:
            ChatRefused: If the template refuses these messages, or a control token in them can't be told from text.
        """
        rendered, mark = self._render(messages, None, generation_prompt=True)
        return self._one_bos(self._tokenise(rendered, mark))

    def response(self, messages: Sequence[Message], response: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the prompt and of a response to it with its end-of-turn token.

        Raises:
            ChatRefused: If the template refuses these messages, or changes the response.
            DataError: If the template can't tell where the response begins or ends.
        """
        _ = self.end_of_turn_id  # the template is checked once
        prompt, full, mark = self._render_pair(messages, response)
        region = full[len(prompt) :]
        if self._marked(response.strip(), mark) not in region:
            raise ChatRefused("the chat template changes the response", hint="see the template's assistant branch")
        prompt_ids = self._tokenise(prompt, mark)
        full_ids = self._tokenise(full, mark)
        if full_ids[: len(prompt_ids)] == prompt_ids:
            response_ids = full_ids[len(prompt_ids) :]
        else:  # a token spans the boundary: the policy never sees it, for its prompt ends here
            response_ids = self._tokenise(region, mark, goes_on=True)
        return self._one_bos(prompt_ids), self._until_end(response_ids)

    @cached_property
    def end_of_turn_id(self) -> int:
        """The token that ends an assistant turn.

        Raises:
            DataError: If the template writes none, or no usable assistant header.
        """
        messages = (Message("user", "a"),)
        prompt, full, mark = self._render_pair(messages, _PROBE)
        bare, _ = self._render(messages, None, generation_prompt=False)
        before, found, after = full[len(prompt) :].partition(_PROBE)
        if not found:
            raise self._unusable("does not show the response", "print `content` in its assistant branch")
        writes_header = bool(self._control_ids & set(self._tokenise(before, mark))) or (
            bare == prompt and before.strip()
        )
        if writes_header:
            raise self._unusable(
                "writes an assistant header that its generation prompt lacks",
                "let it print the same header where `add_generation_prompt` is set",
            )
        return self._until_end(self._tokenise(after, mark, goes_on=True))[-1]

    def _render_pair(self, messages: Sequence[Message], response: str) -> tuple[str, str, str]:
        prompt, mark = self._render(messages, response, generation_prompt=True)
        full, _ = self._render(messages, response, generation_prompt=False)
        if not full.startswith(prompt):
            raise self._unusable(
                "has a generation prompt that its full conversation does not begin with",
                "train on responses with token ids, or mend the template so that both print the same assistant header",
            )
        return prompt, full, mark

    def _render(self, messages: Sequence[Message], response: str | None, *, generation_prompt: bool) -> tuple[str, str]:
        """The conversation as text, and the character that marks control tokens in it (empty if there are none)."""
        contents = [message.content for message in messages] + ([] if response is None else [response])
        mark = ""
        if any(map(self._control_pattern.search, contents)):
            text = "".join(contents)
            mark = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
        chat = [{"role": message.role, "content": self._marked(message.content, mark)} for message in messages]
        if response is not None and not generation_prompt:
            chat.append({"role": "assistant", "content": self._marked(response, mark)})
        try:
            rendered = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=generation_prompt, date_string=_DATE
            )
        except TemplateError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ChatRefused(
                f"the chat template refuses the messages: {reason}",
                hint="put a system message into the first user turn; let user and assistant alternate",
            ) from error
        return str(rendered), mark

    def _marked(self, text: str, mark: str) -> str:
        if not mark:
            return text
        return self._control_pattern.sub(lambda found: f"{mark}{self._controls.index(found[0])}{mark}", text)

    def _tokenise(self, text: str, mark: str, *, goes_on: bool = False) -> list[int]:
        """Ids of a rendered text; what stands between marks is text, whatever it looks like."""
        if not mark or mark not in text:
            return self._ids_going_on(text) if goes_on else self._ids(text)
        ids: list[int] = []
        for index, piece in enumerate(re.split(f"{mark}(\\d+){mark}", text)):
            if index % 2:
                ids += self._control_as_text(self._controls[int(piece)])
            elif piece:
                ids += self._ids_going_on(piece) if goes_on or index else self._ids(piece)
        return ids

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    def _ids_going_on(self, text: str) -> list[int]:
        if not self._adds_space or not self._controls:
            return self._ids(text)
        return self._ids(self._controls[0] + text)[1:]

    def _control_as_text(self, control: str) -> list[int]:
        ids: list[int] = self.tokenizer(control, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if self._control_ids.intersection(ids):
            raise ChatRefused(
                f"the text contains the control token {control}, which the tokenizer can't read as text",
                hint="remove it from the data",
            )
        return ids

    def _one_bos(self, ids: list[int]) -> tuple[int, ...]:
        """The ids with exactly one BOS if the template or the tokenizer writes any, else with none."""
        start = 0
        while self._bos_id is not None and start < len(ids) and ids[start] == self._bos_id:
            start += 1
        needs_bos = start > 0 or self._adds_bos
        return (self._bos_id, *ids[start:]) if needs_bos and self._bos_id is not None else tuple(ids)

    def _until_end(self, ids: list[int]) -> tuple[int, ...]:
        """The ids up to the first control token; those in the response's own text are no control tokens by now."""
        for index, token in enumerate(ids):
            if token in self._control_ids:
                return tuple(ids[: index + 1])
        raise self._unusable(
            "writes no end-of-turn token after a response",
            "end its assistant branch with `eos_token` or a special token of the tokenizer",
        )

    def _unusable(self, what: str, hint: str) -> DataError:
        return DataError(f"{self.tokenizer.name_or_path or 'the tokenizer'}: the chat template {what}", hint=hint)


def stop_token_ids(
    tokenizer: "PreTrainedTokenizerBase", generation_config: "GenerationConfig | None"
) -> tuple[int, ...]:
    """Every token that ends a response: EOS of the generation config and tokenizer, end of turn of the template.

    Raises:
        DataError: If there is none, so that no response would ever end.
    """
    ids: set[int] = set()
    configured = generation_config.eos_token_id if generation_config is not None else None
    ids.update(configured if isinstance(configured, list | tuple) else [configured] if configured is not None else [])
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    try:
        ids.add(ChatEncoder(tokenizer).end_of_turn_id)
    except DataError:
        if not ids:
            raise
    return tuple(sorted(ids))
