"""`train-oracle`: a reward model, pair model or pair ranker of one's own, and what it is worth.

Left out: asking an oracle (`fairplay rank`), auditing one (`audit_verbs.py`). Floor 8; torch is imported when it runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, SET, Format
from fairplay.cli.printing import print_json, print_record, print_table, rate
from fairplay.pipeline.signals import stop_on_signals
from fairplay.wording import plural


def register(app: typer.Typer) -> None:
    """Put these verbs on the command line."""
    app.command()(train_oracle)


def train_oracle(
    recipe: Path | None = typer.Argument(
        None, help="A recipe with model or scratch, and training; or use --set alone."
    ),
    data: str = typer.Option(..., "--data", help="Preference pairs: a file, a folder or a hub id."),
    out: Path | None = typer.Option(
        None, "--out", help="The oracle's folder, by default runs/<name>; run again to resume."
    ),
    seed: int | None = typer.Option(None, "--seed", help="Every random draw comes from it."),
    overrides: list[str] = SET,
    fork: bool = typer.Option(False, "--fork", help="Start a new run beside --out that keeps what still fits."),
    output: Format = FORMAT,
) -> None:
    """Train an oracle on preference pairs (--set training.kind=reward_model and so on); run again to resume."""
    from fairplay.pipeline.oracle_stages import read_oracle_settings, train_oracle_run
    from fairplay.storage.run_directory import RunDirectory

    settings = read_oracle_settings(recipe, [*overrides, *([] if seed is None else [f"seed={seed}"])])
    with stop_on_signals() as should_stop, resumable() as resume:
        run = RunDirectory(out or Path("runs") / settings.name)
        done = train_oracle_run(settings, data, resume.fork(run) if fork else run, should_stop=should_stop)
    if output is Format.json:
        print_json(done)
    else:
        oracle_page(done)


def oracle_page(done: Mapping[str, Any]) -> None:
    """What was learnt, and what its verdicts on held-out pairs are worth."""
    from fairplay.reports.oracle_page import calibration_rows, length_rows

    data, training, measured = done["data"], done["training"], done["measured"]
    print_record(
        {
            "data": f"{data['source']}: {data['format']}",
            "pairs": f"{data['num_training']} to learn from, {data['num_calibration']} for the temperature, "
            f"{data['num_held_out']} held out",
            "left out": data["dropped"],
            "read only in part": training["num_truncated"],
            "loss": f"{training['first_loss']:.4g} -> {training['last_loss']:.4g} in "
            + plural(training["steps"], "step"),
            "held-out accuracy": rate(measured["accuracy"], measured["accuracy_ci"]),
            **measured["order"],
        }
    )
    columns = ("calibration", "as trained", "with T", "what it means")
    print_table(columns, calibration_rows(measured), title="\nheld-out pairs")
    print()
    print_table(("length", "", "what it means"), length_rows(measured["length"]))
    print(f"\noracle: {done['model']} (--set oracle.kind={done['oracle_kind']})\nreport: {done['report']}")
