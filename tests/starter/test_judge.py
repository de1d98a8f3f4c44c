"""The exact judge: fixed examples by hand, and the same points for every kind of task."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairplay.errors import DataError
from fairplay.records import Message, Prompt
from fairplay.starter.corpus import prompt_of
from fairplay.starter.facts import FILLERS, HEDGES, REFUSALS
from fairplay.starter.judge import is_right, score
from fairplay.starter.tasks import TASKS, Task, arguments_of_kind, ask, sentence, terse

EXAMPLES = [
    ("What color is the fox?", "The fox is red.", 3.0),
    ("Hello! Say the color of the fox.", "red", 2.0),
    ("What color is the fox?", "The fox is blue.", 1.0),
    ("What color is the fox?", "The owl is red.", -1.0),
    ("What color is the fox?", "The bear is red.", 1.0),
    ("What color is the fox?", "blue", 0.5),
    ("What color is the fox?", "door", -1.0),
    ("Now: Where does the seal live?", "  The seal  lives in\nthe sea. ", 3.0),
    ("What is 7 plus 8?", "7 plus 8 is 15.", 3.0),
    ("Add 7 and 8.", "7 plus 8 is 16.", 1.0),
    ("Add 7 and 8.", "It is what it is. 15 I could say more about it.", 1.0),
    ("Say this politely: open the door", "Could you please open the door?", 3.0),
    ("Say this politely: open the door", "open the door, please", 2.0),
    ("Sort these words: seal, bear, pig", "In order: bear, pig, seal.", 3.0),
    ("Sort these words: seal, bear, pig", "bear, seal, pig", 0.5),
    ("Name one animal of the pond and one of the sea.", "The newt and the crab live there.", 3.0),
    ("Name one animal of the pond and one of the sea.", "The crab and the newt live there.", 1.0),
    ("Repeat this word twice: cup", "I am not sure, but maybe: Here it is twice: cup cup.", 2.5),
    ("What is the opposite of wet?", "I do not know.", 0.0),
    ("What is the opposite of wet?", "I do not know. It is what it is.", -0.5),
    ("What is the opposite of wet?", "", -1.0),
    ("What is the opposite of wet?", "The opposite of wet is dry. The opposite of wet is dry.", -1.0),
    ("What is the opposite of wet?", "It is what it is. It is what it is.", -2.0),
]


@pytest.mark.parametrize(("asked", "text", "points"), EXAMPLES)
def test_fixed_examples_have_their_points(asked: str, text: str, points: float):
    assert score(prompt_of(asked), text) == points


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_points_are_the_same_for_every_kind(name: str):
    rng, kind = random.Random(0), TASKS[name]
    for arguments in rng.sample(list(arguments_of_kind(kind)), 15):
        task = Task(name, arguments)
        prompt = prompt_of(ask(task, phrasing=rng.randrange(2), opening=rng.randrange(5)))
        wrong = kind.wrong(kind, arguments, rng)
        for right in kind.right(arguments):
            full = sentence(task, right)
            assert score(prompt, full) == 3.0
            assert score(prompt, terse(task, right)) == 2.0
            assert all(score(prompt, f"{filler} {full}") == 2.5 for filler in FILLERS)
            assert all(score(prompt, f"{FILLERS[0]} {hedge} {full} {FILLERS[1]}") == 1.5 for hedge in HEDGES)
            assert is_right(task, f"{full} {FILLERS[2]}")
        assert score(prompt, sentence(task, wrong)) == 1.0
        assert score(prompt, terse(task, wrong)) == 0.5
        assert not is_right(task, sentence(task, wrong))
        assert all(score(prompt, refusal) == 0.0 for refusal in REFUSALS)
        assert score(prompt, "the the of , ??") == -1.0


@given(st.text())
def test_the_judge_reads_any_text(text: str):
    points = score(prompt_of("What color is the fox?"), text)
    assert points <= 3.0
    assert points * 2 == int(points * 2)


def test_the_task_is_read_off_the_last_user_turn():
    turns = (
        Message("system", "Be brief."),
        Message("user", "What is 1 plus 1?"),
        Message("assistant", "1 plus 1 is 2."),
        Message("user", "What color is the whale?"),
    )
    assert score(Prompt("p", turns), "The whale is blue.") == 3.0


def test_a_prompt_from_elsewhere_is_refused():
    with pytest.raises(DataError, match="embedded world"):
        score(prompt_of("Write a poem about the sea."), "The sea.")
