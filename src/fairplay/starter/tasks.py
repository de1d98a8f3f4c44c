"""The kinds of tasks of the embedded world: a literal table of how each is asked and which responses are right.

Everything else follows from a row: the prompts that exist, recognising a prompt by its text alone, the right
responses, what a wrong but well-formed one looks like. Left out: how good a response is (`judge.py`) and how often the
corpus gets it right (`corpus.py`). Floor 6.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from fairplay.starter.facts import ANIMALS, OPENINGS, OPPOSITES, THINGS, VERBS

Words = tuple[str, ...]

_NAMES = tuple(ANIMALS)
_HOMES = tuple(sorted({animal.home for animal in ANIMALS.values()}))
_DIGITS = tuple(str(number) for number in range(10))
_SUMS = tuple(str(number) for number in range(19))
_COPIED = (*_NAMES, *OPPOSITES, *THINGS)


@dataclass(frozen=True)
class TaskKind:
    """One kind of task.

    Attributes:
        asked: Phrasings of the prompt; `{}` stands for one argument each, in order.
        slots: Vocabulary of each argument; the arguments of one prompt are distinct where `distinct` says so.
        sentence: The full response; `{a[i]}` is argument i of the prompt, `{c[i]}` word i of the content.
        terse: The response that is only its content.
        choices: Vocabulary of each word of the content.
        right: Arguments -> all contents that are right.
        wrong: Arguments and a generator -> a plausible content that is not right.
        distinct: Whether the arguments of one prompt must differ.
    """

    asked: tuple[str, ...]
    slots: tuple[Words, ...]
    sentence: str
    terse: str
    choices: tuple[Words, ...]
    right: Callable[[Words], tuple[Words, ...]]
    wrong: Callable[["TaskKind", Words, Random], Words]
    distinct: bool = False


@dataclass(frozen=True)
class Task:
    """One task: its kind's name in `TASKS` and its arguments."""

    kind: str
    arguments: Words


def _swap_one_word(kind: TaskKind, arguments: Words, rng: Random) -> Words:
    right = kind.right(arguments)
    while True:
        content = list(rng.choice(right))
        index = rng.randrange(len(content))
        content[index] = rng.choice(kind.choices[index])
        if tuple(content) not in right:
            return tuple(content)


def _shuffle_words(kind: TaskKind, arguments: Words, rng: Random) -> Words:
    content = arguments
    while content in kind.right(arguments):
        content = tuple(rng.sample(arguments, len(arguments)))
    return content


def _animals_of(homes: Words) -> tuple[Words, ...]:
    return tuple(itertools.product(*([n for n in _NAMES if ANIMALS[n].home == home] for home in homes)))


def _values(field: str) -> Words:
    return tuple(sorted({getattr(animal, field) for animal in ANIMALS.values()}))


TASKS: Mapping[str, TaskKind] = {
    "color": TaskKind(
        asked=("What color is the {}?", "Say the color of the {}."),
        slots=(_NAMES,),
        sentence="The {a[0]} is {c[0]}.",
        terse="{c[0]}",
        choices=(_values("color"),),
        right=lambda a: ((ANIMALS[a[0]].color,),),
        wrong=_swap_one_word,
    ),
    "home": TaskKind(
        asked=("Where does the {} live?", "Say the home of the {}."),
        slots=(_NAMES,),
        sentence="The {a[0]} lives in the {c[0]}.",
        terse="{c[0]}",
        choices=(_HOMES,),
        right=lambda a: ((ANIMALS[a[0]].home,),),
        wrong=_swap_one_word,
    ),
    "food": TaskKind(
        asked=("What does the {} eat?", "Say the food of the {}."),
        slots=(_NAMES,),
        sentence="The {a[0]} eats {c[0]}.",
        terse="{c[0]}",
        choices=(_values("food"),),
        right=lambda a: ((ANIMALS[a[0]].food,),),
        wrong=_swap_one_word,
    ),
    "addition": TaskKind(
        asked=("What is {} plus {}?", "Add {} and {}."),
        slots=(_DIGITS, _DIGITS),
        sentence="{a[0]} plus {a[1]} is {c[0]}.",
        terse="{c[0]}",
        choices=(_SUMS,),
        right=lambda a: ((str(int(a[0]) + int(a[1])),),),
        wrong=_swap_one_word,
    ),
    "opposite": TaskKind(
        asked=("What is the opposite of {}?", "Say the opposite of {}."),
        slots=(tuple(OPPOSITES),),
        sentence="The opposite of {a[0]} is {c[0]}.",
        terse="{c[0]}",
        choices=(tuple(OPPOSITES),),
        right=lambda a: ((OPPOSITES[a[0]],),),
        wrong=_swap_one_word,
    ),
    "polite": TaskKind(
        asked=("Say this politely: {} the {}", "Make this polite: {} the {}"),
        slots=(VERBS, THINGS),
        sentence="Could you please {c[0]} the {c[1]}?",
        terse="{c[0]} the {c[1]}, please",
        choices=(VERBS, THINGS),
        right=lambda a: (a,),
        wrong=_swap_one_word,
    ),
    "sorting": TaskKind(
        asked=("Sort these words: {}, {}, {}", "Put these words in order: {}, {}, {}"),
        slots=(_NAMES, _NAMES, _NAMES),
        sentence="In order: {c[0]}, {c[1]}, {c[2]}.",
        terse="{c[0]}, {c[1]}, {c[2]}",
        choices=(_NAMES, _NAMES, _NAMES),
        right=lambda a: (tuple(sorted(a)),),
        wrong=_shuffle_words,
        distinct=True,
    ),
    "listing": TaskKind(
        asked=("Name one animal of the {} and one of the {}.", "Which animals live in the {} and the {}?"),
        slots=(_HOMES, _HOMES),
        sentence="The {c[0]} and the {c[1]} live there.",
        terse="{c[0]}, {c[1]}",
        choices=(_NAMES, _NAMES),
        right=_animals_of,
        wrong=_swap_one_word,
        distinct=True,
    ),
    "repeating": TaskKind(
        asked=("Repeat this word twice: {}", "Say this word twice: {}"),
        slots=(_COPIED,),
        sentence="Here it is twice: {c[0]} {c[1]}.",
        terse="{c[0]} {c[1]}",
        choices=(_COPIED, _COPIED),
        right=lambda a: (a * 2,),
        wrong=_swap_one_word,
    ),
}


