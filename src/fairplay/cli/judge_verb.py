"""`judge`: responses compared, or graded, by a chat model in the form of a published protocol.

Left out: the protocols (`evaluation.protocols`). Floor 8.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, SET, Format
from fairplay.cli.printing import headline_rows, print_json, print_record, rate
from fairplay.cli.stage_pages import print_alarms
from fairplay.errors import SettingsError
from fairplay.pipeline.signals import stop_on_signals
from fairplay.storage.settings_file import apply_overrides, build_settings

KNOWN = "alpaca-eval, hh, tldr-s, tldr-c, arena-hard, pair, own, mt-bench"
GRADING = "mt-bench"


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command()(judge)


def judge(
    protocol: str = typer.Option(..., "--protocol", help=f"What is asked, how, in which order: {KNOWN}."),
    outputs: str = typer.Option(..., "--outputs", help="Responses to judge: FILE or FILE::COLUMN."),
    baseline: str = typer.Option("", "--baseline", help="The other side; FILE::chosen takes the chosen of pairs."),
    questions: Path | None = typer.Option(None, "--questions", help="mt-bench: its question.jsonl, for no baseline."),
    orders: str = typer.Option("", "--orders", help="official, random or both; by default the protocol's."),
    out: Path = typer.Option(Path("runs/judging"), "--out", help="Folder of results and replies; run again to resume."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Count questions and tokens, send nothing."),
    trained_in: str = typer.Option(
        "",
        "--trained-in",
        help="The run that trained the policy: its prompts should not be judged, nor its oracle judge.",
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of random orders and of intervals."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Compare or grade responses by a judge on an OpenAI-compatible server (--set judge.server.model=... and so on)."""
    from fairplay.pipeline.grade_files import estimate_grading, grade_files
    from fairplay.pipeline.judge_files import JudgeFilesSettings, Task, estimate_files, judge_files
    from fairplay.pipeline.judge_refusals import refuse_capped

    if (protocol == GRADING) != (questions is not None) or (protocol == GRADING) == bool(baseline):
        raise SettingsError("judge: mt-bench takes --questions, every other protocol --baseline")
    if protocol == GRADING and trained_in:
        raise SettingsError("judge: --trained-in goes with --baseline; MT-Bench's questions have two turns")
    settings = build_settings(JudgeFilesSettings, apply_overrides({}, overrides), "--set")
    task = Task(protocol, outputs, baseline, orders, seed, trained_in)
    with stop_on_signals() as should_stop, resumable():
        if questions is not None and dry_run:
            document = estimate_grading(questions, Path(outputs), settings, out, seed=seed)
        elif questions is not None:
            document = grade_files(questions, Path(outputs), settings, out, seed=seed, should_stop=should_stop)
        elif dry_run:
            document = estimate_files(task, settings, out)
        else:
            document = judge_files(task, settings, out, should_stop=should_stop)
    if output is Format.json:
        print_json(document)
    elif dry_run:
        print_record(document)
    elif questions is not None:
        print_record(_grades_page(document, out))
    else:
        print_record(_page(document, out))
        for note in document["comparison"]["notes"]:
            print(f"- {note}")
    if output is Format.table and not dry_run:
        print_alarms(document["gates"], told=document["headline_withheld"])
    if not dry_run:
        refuse_capped(document, settings.judge, out)


def _grades_page(document: Mapping[str, Any], out: Path) -> dict[str, Any]:
    grades, bounds = document["grades"], document["worst_case"]

    def told(part: Mapping[str, Any]) -> str:
        return f"{part['rating']:.2f} [{part['rating_ci'][0]:.2f}, {part['rating_ci'][1]:.2f}]"

    headline = document["headline"]
    return {
        "policy": document["policy"],
        "judge": document["judge"],
        "grade": told(headline) if headline else f"withheld: {document['headline_withheld']}",
        "whatever the missing say": f"{bounds['low']:.2f} to {bounds['high']:.2f}",
        **{f"turn {name}": told(part) for name, part in document["turns"].items()},
        **{name or "no category": told(part) for name, part in document["categories"].items()},
        "answers": f"{grades['requested']} = {grades['ok']} graded + {grades['unanswered']} unanswered"
        + "".join(f" + {count} {reason}" for reason, count in grades["failures"].items()),
        "answered from the cache": document["account"]["cached"],
        "canaries": _canaries(document["gates"], "rating", lambda value: f"{value:.1f} of 10"),
        "partial": "yes, the cap was reached" if document["partial"] else "no",
        "written to": str(out),
    }


def _canaries(gates: Mapping[str, Any], what: str, told: Callable[[float], str]) -> str:
    """How each canary fared, and why others were not tried."""
    tried = [f"{one['canary']} {'?' if one[what] is None else told(one[what])}" for one in gates["canaries"]]
    left_out = [f"{name} not tried ({why})" for name, why in gates.get("canaries_left_out", {}).items()]
    return "; ".join([*tried, *left_out]) or "none"


def _left_out(sides: Mapping[str, Mapping[str, int]]) -> str:
    """Rows of either file that were not read, with the reasons."""
    told = [f"{count} of the {side} ({why})" for side, reasons in sides.items() for why, count in reasons.items()]
    return ", ".join(told) or "none"


def _marked(gates: Mapping[str, Any]) -> str:
    """How many marks for a judge either side's responses carry."""
    return ", ".join(
        f"{sum(one['markers'].values())} in {one['num_responses']} of the {one['policy']}'s responses"
        for one in gates["markers"]
    )


def _page(document: Mapping[str, Any], out: Path) -> dict[str, Any]:
    told, games, pairs = document["comparison"], document["games"], document["pairs"]
    page: dict[str, Any] = {"policy": told["policy"], "opponent": told["opponent"], "judge": told["judge"]}
    page |= headline_rows(document, told)
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
        "rows left out": _left_out(document["left_out"]),
        "answered from the cache": document["account"]["cached"],
        "tokens": document["account"]["prompt_tokens"] + document["account"]["completion_tokens"],
        "cost": document["account"]["cost"],
        "canaries": _canaries(document["gates"], "win_rate", lambda value: f"{100 * value:.1f} %"),
        "marks for a judge": _marked(document["gates"]),
        "partial": "yes, the cap was reached" if document["partial"] else "no",
        "written to": str(out),
    }
    return page
