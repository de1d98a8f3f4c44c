"""The exact judge of the embedded world: a rule that scores any text, and that no training ever sees.

Left out: noisy, learnable preferences (`annotators.py`, and the oracle trained on them). Floor 6.

    right, full sentence          3.0        refusal                      0.0
    right, terse                  2.0        anything else (junk)        -1.0
    wrong, full sentence          1.0        each filler sentence        -0.5
    wrong, terse                  0.5        each hedge                  -0.5
"""

from functools import lru_cache

from fairplay.errors import DataError
from fairplay.records import Prompt
from fairplay.starter.facts import FILLERS, HEDGES, REFUSALS
from fairplay.starter.tasks import TASKS, Task, is_well_formed, sentence, task_of, terse

JUNK, REFUSED, WRONG_TERSE, WRONG, RIGHT_TERSE, RIGHT = -1.0, 0.0, 0.5, 1.0, 2.0, 3.0
PHRASE_COST = 0.5


def score(prompt: Prompt, text: str) -> float:
    """How good a response is, in points, by the table above; whitespace at and between words does not count.

    Args:
        prompt: Any prompt of the embedded world; the task is read off its last user turn.
        text: Any text, also an empty one.

    Returns:
        At most 3; a response full of filler has no lower limit.

    Raises:
        DataError: If the prompt is not one of the embedded world.
    """
    asked = next((message.content for message in reversed(prompt.messages) if message.role == "user"), "")
    task = task_of(asked)
    if task is None:
        raise DataError(
            f"prompt {prompt.id}: the starter's judge knows only prompts of the embedded world",
            hint="choose another judge in the recipe, such as a reward model",
        )
    return score_task(task, text)


def score_task(task: Task, text: str) -> float:
    """How good a text is as a response to a task, in points."""
    body, num_phrases = _without_phrases(text)
    return _content_points(task, body) - PHRASE_COST * num_phrases


def is_right(task: Task, text: str) -> bool:
    """Whether a text has the right content, whatever its style."""
    return _content_points(task, _without_phrases(text)[0]) >= RIGHT_TERSE


def _without_phrases(text: str) -> tuple[str, int]:
    body, num_phrases = " ".join(text.split()), 0
    for phrase in FILLERS + HEDGES:
        num_phrases += body.count(phrase)
        body = body.replace(phrase, " ")
    return " ".join(body.split()), num_phrases


def _content_points(task: Task, body: str) -> float:
    if body in REFUSALS:
        return REFUSED
    right_sentences, right_terse = _right_texts(task)
    if body in right_sentences:
        return RIGHT
    if body in right_terse:
        return RIGHT_TERSE
    if is_well_formed(task.kind, body, full=True):
        return WRONG
    return WRONG_TERSE if is_well_formed(task.kind, body, full=False) else JUNK


@lru_cache(maxsize=10_000)
def _right_texts(task: Task) -> tuple[frozenset[str], frozenset[str]]:
    contents = TASKS[task.kind].right(task.arguments)
    return frozenset(sentence(task, c) for c in contents), frozenset(terse(task, c) for c in contents)
