"""Options that several verbs share.

Left out: options of one verb alone. Floor 8; imports no torch.
"""

from enum import StrEnum

import typer


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


FORMAT = typer.Option(Format.table, "--format", help="Print results as a table, or as JSON on stdout.")
SET = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Override a setting, such as training.learning_rate=1e-6; or lay a file over it: @FILE.",
)
NPROC = typer.Option(
    1,
    "--nproc-per-node",
    min=1,
    help="Processes on this machine that train together, weights spread over them: one for each GPU.",
)
SEED = typer.Option(None, "--seed", help="The run's seed; every random draw comes from it.")
