"""Labelled pairs: where they come from, what is dropped, and that no prompt is on both sides of a split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairplay.errors import DataError
from fairplay.records import Message, Prompt, Response, TrainingExample
from fairplay.training.oracle_learner import length_correlation, pair_loss
from fairplay.training.oracle_pairs import EQUAL_SCORES, EQUAL_TEXTS, different_pairs, split_pairs


def example(name, texts, **columns):
    return TrainingExample(
        name, Prompt(name, (Message("user", f"what is {name}?"),)), tuple(map(Response, texts)), **columns
    )


def shown(pairs):
    return [(pair.id, *(response.text for response in pair.responses)) for pair in pairs]


def test_pairs_of_equal_texts_are_dropped_and_several_pairs_an_example_are_welcome():
    kept, dropped = different_pairs([example("q", ["a", "a", "b"], pairs=((0, 1), (2, 0)))])
    assert shown(kept) == [("q#1", "b", "a")]
    assert [(drop.id, drop.reason) for drop in dropped] == [("q#0", EQUAL_TEXTS)]


def test_scores_make_pairs_and_equal_scores_are_dropped():
    kept, dropped = different_pairs([example("q", ["a", "b", "c"], scores=(1.0, 2.0, 1.0))])
    assert shown(kept) == [("q#0", "b", "a"), ("q#2", "b", "c")]
    assert [(drop.id, drop.reason) for drop in dropped] == [("q#1", EQUAL_SCORES)]


def test_an_example_without_labels_is_refused_by_name():
    with pytest.raises(DataError, match="example e1: it has no pair, and no two responses with scores"):
        different_pairs([example("e1", ["a", "b"])])


@given(st.lists(st.integers(1, 3), min_size=16, max_size=30), st.integers(0, 99))
def test_a_split_shares_no_prompt_and_loses_no_pair(sizes, seed):
    pairs = [example(f"q{i}", [f"a{n}", "b"], pairs=((0, 1),)) for i, size in enumerate(sizes) for n in range(size)]
    learnt, calibration, held_out = split_pairs(pairs, num_calibration=2, num_held_out=3, seed=seed)
    prompts = [{pair.prompt.id for pair in part} for part in (learnt, calibration, held_out)]
    assert sum(map(len, prompts)) == len(sizes)
    assert len(learnt) + len(calibration) + len(held_out) == len(pairs)
    assert 2 <= len(calibration) <= 4
    assert 3 <= len(held_out) <= 5


def test_the_order_of_the_data_does_not_decide_who_is_held_out():
    pairs = [example(f"q{i}", ["a", "b"], pairs=((0, 1),)) for i in range(20)]
    one, other = (split_pairs(some, num_calibration=3, num_held_out=4, seed=0) for some in (pairs, pairs[::-1]))
    assert [{pair.id for pair in part} for part in one] == [{pair.id for pair in part} for part in other]


def test_a_split_that_leaves_too_little_is_refused():
    pairs = [example(f"q{i}", ["a", "b"], pairs=((0, 1),)) for i in range(10)]
    with pytest.raises(
        DataError, match=r"10 labelled pairs are too few: 4 are held out .* that takes 12 pairs or more"
    ):
        split_pairs(pairs, num_calibration=2, num_held_out=4, seed=0)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=5), st.floats(0, 0.49))
def test_the_loss_is_the_surprise_of_the_labels(logits, smoothing):
    d = torch.tensor(logits, dtype=torch.float64)
    p = torch.sigmoid(d)
    expected = -(1 - smoothing) * p.log() - smoothing * (1 - p).log()
    assert torch.allclose(pair_loss(d, label_smoothing=smoothing), expected, atol=1e-9)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(-50, 50), st.booleans()), min_size=2, max_size=8),
)
def test_the_correlation_with_length_does_not_depend_on_how_pairs_are_written(pairs):
    d = torch.tensor([pair[0] for pair in pairs], dtype=torch.float64)
    g = torch.tensor([pair[1] for pair in pairs], dtype=torch.float64)
    sign = torch.tensor([1.0 if pair[2] else -1.0 for pair in pairs], dtype=torch.float64)
    value = length_correlation(d, g)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    assert torch.allclose(value, length_correlation(d * sign, g * sign))


def test_the_correlation_has_a_gradient_where_all_logits_are_equal_to_zero():
    d = torch.zeros(3, requires_grad=True)
    length_correlation(d, torch.tensor([1.0, -2.0, 0.0])).square().backward()
    assert torch.isfinite(d.grad).all()
