"""Further tables of a run's report: what alignment cost elsewhere, and the plan beside what happened.

Left out: the report's own tables (`reports/`). Floor 7.
"""

import json
from collections.abc import Iterator
from typing import Any

from fairplay.pipeline.benchmark_stage import benchmark_results
from fairplay.pipeline.context import RESPONSES, WORKERS_NAME, RunContext
from fairplay.pipeline.planning.plan import PLAN_NAME
from fairplay.pipeline.planning.wording import duration, size
from fairplay.reports.contents import PlainTable


def report_tables(context: RunContext) -> tuple[PlainTable, ...]:
    """The tables of a finished run that has them."""
    return (*_benchmarks(context), *_plan(context), *_workers(context))


def _benchmarks(context: RunContext) -> Iterator[PlainTable]:
    found = benchmark_results(context)
    if not found:
        return
    rows = tuple(
        (
            f"{row['task']}: {row['what']}",
            f"{row['num_fewshot']}",
            f"{100 * row['theirs']:.1f} %",
            f"{100 * row['ours']:.1f} %",
            f"{100 * row['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            f"{row['n']}",
        )
        for row in found
        for low, high in (row["difference_ci"],)
    )
    yield PlainTable(
        "benchmarks",
        "What alignment cost elsewhere",
        "Capability benchmarks by lm-evaluation-harness, on the start policy and on the last iterate. The change is "
        "in points, item by item, with its 95 % interval; where that holds 0, nothing is shown either way.",
        ("benchmark", "shots", "start", "last", "change", "items"),
        rows,
    )


def _plan(context: RunContext) -> Iterator[PlainTable]:
    path = context.run.path / PLAN_NAME
    if not path.is_file():
        return
    plan = json.loads(path.read_text(encoding="utf-8"))
    last = int(plan["iterations"])
    rows = tuple(
        row
        for work, times in [*((stage, last) for stage in plan["stages"]), (plan["game"], 1)]
        if (row := _planned(context, work, times))
    )
    drawn = [context.run.manifest(iteration, RESPONSES) for iteration in range(1, last + 1)]
    number = sum(int(manifest.results["num_responses"]) for manifest in drawn)
    length = sum(manifest.tokens for manifest in drawn) / max(number, 1)
    yield PlainTable(
        "plan",
        "The plan, and what happened",
        f"All iterations together. The plan rests on {'; '.join(plan['assumptions'])}. "
        f"Responses had {length:.0f} tokens.",
        ("stage", "time planned", "time taken", "disk planned", "disk taken"),
        rows,
    )


def _workers(context: RunContext) -> Iterator[PlainTable]:
    path = context.run.path / WORKERS_NAME
    if not path.is_file():
        return
    done = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = tuple(
        (
            one["folder"],
            f"{one['num_done']} of {one['num_shards']}",
            f"{one['num_workers']}",
            ", ".join(one["nodes"]),
            f"{one['num_deaths']}",
            duration(one["seconds"]),
        )
        for one in done
    )
    yield PlainTable(
        "workers",
        "The workers",
        "What Ray's workers did, a line for each time that they were started. A worker that died cost time, and no "
        "response: its shard was done anew.",
        ("where", "shards", "workers", "machines", "died", "time"),
        rows,
    )


def _planned(context: RunContext, work: dict[str, Any], times: int) -> tuple[str, ...]:
    done = [
        (folder, one) for folder, one in context.run.manifests() if one.stage == work["stage"] and one.iteration > 0
    ]
    if not (work["count"] and done):
        return ()
    return (
        work["stage"],
        duration(None if work["seconds"] is None else times * work["seconds"]),
        duration(sum(manifest.seconds for _, manifest in done)),
        size(times * work["disk"]),
        size(sum(path.stat().st_size for folder, _ in done for path in folder.rglob("*") if path.is_file())),
    )
