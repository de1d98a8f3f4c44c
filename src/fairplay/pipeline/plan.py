"""What a run is going to do, in numbers, before it starts: for `--dry-run`.

Left out: hours and memory (they need a calibration on the machine at hand). Floor 7.
"""

from pathlib import Path

from fairplay.pipeline.context import RunContext
from fairplay.pipeline.evaluate_stage import held_out_prompts
from fairplay.pipeline.settings import RunSettings
from fairplay.pipeline.stages import prompts_per_iteration, training_prompts
from fairplay.storage.run_directory import RunDirectory


def run_plan(settings: RunSettings) -> dict[str, int | str]:
    """Read the run's prompts and count what each iteration will do; nothing is written.

    Raises:
        DataError: If prompts are missing, or too few for the iterations.
    """
    context = RunContext(RunDirectory(Path("plan")), settings, lambda: False)
    prompts, dropped = training_prompts(context)
    share = prompts_per_iteration(settings, len(prompts))
    num_responses = settings.generation.num_responses
    held_out = len(held_out_prompts(context))
    return {
        "model": settings.model,
        "objective": str(settings.objective["name"]),
        "iterations": settings.num_iterations,
        "usable_prompts": len(prompts),
        "prompts_left_out": len(dropped),
        "prompts_per_iteration": share,
        "responses_per_iteration": share * num_responses,
        "ordered_pairs_per_iteration": share * settings.oracle.num_readings(num_responses),
        "most_tokens_per_iteration": share * num_responses * settings.generation.max_new_tokens,
        "held_out_prompts": held_out,
        "held_out_responses_per_iteration": held_out * settings.evaluation.num_samples,
    }
