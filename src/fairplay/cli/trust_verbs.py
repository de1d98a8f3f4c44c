"""`compare` and `verify`: whether two evaluations differ, and whether a run's numbers follow from its verdicts.

Left out: the comparison and the check (`pipeline/`). Floor 8.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from fairplay.cli.options import FORMAT, Format
from fairplay.cli.printing import print_json, print_record, print_table, rate
from fairplay.errors import DataError
from fairplay.wording import plural

MARGINS = {"logps": "log-prob", "mean_logps": "log-prob per token", "implicit_rewards": "implicit reward"}


def register(app: typer.Typer) -> None:
    """Put these verbs on the command line."""
    app.command()(compare)
    app.command()(verify)


def compare(
    sources: list[str] = typer.Argument(
        help="Two or more: a run (its last iterate), RUN@ITERATION, an offline training (@0: before it), a folder of "
        "`fairplay evaluate` or `fairplay judge`, or a file of verdicts or margins. Each is compared with the first."
    ),
    opponent: str = typer.Option("start", "--opponent", help="Of runs: against whom their iterates were judged."),
    role: str = typer.Option("judge", "--role", help="Of runs: whose verdicts, judge or oracle."),
    intersection: bool = typer.Option(
        False, "--intersection", help="Leave out prompts that only one has; else they are refused."
    ),
    num_bootstrap: int = typer.Option(2000, "--bootstrap", help="Resamples of the prompts behind each interval."),
    seed: int = typer.Option(0, "--seed", help="Seed of resamples and flips."),
    output: Format = FORMAT,
) -> None:
    """Paired comparison of evaluations on the same prompts: differences with intervals, tests by Holm."""
    from fairplay.pipeline import comparing

    settings = comparing.CompareSettings(opponent, role, intersection, num_bootstrap, seed)
    done = comparing.compare(sources, settings)
    if output is Format.json:
        print_json(done)
        return
    for one in done["differences"]:
        difference_page(one)
    tests = plural(done["family_size"], "test")
    print(f"p by Holm over the {tests} above; a difference is the second minus the first, in points")


def verify(
    folder: Path = typer.Argument(help="The folder of a run, a training, `fairplay evaluate` or `fairplay judge`."),
    output: Format = FORMAT,
) -> None:
    """Recompute every headline number from the raw verdicts and check every file's hash; exit code 3 on a mismatch."""
    from fairplay.pipeline.verifying import verify as check

    done = check(folder)
    if output is Format.json:
        print_json(done)
    else:
        rows = [("agrees" if one["agrees"] else "DIFFERS", one["what"], one["told"]) for one in done["checks"]]
        print_table(("", "what", ""), rows)
        wrong = sum(not one["agrees"] for one in done["checks"])
        differ = f", {wrong} {'does' if wrong == 1 else 'do'} not" if wrong else ""
        print(f"{len(rows) - wrong} of {len(rows)} checks agree{differ}")
    if not done["agrees"]:
        raise typer.Exit(DataError.exit_code)


def difference_page(one: Mapping[str, Any]) -> None:
    """One comparison: what is compared, and each quantity before, after, and its difference."""
    told = {"first": one["before"], "second": one["after"], "judge": one["judge"], "against": one["opponent"]}
    counts = f"{one['n']} in common, {one['only_before']} only in the first, {one['only_after']} only in the second"
    print_record({key: value for key, value in told.items() if value} | {"prompts or pairs": counts})
    rows, counted = [], []
    if found := one["verdicts"]:
        rows.append(("win rate", *_ends(found, "win_rate"), *_change(found["win_rate_change"])))
        points = _points(found["lc_win_rate_difference"], found["lc_win_rate_difference_ci"])
        rows.append(("length-controlled", *_ends(found, "lc_win_rate"), points, "", ""))
        rows.append(("mean length", f"{found['length_before']:.1f}", f"{found['length_after']:.1f}", "", "", ""))
        counted.append(("prompts", found["counts"]))
    if found := one["ratings"]:
        change = found["rating_change"]
        points = f"{change['difference']:+.2f} [{change['difference_ci'][0]:+.2f}, {change['difference_ci'][1]:+.2f}]"
        ends = (_grade(found, "rating_before"), _grade(found, "rating_after"))
        rows.append(("grade", *ends, points, f"{change['p_value']:.4f}", f"{change['p_value_holm']:.4f}"))
        counted.append(("questions", found["counts"]))
    for kind, found in one["accuracies"].items():
        rows.append((f"accuracy by {MARGINS[kind]}", *_ends(found, "accuracy"), *_change(found["accuracy_change"])))
        counted.append((f"pairs by {MARGINS[kind]}", found["counts"]))
    print_table(("", "first", "second", "difference", "p", "p by Holm"), rows)
    for what, of in counted:
        print(f"{what}: second better {of['wins']}, as good {of['ties']}, worse {of['losses']}")
    for note in one["notes"]:
        print(f"- {note}")
    print()


def _ends(one: Mapping[str, Any], key: str) -> tuple[str, str]:
    return rate(one[f"{key}_before"], one[f"{key}_before_ci"]), rate(one[f"{key}_after"], one[f"{key}_after_ci"])


def _grade(one: Mapping[str, Any], key: str) -> str:
    low, high = one[f"{key}_ci"]
    return f"{one[key]:.2f} [{low:.2f}, {high:.2f}]"


def _points(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def _change(change: Mapping[str, Any]) -> tuple[str, str, str]:
    points = _points(change["difference"], change["difference_ci"])
    return points, f"{change['p_value']:.4f}", f"{change['p_value_holm']:.4f}"
