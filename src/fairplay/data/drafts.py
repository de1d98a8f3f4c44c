"""From the columns of one row to a draft of an example: one builder for each kind of data.

Left out: which builder and which columns (`formats.py`), ids (`reading.py`). Floor 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairplay.data.faults import (
    EMPTY_PROMPT,
    EMPTY_RESPONSE,
    EQUAL_SCORES,
    FEW_RESPONSES,
    IDENTICAL_RESPONSES,
    NO_FINAL_ASSISTANT,
    NO_RESPONSE,
    NOT_A_LABEL,
    NOT_FINITE,
    PROMPT_COLUMN_DIFFERS,
    PROMPTS_DIFFER,
    ROLES_OUT_OF_ORDER,
    SEVERAL_TURNS,
    TURNS_OUT_OF_ORDER,
    WRONG_COUNT,
    WRONG_TYPE,
    RowFault,
)
from fairplay.data.rows import Columns
from fairplay.data.text import check_prompt, dialogue_of, is_dialogue, messages_of, prompt_of, text_of
from fairplay.records import Message

Turns = tuple[Message, ...]
RESPONSE_KEYS = ("response", "text", "content", "completion")
SCORE_KEYS = ("overall_score", "score")


@dataclass(frozen=True, slots=True)
class Draft:
    """A training example without its id, fields as there; no responses where the row is a prompt only."""

    messages: Turns
    responses: tuple[str, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    win_rates: tuple[float, ...] = ()
    labels: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """The columns of one data set that hold what a builder reads; an empty string where there is none.

    Attributes:
        prompt: The prompt, as text or messages.
        system: A system turn as text.
        input: Text that goes below the prompt (Alpaca data).
        responses: The columns with responses: chosen and rejected, or one column.
        numbers: The columns with scores or win rates, in the order of the responses, or one column of lists.
        are_win_rates: Whether the numbers are win rates, else scores.
    """

    prompt: str = ""
    system: str = ""
    input: str = ""
    responses: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    are_win_rates: bool = False


def read_prompt(columns: Columns, names: Names) -> Turns:
    """The prompt that the prompt, input and system columns make; no turn where there is no prompt column."""
    messages = prompt_of(columns[names.prompt], names.prompt) if names.prompt else ()
    below = text_of(columns.get(names.input) or "", names.input)
    if below and messages:
        messages = (*messages[:-1], Message("user", f"{messages[-1].content}\n{below}"))
    return _with_system(messages, columns, names)


def _with_system(messages: Turns, columns: Columns, names: Names) -> Turns:
    system = text_of(columns.get(names.system) or "", names.system)
    if not system or messages[:1] == (Message("system", system),):
        return messages
    return (Message("system", system), *messages)


def prompt_draft(columns: Columns, names: Names) -> Draft:
    """A prompt alone."""
    messages = read_prompt(columns, names)
    check_prompt(messages)
    return Draft(messages)


def dialogue_prompt_draft(columns: Columns, names: Names) -> Draft:
    """The prompt of a `messages` column: everything before the last assistant turn, where that is the last turn."""
    turns = messages_of(columns[names.prompt], names.prompt)
    messages = turns[:-1] if turns[-1].role == "assistant" else turns
    check_prompt(messages)
    return Draft(messages)


def dialogue_draft(columns: Columns, names: Names) -> Draft:
    """Supervised data: the last assistant turn of a `messages` column is the response."""
    context, response = _split(messages_of(columns[names.prompt], names.prompt), names.prompt)
    return _finished(Draft(_with_system(context, columns, names), (response,)))


def response_draft(columns: Columns, names: Names) -> Draft:
    """A prompt with one response, and its label where a label column is named (unpaired data)."""
    context, response = _side(columns, names.responses[0], names)
    labels = (_label(columns[names.numbers[0]]),) if names.numbers else ()
    return _finished(Draft(_joined(columns, names, context), (response,), labels=labels))


def judged_draft(columns: Columns, names: Names) -> Draft:
    """A prompt with its response, or a list of them, to be judged; an empty response is kept, for it loses."""
    column = names.responses[0]
    value = columns.get(column)
    if value is None:
        raise RowFault(NO_RESPONSE)
    messages = read_prompt(columns, names)
    check_prompt(messages)
    texts = value if isinstance(value, list) else [value]
    return Draft(messages, tuple(text_of(text, column) for text in texts))


def pair_draft(columns: Columns, names: Names) -> Draft:
    """A chosen and a rejected response; where both are whole dialogues, the prompt is what they share."""
    (context, chosen), (other_context, rejected) = (_side(columns, column, names) for column in names.responses)
    if context != other_context:
        raise RowFault(PROMPTS_DIFFER)
    disorder = TURNS_OUT_OF_ORDER if is_dialogue(columns[names.responses[0]]) else ROLES_OUT_OF_ORDER
    messages = _joined(columns, names, context)
    check_prompt(messages, disorder)
    return _paired(messages, chosen, rejected, columns, names)


def tail_pair_draft(columns: Columns, names: Names) -> Draft:
    """A dialogue whose last turn is chosen, and another text in its stead that is rejected (ms-swift)."""
    context, chosen = _split(messages_of(columns[names.prompt], names.prompt), names.prompt)
    messages = _with_system(context, columns, names)
    check_prompt(messages)
    return _paired(messages, chosen, text_of(columns[names.responses[0]], names.responses[0]), columns, names)


def group_draft(columns: Columns, names: Names) -> Draft:
    """K responses with scores or win rates; the pair (best, worst) is filled in for objectives that need pairs."""
    column = names.responses[0]
    items = columns[column]
    if not isinstance(items, list):
        raise RowFault(WRONG_TYPE, f"`{column}` is not a list")
    responses = tuple(_item_text(item, column) for item in items)
    numbers = columns[names.numbers[0]] if names.numbers else [_item_score(item) for item in items]
    if not isinstance(numbers, list):
        raise RowFault(WRONG_TYPE, f"`{names.numbers[0]}` is not a list")
    if len(numbers) != len(responses):
        raise RowFault(WRONG_COUNT, f"{len(numbers)} numbers, {len(responses)} responses")
    values = _checked_numbers(numbers, are_win_rates=names.are_win_rates)
    if len(set(responses)) < 2:
        raise RowFault(FEW_RESPONSES if len(responses) < 2 else IDENTICAL_RESPONSES)
    if len(set(values)) < 2:
        raise RowFault(EQUAL_SCORES)
    win_rates, scores = (values, ()) if names.are_win_rates else ((), values)
    draft = Draft(read_prompt(columns, names), responses, best_worst(responses, values), win_rates, (), scores)
    return _finished(draft)


def best_worst(responses: Sequence[str], values: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """The first best and the first worst response; none where these two have the same text."""
    best = max(range(len(values)), key=lambda k: values[k])
    worst = min(range(len(values)), key=lambda k: values[k])
    return ((best, worst),) if responses[best] != responses[worst] else ()


def has_item_scores(items: object) -> bool:
    """Whether the responses of a list carry their own scores (UltraFeedback) or ranks (0 is best)."""
    return (
        isinstance(items, list)
        and bool(items)
        and all(isinstance(i, dict) and _item_score(i) is not None for i in items)
    )


def _paired(messages: Turns, chosen: str, rejected: str, columns: Columns, names: Names) -> Draft:
    if chosen == rejected and chosen.strip():
        raise RowFault(IDENTICAL_RESPONSES)
    numbers = [columns.get(name) for name in names.numbers]
    values = _checked_numbers(numbers, are_win_rates=names.are_win_rates)
    win_rates, scores = (values, ()) if names.are_win_rates else ((), values)
    return _finished(Draft(messages, (chosen, rejected), ((0, 1),), win_rates, (), scores))


def _finished(draft: Draft) -> Draft:
    check_prompt(draft.messages)
    if any(not response.strip() for response in draft.responses):
        raise RowFault(EMPTY_RESPONSE)
    return draft


def _side(columns: Columns, column: str, names: Names) -> tuple[Turns, str]:
    """What stands before the response in this column, and the response."""
    value = columns[column]
    if isinstance(value, list):
        return _split(messages_of(value, column), column)
    if is_dialogue(value) or not names.prompt:
        return _split(dialogue_of(value, column), column)
    text = text_of(value, column)
    return (), text.removeprefix(" ") if is_dialogue(columns[names.prompt]) else text


def _split(turns: Turns, column: str) -> tuple[Turns, str]:
    if turns[-1].role != "assistant":
        raise RowFault(NO_FINAL_ASSISTANT, f"`{column}`")
    return turns[:-1], turns[-1].content


def _joined(columns: Columns, names: Names, context: Turns) -> Turns:
    """The prompt, from the prompt column, from the dialogue, or from both where they agree."""
    if not names.prompt:
        if not context:
            raise RowFault(EMPTY_PROMPT, "no prompt column, and no turn before the response")
        return _with_system(context, columns, names)
    messages = read_prompt(columns, names)
    if not context:
        return messages
    spoken = tuple(turn for turn in messages if turn.role != "system")
    if context[0].role == "assistant":
        raise RowFault(SEVERAL_TURNS)
    if len(spoken) == 1 and spoken[0] in context:  # UltraFeedback: the prompt column is the first user turn
        return context if context[0].role == "system" else _with_system(context, columns, names)
    if spoken != tuple(turn for turn in context if turn.role != "system"):
        raise RowFault(PROMPT_COLUMN_DIFFERS)
    return context if len(context) >= len(messages) else messages


def _label(value: object) -> bool:
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise RowFault(NOT_A_LABEL, type(value).__name__)


def _checked_numbers(values: Sequence[object], *, are_win_rates: bool) -> tuple[float, ...]:
    numbers = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise RowFault(NOT_FINITE, type(value).__name__)
        try:
            number = float(value)
        except (ValueError, OverflowError):  # UltraFeedback writes "N/A" for some
            raise RowFault(NOT_FINITE, "no number") from None
        if not math.isfinite(number) or (are_win_rates and not 0.0 <= number <= 1.0):
            raise RowFault(NOT_FINITE, str(number))
        numbers.append(number)
    return tuple(numbers)


def _item_text(item: object, column: str) -> str:
    if isinstance(item, dict):
        item = next((item[key] for key in RESPONSE_KEYS if item.get(key) is not None), None)
    if isinstance(item, list):
        return _split(messages_of(item, column), column)[1]
    return text_of(item, column)


def _item_score(item: object) -> object:
    if not isinstance(item, dict):
        return None
    rank = item.get("rank")
    own = next((item[key] for key in SCORE_KEYS if item.get(key) is not None), None)
    return -rank if own is None and isinstance(rank, int) else own
