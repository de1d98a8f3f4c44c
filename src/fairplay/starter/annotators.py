"""Simulated people who compare responses: noisy, fair on average, and fond of length if a setting says so.

They are all that the training oracle learns from; the judge's scores stay with them. Left out: the oracle (`build.py`
trains it). Floor 6.
"""

import itertools
import math
from collections.abc import Sequence
from random import Random

from fairplay.records import Prompt, Response, TrainingExample
from fairplay.seeds import stable_seed
from fairplay.starter.judge import score

SLOPE = 2.0
"""Logits per point of the judge's score: a perfect predictor of the labels agrees with 89 % of them."""


def preference_prob(prompt: Prompt, first: str, second: str, *, length_love: float) -> float:
    """P(an annotator prefers the first response), in [0, 1]; Bradley-Terry on score and length.

    Args:
        prompt: A prompt of the embedded world.
        first: One response's text.
        second: The other's.
        length_love: What one more word is worth to the annotators, in points of the judge's score; 0 is fair.

    Source: Bradley and Terry 1952.
    """
    gap = score(prompt, first) - score(prompt, second)
    gap += length_love * (len(first.split()) - len(second.split()))
    return 0.5 * (1 + math.tanh(0.5 * SLOPE * gap))


def annotate(
    prompt: Prompt, texts: Sequence[str], *, num_pairs: int, length_love: float, seed: int
) -> tuple[TrainingExample, ...]:
    """Up to `num_pairs` pairs of different responses, each labelled by one toss of the annotators' coin.

    Args:
        prompt: The prompt.
        texts: Responses; equal ones count once.
        num_pairs: Most pairs to label; which ones is drawn.
        length_love: See `preference_prob`.
        seed: Decides pairs and labels, together with the prompt's id.

    Returns:
        One example a pair, the chosen response first.
    """
    rng = Random(stable_seed(seed, "annotate", prompt.id))  # noqa: S311
    pairs = list(itertools.combinations(dict.fromkeys(texts), 2))
    rng.shuffle(pairs)
    examples = []
    for index, (first, second) in enumerate(pairs[:num_pairs]):
        wins = rng.random() < preference_prob(prompt, first, second, length_love=length_love)
        chosen, rejected = (first, second) if wins else (second, first)
        responses = (Response(chosen), Response(rejected))
        examples.append(TrainingExample(id=f"{prompt.id}#{index}", prompt=prompt, responses=responses, pairs=((0, 1),)))
    return tuple(examples)
