"""The figures of a report: win rates, lengths and training curves by iteration, as SVG for the page.

Left out: the look of axes (`axes.py`), how matplotlib's SVG is made fit for a page (`svg.py`), sentences and tables.
Floor 5; object-oriented matplotlib, no pyplot, no global state. A figure without data is not drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fairplay.records import EvaluationResult, Interval
from fairplay.reports.axes import (
    TEXT_SIZE,
    Points,
    add_legend,
    draw_band,
    house_canvas,
    set_iteration_axis,
    set_percent_axis,
)
from fairplay.reports.contents import HeldOutLengths, IterationContents, JudgeRole, ReportContents
from fairplay.reports.curves import Curve, training_curve
from fairplay.reports.decision import PREVIOUS, START, find_result
from fairplay.reports.svg import COLOURS, embedded_svg
from fairplay.reports.wording import is_defined, number, points


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page: its title, its `<svg>`, and one line that says how to read it."""

    title: str
    svg: str
    caption: str


def draw_results(contents: ReportContents) -> tuple[Figure, ...]:
    """Win rates against each opponent, oracle against judge, and lengths."""
    drawn = (
        _win_rates(contents, START, "Against the start policy", "win-start"),
        _oracle_and_judge(contents),
        _win_rates(contents, PREVIOUS, "Against the iterate before", "win-previous")
        if len(contents.iterations) > 1
        else None,
        _lengths(contents),
    )
    return tuple(figure for figure in drawn if figure is not None)


def draw_training(contents: ReportContents) -> tuple[Figure, ...]:
    """Training curves over all iterations, one figure for each kind of metric that the training has logged."""
    drawn = (_training(contents.iterations, panel) for panel in _PANELS)
    return tuple(figure for figure in drawn if figure is not None)


def _series(contents: ReportContents, role: JudgeRole, opponent: str) -> list[tuple[float, EvaluationResult]]:
    found = ((entry.iteration, find_result(entry, role, opponent)) for entry in contents.iterations)
    return [(float(iteration), result) for iteration, result in found if result is not None]


def _defined(series: Sequence[tuple[float, Interval]]) -> Points:
    return [(place, interval) for place, interval in series if is_defined(interval)]


def _win_rates(contents: ReportContents, opponent: str, title: str, name: str) -> Figure | None:
    results = _series(contents, "judge", opponent)
    plain = _defined([(place, result.win_rate) for place, result in results])
    controlled = _defined([(place, result.lc_win_rate) for place, result in results])
    if not plain:
        return None
    canvas, axes = house_canvas()
    draw_band(axes, plain, label="win rate", role="one", shift=-0.035, marker="o")
    draw_band(axes, controlled, label="at equal length", role="two", shift=0.035, marker="D", dashed=True)
    set_percent_axis(axes, (plain, controlled))
    set_iteration_axis(axes, contents.iterations[0].iteration, contents.iterations[-1].iteration)
    add_legend(axes, 2)
    caption = (
        "By the judge, with 95 % intervals over prompts. A band clear of the 50 % line is a difference; "
        "two lines far apart mean that length plays a part."
    )
    return Figure(title, embedded_svg(canvas, name=name, label=f"{title}: win rates by iteration"), caption)


def _oracle_and_judge(contents: ReportContents) -> Figure | None:
    judge = _defined([(place, result.win_rate) for place, result in _series(contents, "judge", START)])
    oracle = _defined([(place, result.win_rate) for place, result in _series(contents, "oracle", START)])
    if not judge or not oracle:
        return None
    canvas, axes = house_canvas()
    draw_band(axes, oracle, label="training oracle", role="three", shift=0.035, marker="s", dashed=True)
    draw_band(axes, judge, label="judge", role="one", shift=-0.035, marker="o")
    set_percent_axis(axes, (judge, oracle))
    set_iteration_axis(axes, contents.iterations[0].iteration, contents.iterations[-1].iteration)
    gaps = {float(entry.iteration): entry.oracle_gaps.get(START) for entry in contents.iterations}
    for place, interval in oracle:
        gap = gaps.get(place)
        if gap is not None and is_defined(gap):
            axes.annotate(
                points(gap.value),
                (place, max(interval.high, dict(judge).get(place, interval).high)),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                color=COLOURS["muted"],
                fontsize=TEXT_SIZE - 0.5,
            )
    add_legend(axes, 2)
    caption = (
        "Win rate against the start policy by the oracle that made the training’s preferences and by the judge that "
        "the training never saw; above them the gap in points. A gap that grows is over-optimisation."
    )
    title = "Oracle against judge"
    return Figure(title, embedded_svg(canvas, name="oracle-judge", label=f"{title}: win rates by iteration"), caption)


