"""How fast this machine is at a recipe: its first iteration in small, twice, and a line through the two.

Left out: what the rates are used for (`plan.py`). Floor 7; it writes to a temporary folder only.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fairplay.cluster.settings import ClusterSettings
from fairplay.pipeline.context import (
    CHECKPOINT,
    EVALUATION,
    EXAMPLES,
    GATES,
    PREFERENCES,
    PROMPTS,
    RESPONSES,
    RunContext,
)
from fairplay.pipeline.evaluate_stage import held_out_prompts
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.planning.clock import Rates
from fairplay.pipeline.planning.work import START, Lengths, comparisons, gates_work
from fairplay.pipeline.settings import RunSettings
from fairplay.pipeline.stages import training_prompts
from fairplay.records import ResponseGroup
from fairplay.storage.manifest import Manifest
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.shards import read_parts

logger = logging.getLogger(__name__)
STAGES = {name: (1, name) for name in (PROMPTS, RESPONSES, PREFERENCES, EXAMPLES, CHECKPOINT, EVALUATION)} | {
    START: (0, EVALUATION),
    GATES: (0, GATES),
}
"""What is timed: name in a plan -> iteration and stage."""


def calibrate(settings: RunSettings, *, num_prompts: int, should_stop: Callable[[], bool]) -> Rates:
    """Run the recipe up to its first iteration on a quarter of `num_prompts` prompts, then on all, and time the stages.

    Two sizes tell what a stage costs once (loading a model) from what it costs for each of its items.

    Args:
        settings: The run's settings.
        num_prompts: Prompts of the larger of the two, at least 4.
        should_stop: Asked at every commit.

    Raises:
        DataError: If there are too few prompts.
        Preempted: If `should_stop` said so.
    """
    context = RunContext(RunDirectory(Path("plan")), settings, should_stop)
    most = min(num_prompts, len(training_prompts(context)[0]), len(held_out_prompts(context)))
    sizes = max(1, most // 4), most
    with TemporaryDirectory(prefix="fairplay-calibration-") as folder:
        found = [_measure(settings, size, Path(folder) / str(size), should_stop) for size in sizes]
        groups = read_parts(Path(folder) / str(most) / "iteration-1" / RESPONSES, ResponseGroup)
    fixed, each = {}, {}
    for stage in STAGES:
        (few, short), (many, long) = (
            (_count(settings, stage, size), run[stage].seconds) for size, run in zip(sizes, found, strict=True)
        )
        each[stage] = max(0.0, (long - short) / (many - few)) if many > few else 0.0
        fixed[stage] = max(0.0, long - many * each[stage])
    responses = [response for group in groups for response in group.responses]
    lengths = Lengths(
        sum(len(group.prompt_token_ids) for group in groups) / len(groups),
        sum(len(response.token_ids) for response in responses) / len(responses),
        "measured",
    )
    return Rates(fixed, each, lengths, f"measured here on {sizes[0]} and {most} prompts")


def _measure(settings: RunSettings, size: int, folder: Path, should_stop: Callable[[], bool]) -> dict[str, Manifest]:
    logger.info("calibration: one iteration on %d prompts", size)
    small = replace(
        settings,
        num_iterations=1,
        prompts=replace(settings.prompts, num_per_iteration=size),
        evaluation=replace(settings.evaluation, num_prompts=size, all_checkpoints=False),
        cluster=ClusterSettings(),
    )
    run = RunDirectory(folder)
    run_loop(small, run, should_stop=should_stop)
    return {name: run.manifest(*place) for name, place in STAGES.items()}


def _count(settings: RunSettings, stage: str, size: int) -> int:
    """What `work` counts for a stage of so many prompts."""
    if stage == RESPONSES:
        return size * settings.generation.num_responses
    if stage == PREFERENCES:
        return size * comparisons(settings.oracle, settings.generation.num_responses)
    if stage == GATES:
        return gates_work(settings, held_out=size, lengths=Lengths(0, 0, "")).count
    return size * settings.evaluation.num_samples if stage in (START, EVALUATION) else size
