"""A run's report as one self-contained HTML page that works offline and trusts no text from a model.

Left out: the numbers (`decision.py`, `banners.py`, `tables.py`), the figures (`figures.py`). Floor 5. Importing this
module imports matplotlib, so import it where a report is written. The page is a pure function of the contents.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fairplay.reports.audit_table import audit_rows
from fairplay.reports.banners import find_warnings
from fairplay.reports.checkpoint_table import advice_sentences, checkpoint_rows
from fairplay.reports.contents import ReportContents
from fairplay.reports.decision import decide
from fairplay.reports.evidence_figures import draw_evidence
from fairplay.reports.figures import draw_results, draw_training
from fairplay.reports.gate_table import canary_rows, mark_rows
from fairplay.reports.samples import choose_samples, samples_json
from fairplay.reports.strengths_table import strength_rows, strength_sentences
from fairplay.reports.tables import (
    comparison_rows,
    length_rows,
    sampling_sentences,
    stage_rows,
    totals,
    trust_notes,
    trust_rows,
)
from fairplay.reports.tiles import find_tiles
from fairplay.storage.atomic import write_atomic

PAGE_NAME = "index.html"


def write_report(contents: ReportContents, folder: Path) -> Path:
    """Write the page into a folder, whole or not at all.

    Args:
        contents: Everything that the page shows.
        folder: Is made if it does not exist; an older page in it is replaced.

    Returns:
        The path of `index.html`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE_NAME
    write_atomic(path, render_page(contents).encode("utf-8", "backslashreplace"))
    return path


def render_page(contents: ReportContents) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("fairplay.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(environment, name) for name in ("report.css", "report.js"))
    samples = choose_samples(contents)
    page = environment.get_template("report.html.j2").render(
        contents=contents,
        decision=decide(contents),
        tiles=find_tiles(contents),
        banners=find_warnings(contents),
        canaries=canary_rows(contents.gates),
        marks=mark_rows(contents.gates),
        comparisons=comparison_rows(contents),
        trust=trust_rows(contents),
        notes=trust_notes(contents),
        lengths=length_rows(contents),
        checkpoints=[(game, checkpoint_rows(game), advice_sentences(game)) for game in contents.checkpoints],
        strengths=[(strength_rows(one), strength_sentences(one, contents.length_unit)) for one in contents.strengths],
        audit=audit_rows([entry.audit for entry in contents.iterations]),
        stages=stage_rows(contents),
        totals=totals(contents),
        sampling=sampling_sentences(contents),
        results=(*draw_results(contents), *draw_evidence(contents)),
        training=draw_training(contents),
        samples=samples,
        samples_json=Markup(samples_json(samples)),  # noqa: S704 - escaped by samples_json
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=content_policy(style, script),
        markup=Markup,
    )
    return page + "\n"


def _source(environment: Environment, name: str) -> str:
    """A style sheet or script of ours, exactly as it will stand between its tags."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def content_policy(style: str, script: str = "") -> str:
    """Nothing may load or run but the page's own style sheet, and script if it has one, known by their hashes."""
    scripts = f"script-src {_hash(script)}; " if script else ""
    return f"default-src 'none'; style-src {_hash(style)}; {scripts}img-src data:; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
