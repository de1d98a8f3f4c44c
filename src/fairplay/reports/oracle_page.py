"""The report of an oracle's training: accuracy, calibration before and after its temperature, and length, on one page.

Left out: the numbers (they come as plain data). Floor 5. Importing this module imports matplotlib. The page is a pure
function of the results, self-contained, and shows no text of the data.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fairplay.reports.axes import add_legend, house_canvas
from fairplay.reports.page import PAGE_NAME, content_policy
from fairplay.reports.svg import COLOURS, embedded_svg
from fairplay.storage.atomic import write_atomic
from fairplay.wording import plural


def write_oracle_page(results: Mapping[str, Any], folder: Path) -> Path:
    """Write `index.html` into a folder, whole or not at all.

    Args:
        results: What `fairplay train-oracle` measured, as its `results.json` holds it.
        folder: Is made if it does not exist.

    Returns:
        The path of `index.html`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE_NAME
    write_atomic(path, render_oracle_page(results))
    return path


def render_oracle_page(results: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("fairplay.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    style = environment.loader.get_source(environment, "report.css")[0]
    measured = results["measured"]
    page = environment.get_template("oracle.html.j2").render(
        results=results,
        headline=_headline(measured),
        rows=calibration_rows(measured),
        lengths=length_rows(measured["length"]),
        order=measured["order"],
        figure=Markup(calibration_svg(measured)),  # noqa: S704 - our own drawing
        style=Markup(style),  # noqa: S704 - our own file
        policy=content_policy(style),
    )
    return page + "\n"


def calibration_svg(measured: Mapping[str, Any]) -> str:
    """The reliability curves before and after the temperature, as an `<svg>` element."""
    canvas, axes = house_canvas()
    before, after = measured["before"]["points"], measured["after"]["points"]
    ends = [value for point in (*before, *after) for value in point["accuracy_ci"]]
    confident = [point["confidence"] for point in (*before, *after)]
    right_edge = min(1.0, max(confident) + 0.03)
    axes.plot([0.5, right_edge], [0.5, right_edge], color=COLOURS["ink"], linewidth=0.9, dashes=(2, 2))
    _draw(axes, before, role="two", marker="D", label="as trained", dashed=True)
    _draw(axes, after, role="one", marker="o", label=f"with T = {measured['after']['temperature']:.2f}", dashed=False)
    axes.set_xlim(0.49, right_edge)
    axes.set_ylim(max(0.0, min([0.45, *ends]) - 0.03), min(1.02, max([0.6, *ends]) + 0.03))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("how sure the oracle is of its winner")
    add_legend(axes, 2)
    return embedded_svg(
        canvas, name="calibration", label="Share of pairs judged right by confidence, before and after T"
    )


def _draw(axes: Any, points: Sequence[Mapping[str, Any]], *, role: str, marker: str, label: str, dashed: bool) -> None:
    places = [point["confidence"] for point in points]
    values = [point["accuracy"] for point in points]
    colour = COLOURS[role]
    lows, highs = zip(*(point["accuracy_ci"] for point in points), strict=True)
    axes.vlines(places, lows, highs, color=colour, linewidth=1.3)
    axes.plot(
        places,
        values,
        color=colour,
        linewidth=1.6,
        linestyle=(0, (4, 2)) if dashed else "solid",
        marker=marker,
        markersize=6,
        markerfacecolor=COLOURS["paper"] if dashed else colour,
        markeredgecolor=colour,
        label=label,
    )


def calibration_rows(measured: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], ...]:
    """(quantity, before the temperature, after it, what it means) as finished text."""
    before, after = measured["before"], measured["after"]
    low, high = after["calibration_error_by_chance_ci"]
    return (
        ("Temperature", "1", f"{after['temperature']:.3g}", "what its logits are divided by; fitted on other pairs"),
        (
            "Mean confidence",
            _percent(before["mean_confidence"]),
            _percent(after["mean_confidence"]),
            "above the accuracy: over-confident",
        ),
        ("Brier score", _interval(before, "brier", 3), _interval(after, "brier", 3), "a coin has 0.25; 0 is best"),
        ("Log loss", _interval(before, "log_loss", 3), _interval(after, "log_loss", 3), "nats; a coin has 0.693"),
        (
            "Calibration error",
            f"{before['calibration_error']:.3f}",
            f"{after['calibration_error']:.3f}",
            f"a perfectly calibrated oracle shows {low:.3f} to {high:.3f} on so many pairs",
        ),
    )


def length_rows(length: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(quantity, value, what it means) as finished text."""
    rows = [
        ("Longer wins", _shares(length, "longer_wins"), "accuracy of a judge that reads nothing but length"),
        ("Prefers the longer", _shares(length, "prefers_longer"), "how often this oracle does"),
        (
            "Correlation with length",
            f"{length['correlation']:+.2f}",
            f"of its logit and the length difference; of the labels: {length['label_correlation']:+.2f}",
        ),
    ]
    for key, words in (("shorter", "the shorter one is better"), ("longer", "the longer one is better")):
        if length[f"accuracy_{key}_wins"] is not None:
            number = length[f"num_{key}_wins"]
            rows.append((f"Accuracy where {words}", _shares(length, f"accuracy_{key}_wins"), plural(number, "pair")))
    return tuple(rows)


def _headline(measured: Mapping[str, Any]) -> str:
    shares = _shares(measured, "accuracy")
    if measured["accuracy_ci"][0] > 0.5:
        return f"It prefers what people preferred in {shares} of the pairs that it never saw"
    return f"It is not measurably better than a coin: {shares} of the pairs that it never saw"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _shares(values: Mapping[str, Any], name: str) -> str:
    low, high = values[f"{name}_ci"]
    return f"{100 * values[name]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _interval(values: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = values[f"{name}_ci"]
    return f"{values[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
