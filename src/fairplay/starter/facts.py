"""What is true in the embedded world, and the phrases its speakers use: every word of it written for this project.

Left out: what is asked about it (`tasks.py`) and who says what how often (`corpus.py`). Floor 6, imports nothing.
The vocabulary is small on purpose: a model of half a million parameters learns it in a minute on one core.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Animal(NamedTuple):
    """What is known of an animal."""

    color: str
    home: str
    food: str


ANIMALS: Mapping[str, Animal] = {
    "badger": Animal("gray", "forest", "worms"),
    "bear": Animal("brown", "forest", "honey"),
    "camel": Animal("yellow", "desert", "leaves"),
    "cow": Animal("white", "barn", "grass"),
    "crab": Animal("red", "sea", "weeds"),
    "deer": Animal("brown", "forest", "grass"),
    "duck": Animal("white", "pond", "seeds"),
    "fox": Animal("red", "forest", "berries"),
    "frog": Animal("green", "pond", "flies"),
    "goat": Animal("white", "barn", "leaves"),
    "hen": Animal("orange", "barn", "seeds"),
    "lizard": Animal("green", "desert", "flies"),
    "newt": Animal("orange", "pond", "worms"),
    "pig": Animal("pink", "barn", "roots"),
    "scorpion": Animal("black", "desert", "beetles"),
    "seal": Animal("gray", "sea", "fish"),
    "shark": Animal("gray", "sea", "fish"),
    "swan": Animal("white", "pond", "weeds"),
    "vulture": Animal("black", "desert", "meat"),
    "whale": Animal("blue", "sea", "shrimp"),
}

_OPPOSITE_PAIRS = (
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("day", "night"),
    ("up", "down"),
    ("happy", "sad"),
    ("full", "empty"),
    ("hard", "soft"),
    ("dark", "light"),
    ("wet", "dry"),
    ("old", "young"),
    ("early", "late"),
)
OPPOSITES: Mapping[str, str] = {a: b for pair in _OPPOSITE_PAIRS for a, b in (pair, pair[::-1])}

VERBS = ("bring", "carry", "clean", "close", "move", "open", "paint", "wash")
THINGS = ("book", "box", "chair", "cup", "door", "lamp", "table", "window")

OPENINGS = ("", "Hello! ", "Now: ", "Please: ", "Question: ")
"""What may stand before any prompt; it changes the text and nothing else."""

FILLERS = (
    "Let me think about that.",
    "That is a good question.",
    "There are many things in the world.",
    "Some people like it and some do not.",
    "I could say more about it.",
    "It is what it is.",
)
"""Sentences that say nothing, before or after what was asked for."""

HEDGES = ("I am not sure, but maybe:", "I think it is this:")
"""Openings of a response that take back what follows."""

REFUSALS = ("I do not know.", "I can not help with that.")
