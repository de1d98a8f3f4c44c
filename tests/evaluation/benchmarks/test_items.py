import numpy as np
import pytest

from fairplay.errors import DataError
from fairplay.evaluation.benchmarks.items import Item, paired_difference, value_with_interval

BOOTSTRAP = {"num_bootstrap": 1000, "seed": 0}


def items(right, units=None):
    units = units or [1] * len(right)
    return [Item(str(number), float(r), u) for number, (r, u) in enumerate(zip(right, units, strict=True))]


def test_items_of_one_unit_have_wilsons_interval():
    found = value_with_interval(items([1, 1, 1, 0]), **BOOTSTRAP)
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson 1927


def test_an_item_with_more_units_weighs_more():
    assert value_with_interval(items([3, 0], [3, 1]), **BOOTSTRAP).value == 0.75


def test_units_of_one_item_are_not_independent():
    rng = np.random.default_rng(0)
    once = rng.integers(0, 2, 200)
    alone = value_with_interval(items(once), **BOOTSTRAP)
    copied = value_with_interval(items(once * 4, [4] * 200), **BOOTSTRAP)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_a_checkpoint_does_not_differ_from_itself_and_the_swap_mirrors():
    ours, theirs = items([1, 0, 1, 1, 0, 1]), items([0, 0, 1, 1, 1, 0])
    same = paired_difference(ours, ours, **BOOTSTRAP)
    assert same.value == 0
    assert same.low < 0 < same.high
    one, other = paired_difference(ours, theirs, **BOOTSTRAP), paired_difference(theirs, ours, **BOOTSTRAP)
    assert one.value == -other.value == pytest.approx(1 / 6)


def test_pairing_makes_the_interval_of_a_difference_narrow():
    rng = np.random.default_rng(0)
    easy = rng.integers(0, 2, 400)
    ours = easy.copy()
    ours[:20] = 1
    theirs = easy.copy()
    theirs[:20] = 0
    paired = paired_difference(items(ours), items(theirs), **BOOTSTRAP)
    assert paired.low > 0.02
    alone = value_with_interval(items(ours), **BOOTSTRAP)
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize("other", [items([1, 0]), [*items([1, 0]), Item("9", 1.0, 1)], []])
def test_different_items_are_not_compared(other):
    with pytest.raises(DataError, match="different items"):
        paired_difference(items([1, 0, 1]), other, **BOOTSTRAP)


def test_no_items_have_no_value():
    with pytest.raises(DataError, match="without items"):
        value_with_interval([], **BOOTSTRAP)


@pytest.mark.slow
@pytest.mark.parametrize("num_items", [60, 250])
def test_intervals_of_ratios_and_differences_hold(num_items):
    """Items of their own difficulty, with one to three units; 95 % intervals cover 93 to 97 %."""
    rng = np.random.default_rng(0)
    rounds, covered, gaps = 1500, 0, 0
    one, other = 0.5, 0.4
    centre = one + np.clip(np.random.default_rng(1).normal(0, 0.25, 2_000_000), -other, 1 - one).mean()
    for number in range(rounds):
        units = rng.integers(1, 4, num_items)
        level = np.clip(rng.normal(0, 0.25, num_items), -other, 1 - one)
        ours, theirs = (items(rng.binomial(units, chance + level), units.tolist()) for chance in (one, other))
        value = value_with_interval(ours, num_bootstrap=1000, seed=number)
        gap = paired_difference(ours, theirs, num_bootstrap=1000, seed=number)
        covered += value.low <= centre <= value.high
        gaps += gap.low <= one - other <= gap.high
    assert 0.93 <= covered / rounds <= 0.97
    assert 0.93 <= gaps / rounds <= 0.97
