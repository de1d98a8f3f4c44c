"""A benchmark's result item by item: its value with an interval, and the paired difference of two checkpoints.

Left out: where items come from (`harness.py`). Floor 5; pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairplay.errors import DataError
from fairplay.evaluation.intervals import Floats, bootstrap, interval_from_draws
from fairplay.preferences.shares import wilson_interval
from fairplay.records import Interval


@dataclass(frozen=True, slots=True)
class Item:
    """One item's share of a benchmark.

    Attributes:
        id: Task, number and hash of the item: equal for every checkpoint.
        right: Units answered right, in [0, units].
        units: What the item counts as: 1; for IFEval the number of its instructions.
    """

    id: str
    right: float
    units: int


def value_with_interval(items: Sequence[Item], *, num_bootstrap: int, seed: int) -> Interval:
    """Share of units answered right, over all items, with its 95 % interval over items.

    Wilson's where every item is one unit, right or wrong; otherwise a bootstrap of whole items.

    Raises:
        DataError: If there is no item.
    """
    if not items:
        raise DataError("a benchmark without items has no value")
    right, units = _columns(items)
    value = float(right.sum() / units.sum())
    if (units == 1).all() and np.isin(right, (0.0, 1.0)).all():
        return wilson_interval(float(right.sum()), len(items))
    draws = bootstrap(
        lambda counts: _ratio(counts, right, units),
        num_prompts=len(items),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return interval_from_draws(value, draws[:, 0], num_prompts=len(items))


def paired_difference(ours: Sequence[Item], theirs: Sequence[Item], *, num_bootstrap: int, seed: int) -> Interval:
    """How much larger our share is than theirs, with a 95 % bootstrap interval over the items that both answered.

    Raises:
        DataError: If the two did not answer the same items.
    """
    by_id = {item.id: item for item in theirs}
    if set(by_id) != {item.id for item in ours} or len(by_id) != len(ours):
        raise DataError(
            f"the two checkpoints answered different items ({len(ours)} and {len(theirs)})",
            hint="run both with the same data, limit and shots",
        )
    right, units = _columns(ours)
    other, other_units = _columns([by_id[item.id] for item in ours])
    value = float(right.sum() / units.sum() - other.sum() / other_units.sum())
    draws = bootstrap(
        # One imagined item on which only they are right, and one on which only we are.
        lambda counts: _ratio(counts, right, units) - _ratio(counts, other, other_units, first=1.0),
        num_prompts=len(ours),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return interval_from_draws(value, draws[:, 0], num_prompts=len(ours))


def _columns(items: Sequence[Item]) -> tuple[Floats, Floats]:
    return np.array([item.right for item in items], dtype=np.float64), np.array([item.units for item in items], float)


def _ratio(counts: Floats, right: Floats, units: Floats, *, first: float = 0.0) -> Floats:
    """Share right in each resample, [resamples, 1]; of the two imagined items, one unit each, `first` of the first."""
    total = counts[:, :-2] @ right + counts[:, -2] * first + counts[:, -1] * (1.0 - first)
    return np.asarray((total / (counts[:, :-2] @ units + counts[:, -2:].sum(axis=1)))[:, None])
