"""`docs/objectives.md` and its figures, made from the catalogue, so that what is told is what is computed.

Left out: what is printed on a terminal (`objective_pages.py`). Floor 8; imports torch through the catalogue.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fairplay.cli.objective_figures import family_figure
from fairplay.objectives import curves
from fairplay.objectives.row import Row
from fairplay.objectives.table import FAMILIES, NOTATION, OBJECTIVES
from fairplay.storage.atomic import write_atomic

PAGE = "objectives.md"
FIGURES = "figures"
NEEDS: Mapping[str, str] = {
    "reference": "reference log-probs",
    "pairs": "pairs",
    "labels": "labels or pairs",
    "scores": "scores",
    "ordered scores": "scores that agree with the pairs",
    "win_rates": "win rates",
    "anchors": "anchor rows (prompts with other prompts' responses)",
}
"""What an objective needs, in words; per-token statistics are named as they are."""
HEAD = """\
# Objectives

{count} published objectives, each a row of one table that one evaluator computes. This page is made from that table
by `fairplay objectives --docs docs`; a test holds it to the table. `fairplay objectives NAME` prints one of them.

The loss is of one example; a step's loss is the mean over its examples, whatever the micro-batches and ranks.
What "elsewhere" says of other libraries comes from their source; TRL's losses [were run beside
these](../benchmarks/RESULTS.md).

```text
{notation}
```

The figures show the loss of one pair against its margin u_w - u_l, half of it from either side, at the default
parameters; draws are taken at their mean. The chosen response has {lengths[0]} tokens, the rejected one {lengths[1]},
each of log-prob {logp:g} under the reference; scores and win rates are {preference[0]} and {preference[1]}.
The pair is a step of its own: losses that look at a whole step show what is left of them in a step of one.
"""


def write_docs(folder: Path) -> list[Path]:
    """Write the page and its figures.

    Returns:
        The files written.
    """
    files = {f"{FIGURES}/{figure_name(family)}": family_figure(rows) for family, rows in FAMILIES.items()}
    files[PAGE] = page()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, text)
    return [folder / name for name in files]


def page() -> str:
    """The page as Markdown."""
    head = HEAD.format(
        count=len(OBJECTIVES),
        notation=NOTATION,
        lengths=curves.LENGTHS,
        logp=curves.REFERENCE_LOGP,
        preference=curves.PREFERENCE,
    )
    parts = [head, *_overview()]
    for family, rows in FAMILIES.items():
        names = ", ".join(row.name for row in rows)
        figure = f"![Loss against margin of {names}]({FIGURES}/{figure_name(family)})"
        parts += [f"## {family}\n", f"{figure}\n", *(_section(row) for row in rows)]
    return "\n".join(parts)


def figure_name(family: str) -> str:
    """File name of a family's figure."""
    return re.sub(r"[^a-z]+", "-", family.lower()).strip("-") + ".svg"


def _overview() -> Iterator[str]:
    for family, rows in FAMILIES.items():
        yield f"- [{family}](#{_anchor(family)}): " + ", ".join(f"[`{row.name}`](#{row.name})" for row in rows)
    yield ""


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def _section(row: Row) -> str:
    lines = [f"### {row.name}", "", f"**{row.title}**: {_linked(row.paper)}", "", "```text", row.formula, "```", ""]
    if row.parameters:
        cells = [(f"`{p.name}`", _shown(p.default), p.published, p.domain.text) for p in row.parameters]
        lines += [*_table(("parameter", "default", "published", "must be"), cells), ""]
    needs = ", ".join(NEEDS.get(need, f"the per-token statistic `{need.partition(':')[2]}`") for need in _in_order(row))
    lines += [f"Needs {needs or 'responses only'}.", ""]
    if row.remark:
        lines += [row.remark, ""]
    if row.elsewhere:
        lines += [f"*Elsewhere:* {row.elsewhere}", ""]
    return "\n".join(lines)


def _shown(default: float | str) -> str:
    return default if isinstance(default, str) else f"{default:.4g}"


def _in_order(row: Row) -> list[str]:
    """What it needs, each thing once: the more particular need covers the general one."""
    needs = row.needs - ({"scores"} if "ordered scores" in row.needs else set())
    return [*(need for need in NEEDS if need in needs), *sorted(needs - NEEDS.keys())]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _linked(paper: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)
