"""`judge`: two files of responses compared by a chat model, in the form of a published protocol.

Left out: the protocols (`evaluation.protocols`). Floor 8.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, SET, Format
from fairplay.cli.printing import print_json, print_record, rate
from fairplay.pipeline.signals import stop_on_signals
from fairplay.storage.settings_file import apply_overrides, build_settings

KNOWN = "alpaca-eval, hh, tldr-s, tldr-c, arena-hard, pair, own"


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command()(judge)


def judge(
    protocol: str = typer.Option(..., "--protocol", help=f"What is asked, how, in which order: {KNOWN}."),
    outputs: str = typer.Option(..., "--outputs", help="Responses to judge: FILE or FILE::COLUMN."),
    baseline: str = typer.Option(..., "--baseline", help="The other side; FILE::chosen takes the chosen of pairs."),
    orders: str = typer.Option("", "--orders", help="official, random or both; by default the protocol's."),
    out: Path = typer.Option(Path("runs/judging"), "--out", help="Folder of results and replies; run again to resume."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Count questions and tokens, send nothing."),
    seed: int = typer.Option(0, "--seed", help="Seed of random orders and of intervals."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Compare responses by a judge on an OpenAI-compatible server (--set judge.server.model=... and so on)."""
    from fairplay.pipeline.judge_files import JudgeFilesSettings, Task, estimate_files, judge_files

    settings = build_settings(JudgeFilesSettings, apply_overrides({}, overrides), "--set")
    task = Task(protocol, outputs, baseline, orders, seed)
    if dry_run:
        estimate = estimate_files(task, settings, out)
        print_json(estimate) if output is Format.json else print_record(estimate)
        return
    with stop_on_signals() as should_stop, resumable():
        document = judge_files(task, settings, out, should_stop=should_stop)
    if output is Format.json:
        print_json(document)
    else:
        print_record(_page(document, out))
        for note in document["comparison"]["notes"]:
            print(f"- {note}")


def _page(document: Mapping[str, Any], out: Path) -> dict[str, Any]:
    told, games, pairs = document["comparison"], document["games"], document["pairs"]
    bounds = document["worst_case"]
    page: dict[str, Any] = {"policy": told["policy"], "opponent": told["opponent"], "judge": told["judge"]}
    if document["headline"] is None:
        page["win rate"] = f"withheld: {document['headline_withheld']}"
    else:
        page["win rate"] = rate(told["win_rate"], told["win_rate_ci"])
        page["at equal lengths"] = rate(told["lc_win_rate"], told["lc_win_rate_ci"])
    page["whatever the missing say"] = f"{100 * bounds['low']:.1f} to {100 * bounds['high']:.1f} %"
    if "style_control" in document:
        control = document["style_control"]
        page["at equal style"] = rate(control["win_rate"], control["win_rate_ci"])
    page |= {
        "prompts": told["n"],
        "wins, ties, losses": f"{told['wins']}, {told['ties']}, {told['losses']}",
        "pairs": f"{pairs['requested']} = {pairs['judged']} judged + {pairs['identical']} identical"
        f" + {pairs['without_verdict']} without verdict + {sum(pairs['without_partner'].values())} without partner",
        "games": f"{games['requested']} = {games['ok']} ok"
        + "".join(f" + {count} {reason}" for reason, count in games["failures"].items()),
        "answered from the cache": document["account"]["cached"],
        "tokens": document["account"]["prompt_tokens"] + document["account"]["completion_tokens"],
        "cost": document["account"]["cost"],
        "partial": "yes, the cap was reached" if document["partial"] else "no",
        "written to": str(out),
    }
    return page
