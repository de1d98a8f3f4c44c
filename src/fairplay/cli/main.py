"""The `fairplay` command: its verbs, its exit codes, and how errors are told.

Left out: what the verbs do (each calls into a lower floor), and torch (a verb imports it when it needs it). Floor 8.
"""

import io
import os
import sys

import typer
from typer.main import get_command

from fairplay import __version__
from fairplay.cli import (
    alpaca_eval_verb,
    answers_verb,
    audit_verbs,
    benchmark_verb,
    combine_verb,
    data_verbs,
    judge_verb,
    loop_verbs,
    oracle_verbs,
    stage_verbs,
    trust_verbs,
)
from fairplay.cli.logs import show_log
from fairplay.errors import FairplayError, Preempted
from fairplay.servers.ledger import one_command

app = typer.Typer(
    name="fairplay",
    help="Align language models by self-play and preference optimisation, and judge them fairly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 ok, 2 settings, 3 data, 4 resource, 5 external service, 6 locked, 75 stopped and resumable.",
)
INTERRUPTED = 130  # what shells report for Ctrl-C in a verb that has nothing to resume
_EVALUATION = (answers_verb, judge_verb, alpaca_eval_verb, benchmark_verb, trust_verbs)
for module in (loop_verbs, stage_verbs, oracle_verbs, combine_verb, *_EVALUATION, audit_verbs, data_verbs):
    module.register(app)


def _tell_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Tell more on stderr."),
    version: bool = typer.Option(False, "--version", callback=_tell_version, is_eager=True, help="Print the version."),
) -> None:
    """Align language models by self-play and preference optimisation, and judge them fairly."""
    show_log(verbose=verbose)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that says what happened.

    Where there are several processes (`--nproc-per-node`, torchrun), the first one runs it, and the others join in
    where it trains.
    """
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of few letters gets escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(run(given))
    from fairplay.training.crew import run_together

    try:
        code = run_together(lambda: run(given))
    except FairplayError as error:  # before the command began, in all of them alike
        if os.environ["RANK"] == "0":
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of a command line; every error that fairplay raises on purpose is one line and a hint on stderr."""
    try:
        with one_command():
            result = get_command(app).main(args=arguments, prog_name="fairplay", standalone_mode=False)
        if result == INTERRUPTED:  # typer turns Ctrl-C into this code, and says nothing
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except FairplayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # click's own exceptions know their message and exit code; anything else is a defect and keeps its traceback.
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if callable(show) and isinstance(code, int):
            show()
            return code
        raise
