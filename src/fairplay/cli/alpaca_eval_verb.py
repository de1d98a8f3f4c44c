"""`alpaca-eval`: AlpacaEval 2's numbers from existing annotations.

Left out: the numbers (`evaluation.alpaca_eval`). Floor 8.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.options import FORMAT, Format
from fairplay.cli.printing import print_json, print_table
from fairplay.errors import SettingsError
from fairplay.evaluation.alpaca_eval.settings import LOOK_UPS, OFFICIAL_JUDGE, VARIANTS, AlpacaEvalSettings


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command(name="alpaca-eval")(alpaca_eval)


def alpaca_eval(
    files: list[Path] = typer.Argument(help="annotations.json, model_outputs.json, or tables of annotations."),
    difficulty: Path | None = typer.Option(
        None, "--difficulty", help="Instruction difficulties; else from --gamed, an installed alpaca_eval, or the hub."
    ),
    gamed: Path | None = typer.Option(
        None, "--gamed", help="Rows of the gamed baselines (v1); else from an installed alpaca_eval, or the hub."
    ),
    variant: str = typer.Option("v1", "--lc", help=f"The length control: {', '.join(VARIANTS)}."),
    cost: float | None = typer.Option(None, "--C", help="Weight of the data against the L1 penalty."),
    cross_validate: bool = typer.Option(False, "--cv", help="Choose C by cross-validation; so it is without --C."),
    look_up: str = typer.Option("instruction", "--difficulty-by", help=f"How rows find theirs: {', '.join(LOOK_UPS)}."),
    against: list[str] = typer.Option([], "--against", help="Also predict win rates against this model; repeat it."),
    weights: Path | None = typer.Option(
        None, "--weights", help="Published coefficients, to predict win rates against models that are not in the files."
    ),
    fit_difficulty: Path | None = typer.Option(
        None, "--fit-difficulty", help="Fit difficulties to all models of these files, write them here, and use them."
    ),
    leaderboard: Path | None = typer.Option(
        None, "--leaderboard", help="Show the results among these: the authors' csv, or an earlier --format json."
    ),
    num_bootstrap: int = typer.Option(1000, "--bootstrap", min=0, help="Resamples behind each interval; 0 for none."),
    seed: int = typer.Option(0, "--seed", help="Seed of the resamples."),
    output: Format = FORMAT,
) -> None:
    """AlpacaEval 2 from annotations: win rate, length-controlled win rate, and their 95 % intervals, model by model."""
    _check_cost(cost, cross_validate=cross_validate)
    _check_fit(fit_difficulty, difficulty, variant)
    settings = AlpacaEvalSettings(variant, cost or 0.0, look_up, num_bootstrap, seed)
    from fairplay.evaluation.alpaca_eval.difficulty_fit import fit_difficulties
    from fairplay.evaluation.alpaca_eval.documents import result_document
    from fairplay.evaluation.alpaca_eval.inputs import load_inputs, write_difficulties
    from fairplay.evaluation.alpaca_eval.leaderboard import merged, read_leaderboard
    from fairplay.evaluation.alpaca_eval.predicted import (
        predicted_intervals,
        predicted_win_rates,
        read_weights,
    )
    from fairplay.evaluation.alpaca_eval.reading import read_annotations
    from fairplay.evaluation.alpaca_eval.results import evaluate_models

    others = read_leaderboard(leaderboard) if leaderboard else []
    models = read_annotations(files)
    if fit_difficulty:
        write_difficulties(fit_difficulty, fit_difficulties(models))
    inputs = load_inputs(VARIANTS[variant], difficulty=fit_difficulty or difficulty, gamed=gamed)
    results = evaluate_models(models, inputs, settings)
    published = read_weights(weights, judge=models[0].judge or OFFICIAL_JUDGE) if weights else {}
    predicted = predicted_win_rates(results, list(inputs.difficulties.values()), against, published)
    intervals = predicted_intervals(results, predicted, inputs, settings)
    documents = [
        result_document(result, inputs, settings, rates, ends)
        for result, rates, ends in zip(results, predicted, intervals, strict=True)
    ]
    documents = merged(documents, others)
    if output is Format.json:
        print_json(documents)
    else:
        _print_leaderboards(documents, variant)


def _check_cost(cost: float | None, *, cross_validate: bool) -> None:
    if cost is not None and cross_validate:
        raise SettingsError("alpaca-eval: --C states C and --cv chooses it; give one of them")
    if cost is not None and cost <= 0:
        raise SettingsError(f"alpaca-eval: --C {cost:g} is not a positive number")


def _check_fit(fit_difficulty: Path | None, difficulty: Path | None, variant: str) -> None:
    if fit_difficulty and (difficulty or variant != "noreg"):
        raise SettingsError(
            "alpaca-eval: --fit-difficulty goes with --lc noreg and without --difficulty",
            hint="the gamed rows of v1 belong to the official difficulties, and `minimal` has none",
        )
    if fit_difficulty and fit_difficulty.suffix != ".csv":
        raise SettingsError(
            f"alpaca-eval: --fit-difficulty {fit_difficulty}: it writes a csv; give a name that ends so"
        )


def _print_leaderboards(documents: Sequence[Mapping[str, Any]], variant: str) -> None:
    from fairplay.evaluation.alpaca_eval.documents import LEADERBOARD, leaderboard_rows

    for judge in dict.fromkeys(result["judge"] for result in documents):
        title = f"length control {variant}, rates in per cent" + (f", judge {judge}" if judge else "")
        judged = [result for result in documents if result["judge"] == judge]
        print_table(LEADERBOARD, leaderboard_rows(judged), title=title)
    for result in documents:
        for name, rate in result.get("predicted_win_rates", {}).items():
            if rate is not None:
                ends = result["predicted_win_rates_ci"][name]
                told = f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""
                print(f"{result['model']} against {name}: {rate:.2f}{told} predicted")
        for note in result["notes"]:
            print(f"- {result['model']}: {note}")
