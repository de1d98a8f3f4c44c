"""How results are printed: tables for people, JSON for programs; data on stdout, everything else on stderr.

Left out: what is printed. Floor 8.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table on stdout; columns of figures are set to the right."""
    content = [[str(cell) for cell in row] for row in rows]
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        cells = [row[index] for row in content]
        numeric = bool(cells) and all(cell[:1].isdigit() or cell[:1] in "-+" for cell in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in content:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = 1000  # a file or a pipe has no width: rows are not folded there, nor padded
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def rate(value: float, interval: Sequence[float]) -> str:
    """A win rate in per cent with its 95 % interval."""
    return f"{100 * value:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def headline_rows(document: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, str]:
    """The win rates of a comparison, or why there is no headline, and what the missing verdicts could make of them.

    Args:
        document: What has `headline` and `worst_case`; both are absent in results of an older release.
        told: The comparison.
    """
    bounds, headline = document.get("worst_case"), document.get("headline", told)
    rows = {}
    if headline is None:
        rows["win rate"] = f"withheld: {document['headline_withheld']}"
    else:
        rows["win rate"] = rate(told["win_rate"], told["win_rate_ci"])
        known = headline["lc_win_rate"] is not None
        equal = rate(told["lc_win_rate"], told["lc_win_rate_ci"]) if known else "withheld: hardly any lengths are alike"
        rows["at equal lengths"] = equal
    if bounds:
        rows["whatever the missing say"] = f"{100 * bounds['low']:.1f} to {100 * bounds['high']:.1f} %"
    return rows


def print_record(record: Mapping[str, Any]) -> None:
    """Named values, one a line; values inside values are indented by their whole name."""
    print_table(("", ""), list(_flat(record, "")))


def _flat(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ") if value else iter([(name, "none")])
        elif isinstance(value, float):
            yield name, f"{value:.4g}"
        else:
            yield name, str(value)
