"""How much of the held-out prompts the training has seen: equal prompts, and prompts made of the same runs of words.

Left out: what the base model was trained on before (nobody knows). Floor 5; pure.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fairplay.records import Prompt

NGRAM = 8
CONTAINED = 0.7
"""A prompt of which this share of 8-grams occurs in training prompts is counted as seen.

Source: the rule of Chowdhery et al. 2022, arXiv:2204.02311, section 8."""

MAX_EXAMPLES = 20
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class PromptOverlap:
    """Held-out prompts that training prompts hold.

    Attributes:
        num_held_out, num_training: Prompts on either side.
        num_equal: Held-out prompts that are a training prompt, but for case, punctuation and space.
        num_contained: Others, of whose runs of eight words at least 70 % occur in training prompts.
        num_too_short: Prompts of fewer than eight words that are not equal to one; their runs say nothing.
        mean_containment: Mean share of runs of eight words that occur in training prompts, over the prompts that have
            any; 0 where none has.
        examples: Ids of equal and contained prompts, at most 20.
    """

    num_held_out: int
    num_training: int
    num_equal: int
    num_contained: int
    num_too_short: int
    mean_containment: float
    examples: tuple[str, ...]


def prompt_words(prompt: Prompt) -> tuple[str, ...]:
    """The words of all messages, without case, compatibility forms and punctuation."""
    text = "\n".join(message.content for message in prompt.messages)
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def prompt_overlap(training: Iterable[Prompt], held_out: Sequence[Prompt]) -> PromptOverlap:
    """Count held-out prompts that were trained on; only the held-out side's runs of words are kept in memory.

    Args:
        training: All training prompts.
        held_out: The prompts of the evaluation.
    """
    words = [prompt_words(prompt) for prompt in held_out]
    wanted = {run for one in words for run in _runs(one)}
    whole, num_training = set(words), 0
    seen: set[tuple[str, ...]] = set()
    equal: set[tuple[str, ...]] = set()
    for prompt in training:
        num_training += 1
        own = prompt_words(prompt)
        if own in whole:
            equal.add(own)
        seen.update(run for run in _runs(own) if run in wanted)
    shares, examples, num_equal, num_contained, num_too_short = [], [], 0, 0, 0
    for prompt, one in zip(held_out, words, strict=True):
        found = [run in seen for run in _runs(one)]
        share = sum(found) / len(found) if found else 0.0
        shares += [share] if found else []
        is_contained = one not in equal and share >= CONTAINED
        num_equal += one in equal
        num_contained += is_contained
        num_too_short += one not in equal and not found
        examples += [prompt.id] if one in equal or is_contained else []
    return PromptOverlap(
        num_held_out=len(held_out),
        num_training=num_training,
        num_equal=num_equal,
        num_contained=num_contained,
        num_too_short=num_too_short,
        mean_containment=sum(shares) / len(shares) if shares else 0.0,
        examples=tuple(examples[:MAX_EXAMPLES]),
    )


def _runs(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (words[start : start + NGRAM] for start in range(len(words) - NGRAM + 1))
