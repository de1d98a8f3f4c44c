"""`demo`, `run` and `report`: the whole loop, and its page.

Left out: single stages (`stage_verbs.py`). Floor 8; torch is imported when a verb runs.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fairplay.cli.options import FORMAT, NPROC, SEED, SET, Format
from fairplay.cli.plan_pages import print_plan
from fairplay.cli.printing import print_json, print_table, rate
from fairplay.cli.stage_pages import print_alarms
from fairplay.cli.workers import are_wanted, run_workers
from fairplay.errors import Preempted, SettingsError
from fairplay.headline import missing_fault
from fairplay.pipeline.signals import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairplay.pipeline.planning.clock import Rates
    from fairplay.pipeline.settings import RunSettings
    from fairplay.storage.run_directory import RunDirectory


_ADVICE = {
    "go on": "go on, the last one beats the one before",
    "no progress": "no progress, the last one may be no better than the one before",
    "stop": "stop, training goes backwards or in circles",
}


def register(app: typer.Typer) -> None:
    """Put these verbs on the command line."""
    app.command()(demo)
    app.command()(run)
    app.command()(report)


def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", help="The run's folder; run again to resume."),
    seed: int = typer.Option(0, "--seed", help="Every random draw comes from it, the world's too."),
    short: bool = typer.Option(
        False, "--short", help="Half the training of the starter: about a minute, a worse policy."
    ),
    length_love: float = typer.Option(
        0.0, "--length-love", help="How much the oracle's annotators love long responses."
    ),
    overrides: list[str] = SET,
    fork: bool = typer.Option(False, "--fork", help="Start a new run beside --out that keeps what still fits."),
    output: Format = FORMAT,
) -> None:
    """The whole loop on the embedded world, on a CPU, in minutes."""
    with stop_on_signals() as should_stop, resumable() as resume:
        from fairplay.pipeline.demo import demo_settings
        from fairplay.storage.run_directory import RunDirectory

        if fork:
            RunDirectory(out).check_started()
        settings = demo_settings(
            out, seed=seed, short=short, length_love=length_love, overrides=overrides, should_stop=should_stop
        )
        _run(settings, out, resume if fork else None, output=output, should_stop=should_stop)


def run(
    recipe: Path = typer.Argument(help="A recipe: one YAML file with everything that decides the result."),
    overrides: list[str] = SET,
    out: Path | None = typer.Option(
        None, "--out", help="The run's folder, by default runs/<name>; run again to resume."
    ),
    seed: int | None = SEED,
    fork: bool = typer.Option(False, "--fork", help="Start a new run beside --out that keeps what still fits."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check the recipe and its data, print the plan, run nothing."
    ),
    calibrate: int = typer.Option(
        0, "--calibrate", min=0, metavar="N", help="First measure this machine on N prompts of the recipe (16 will do)."
    ),
    hardware: str = typer.Option(
        "", "--hardware", metavar="NAME[:N]", help="With --dry-run: hours and memory on N of a100, h100, h200."
    ),
    nproc_per_node: int = NPROC,
    output: Format = FORMAT,
) -> None:
    """The whole self-play loop of a recipe; run again to resume."""
    if are_wanted(nproc_per_node) and not dry_run:
        raise typer.Exit(run_workers(sys.argv[1:], nproc_per_node))
    with stop_on_signals() as should_stop, resumable() as resume:
        from fairplay.pipeline.settings import read_run_settings

        settings = read_run_settings(recipe, [*overrides, *([] if seed is None else [f"seed={seed}"])])
        if hardware and (calibrate or not dry_run):
            raise SettingsError("--hardware goes with --dry-run, and without --calibrate")
        rates = None
        if calibrate:
            from fairplay.pipeline.loop import check_settings
            from fairplay.pipeline.planning.calibration import calibrate as measure

            check_settings(settings)
            rates = measure(settings, num_prompts=calibrate, should_stop=should_stop)
        if dry_run:
            print_plan(settings, output, rates=rates, hardware=hardware)
        else:
            place = out or Path("runs") / settings.name
            _run(settings, place, resume if fork else None, output=output, should_stop=should_stop, rates=rates)


def report(
    folder: Path = typer.Argument(help="The folder of a finished run."),
    output: Format = FORMAT,
) -> None:
    """Write a finished run's report and results again, and print them."""
    from fairplay.pipeline.loop import rewrite_report

    _print_run(folder, rewrite_report(folder), output)


