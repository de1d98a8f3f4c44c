"""The table of task kinds: prompts are recognised by their text alone, and there are enough of them."""

from random import Random

import pytest

from fairplay.starter.tasks import (
    TASKS,
    Task,
    arguments_of_kind,
    ask,
    every_prompt_text,
    is_well_formed,
    sentence,
    task_of,
    terse,
)

KINDS = sorted(TASKS)


def some_tasks(name: str, count: int = 20) -> list[Task]:
    everything = list(arguments_of_kind(TASKS[name]))
    return [Task(name, arguments) for arguments in Random(0).sample(everything, min(count, len(everything)))]


@pytest.mark.parametrize("name", KINDS)
def test_every_prompt_text_is_recognised_as_its_own_task(name: str):
    for task in some_tasks(name):
        for phrasing in range(len(TASKS[name].asked)):
            for opening in range(5):
                assert task_of(ask(task, phrasing=phrasing, opening=opening)) == task


def test_prompt_texts_are_all_different_and_plenty():
    texts = [text for name in KINDS for text in every_prompt_text(name)]
    assert len(set(texts)) == len(texts)
    assert len(texts) >= 5_000
    assert min(len(every_prompt_text(name)) for name in KINDS) >= 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What color is the door?",
        "What is 3 plus 44?",
        "Sort these words: fox, fox, bear",
        "What color is the fox",
        "é漢\n",
    ],
)
def test_a_text_outside_the_world_states_no_task(text: str):
    assert task_of(text) is None


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_content_is_well_formed_and_not_right(name: str):
    rng = Random(1)
    for task in some_tasks(name):
        kind = TASKS[name]
        wrong = kind.wrong(kind, task.arguments, rng)
        assert wrong not in kind.right(task.arguments)
        assert is_well_formed(name, sentence(task, wrong), full=True)
        assert is_well_formed(name, terse(task, wrong), full=False)
