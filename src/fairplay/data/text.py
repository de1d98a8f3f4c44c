"""Values of a row as texts and chat messages, refused with a reason where they are neither.

Left out: which columns hold what (`formats.py`). Floor 2. Texts are kept exactly, character by character.
"""

import re
from collections.abc import Sequence

from fairplay.data.faults import (
    EMPTY_PROMPT,
    LONE_SURROGATE,
    MISSING_VALUE,
    NOT_A_DIALOGUE,
    ROLES_OUT_OF_ORDER,
    UNKNOWN_ROLE,
    WRONG_TYPE,
    Reason,
    RowFault,
)
from fairplay.records import Message, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",  # ShareGPT
    "gpt": "assistant",
}
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def text_of(value: object, column: str) -> str:
    """The value as text.

    Raises:
        RowFault: If it is missing, no string, or holds half of a surrogate pair (which UTF-8 can't write).
    """
    if value is None:
        raise RowFault(MISSING_VALUE, f"`{column}`")
    if not isinstance(value, str):
        raise RowFault(WRONG_TYPE, f"`{column}` is {type(value).__name__}, not text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowFault(LONE_SURROGATE, f"`{column}`, character {error.start}") from None
    return value


def messages_of(value: object, column: str) -> tuple[Message, ...]:
    """The value as chat messages: a list of {role, content}, or of ShareGPT's {from, value}.

    Raises:
        RowFault: If it is no such list, a role is not known, or a content is not text.
    """
    if not isinstance(value, list) or not value:
        raise RowFault(WRONG_TYPE, f"`{column}` is not a list of messages")
    messages = []
    for turn in value:
        if not isinstance(turn, dict):
            raise RowFault(WRONG_TYPE, f"`{column}` holds a {type(turn).__name__}, not {{role, content}}")
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(role, str) or role not in ROLES:
            raise RowFault(UNKNOWN_ROLE, f"`{column}`: {role!r}"[:80])
        messages.append(Message(ROLES[role], text_of(content, f"{column}.content")))
    return tuple(messages)


def is_dialogue(value: object) -> bool:
    r"""Whether the value is an HH-RLHF dialogue: text that begins with `\n\nHuman:` or `\n\nAssistant:`."""
    return isinstance(value, str) and _HH_TURN.match(value) is not None


def dialogue_of(value: object, column: str) -> tuple[Message, ...]:
    r"""The turns of an HH-RLHF dialogue; the one space after each `\n\nHuman:` and `\n\nAssistant:` is not text.

    Raises:
        RowFault: If it does not begin with such a turn.

    Source: the layout of anthropics/hh-rlhf (README and files).
    """
    text = text_of(value, column)
    if not is_dialogue(text):
        raise RowFault(NOT_A_DIALOGUE, f"`{column}`")
    parts = _HH_TURN.split(text)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message(_HH_ROLES[speaker], said.removeprefix(" ")) for speaker, said in pairs)


def prompt_of(value: object, column: str) -> tuple[Message, ...]:
    r"""A prompt: text (one user turn), messages, or an HH-RLHF dialogue that ends in an open `\n\nAssistant:`."""
    if isinstance(value, list):
        return messages_of(value, column)
    if not is_dialogue(value):
        return (Message("user", text_of(value, column)),)
    turns = dialogue_of(value, column)
    return turns[:-1] if turns[-1] == Message("assistant", "") else turns


def check_prompt(messages: Sequence[Message], disorder: Reason = ROLES_OUT_OF_ORDER) -> None:
    """Refuse a prompt that a chat template can't render as it is meant.

    Args:
        messages: The prompt's turns.
        disorder: The reason to give for turns out of order.

    Raises:
        RowFault: If there is no turn, the turns do not go (system), user, assistant, ..., user, or the last is empty.
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns:
        raise RowFault(EMPTY_PROMPT, "no user turn")
    for index, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[index % 2]:
            raise RowFault(disorder, f"turn {index + 1} is {turn.role}")
    if turns[-1].role != "user":
        raise RowFault(disorder, "the prompt ends with an assistant turn")
    if not turns[-1].content.strip():
        raise RowFault(EMPTY_PROMPT)
