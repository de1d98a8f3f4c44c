"""Groups of responses, a tiny pair model and rules, for the tests of oracles."""

import random
from pathlib import Path

from fairplay.oracles.pair_model import PairModel, PairModelFacts
from fairplay.records import Message, Prompt, Response, ResponseGroup
from models.tiny import WORDS, make_model, make_tokenizer


def length_rule(prompt: Prompt, text: str) -> float:
    """Longer is better."""
    return float(len(text))


def broken_rule(prompt: Prompt, text: str) -> float:
    """Fails to score a text with "cat" in it."""
    return float("nan") if "cat" in text else 1.0


def raising_rule(prompt: Prompt, text: str) -> float:
    """Raises on any text."""
    raise KeyError(text)


def text_rule(prompt: Prompt, text: str) -> str:
    """Gives a text instead of a number."""
    return "3"


NOT_A_FUNCTION = 3


def group_of(*texts: str, prompt_id: str = "p", question: str = "what is the red cat?") -> ResponseGroup:
    return ResponseGroup(Prompt(prompt_id, (Message("user", question),)), tuple(Response(text) for text in texts))


def make_groups(count: int, *, seed: int = 0, most_words: int = 8) -> list[ResponseGroup]:
    """Groups of 2 to 5 different texts of very different lengths."""
    draw = random.Random(seed)
    groups = []
    for number in range(count):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, most_words))) for _ in range(draw.randint(2, 5))]
        question = " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))
        groups.append(group_of(*dict.fromkeys([*texts, "yes"]), prompt_id=f"p{number}", question=question))
    return groups


def make_pair_model(*, family: str = "llama", temperature: float = 1.0, max_length: int = 96) -> PairModel:
    facts = PairModelFacts(temperature, max_length)
    return PairModel(make_model(family).base_model, make_tokenizer("starter"), facts, head_seed=1).eval()


def save_pair_model(folder: Path, **options) -> Path:
    folder.mkdir()
    make_pair_model(**options).save(folder)
    return folder
