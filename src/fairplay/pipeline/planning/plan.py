"""What a run is going to do, in numbers, before it starts: work, time, memory and disk, stage by stage.

Left out: how work is counted (`work.py`), costed (`costs.py`) and measured (`calibration.py`). Floor 7.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairplay.pipeline.context import PREFERENCES, RunContext
from fairplay.pipeline.evaluate_stage import held_out_prompts
from fairplay.pipeline.planning.clock import Clock, Place, Rates
from fairplay.pipeline.planning.costs import (
    HARDWARE,
    training_bytes,
)
from fairplay.pipeline.planning.shapes import ModelShape, model_shape
from fairplay.pipeline.planning.work import (
    Lengths,
    game_work,
    gates_work,
    iteration_work,
    responses_per_example,
    start_work,
)
from fairplay.pipeline.settings import RunSettings
from fairplay.pipeline.stages import prompts_per_iteration, training_prompts
from fairplay.records import Prompt
from fairplay.storage.atomic import write_atomic
from fairplay.storage.run_directory import RunDirectory

PLAN_NAME = "plan.json"
SCHEMA_VERSION = 1
TYPICAL_RESPONSE = 400
"""Mean tokens of a response where none was measured: published 7B to 9B policies write 330 to 480 on UltraFeedback."""
TYPICAL_PROMPT = 200
"""Mean tokens of a prompt where none was read; as `docs/scaling.md`."""
_LETTERS_A_TOKEN = 4
_LORA_SHARE = 0.005  # of the parameters that adapters of rank 16 on all linear layers have


@dataclass(frozen=True, slots=True)
class PromptCounts:
    """The prompts of a run.

    Attributes:
        usable: For training, all together; None where they were not read.
        left_out: Of those that were read; None where none were.
        each_iteration: Of an iteration.
        held_out: That iterates are judged on.
        tokens: Of one, on average.
    """

    usable: int | None
    left_out: int | None
    each_iteration: int
    held_out: int
    tokens: float


def read_counts(settings: RunSettings) -> PromptCounts:
    """The prompts as they are.

    Raises:
        DataError: If they are missing, or too few for the iterations.
        ServiceError, ResourceError: If they are on the hub, and that can't be reached.
    """
    context = RunContext(RunDirectory(Path("plan")), settings, lambda: False)
    prompts, dropped = training_prompts(context)
    share = prompts_per_iteration(settings, len(prompts))
    return PromptCounts(len(prompts), len(dropped), share, len(held_out_prompts(context)), _prompt_tokens(prompts))


def stated_counts(settings: RunSettings) -> PromptCounts | None:
    """The prompts as the settings tell their numbers, unread; None where these leave them to the data."""
    each, held_out = settings.prompts.num_per_iteration, settings.evaluation.num_prompts
    if not (each and held_out):
        return None
    return PromptCounts(None, None, each, held_out, float(min(TYPICAL_PROMPT, settings.generation.max_prompt_length)))


def run_plan(
    settings: RunSettings,
    *,
    counts: PromptCounts | None = None,
    rates: Rates | None = None,
    place: Place | None = None,
) -> dict[str, Any]:
    """Say what each stage of an iteration will do; nothing is written.

    Args:
        settings: The run's settings.
        counts: Its prompts; without them they are read.
        rates: How fast this machine is, from `calibration.calibrate`.
        place: Hardware that the run is planned for, by its data sheet; without rates or place there are no hours.

    Returns:
        Counts, `stages` (one iteration), what comes once, `start` (iteration 0), `gates` (the canaries) and `game`,
        totals of all these, `memory`, and `assumptions` in words.

    Raises:
        DataError, ServiceError, ResourceError: If prompts have to be read and can't be, see `read_counts`.
    """
    counts = counts or read_counts(settings)
    share, held_out = counts.each_iteration, counts.held_out
    lengths = rates.lengths if rates else Lengths(counts.tokens, _typical(settings), "assumed")
    shape = model_shape(settings.model)
    weights = shape.parameters * _bytes_of(settings.loading.dtype) if shape else 0.0
    work = iteration_work(settings, prompts=share, held_out=held_out, lengths=lengths, weight_bytes=weights)
    clock = Clock(settings, lengths, rates, place, shape)
    stages = [{**asdict(item), "seconds": clock.seconds(item)} for item in work]
    start, gates, game = once = [
        {**asdict(item), "seconds": clock.seconds(item)}
        for item in (make(settings, held_out=held_out, lengths=lengths) for make in (start_work, gates_work, game_work))
    ]
    number = settings.num_iterations
    total = [(stage, number) for stage in stages] + [(stage, 1) for stage in once]
    known = [times * stage["seconds"] for stage, times in total if stage["seconds"] is not None]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": settings.model,
        "objective": str(settings.objective["name"]),
        "iterations": number,
        "usable_prompts": counts.usable,
        "prompts_left_out": counts.left_out,
        "prompts_per_iteration": share,
        "held_out_prompts": held_out,
        "mean_prompt_tokens": round(lengths.prompt, 1),
        "mean_response_tokens": round(lengths.response, 1),
        "parameters": shape.parameters if shape else None,
        "stages": stages,
        "start": start,
        "gates": gates,
        "game": game,
        "seconds": sum(known) if known else None,
        "without_time": [stage["stage"] for stage, _ in total if stage["seconds"] is None and _has_work(stage)],
        "disk": sum(times * stage["disk"] for stage, times in total) + _checkpoint_disk(settings, shape),
        "questions": sum(times * stage["questions"] for stage, times in total),
        "memory": _memory(settings, shape, lengths, place),
        "assumptions": [
            *clock.assumptions(),
            *_asked(total, lengths),
            *([] if counts.usable else ["the prompts were not read"]),
        ],
    }


def _asked(total: Sequence[tuple[Mapping[str, Any], int]], lengths: Lengths) -> list[str]:
    """What chat servers are asked as oracle or judge, and about how many tokens that is."""
    asked = [f"{times * stage['questions']:,} in {stage['stage']}" for stage, times in total if stage["questions"]]
    if not asked:
        return []
    each = f"{lengths.prompt + 2 * lengths.response:.0f} tokens, the template and the reply besides"
    return [f"questions to chat servers, at most: {', '.join(asked)}; each holds a prompt and two responses, {each}"]


def _has_work(stage: Mapping[str, Any]) -> bool:
    """A game of no pairs has none; preferences by a server have some, though none of it is passes of ours."""
    return bool(stage["count"]) or stage["stage"] == PREFERENCES


def write_plan(context: RunContext, rates: Rates | None = None) -> None:
    """Keep the plan of a run beside it, for its report; the first one stays."""
    path = context.run.path / PLAN_NAME
    if rates is not None or not path.is_file():
        write_atomic(path, json.dumps(run_plan(context.settings, rates=rates), indent=1) + "\n")


def _prompt_tokens(prompts: Sequence[Prompt]) -> float:
    letters = [sum(len(message.content) for message in prompt.messages) for prompt in prompts[:1000]]
    return sum(letters) / len(letters) / _LETTERS_A_TOKEN


def _typical(settings: RunSettings) -> float:
    return float(min(TYPICAL_RESPONSE, settings.generation.max_new_tokens))


def _bytes_of(dtype: str) -> int:
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _checkpoint_disk(settings: RunSettings, shape: ModelShape | None) -> float:
    """Bytes of the one checkpoint that lies there while a training goes on: weights and the optimiser's states."""
    if shape is None or settings.training.save_steps == 0:
        return 0.0
    return training_bytes(
        shape,
        dtype_bytes=_bytes_of(settings.loading.dtype),
        trained=_trained(settings, shape),
        optim=settings.training.optim,
        tokens=0,
        again=True,
        shards=1,
    )


def _trained(settings: RunSettings, shape: ModelShape) -> float:
    return shape.parameters * (_LORA_SHARE if settings.training.use_peft else 1.0)


def _memory(
    settings: RunSettings, shape: ModelShape | None, lengths: Lengths, place: Place | None
) -> dict[str, float | None]:
    """Bytes on each accelerator: of training at its peak, of the weights while responses are drawn, and what it has."""
    if shape is None:
        return {"training": None, "weights": None, "there": None}
    training = settings.training
    kept = responses_per_example(settings)
    tokens = training.max_tokens_per_micro_batch or (
        training.per_device_train_batch_size * (lengths.prompt + kept * lengths.response)
    )
    size = _bytes_of(settings.loading.dtype)
    return {
        "training": training_bytes(
            shape,
            dtype_bytes=size,
            trained=_trained(settings, shape),
            optim=training.optim,
            tokens=tokens,
            again=training.recomputed_share,
            shards=min(place.devices, HARDWARE[place.name].per_machine) if place else 1,
        ),
        "weights": float(shape.parameters * size),
        "there": HARDWARE[place.name].memory if place else None,
    }