def _lengths(contents: ReportContents) -> Figure | None:
    policies: list[tuple[int, HeldOutLengths]] = [(0, contents.start)]
    policies += [(entry.iteration, entry.held_out) for entry in contents.iterations]
    shown = [(place, np.asarray(held.lengths, dtype=np.float64)) for place, held in policies if held.lengths]
    if not shown:
        return None
    canvas, axes = house_canvas()
    drawn: dict[str, Any] = axes.violinplot(
        [lengths for _, lengths in shown], [place for place, _ in shown], widths=0.72, showextrema=False
    )
    for body in drawn["bodies"]:
        body.set(facecolor=COLOURS["four"], edgecolor=COLOURS["four"], alpha=0.3, linewidth=0.8)
    for place, lengths in shown:
        quarter, three_quarters = np.percentile(lengths, [25, 75])
        mean = float(lengths.mean())
        axes.vlines(
            place,
            quarter,
            three_quarters,
            color=COLOURS["four"],
            linewidth=4,
            label="middle half" if place == shown[0][0] else "",
        )
        axes.plot(
            place,
            mean,
            marker="o",
            markersize=6.5,
            linestyle="none",
            color=COLOURS["ink"],
            markeredgecolor=COLOURS["paper"],
            label="mean" if place == shown[0][0] else "",
        )
        axes.annotate(
            number(mean), (place, mean), xytext=(8, 0), textcoords="offset points", va="center", color=COLOURS["ink"]
        )
    axes.set_ylim(bottom=0, top=max(float(lengths.max()) for _, lengths in shown) * 1.05 + 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    set_iteration_axis(axes, shown[0][0], shown[-1][0])
    add_legend(axes, 2)
    caption = (
        f"Held-out responses in {contents.length_unit}; iteration 0 is the start policy. "
        "Growth without a gain at equal length is padding."
    )
    title = "Response lengths"
    return Figure(
        title, embedded_svg(canvas, name="lengths", label=f"{title} by iteration, in {contents.length_unit}"), caption
    )


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    name: str
    lines: Mapping[str, tuple[str, str]]  # metric -> label, colour role
    caption: str
    level: float = math.nan


_PANELS = (
    _Panel(
        "Implicit rewards",
        "rewards",
        {"rewards/chosen": ("chosen", "one"), "rewards/rejected": ("rejected", "two")},
        "Beta times the log-ratio to the reference. Chosen should rise above rejected; both sinking means that the "
        "margin is won by unlearning.",
        0.0,
    ),
    _Panel(
        "Log-prob of chosen and rejected",
        "logps",
        {"logps/chosen": ("chosen", "one"), "logps/rejected": ("rejected", "two")},
        "Summed over a response, in nats. A falling chosen line is the classic warning: "
        "good text is becoming less likely, too.",
    ),
    _Panel(
        "Margin",
        "margins",
        {"rewards/margins": ("chosen minus rejected reward", "one")},
        "Should rise within an iteration and start again near zero when the reference moves on.",
        0.0,
    ),
    _Panel(
        "Accuracy",
        "accuracies",
        {"rewards/accuracies": ("pairs ranked right", "one")},
        "Share of training pairs whose chosen response has the higher implicit reward. "
        "Near one early on means easy pairs.",
        0.5,
    ),
    _Panel(
        "Loss", "loss", {"loss": ("loss", "one")}, "Of the training objective; comparable within an iteration only."
    ),
    _Panel(
        "Length of chosen and rejected",
        "pair-lengths",
        {"length/chosen": ("chosen", "one"), "length/rejected": ("rejected", "two")},
        "Mean tokens of the training pairs. Chosen far above rejected means that "
        "the preferences themselves reward length.",
    ),
)


def _training(iterations: Sequence[IterationContents], panel: _Panel) -> Figure | None:
    curves = {key: training_curve(iterations, key) for key in panel.lines}
    if not any(curve.steps for curve in curves.values()):
        return None
    canvas, axes = house_canvas()
    if math.isfinite(panel.level):
        axes.axhline(panel.level, color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))
    for key, (label, role) in panel.lines.items():
        curve = curves[key]
        if curve.steps:
            dashes = "solid" if role == "one" else (0, (4, 1.2))
            axes.plot(curve.steps, curve.values, color=COLOURS[role], linewidth=0.9, alpha=0.35)
            axes.plot(curve.steps, curve.running_means, color=COLOURS[role], linewidth=2, linestyle=dashes, label=label)
    _mark_iterations(axes, next(curve for curve in curves.values() if curve.steps))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel("optimiser step")
    add_legend(axes, 2)
    return Figure(
        panel.title, embedded_svg(canvas, name=panel.name, label=f"{panel.title} by training step"), panel.caption
    )


def _mark_iterations(axes: Axes, curve: Curve) -> None:
    """A fine line and a number where each iteration starts."""
    axes.margins(x=0.01, y=0.09)
    for place, (iteration, start) in enumerate(curve.starts):
        axes.axvline(start, color=COLOURS["rule"], linewidth=0.9)
        axes.annotate(
            f"iteration {iteration}" if place == 0 else f"{iteration}",
            (start, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4, -10),
            textcoords="offset points",
            color=COLOURS["muted"],
            fontsize=TEXT_SIZE - 1,
        )
