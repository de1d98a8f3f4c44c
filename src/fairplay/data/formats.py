"""What kind of data the columns of the first rows speak of, said in words: the table of accepted formats.

Left out: reading a row of that kind (`drafts.py`). Floor 2. Detection looks at column names and at whether a column
holds text, lists or HH-RLHF dialogues; whatever it finds is told to the user, columns that are not read included.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairplay.data.drafts import (
    Draft,
    Names,
    dialogue_draft,
    dialogue_prompt_draft,
    group_draft,
    has_item_scores,
    judged_draft,
    pair_draft,
    prompt_draft,
    response_draft,
    tail_pair_draft,
)
from fairplay.data.faults import MISSING_VALUE, MIXED_KINDS, RowFault
from fairplay.data.rows import Columns
from fairplay.data.text import is_dialogue
from fairplay.errors import DataError
from fairplay.lookup import nearest_hint

PROMPT_COLUMNS = ("prompt", "instruction", "question", "context")
SYSTEM_COLUMNS = ("system", "system_prompt")
MESSAGE_COLUMNS = ("messages", "conversations")
RESPONSE_COLUMNS = ("completion", "response", "output")
GROUP_COLUMNS = ("responses", "completions", "generations", "all_generated_responses")
SCORE_COLUMNS = ("scores", "all_rm_scores", "ratings")
WIN_RATE_COLUMNS = ("win_rates", "win_probs", "probabilities")
PAIR_NUMBERS = ((("chosen_probs_win", "chosen_probs_lose"), True), (("score_chosen", "score_rejected"), False))
ID_COLUMNS = ("id", "prompt_id")
EXPECTED = (
    "`chosen` + `rejected` [+ `prompt`]",
    "`prompt` + `responses` + `scores` or `win_rates`",
    "`prompt` + `completion` [+ `label`]",
    "`messages`",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to read the rows of a data set.

    Attributes:
        words: What was detected, for people.
        is_pairs: Whether every row holds one chosen and one rejected response.
        is_prompts: Whether a row stands for its prompt, so that the prompt has the row's id.
        kinds: What each needed column holds, `text`, `list` or `value`.
        names: Which column holds what.
        build: Makes a draft of a row.
    """

    words: str
    is_pairs: bool
    is_prompts: bool
    kinds: Mapping[str, str]
    names: Names
    build: Callable[[Columns, Names], Draft]

    def read(self, columns: Columns) -> Draft:
        """The draft of one row.

        Raises:
            RowFault: If the row can't be used.
        """
        for column, kind in self.kinds.items():
            value = columns.get(column)
            if value is None:
                raise RowFault(MISSING_VALUE, f"`{column}`")
            if "value" != kind != _kind(value) and _kind(value) != "value":
                raise RowFault(MIXED_KINDS, f"`{column}` is {_kind(value)} here, {kind} in the first rows")
        return self.build(columns, self.names)


class _Found:
    """The columns that hold something in the first rows, with the value of the first row that has one."""

    def __init__(self, rows: Iterable[Columns]) -> None:
        self.first: dict[str, object] = {}
        self.empty: set[str] = set()
        for row in rows:
            for name, value in row.items():
                if value is None:
                    self.empty.add(name)
                else:
                    self.first.setdefault(name, value)
        self.empty -= self.first.keys()

    def one_of(self, names: Sequence[str]) -> str:
        return next((name for name in names if name in self.first), "")

    def prompt_names(self) -> Names:
        prompt = self.one_of(PROMPT_COLUMNS)
        return Names(prompt, self.one_of(SYSTEM_COLUMNS), self.one_of(("input",)) if prompt == "instruction" else "")


def detect_examples(rows: Sequence[Columns], source: str) -> Layout:
    """How to read the rows as training examples.

    Args:
        rows: The first rows.
        source: What the user named, for the message.

    Raises:
        DataError: If the columns are none of the accepted ones; lists what was expected and what was found.
    """
    found = _Found(rows)
    prompt = found.prompt_names()
    layout = _pairs(found, prompt) or _groups(found, prompt) or _single(found, prompt)
    if layout is None:
        raise _wrong_columns(found, source, EXPECTED)
    return layout


def detect_prompts(rows: Sequence[Columns], source: str) -> Layout:
    """How to read the rows as prompts; rows of training data give theirs.

    Raises:
        DataError: As for `detect_examples`.
    """
    found = _Found(rows)
    prompt = found.prompt_names()
    if prompt.prompt:
        return _layout("prompts", prompt_draft, found, prompt, (prompt.prompt,), is_prompts=True)
    messages = found.one_of(MESSAGE_COLUMNS)
    if messages:
        names = Names(messages, prompt.system)
        return _layout("prompts of dialogues", dialogue_prompt_draft, found, names, (messages,), is_prompts=True)
    layout = _pairs(found, prompt)
    if layout is None:
        raise _wrong_columns(found, source, (*(f"`{name}`" for name in PROMPT_COLUMNS), "`messages`", EXPECTED[0]))
    return replace(layout, is_prompts=True, build=_prompt_of_pair)


def _prompt_of_pair(columns: Columns, names: Names) -> Draft:
    return Draft(pair_draft(columns, names).messages)


