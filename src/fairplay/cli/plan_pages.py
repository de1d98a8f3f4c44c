"""How a plan is printed: the counts, a table of the stages, and what the numbers rest on.

Left out: the plan (`pipeline.planning`). Floor 8.
"""

import sys
from typing import TYPE_CHECKING, Any

from fairplay.cli.options import Format
from fairplay.cli.printing import print_json, print_table
from fairplay.errors import ResourceError, ServiceError, SettingsError
from fairplay.pipeline.planning.wording import duration, size

if TYPE_CHECKING:
    from fairplay.pipeline.planning.clock import Rates
    from fairplay.pipeline.settings import RunSettings

_COUNTS = ("model", "objective", "iterations", "usable_prompts", "prompts_left_out", "prompts_per_iteration",
           "held_out_prompts")  # fmt: skip


def print_plan(settings: "RunSettings", output: Format, *, rates: "Rates | None", hardware: str) -> None:
    """Check a run's settings and print its plan.

    Args:
        settings: The run's settings.
        output: Table or JSON.
        rates: How fast this machine is, if it was measured.
        hardware: `NAME[:N]` or empty.

    Raises:
        SettingsError: If the settings don't fit together, or the hardware is not known.
    """
    from fairplay.pipeline.loop import check_settings
    from fairplay.pipeline.planning.clock import Place
    from fairplay.pipeline.planning.plan import read_counts, run_plan, stated_counts

    try:
        check_settings(settings)
    except ServiceError as error:  # a plan can be made without the hub; the run itself will ask for it
        print(f"not checked: {error.message}", file=sys.stderr)
    try:
        counts = read_counts(settings)
    except (ServiceError, ResourceError) as error:
        stated = stated_counts(settings)
        if stated is None:
            raise
        print(f"not checked: {error.message}", file=sys.stderr)
        counts = stated
    name, _, number = hardware.partition(":")
    if number and not number.isdecimal():
        raise SettingsError(f"--hardware {hardware}: not NAME or NAME:N", hint="such as --hardware h100:8")
    plan = run_plan(settings, counts=counts, rates=rates, place=Place(name, int(number or 1)) if hardware else None)
    if output is Format.json:
        print_json(plan)
        return
    told = [(key.replace("_", " "), "not read" if plan[key] is None else plan[key]) for key in _COUNTS]
    print_table(("what", "how much"), [*told, ("verdicts on canaries", plan["gates"]["count"])])
    columns = ("stage", "count", "of", "tokens", "forward passes", "time", "disk")
    for title, rows in (("one iteration", plan["stages"]), ("once", [plan["start"], plan["gates"], plan["game"]])):
        print_table(columns, [_row(row) for row in rows if row["count"]], title=f"\n{title}")
    memory = plan["memory"]
    print_table(
        ("the whole run", ""),
        [
            ("time", _time(plan)),
            ("disk", size(plan["disk"])),
            *([("questions to chat servers", f"{plan['questions']:,}")] if plan["questions"] else []),
            ("memory of training, each accelerator", size(memory["training"])),
            ("memory there", size(memory["there"])),
        ],
        title="",
    )
    if memory["training"] and memory["there"] and memory["training"] > memory["there"]:
        print("too little memory: lower the micro-batch, set training.gradient_checkpointing, or training.use_peft")
    for sentence in plan["assumptions"]:
        print(f"- {sentence}")


def _time(plan: dict[str, Any]) -> str:
    """The time of all stages; what is not in it is named."""
    missing = plan["without_time"]
    if plan["seconds"] is None or not missing:
        return duration(plan["seconds"])
    return f"at least {duration(plan['seconds'])}, without {', '.join(missing)}: that time is not known"


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["stage"],
        row["count"],
        row["unit"],
        f"{row['tokens']:.3g}",
        f"{row['passes']:.0f}",
        duration(row["seconds"]),
        size(row["disk"]),
    )
