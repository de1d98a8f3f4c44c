"""`benchmarks`: capability benchmarks of a checkpoint through lm-evaluation-harness, and what alignment cost.

Left out: the numbers (`evaluation.benchmarks`). Floor 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.options import FORMAT, Format
from fairplay.cli.printing import print_json, print_table, rate
from fairplay.errors import SettingsError
from fairplay.evaluation.benchmarks.settings import BACKENDS, BenchmarkSettings
from fairplay.pipeline.signals import stop_on_signals

_DEFAULTS = BenchmarkSettings()


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command()(benchmarks)


def benchmarks(
    model: str = typer.Argument(help="The checkpoint: a folder (also of a PEFT adapter) or a hub id."),
    start: str = typer.Option("", "--start", help="The policy it was aligned from; its differences are the tax."),
    tasks: list[str] = typer.Option(list(_DEFAULTS.tasks), "--task", help="A benchmark of the harness; repeat it."),
    shots: list[str] = typer.Option([], "--num-fewshot", metavar="TASK=N", help="Shots of a task; repeat it."),
    data: Path | None = typer.Option(None, "--data", help="Folder with a folder of data for each task (offline)."),
    limit: int = typer.Option(0, "--limit", min=0, help="Only the first so many items of each task; 0 for all."),
    chat: bool = typer.Option(False, "--apply-chat-template", help="Put items as a user's turn."),
    backend: str = typer.Option(_DEFAULTS.backend, "--backend", help=f"Who computes: {', '.join(BACKENDS)}."),
    dtype: str = typer.Option(_DEFAULTS.dtype, "--dtype", help="Type of the weights."),
    device: str = typer.Option("", "--device", help="Such as cuda:1; by default cuda if there is one."),
    batch_size: int = typer.Option(_DEFAULTS.batch_size, "--batch-size", min=1, help="Items computed together."),
    out: Path = typer.Option(Path("runs/benchmarks"), "--out", help="Folder of the results; run again to resume."),
    seed: int = typer.Option(0, "--seed", help="Seed of the bootstrap."),
    output: Format = FORMAT,
) -> None:
    """GSM8K, IFEval, PiQA, MMLU, TruthfulQA through lm-evaluation-harness, with intervals and differences."""
    settings = replace(
        _DEFAULTS,
        tasks=tuple(tasks),
        num_fewshot=dict(_shots(one) for one in shots),
        data=str(data or ""),
        limit=limit,
        apply_chat_template=chat,
        backend=backend,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
    )
    from fairplay.evaluation.benchmarks.results import alignment_tax, run_benchmarks
    from fairplay.pipeline.results import titled, write_results

    with stop_on_signals() as should_stop:
        document = run_benchmarks(model, settings, out / "model", seed=seed, should_stop=should_stop)
        if start:
            first = run_benchmarks(start, settings, out / "start", seed=seed, should_stop=should_stop)
            document |= {
                "start": first,
                "alignment_tax": alignment_tax(
                    out / "model", out / "start", tasks, num_bootstrap=settings.num_bootstrap, seed=seed
                ),
            }
        document = titled("benchmarks", document)
        write_results(out, document)
    if output is Format.json:
        print_json(document)
    else:
        _print(document)


def _shots(text: str) -> tuple[str, int]:
    task, mark, number = text.partition("=")
    if not (mark and number.isdecimal()):
        raise SettingsError(f"--num-fewshot {text}: not TASK=N", hint="such as --num-fewshot gsm8k=8")
    return task, int(number)


def _print(document: Mapping[str, Any]) -> None:
    rows = [
        (
            row["task"],
            row["what"],
            rate(row["value"], row["value_ci"]),
            row["n"],
            row["num_fewshot"],
            row["num_truncated"],
        )
        for row in document["benchmarks"]
    ]
    print_table(("benchmark", "number", "value", "items", "shots", "cut"), rows, title=document["model"])
    if "alignment_tax" in document:
        print_table(("benchmark", "difference", "from", "to"), tax_rows(document["alignment_tax"]), title="since start")


def tax_rows(tax: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Each benchmark's difference in points with its interval, and both values in per cent."""
    return [
        (
            row["task"],
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in (row["difference"], *row["difference_ci"]))),
            f"{100 * row['theirs']:.1f} %",
            f"{100 * row['ours']:.1f} %",
        )
        for row in tax
    ]