def _run(
    settings: "RunSettings",
    out: Path,
    fork: "Resume | None",
    *,
    output: Format,
    should_stop: "Callable[[], bool]",
    rates: "Rates | None" = None,
) -> None:
    from fairplay.pipeline.loop import check_settings, run_loop
    from fairplay.storage.run_directory import RunDirectory

    check_settings(settings)
    directory = fork.fork(RunDirectory(out)) if fork else RunDirectory(out)
    page = run_loop(settings, directory, should_stop=should_stop, rates=rates)
    _print_run(directory.path, page, output)


def _print_run(folder: Path, page: Path, output: Format) -> None:
    from fairplay.pipeline.results import read_results

    results = read_results(folder, ("run",))
    if output is Format.json:
        print_json({**results, "report": str(page)})
        return
    rows = [_row(row["iteration"], opponent, row) for row in results["iterations"] for opponent in _opponents(row)]
    columns = ("iteration", "against", "win rate by the judge", "length-controlled", "by the training oracle", "length")
    first = results["iterations"][0]
    print("objective:", " ".join(f"{key}={value}" for key, value in results["objective"].items()))
    print_table(columns, rows, title=f"{results['name']}, seed {results['seed']}, {first['n']} held-out prompts")
    if game := results["checkpoints"]:
        low = 100 * game["exploitability_low"]
        beaten = f", {game['exploiter']} beats the last one by {low:.1f} points or more" if low > 0 else ""
        print(f"all checkpoints against each other: {_ADVICE[game['advice']]}{beaten}")
    print_alarms(results["gates"])
    print(f"judge: {first['judge']}; brackets are 95 % intervals over prompts, lengths are means\nreport: {page}")


def _opponents(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(item["opponent"] for item in row["comparisons"]))


def _row(iteration: int, opponent: str, row: dict[str, Any]) -> tuple[object, ...]:
    by = {item["role"]: item for item in row["comparisons"] if item["opponent"] == opponent}
    judge, oracle = by["judge"], by["oracle"]
    return (
        iteration,
        opponent,
        _told(judge, "win_rate"),
        _told(judge, "lc_win_rate"),
        _told(oracle, "win_rate"),
        f"{judge['mean_length']:.1f} : {judge['opponent_mean_length']:.1f}",
    )


def _told(comparison: Mapping[str, Any], name: str) -> str:
    """A win rate, unless too many verdicts are missing; alarms of canaries stand below the table."""
    if missing_fault(comparison.get("missing_share", 0.0)):
        return f"withheld: {100 * comparison['missing_share']:.1f} % missing"
    return rate(comparison[name], comparison[f"{name}_ci"])


class Resume:
    """The command that goes on with what this process began."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    def __str__(self) -> str:
        return shlex.join(["fairplay", *self.arguments])

    def fork(self, run: "RunDirectory") -> "RunDirectory":
        """Fork a run and say where; the command goes on with the fork from now on."""
        forked = run.fork()
        self.arguments = in_fork(self.arguments, forked.path)
        print(f"forked {run.path} to {forked.path}; if this stops, resume with: {self}", file=sys.stderr)
        return forked


def in_fork(arguments: list[str], folder: Path) -> list[str]:
    """The arguments with `--out FOLDER` where `--fork` was."""
    kept: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before != "--out" and argument != "--out" and not argument.startswith("--out="):
            kept += ["--out", str(folder)] if argument == "--fork" else [argument]
    return kept


@contextmanager
def resumable() -> Iterator[Resume]:
    """Add to a clean stop the command that resumes."""
    resume = Resume(sys.argv[1:])
    try:
        yield resume
    except Preempted as stop:
        raise Preempted(f"{stop.message}\nresume with: {resume}") from stop
