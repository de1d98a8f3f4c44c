"""Order, micro-batches and sizes of optimiser steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairplay.models.encoding import EncodedExample
from fairplay.training.batches import step_totals
from fairplay.training.plan import StepPlan, epoch_steps, steps_per_epoch
from training.tiny import make_examples

shapes = {
    "lengths": st.lists(st.integers(1, 50), min_size=1, max_size=80),
    "batch_size": st.integers(1, 7),
    "accumulation": st.integers(1, 5),
    "seed": st.integers(0, 3),
    "epoch": st.integers(0, 2),
}


@given(**shapes)
@settings(max_examples=60, deadline=None)
def test_an_epoch_visits_every_example_once_in_full_steps(lengths, batch_size, accumulation, seed, epoch):
    sizes = {"batch_size": batch_size, "accumulation": accumulation}
    steps = epoch_steps(lengths, **sizes, seed=seed, epoch=epoch)
    assert sorted(index for step in steps for micro in step for index in micro) == list(range(len(lengths)))
    assert len(steps) == steps_per_epoch(len(lengths), **sizes)
    assert all(len(step) == accumulation for step in steps[:-1])
    micro_batches = [micro for step in steps for micro in step]
    assert all(len(micro) == batch_size for micro in micro_batches[:-1])
    assert steps == epoch_steps(lengths, **sizes, seed=seed, epoch=epoch)


def test_epochs_and_seeds_differ_in_order():
    orders = [
        epoch_steps([1] * 40, batch_size=4, accumulation=2, seed=seed, epoch=epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == len(orders)


@given(**shapes, num_steps=st.integers(1, 60), first=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_a_plan_goes_through_the_epochs_from_any_step_on(
    lengths, batch_size, accumulation, seed, epoch, num_steps, first
):
    sizes = {"batch_size": batch_size, "accumulation": accumulation, "seed": seed}
    plan = StepPlan(tuple(lengths), **sizes, num_steps=num_steps)
    every = dict(plan.steps(0, num_steps))
    assert list(every) == list(range(num_steps))
    assert dict(plan.steps(first, num_steps)) == {number: every[number] for number in range(first, num_steps)}
    if (epoch + 1) * plan.per_epoch <= num_steps:
        of_epoch = plan.steps(epoch * plan.per_epoch, (epoch + 1) * plan.per_epoch)
        assert tuple(step for _, step in of_epoch) == epoch_steps(lengths, **sizes, epoch=epoch)


def test_sorting_by_length_saves_most_of_the_padding():
    lengths = [length % 97 + 3 for length in range(0, 97 * 64, 97 - 32)]

    def padded(size):
        steps = epoch_steps(lengths, batch_size=size, accumulation=1, seed=0, epoch=0)
        return sum(len(micro) * max(lengths[i] for i in micro) for step in steps for micro in step)

    waste, least = padded(8) - sum(lengths), sum(lengths)
    assert waste < 0.15 * least


def test_totals_count_chosen_tokens_once_and_prompt_tokens_by_their_weight():
    (pair,), (lone,) = make_examples(1), make_examples(1, num_responses=1)
    of_pair = EncodedExample(pair, prompt_ids=(1, 2, 3), response_ids=((4, 5), (6, 7, 8)))
    of_lone = EncodedExample(lone, prompt_ids=(1, 2, 3, 4), response_ids=((4, 5, 6),))
    totals = step_totals([of_pair, of_lone], prompt_loss_weight=0.0)
    assert (totals.num_examples, totals.num_pairs, totals.num_responses) == (2, 1, 3)
    assert totals.num_chosen_tokens == 2 + 3
    weighted = step_totals([of_pair, of_lone], prompt_loss_weight=0.1)
    assert weighted.num_chosen_tokens == pytest.approx(2 + 0.1 * 2 + 3 + 0.1 * 3)
