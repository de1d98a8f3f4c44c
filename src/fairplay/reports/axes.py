"""The look that all figures of a report share: canvas, axes of iterations and of win rates, bands with whiskers.

Left out: what is shown (`figures.py`), how it becomes SVG (`svg.py`). Floor 5; no pyplot.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fairplay.records import Interval
from fairplay.reports.svg import COLOURS

Points = Sequence[tuple[float, Interval]]
"""(iteration, estimate) in order."""

WIDTH, HEIGHT = 6.0, 3.5
"""Inches; SVG has 72 units an inch, so a figure is 432 units wide."""
TEXT_SIZE = 10.5


def house_canvas() -> tuple[Figure, Axes]:
    """An empty figure in the house's look."""
    look: Any = {
        "font.size": TEXT_SIZE,
        "axes.edgecolor": COLOURS["rule"],
        "axes.labelcolor": COLOURS["muted"],
        "text.color": COLOURS["ink"],
        "xtick.color": COLOURS["rule"],
        "ytick.color": COLOURS["rule"],
        "xtick.labelcolor": COLOURS["muted"],
        "ytick.labelcolor": COLOURS["muted"],
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": COLOURS["rule"],
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.labelsize": TEXT_SIZE,
        "ytick.major.size": 0,
        "xtick.major.size": 3,
        "font.family": "DejaVu Sans",
    }
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_axes((0.095, 0.15, 0.885, 0.76))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes


def add_legend(axes: Axes, columns: int) -> None:
    """Names of the lines in a row above the axes."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.085, 1.03),
        ncols=columns,
        frameon=False,
        borderpad=0,
        borderaxespad=0.3,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.6,
        labelcolor=COLOURS["ink"],
        fontsize=TEXT_SIZE,
    )


def set_iteration_axis(axes: Axes, first: int, last: int) -> None:
    """Iterations from first to last, as whole numbers."""
    axes.set_xlim(first - 0.45, last + 0.45)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")


def set_percent_axis(axes: Axes, shown: Sequence[Points]) -> None:
    """Win rates in percent, wide enough for every interval, with the 50 % line."""
    ends = [end for series in shown for _, interval in series for end in (interval.low, interval.high)]
    low, high = min([0.42, *ends]), max([0.58, *ends])
    axes.set_ylim(max(-0.02, low - 0.03), min(1.02, high + 0.04))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.axhline(0.5, color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))


def draw_band(
    axes: Axes, series: Points, *, label: str, role: str, shift: float, marker: str, dashed: bool = False
) -> None:
    """A line through estimates with their 95 % intervals, as a band and as whiskers (a lone iteration has no band)."""
    if not series:
        return
    colour = COLOURS[role]
    places = [place + shift for place, _ in series]
    lows, highs = [part.low for _, part in series], [part.high for _, part in series]
    if len(series) > 1:
        axes.fill_between(places, lows, highs, color=colour, alpha=0.13, linewidth=0)
    axes.vlines(places, lows, highs, color=colour, linewidth=1.3)
    axes.plot(
        places,
        [part.value for _, part in series],
        color=colour,
        linewidth=1.8,
        linestyle=(0, (4, 2)) if dashed else "solid",
        marker=marker,
        markersize=6.5,
        markerfacecolor=COLOURS["paper"] if dashed else colour,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        label=label,
    )
