"""Memory is given back where there is much of it."""

import gc
import weakref

import pytest

from fairplay.pipeline import context


class Node:
    def __init__(self):
        self.itself = self


@pytest.mark.parametrize(("small", "is_gone"), [(0, True), (10**18, False)])
def test_what_is_held_in_a_circle_goes_where_the_process_is_large_and_costs_nothing_where_it_is_small(
    monkeypatch, small, is_gone
):
    monkeypatch.setattr(context, "SMALL_PROCESS", small)
    gc.disable()
    try:
        held = weakref.ref(Node())
        context.free_memory()
        assert (held() is None) == is_gone
    finally:
        gc.enable()


def test_the_size_of_the_process_is_in_bytes():
    assert 50e6 < context._largest_size() < 1e12
