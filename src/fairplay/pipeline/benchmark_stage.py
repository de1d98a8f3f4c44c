"""After the last iteration: capability benchmarks of the start policy and the last iterate; the gap is the tax.

Left out: the benchmarks (`evaluation/benchmarks/`). Floor 7.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairplay.evaluation.benchmarks.results import alignment_tax, run_benchmarks
from fairplay.evaluation.benchmarks.table import BENCHMARKS
from fairplay.pipeline.context import RunContext, free_memory
from fairplay.seeds import stable_seed
from fairplay.storage.manifest import Manifest, is_finished
from fairplay.storage.run_directory import Stage, StageOutcome

BENCHMARK = "8-benchmarks"


def benchmark_stage(context: RunContext, iteration: int) -> Manifest:
    """Run the benchmarks of the recipe on the policy that an iteration ended with; 0 is the start."""
    chosen = context.settings.benchmarks
    seed = stable_seed(context.settings.seed, "bootstrap")

    def fill(folder: Path) -> StageOutcome:
        document = run_benchmarks(context.policy(iteration), chosen, folder, seed=seed, should_stop=context.should_stop)
        free_memory()
        number = sum(row["n"] for row in document["benchmarks"])
        return StageOutcome(number, number, {}, {key: document[key] for key in ("versions", "benchmarks")})

    decisive = {key: value for key, value in asdict(chosen).items() if key not in ("data", "batch_size", "device")}
    inputs = {"policy": context.policy_digest(iteration)}
    for task in chosen.tasks if chosen.data else ():
        inputs[task] = context.digest(str(Path(chosen.data) / task))
    return context.run.run_stage(Stage(BENCHMARK, iteration, {**decisive, "seed": seed}, inputs), fill)


def benchmark_stages(context: RunContext) -> None:
    """The stage of the start policy and of the last iterate, where the recipe names benchmarks."""
    for iteration in (0, context.settings.num_iterations) if context.settings.benchmarks.tasks else ():
        benchmark_stage(context, iteration)


def benchmark_results(context: RunContext) -> list[dict[str, Any]]:
    """Each benchmark's values at both ends and their paired difference; empty where none was run."""
    last = context.settings.num_iterations
    folders = [context.run.folder(iteration, BENCHMARK) for iteration in (last, 0)]
    if not (context.settings.benchmarks.tasks and all(is_finished(folder) for folder in folders)):
        return []
    rows = alignment_tax(
        folders[0],
        folders[1],
        context.settings.benchmarks.tasks,
        num_bootstrap=context.settings.benchmarks.num_bootstrap,
        seed=stable_seed(context.settings.seed, "bootstrap"),
    )
    records = {row["task"]: row for row in context.run.manifest(last, BENCHMARK).results["benchmarks"]}
    kept = ("metric", "filter", "num_fewshot", "num_truncated", "task_version")
    return [
        {
            **row,
            "what": BENCHMARKS[row["task"]].what if row["task"] in BENCHMARKS else records[row["task"]]["metric"],
            **{key: records[row["task"]][key] for key in kept},
        }
        for row in rows
    ]
