"""Figures that show what the verdicts rest on: the over-optimisation gap by iteration, and winning against length.

Left out: the results' own figures (`figures.py`). Floor 5; object-oriented matplotlib, no pyplot, no global state.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fairplay.records import Interval
from fairplay.reports.axes import Points, add_legend, draw_band, house_canvas, set_iteration_axis
from fairplay.reports.contents import LengthEvidence, ReportContents
from fairplay.reports.decision import START
from fairplay.reports.figures import Figure
from fairplay.reports.svg import COLOURS, embedded_svg
from fairplay.reports.wording import is_defined


def draw_evidence(contents: ReportContents) -> tuple[Figure, ...]:
    """The gap between oracle and judge, and the last iterate's win rate against length."""
    drawn = (_gap(contents), _winning_against_length(contents))
    return tuple(figure for figure in drawn if figure is not None)


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", "−") if round(value) else "0"


def _gap(contents: ReportContents) -> Figure | None:
    found = [(float(entry.iteration), entry.oracle_gaps.get(START)) for entry in contents.iterations]
    gaps: Points = [(place, gap) for place, gap in found if gap is not None and is_defined(gap)]
    if not gaps:
        return None
    canvas, axes = house_canvas()
    draw_band(axes, gaps, label="oracle minus judge", role="three", shift=0.0, marker="s")
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))
    ends = [end for _, gap in gaps for end in (gap.low, gap.high)]
    axes.set_ylim(min([-0.05, *ends]) - 0.02, max([0.05, *ends]) + 0.02)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(100 * value)))
    set_iteration_axis(axes, contents.iterations[0].iteration, contents.iterations[-1].iteration)
    add_legend(axes, 1)
    caption = (
        "Points by which the training oracle’s win rate against the start policy is above the judge’s on the same "
        "responses, with 95 % intervals. A band that leaves zero upwards is over-optimisation."
    )
    title = "Over-optimisation gap"
    return Figure(title, embedded_svg(canvas, name="gap", label=f"{title} by iteration, in points"), caption)


def _winning_against_length(contents: ReportContents) -> Figure | None:
    found = [(entry.iteration, one) for entry in contents.iterations for one in entry.length_evidence]
    if not found:
        return None
    canvas, axes = house_canvas()
    for _, earlier in found[:-1]:
        _draw_fit(axes, earlier, "muted", 1.0, "")
    iteration, last = found[-1]
    _draw_fit(axes, last, "two", 1.8, "fitted length model")
    _draw_bins(axes, last.bins)
    axes.axhline(0.5, color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(value)))
    axes.set_xlabel(f"{contents.length_unit} more than the start policy’s response")
    add_legend(axes, 2)
    earlier_ones = " Thin lines are earlier iterates." if len(found) > 1 else ""
    caption = (
        f"Iteration {iteration} by the judge: pairs of responses in groups of like length difference, with 95 % "
        "intervals. A steep line means that length wins; the win rate at equal length is where the line crosses "
        f"zero.{earlier_ones}"
    )
    title = "Winning against length"
    label = f"{title}: win rate by length difference"
    return Figure(title, embedded_svg(canvas, name="win-length", label=label), caption)


def _draw_fit(axes: Axes, evidence: LengthEvidence, role: str, width: float, label: str) -> None:
    if evidence.fitted:
        places, rates = zip(*evidence.fitted, strict=True)
        axes.plot(places, rates, color=COLOURS[role], linewidth=width, label=label or "_")


def _draw_bins(axes: Axes, bins: Sequence[tuple[float, Interval]]) -> None:
    places = [place for place, _ in bins]
    axes.vlines(
        places, [rate.low for _, rate in bins], [rate.high for _, rate in bins], color=COLOURS["one"], linewidth=1.3
    )
    rates = [rate.value for _, rate in bins]
    axes.plot(places, rates, color=COLOURS["one"], linestyle="none", marker="o", markersize=6.5, label="win rate")
