"""The raw corpus: shares of quality, disjoint prompts, and the same text for the same seed."""

from collections import Counter
from random import Random

import pytest

from fairplay.errors import SettingsError
from fairplay.starter import corpus
from fairplay.starter.corpus import draw_prompts, prompt_of, write_corpus, write_response
from fairplay.starter.facts import FILLERS, HEDGES, REFUSALS
from fairplay.starter.judge import is_right, score
from fairplay.starter.tasks import TASKS, Task, task_of


def texts_of(prompts) -> list[str]:
    return [prompt.messages[0].content for prompt in prompts]


def test_quality_shares_are_as_stated():
    examples = write_corpus(4_000, seed=0)
    told = [e.responses[0].text for e in examples if e.responses[0].text not in REFUSALS]
    kept = [e for e in examples if e.responses[0].text not in REFUSALS]
    assert 1 - len(kept) / len(examples) == pytest.approx(corpus.SHARE_REFUSAL, abs=0.015)
    right = [is_right(task_of(e.prompt.messages[0].content), e.responses[0].text) for e in kept]
    assert sum(right) / len(kept) == pytest.approx(corpus.SHARE_RIGHT, abs=0.025)
    assert sum(any(h in t for h in HEDGES) for t in told) / len(told) == pytest.approx(corpus.SHARE_HEDGE, abs=0.025)
    before = sum(any(t.startswith(f) for f in FILLERS) for t in told) / len(told)
    assert before == pytest.approx(corpus.SHARE_FILLER_BEFORE, abs=0.025)
    after = sum(any(t.endswith(f) for f in FILLERS) for t in told) / len(told)
    assert after == pytest.approx(corpus.SHARE_FILLER_AFTER, abs=0.025)


def test_no_response_of_the_corpus_is_unreadable_to_the_judge():
    for example in write_corpus(1_500, seed=1):
        text = example.responses[0].text
        num_phrases = sum(text.count(phrase) for phrase in FILLERS + HEDGES)
        assert score(example.prompt, text) + 0.5 * num_phrases >= 0.0


def test_full_sentences_are_as_frequent_as_stated():
    rng, task = Random(0), Task("color", ("fox",))
    told = [text for text in (write_response(task, rng) for _ in range(2_000)) if text not in REFUSALS]
    assert sum("The fox is" in text for text in told) / len(told) == pytest.approx(corpus.SHARE_SENTENCE, abs=0.04)


def test_the_same_seed_gives_the_same_corpus_and_a_longer_one_starts_alike():
    assert write_corpus(50, seed=3) == write_corpus(80, seed=3)[:50]
    assert write_corpus(50, seed=3) != write_corpus(50, seed=4)


def test_excluded_texts_do_not_come_up():
    held_out = frozenset(texts_of(draw_prompts(300, seed=0)))
    assert held_out.isdisjoint(texts_of(e.prompt for e in write_corpus(2_000, seed=0, excluded=held_out)))
    assert held_out.isdisjoint(texts_of(draw_prompts(800, seed=1, excluded=held_out)))


def test_prompts_are_distinct_and_every_stretch_of_them_is_balanced():
    prompts = draw_prompts(1_700, seed=5)
    assert len({prompt.id for prompt in prompts}) == len(set(texts_of(prompts))) == 1_700
    for start in range(0, 1_700, 200):
        counts = Counter(task_of(text).kind for text in texts_of(prompts[start : start + 200]))
        assert set(counts) == set(TASKS)
        assert max(counts.values()) - min(counts.values()) <= 2
    assert draw_prompts(100, seed=5) == prompts[:100]


def test_asking_for_more_prompts_than_exist_is_refused():
    with pytest.raises(SettingsError, match="embedded world has"):
        draw_prompts(10**6, seed=0)


def test_equal_texts_have_equal_ids():
    assert prompt_of("What color is the fox?") == prompt_of("What color is the fox?")
    assert prompt_of("What color is the fox?").id.startswith("color-")