def detect_responses(rows: Sequence[Columns], source: str, column: str) -> Layout:
    """How to read the rows as prompts with responses to judge, in this column.

    Raises:
        DataError: If there is no prompt column or no such column of responses.
    """
    found = _Found(rows)
    prompt = found.prompt_names()
    if not prompt.prompt or column not in found.first:
        prompts = ", ".join(f"`{name}`" for name in PROMPT_COLUMNS)
        needed = f"a column of prompts ({prompts}) and the column `{column}` of responses"
        raise _wrong_columns(found, source, (needed,))
    names = replace(prompt, responses=(column,))
    layout = _layout("responses to judge", judged_draft, found, names, (prompt.prompt, column), is_prompts=True)
    return replace(layout, kinds={prompt.prompt: layout.kinds[prompt.prompt]})


def _pairs(found: _Found, prompt: Names) -> Layout | None:
    numbers, are_win_rates = next(
        ((names, rates) for names, rates in PAIR_NUMBERS if all(name in found.first for name in names)), ((), False)
    )
    messages = found.one_of(MESSAGE_COLUMNS)
    if messages and "rejected_response" in found.first:
        names = Names(messages, prompt.system, "", ("rejected_response",), numbers, are_win_rates)
        return _layout(
            "preference pairs", tail_pair_draft, found, names, (messages, "rejected_response"), is_pairs=True
        )
    if not {"chosen", "rejected"} <= found.first.keys():
        return None
    value = found.first["chosen"]
    if not prompt.prompt and isinstance(value, str) and not is_dialogue(value):
        return None
    names = Names(prompt.prompt, prompt.system, prompt.input, ("chosen", "rejected"), numbers, are_win_rates)
    needed = (prompt.prompt, "chosen", "rejected") if prompt.prompt else ("chosen", "rejected")
    title = "preference pairs" if prompt.prompt else "preference pairs with the prompt inside"
    return _layout(title, pair_draft, found, names, needed, is_pairs=True)


def _groups(found: _Found, prompt: Names) -> Layout | None:
    responses = found.one_of(GROUP_COLUMNS)
    if not prompt.prompt or not responses:
        return None
    win_rates, scores = found.one_of(WIN_RATE_COLUMNS), found.one_of(SCORE_COLUMNS)
    numbers = win_rates or scores
    if not numbers and not has_item_scores(found.first[responses]):
        return None
    title = "K responses with win rates" if win_rates else "K responses with scores"
    columns = (numbers,) if numbers else ()
    names = Names(prompt.prompt, prompt.system, prompt.input, (responses,), columns, bool(win_rates))
    return _layout(title, group_draft, found, names, (prompt.prompt, responses, *columns))


def _single(found: _Found, prompt: Names) -> Layout | None:
    messages, response = found.one_of(MESSAGE_COLUMNS), found.one_of(RESPONSE_COLUMNS)
    if prompt.prompt and response:
        label = ("label",) if "label" in found.first else ()
        title = "single responses with labels (unpaired)" if label else "single responses without labels (supervised)"
        names = Names(prompt.prompt, prompt.system, prompt.input, (response,), label)
        return _layout(title, response_draft, found, names, (prompt.prompt, response, *label))
    if messages:
        names = Names(messages, prompt.system)
        return _layout("dialogues without labels (supervised)", dialogue_draft, found, names, (messages,))
    return None


def _layout(
    title: str,
    build: Callable[[Columns, Names], Draft],
    found: _Found,
    names: Names,
    needed: Sequence[str],
    *,
    is_pairs: bool = False,
    is_prompts: bool = False,
) -> Layout:
    kinds = {column: _kind(found.first[column]) for column in needed}
    kinds |= dict.fromkeys((column for column in names.numbers if column in kinds), "value")
    columns = ", ".join(f"`{column}` ({_words(found.first[column])})" for column in needed)
    read = {*needed, names.system, names.input, *names.numbers, *ID_COLUMNS}
    extra = [f"`{name}`" for name in (names.system, names.input, *names.numbers) if name and name not in needed]
    also = f" and {', '.join(extra)}" if extra else ""
    unread = sorted(f"`{name}`" for name in (found.first.keys() | found.empty) - read)
    words = f"{title}: {columns}{also}" + (f"; not read: {', '.join(unread)}" if unread else "")
    return Layout(words, is_pairs, is_prompts, kinds, names, build)


def _kind(value: object) -> str:
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "value"


def _words(value: object) -> str:
    if isinstance(value, list):
        chat = bool(value) and isinstance(value[0], dict) and {"role", "from"} & value[0].keys()
        return "messages" if chat else "list"
    return "HH-RLHF dialogue" if is_dialogue(value) else "text" if isinstance(value, str) else type(value).__name__


def _wrong_columns(found: _Found, source: str, expected: Sequence[str]) -> DataError:
    names = [*sorted(found.first), *(f"{name} (always empty)" for name in sorted(found.empty))]
    known = ("chosen", "rejected", "label", "scores", "win_rates", *PROMPT_COLUMNS, *MESSAGE_COLUMNS, *GROUP_COLUMNS)
    near = (nearest_hint(name, known) for name in found.first if name not in known)
    hint = next((hint for hint in near if hint.startswith("did you mean")), "rename the columns")
    if {"chosen", "rejected"} <= found.first.keys():
        hint = (
            r"give the prompt in a column `prompt`, or whole dialogues (\n\nHuman: ... \n\nAssistant: ... or messages)"
        )
    message = f"{source}: wrong columns: expected {'; or '.join(expected)}; found {', '.join(names) or 'none'}"
    return DataError(message, hint=hint)
