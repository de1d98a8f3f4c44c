"""A figure for each family of objectives: the loss of one pair against its margin, one small panel an objective.

Left out: the losses themselves (`objectives/curves.py`). Floor 8; object-oriented matplotlib, always the same bytes.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fairplay.objectives.curves import loss_curve
from fairplay.objectives.row import Row

MARGINS = tuple(float(margin) for margin in range(-20, 21))
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 4, 2.0, 1.45
INK, MUTED, LINE = "#1f2328", "#6e7781", "#0550ae"
LOOK: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
    "svg.hashsalt": "fairplay",
}


def family_figure(rows: Sequence[Row]) -> str:
    """The family's panels as an SVG document; its description has each loss at margins -20, 0 and 20."""
    with matplotlib.rc_context(LOOK):
        lines = math.ceil(len(rows) / COLUMNS)
        figure = Figure(figsize=(COLUMNS * PANEL_WIDTH, lines * PANEL_HEIGHT + 0.25), layout="constrained")
        panels = figure.subplots(lines, COLUMNS, squeeze=False).flatten()
        for axes in panels[len(rows) :]:
            axes.set_visible(False)
        told = [_draw(axes, row) for axes, row in zip(panels, rows, strict=False)]
        figure.supxlabel("margin of log-ratios, in nats", fontsize=8, color=MUTED)
        document = io.StringIO()
        metadata: Any = {"Date": None, "Creator": None, "Description": "; ".join(told)}
        figure.savefig(document, format="svg", facecolor="white", metadata=metadata)
    return "\n".join(line.rstrip() for line in document.getvalue().splitlines()) + "\n"


def curve_in_words(row: Row) -> str:
    """The objective's name and its loss at margins -20, 0 and 20."""
    return " ".join([row.name, *(f"{loss:.4g}" for loss in _losses(row, (-20.0, 0.0, 20.0)))])


def _losses(row: Row, margins: Sequence[float]) -> list[float]:
    return [float(loss) for loss in loss_curve(row.objective({}), margins)]


def _draw(axes: Axes, row: Row) -> str:
    axes.axvline(0, color=MUTED, linewidth=0.6, dashes=(2, 2))
    axes.plot(MARGINS, _losses(row, MARGINS), color=LINE, linewidth=1.4)
    axes.set_title(row.name, loc="left", pad=3)
    axes.set_xlim(MARGINS[0], MARGINS[-1])
    axes.set_xticks([-20, 0, 20])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(length=2, width=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return curve_in_words(row)