def ask(task: Task, *, phrasing: int = 0, opening: int = 0) -> str:
    """The prompt's text for a task.

    Args:
        task: What is asked.
        phrasing: Index into the kind's `asked`.
        opening: Index into `facts.OPENINGS`.
    """
    return OPENINGS[opening] + TASKS[task.kind].asked[phrasing].format(*task.arguments)


def arguments_of_kind(kind: TaskKind) -> Iterator[Words]:
    """All arguments that prompts of this kind can have, in a fixed order."""
    for arguments in itertools.product(*kind.slots):
        if not kind.distinct or len(set(arguments)) == len(arguments):
            yield arguments


def every_prompt_text(name: str) -> list[str]:
    """All different prompt texts of a kind, in a fixed order (about 200 for the facts, 68,400 for sorting)."""
    kind = TASKS[name]
    ways = list(itertools.product(range(len(kind.asked)), range(len(OPENINGS))))
    tasks = [Task(name, arguments) for arguments in arguments_of_kind(kind)]
    return [ask(task, phrasing=phrasing, opening=opening) for task in tasks for phrasing, opening in ways]


def task_of(text: str) -> Task | None:
    """The task that a prompt's text states, or None where it states none of this world."""
    for opening in OPENINGS[1:]:
        text = text.removeprefix(opening)
    for name, pattern in _prompt_patterns():
        match = pattern.fullmatch(text)
        if match:
            kind, arguments = TASKS[name], match.groups()
            known = all(word in slot for word, slot in zip(arguments, kind.slots, strict=True))
            if known and (not kind.distinct or len(set(arguments)) == len(arguments)):
                return Task(name, arguments)
    return None


def sentence(task: Task, content: Words) -> str:
    """The full sentence with this content."""
    return TASKS[task.kind].sentence.format(a=task.arguments, c=content)


def terse(task: Task, content: Words) -> str:
    """The content alone."""
    return TASKS[task.kind].terse.format(a=task.arguments, c=content)


def is_well_formed(kind: str, text: str, *, full: bool) -> bool:
    """Whether a text is a sentence (or a terse response) of this kind with any words of the right sort in its slots."""
    return _response_pattern(kind, full).fullmatch(text) is not None


@cache
def _prompt_patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    rows = [(name, phrase) for name, kind in TASKS.items() for phrase in kind.asked]
    return tuple((name, re.compile(r"(\w+)".join(map(re.escape, phrase.split("{}"))))) for name, phrase in rows)


@cache
def _response_pattern(name: str, full: bool) -> re.Pattern[str]:
    kind = TASKS[name]

    def vocabulary(match: re.Match[str]) -> str:
        words = (kind.slots if match[1] == "a" else kind.choices)[int(match[2])]
        return f"(?:{'|'.join(words)})"

    template = re.sub(r"([.?,:])", r"\\\1", kind.sentence if full else kind.terse)
    return re.compile(re.sub(r"\{([ac])\[(\d)\]\}", vocabulary, template))
