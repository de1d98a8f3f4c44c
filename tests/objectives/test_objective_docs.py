"""The page of all objectives: what is committed is what the table generates."""

import math
import re
from pathlib import Path

import pytest

from fairplay.cli.main import run
from fairplay.cli.objective_docs import NEEDS, figure_name, page
from fairplay.cli.objective_figures import curve_in_words, family_figure
from fairplay.objectives.curves import LENGTHS, loss_curve, one_pair
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.table import FAMILIES, OBJECTIVES, build_objective

DOCS = Path(__file__).parents[2] / "docs"
STALE = "run `fairplay objectives --docs docs` and commit what it writes"


def described(svg: str) -> dict[str, list[float]]:
    """The losses that a figure tells of, by objective."""
    told = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    curves = (entry.split() for entry in told[1].split("; "))
    return {name: [float(loss) for loss in losses] for name, *losses in curves}


def test_the_committed_page_is_what_the_table_generates():
    assert (DOCS / "objectives.md").read_text() == page(), STALE


@pytest.mark.parametrize("family", FAMILIES)
def test_the_committed_figures_show_what_the_table_computes(family):
    committed = described((DOCS / "figures" / figure_name(family)).read_text())
    computed = [curve_in_words(row).split() for row in FAMILIES[family]]
    assert list(committed) == [name for name, *_ in computed], STALE
    for name, *losses in computed:
        assert committed[name] == pytest.approx([float(loss) for loss in losses], rel=2e-3), STALE


def test_the_page_shows_the_figure_of_every_family():
    assert re.findall(r"\]\(figures/([^)]+)\)", page()) == [figure_name(family) for family in FAMILIES]


def test_every_objective_has_its_section_and_every_link_within_the_page_leads_somewhere():
    sections = re.findall(r"^### (.+)$", page(), re.MULTILINE)
    assert sections == list(OBJECTIVES)
    titles = re.findall(r"^##+ (.+)$", page(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", page())) <= anchors


def test_every_need_is_told_in_words():
    kinds = {need for row in OBJECTIVES.values() for need in row.needs if not need.startswith("statistics:")}
    assert kinds <= NEEDS.keys()


def test_the_command_writes_page_and_figures_and_the_same_bytes_twice(tmp_path, capsys):
    assert run(["objectives", "--docs", str(tmp_path)]) == 0
    written = capsys.readouterr().out.split()
    assert written == [*(str(tmp_path / "figures" / figure_name(f)) for f in FAMILIES), str(tmp_path / "objectives.md")]
    family, rows = list(FAMILIES.items())[-1]
    assert (tmp_path / "figures" / figure_name(family)).read_text() == family_figure(rows)
    assert (tmp_path / "objectives.md").read_text() == page()


def test_a_curve_is_the_loss_at_each_margin():
    margins = [-20.0, 0.0, 7.0]
    losses = loss_curve(build_objective("dpo", {"beta": 0.1}), margins).tolist()
    assert losses == pytest.approx([math.log1p(math.exp(-0.1 * margin)) for margin in margins], rel=1e-12)


def test_the_pair_of_a_curve_has_the_margin_it_is_asked_for():
    pair = one_pair(7.0)
    output = evaluate(build_objective("dpo", {"beta": 1.0}), pair, batch_totals(pair))
    assert float(output.margins) == pytest.approx(7.0, rel=1e-12)
    assert tuple(pair.logps.lengths()[:2].tolist()) == LENGTHS
