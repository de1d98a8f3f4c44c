"""`answers`: a model's answers to benchmarks' questions, in the benchmarks' own files.

Left out: judging them (`judge_verb.py`). Floor 8; torch is imported when the verb runs.
"""

from pathlib import Path

import typer

from fairplay.cli.loop_verbs import resumable
from fairplay.cli.options import FORMAT, SET, Format
from fairplay.cli.printing import print_json, print_record
from fairplay.errors import SettingsError
from fairplay.pipeline.signals import stop_on_signals
from fairplay.storage.settings_file import apply_overrides


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command()(answers)


def answers(
    model: str = typer.Option(..., "--model", help="Who answers: a folder or a hub id."),
    questions: list[str] = typer.Option(
        ..., "--questions", metavar="BENCHMARK=FILE", help="alpaca-eval, arena-hard, mt-bench, hh, tldr; repeat it."
    ),
    family: str = typer.Option(
        "", "--decoding", help="As whose paper samples: sppo, simpo-llama3, ...; for alpaca-eval, hh and tldr."
    ),
    name: str = typer.Option("", "--name", help="What the model is called in the files; by default its folder's name."),
    out: Path = typer.Option(Path("runs/answers"), "--out", help="Folder of the files; run again to resume."),
    seed: int = typer.Option(0, "--seed", help="Every sample's seed is a hash that begins with it."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """Answer benchmarks' questions as their papers decode (--set generation.batch_size=8 and so on)."""
    files = dict(map(_benchmark, questions))
    with stop_on_signals() as should_stop, resumable():
        from fairplay.pipeline.answers import Answering, answer_benchmarks, answer_settings

        settings = answer_settings(apply_overrides({}, overrides), "--set")
        called = name or Path(model).name
        answering = Answering(model, called, family, seed, out, settings, should_stop)
        done = answer_benchmarks(answering, files)
    print_json(done) if output is Format.json else print_record(done)


def _benchmark(given: str) -> tuple[str, Path]:
    benchmark, equals, path = given.partition("=")
    if not equals or not path:
        raise SettingsError(f"answers: --questions {given}: expected BENCHMARK=FILE")
    return benchmark, Path(path).expanduser()
