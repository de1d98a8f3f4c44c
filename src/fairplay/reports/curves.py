"""Training metrics of all iterations as one curve over optimiser steps, thinned by means to what a figure can show.

Left out: drawing (`figures.py`). Floor 5; pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairplay.reports.contents import IterationContents

MAX_POINTS = 240
"""Points of a curve, over all iterations."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over the whole run.

    Attributes:
        steps, values: [points]; steps run on across iterations; a not-a-number value breaks the line between them.
        running_means: [points]; over a twelfth of an iteration's points, centred, not across iterations.
        starts: (iteration, step before its first) of every iteration that logged the metric.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    running_means: tuple[float, ...]
    starts: tuple[tuple[int, float], ...]


def training_curve(iterations: Sequence[IterationContents], key: str) -> Curve:
    """The curve of one metric; rows without it, or where it is not finite, are left out."""
    steps: list[float] = []
    values: list[float] = []
    means: list[float] = []
    starts: list[tuple[int, float]] = []
    offset = 0.0
    for iteration in iterations:
        rows = [
            (row.get("step", float(place)), row.get(key, math.nan))
            for place, row in enumerate(iteration.metrics, start=1)
        ]
        finite = [(step, value) for step, value in rows if math.isfinite(value) and math.isfinite(step)]
        if finite:
            if steps:
                steps.append(offset)
                values.append(math.nan)
                means.append(math.nan)
            starts.append((iteration.iteration, offset))
            thinned = _thinned(finite, max(2, MAX_POINTS // len(iterations)))
            steps += [offset + step for step, _ in thinned]
            values += [value for _, value in thinned]
            means += _running_means([value for _, value in thinned])
        offset += max((step for step, _ in rows if math.isfinite(step)), default=0.0)
    return Curve(tuple(steps), tuple(values), tuple(means), tuple(starts))


def _thinned(rows: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Means over neighbouring rows, at most `most` of them."""
    size = math.ceil(len(rows) / most)
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(sum(s for s, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]


def _running_means(values: Sequence[float]) -> list[float]:
    reach = len(values) // 24
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]
