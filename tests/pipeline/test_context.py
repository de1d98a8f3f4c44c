"""Memory is given back where there is much of it."""

import gc
import weakref

import pytest
import torch

from fairplay.pipeline import context


class Node:
    def __init__(self):
        self.itself = self


def frees_a_circle():
    """Whether what is held in a circle is gone after memory was given back."""
    gc.disable()
    try:
        held = weakref.ref(Node())
        context.free_memory()
        return held() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("small", "is_gone"), [(0, True), (10**18, False)])
def test_what_is_held_in_a_circle_goes_where_the_process_is_large_and_costs_nothing_where_it_is_small(
    monkeypatch, small, is_gone
):
    monkeypatch.setattr(context, "SMALL_PROCESS", small)
    assert frees_a_circle() == is_gone


@pytest.mark.parametrize(("initialised", "is_gone"), [(True, True), (False, False)])
def test_a_model_on_another_device_than_the_current_one_counts_and_none_is_woken_up(monkeypatch, initialised, is_gone):
    def allocated(device=None):  # None is the current one
        assert initialised, "asking wakes the device up"
        return 5 if device == 1 else 0

    monkeypatch.setattr(context, "SMALL_PROCESS", 10**18)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: initialised)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_allocated", allocated)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert frees_a_circle() == is_gone


def test_the_size_of_the_process_is_in_bytes():
    assert 50e6 < context._largest_size() < 1e12
