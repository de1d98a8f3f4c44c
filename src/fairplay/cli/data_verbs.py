"""`check`, `objectives`, `starter`: look at data, look at objectives, make a tiny policy to try things on.

Left out: what trains or runs (`loop_verbs.py`, `stage_verbs.py`). Floor 8.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, Format
from fairplay.cli.printing import print_json, print_record, print_table
from fairplay.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairplay.data.check import CheckReport


def register(app: typer.Typer) -> None:
    """Put these verbs on the command line."""
    for verb in (check, objectives, starter):
        app.command()(verb)


def check(
    data: str = typer.Argument(help="A file (json, jsonl, jsonl.gz, parquet), a folder of such files, or a hub id."),
    against: str = typer.Option(
        "", "--against", help="Other data that should share no prompt with it, such as a test set."
    ),
    split: str = typer.Option("train", "--split", help="The split, for a source that has several."),
    output: Format = FORMAT,
) -> None:
    """Lint preference data, prompts or conversations: what is wrong and where; exit 3 if training would refuse them."""
    from fairplay.data.check import check_data

    report = check_data(data, against=against, split=split)
    if output is Format.json:
        print_json(report.to_dict())
    else:
        _print_check(report)
    if report.num_refused or not report.num_usable:
        raise typer.Exit(DataError.exit_code)


def _print_check(report: "CheckReport") -> None:
    left_out = report.num_errors - report.num_refused
    print_record(
        {
            "data": report.source,
            "format": report.format,
            "rows": report.num_rows,
            "pairs": report.num_pairs,
            "usable": report.num_usable,
            "left out, and training goes on": left_out,
            "refused, and so is the whole data": report.num_refused,
        }
    )
    if report.lengths:
        lengths = [
            (item.side, item.unit, f"{item.mean:.1f}", f"{item.median:g}", f"{item.p95:.0f}") for item in report.lengths
        ]
        print_table(("lengths of", "unit", "mean", "median", "95th percentile"), lengths, title="\nlengths")
    for bias in report.length_bias:
        share = f"chosen is the longer one in {100 * bias.share_chosen_longer:.1f} % of the pairs"
        print(f"{bias.unit}: {share}, by {bias.mean_gap:+.1f} on average")
    if not report.findings:
        print("\nno findings")
        return
    rows = [(f.severity, f.reason, f.count, ", ".join(f.examples[:3]), f.hint) for f in report.findings]
    print_table(("severity", "finding", "rows", "where", "how to mend"), rows, title="\nfindings")


def objectives(
    name: str = typer.Argument("", help="One objective; without it, all of them."),
    golden: Path | None = typer.Option(
        None, "--check", help="Evaluate every objective of a golden file; exit 1 above 1e-9."
    ),
    docs: Path | None = typer.Option(None, "--docs", help="Write objectives.md and its figures into this folder."),
    output: Format = FORMAT,
) -> None:
    """The catalogue of preference objectives: formula, source, defaults, and what data each needs."""
    from fairplay.cli.objective_pages import check_page, objective_page, objectives_page

    if golden is not None:
        raise typer.Exit(check_page(golden, output))
    if docs is not None:
        from fairplay.cli.objective_docs import write_docs

        files = [str(path) for path in write_docs(docs)]
        print_json(files) if output is Format.json else print("\n".join(files))
    elif name:
        objective_page(name, output)
    else:
        objectives_page(output)


def starter(
    folder: Path = typer.Argument(help="Gets policy/, oracle/, prompts, and recipe.yaml to run on them."),
    seed: int = typer.Option(0, "--seed", help="Every draw of the world and of its training comes from it."),
    short: bool = typer.Option(False, "--short", help="Half the training: about a minute, a worse policy."),
    length_love: float = typer.Option(0.0, "--length-love", help="How much the oracle's annotators love length."),
    data: str = typer.Option("", "--data", help="Fit tokenizer and policy to these conversations instead; no oracle."),
    num_held_out: int = typer.Option(
        0, "--num-held-out", min=0, help="With --data: so many examples, drawn by seed, stay out."
    ),
    output: Format = FORMAT,
) -> None:
    """Make the embedded world's tiny models in a folder, to try things on."""
    if data and (short or length_love):
        raise SettingsError("starter: --short and --length-love shape the embedded world; with --data there is none")
    if num_held_out and not data:
        raise SettingsError("starter: --num-held-out goes with --data; the embedded world holds out prompts of its own")
    from fairplay.pipeline.demo import fit_to_data, make_starter, starter_settings
    from fairplay.pipeline.offline import OfflineData
    from fairplay.pipeline.signals import stop_on_signals
    from fairplay.starter.settings import REAL_TEXT

    with stop_on_signals() as should_stop, resumable():
        settings = starter_settings(short=short, length_love=length_love)
        if data:
            done = fit_to_data(
                folder, OfflineData(data, num_held_out=num_held_out), REAL_TEXT, seed=seed, should_stop=should_stop
            )
        else:
            make_starter(folder, settings, seed=seed, should_stop=should_stop)
            done = {"policy": str(folder / "policy"), "recipe": str(folder / "recipe.yaml")}
    print_json(done) if output is Format.json else print_record(done)
