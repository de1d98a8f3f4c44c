"""Simulated annotators: Bradley-Terry on the judge's score, and a love of length only if asked for."""

import math

import pytest

from fairplay.starter.annotators import annotate, preference_prob
from fairplay.starter.corpus import draw_prompts, prompt_of

PROMPT = prompt_of("What color is the fox?")
GOOD, LONG, BAD = "The fox is red.", "It is what it is. The fox is red.", "The fox is blue."


def test_preference_is_bradley_terry_on_the_score():
    assert preference_prob(PROMPT, GOOD, BAD, length_love=0.0) == pytest.approx(1 / (1 + math.exp(-4.0)))
    assert preference_prob(PROMPT, GOOD, LONG, length_love=0.0) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert preference_prob(PROMPT, GOOD, GOOD, length_love=0.7) == 0.5


def test_swapping_the_responses_flips_the_probability():
    there, back = (preference_prob(PROMPT, *pair, length_love=0.1) for pair in ((GOOD, LONG), (LONG, GOOD)))
    assert there + back == pytest.approx(1.0)


def test_length_love_pays_for_words():
    fair, fond = (preference_prob(PROMPT, LONG, GOOD, length_love=love) for love in (0.0, 0.2))
    assert fair == pytest.approx(1 / (1 + math.exp(1.0)))
    assert fond == pytest.approx(1 / (1 + math.exp(-1.0)))  # 5 words more: +1 point against -0.5 for the filler


def test_extreme_gaps_do_not_overflow():
    assert preference_prob(PROMPT, "word " * 10_000, GOOD, length_love=1.0) == 1.0


def test_annotators_agree_with_their_probabilities():
    chosen = [
        example.responses[0].text
        for prompt in draw_prompts(9, seed=0)
        for seed in range(60)
        for example in annotate(
            prompt, ("I do not know.", "It is what it is."), num_pairs=1, length_love=0.0, seed=seed
        )
    ]
    share = sum(text == "I do not know." for text in chosen) / len(chosen)
    assert share == pytest.approx(1 / (1 + math.exp(-3.0)), abs=0.03)


def test_equal_responses_are_never_paired_and_ids_are_unique():
    examples = annotate(PROMPT, (GOOD, GOOD, LONG, BAD), num_pairs=10, length_love=0.0, seed=0)
    assert len(examples) == 3
    assert len({example.id for example in examples}) == 3
    assert all(e.pairs == ((0, 1),) and e.responses[0].text != e.responses[1].text for e in examples)
    assert len(annotate(PROMPT, (GOOD, LONG, BAD), num_pairs=2, length_love=0.0, seed=0)) == 2


def test_labels_follow_from_the_seed():
    runs = [annotate(PROMPT, (GOOD, LONG, BAD), num_pairs=3, length_love=0.0, seed=seed) for seed in (0, 0)]
    assert runs[0] == runs[1]
