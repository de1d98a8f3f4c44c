"""`combine`: one policy of several, without training.

Left out: how (`pipeline.combined`). Floor 8.
"""

from pathlib import Path

import typer

from fairplay.cli.options import FORMAT, SET, Format
from fairplay.cli.printing import print_json, print_table
from fairplay.errors import SettingsError


def register(app: typer.Typer) -> None:
    """Put this verb on the command line."""
    app.command()(combine)


def combine(
    models: list[str] | None = typer.Argument(None, help="Two models or more, in order; or name a run with --run."),
    out: Path = typer.Option(..., "--out", help="Folder of the policy that is made."),
    run: Path | None = typer.Option(None, "--run", help="The start and all iterates of this finished run."),
    weights: str = typer.Option(
        "", "--weights", help="0.5,0.5: one a model; with --run also uniform (the default, iterates alone) or nash."
    ),
    extrapolate: float | None = typer.Option(
        None, "--extrapolate", metavar="ALPHA", help="Of two models, start and aligned: go ALPHA beyond (ExPO)."
    ),
    mixture: bool = typer.Option(False, "--mixture", help="Draw each response from one of them; weights stay apart."),
    overrides: list[str] = SET,
    output: Format = FORMAT,
) -> None:
    """One policy of several: average of weights, extrapolation beyond the aligned one (ExPO), or a mixture."""
    from fairplay.pipeline.combined import UNIFORM, CombineSettings, checkpoints_of, weights_of
    from fairplay.pipeline.combined import combine as make
    from fairplay.storage.settings_file import apply_overrides, build_settings

    chosen = list(models or ())
    if bool(chosen) == (run is not None):
        raise SettingsError("combine: name models, or a run with --run")
    if extrapolate is not None:
        shares = _extrapolated(chosen, extrapolate, mixture=mixture, weights=weights)
    elif run is not None and not weights[:1].isdigit():
        chosen, shares = checkpoints_of(run), weights_of(run, weights or UNIFORM)
    else:
        chosen = chosen or checkpoints_of(Path(str(run)))
        shares = _numbers(weights) if weights else [1 / len(chosen)] * len(chosen)
    settings = build_settings(CombineSettings, apply_overrides({}, overrides), "--set")
    made = make(chosen, shares, out, settings.loading, mixture=mixture)
    if output is Format.json:
        print_json(made)
        return
    rows = [(member["model"], f"{member['weight']:g}") for member in made["members"]]
    print_table(("model", "weight"), rows, title=f"{made['kind']}: {made['output']}")


def _extrapolated(models: list[str], alpha: float, *, mixture: bool, weights: str) -> list[float]:
    from fairplay.models.combining import extrapolation

    if len(models) != 2 or mixture or weights:
        raise SettingsError("combine: --extrapolate takes two models, start and aligned, and no --weights or --mixture")
    return list(extrapolation(alpha))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--weights {text}: not a list of numbers", hint="such as 0.5,0.5") from error
