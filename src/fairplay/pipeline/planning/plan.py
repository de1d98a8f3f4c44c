"""What a run is going to do, in numbers, before it starts: work, time, memory and disk, stage by stage.

Left out: how work is counted (`work.py`), costed (`costs.py`) and measured (`calibration.py`). Floor 7.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.kinds.base import KindSettings, PairSettings, WeightsSettings
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, PREFERENCES, RESPONSES, RunContext
from fairplay.pipeline.evaluate_stage import held_out_prompts
from fairplay.pipeline.planning.costs import (
    HARDWARE,
    Efficiency,
    Hardware,
    decode_seconds,
    forward_flops,
    sharding_seconds,
    training_bytes,
    training_flops,
)
from fairplay.pipeline.planning.shapes import ModelShape, model_shape
from fairplay.pipeline.planning.work import (
    Lengths,
    StageWork,
    comparisons,
    game_work,
    gates_work,
    iteration_work,
    passage,
    responses_per_example,
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
_LETTERS_A_TOKEN = 4
_LORA_SHARE = 0.005  # of the parameters that adapters of rank 16 on all linear layers have


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds that stages take: `fixed + count * each`, measured on this machine.

    Attributes:
        fixed, each: By stage.
        lengths: Mean tokens that the measurement saw.
        how: What was measured, in words.
    """

    fixed: Mapping[str, float]
    each: Mapping[str, float]
    lengths: Lengths
    how: str

    def seconds(self, work: StageWork) -> float | None:
        """Seconds of a stage; None where it was not measured."""
        if work.stage not in self.each:
            return None
        return self.fixed[work.stage] + work.count * self.each[work.stage]


@dataclass(frozen=True, slots=True)
class Place:
    """Accelerators on which a run is planned: a name in `costs.HARDWARE`, and how many."""

    name: str
    devices: int

    def __post_init__(self) -> None:
        lookup(HARDWARE, self.name, "hardware")
        if self.devices < 1:
            raise SettingsError(f"hardware: {self.devices} accelerators")


def run_plan(settings: RunSettings, *, rates: Rates | None = None, place: Place | None = None) -> dict[str, Any]:
    """Read the run's prompts and say what each stage of an iteration will do; nothing is written.

    Args:
        settings: The run's settings.
        rates: How fast this machine is, from `calibration.calibrate`.
        place: Hardware that the run is planned for, by its data sheet; without rates or place there are no hours.

    Returns:
        Counts, `stages` (one iteration), `game`, `gates` (the canaries), totals, `memory`, and `assumptions` in words.

    Raises:
        DataError: If prompts are missing, or too few for the iterations.
    """
    context = RunContext(RunDirectory(Path("plan")), settings, lambda: False)
    prompts, dropped = training_prompts(context)
    share = prompts_per_iteration(settings, len(prompts))
    held_out = len(held_out_prompts(context))
    lengths = rates.lengths if rates else Lengths(_prompt_tokens(prompts), _typical(settings), "assumed")
    shape = model_shape(settings.model)
    weights = shape.parameters * _bytes_of(settings.loading.dtype) if shape else 0.0
    work = iteration_work(settings, prompts=share, held_out=held_out, lengths=lengths, weight_bytes=weights)
    game = game_work(settings, held_out=held_out, lengths=lengths)
    clock = _Clock(settings, lengths, rates, place, shape)
    stages = [{**asdict(item), "seconds": clock.seconds(item)} for item in work]
    number = settings.num_iterations
    known = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    game_seconds = clock.seconds(game)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": settings.model,
        "objective": str(settings.objective["name"]),
        "iterations": number,
        "usable_prompts": len(prompts),
        "prompts_left_out": len(dropped),
        "prompts_per_iteration": share,
        "held_out_prompts": held_out,
        "mean_prompt_tokens": round(lengths.prompt, 1),
        "mean_response_tokens": round(lengths.response, 1),
        "parameters": shape.parameters if shape else None,
        "stages": stages,
        "game": {**asdict(game), "seconds": game_seconds},
        "gates": asdict(gates_work(settings, held_out=held_out, lengths=lengths)),
        "seconds": number * sum(known) + (game_seconds or 0.0) if known else None,
        "disk": number * sum(item.disk for item in work) + _checkpoint_disk(settings, shape),
        "memory": _memory(settings, shape, lengths, place),
        "assumptions": clock.assumptions(),
    }


def write_plan(context: RunContext, rates: Rates | None = None) -> None:
    """Keep the plan of a run beside it, for its report; the first one stays."""
    path = context.run.path / PLAN_NAME
    if rates is not None or not path.is_file():
        write_atomic(path, json.dumps(run_plan(context.settings, rates=rates), indent=1) + "\n")


class _Clock:
    """Seconds of a stage: measured if there are rates, by the data sheet if there is a place, else none."""

    def __init__(
        self,
        settings: RunSettings,
        lengths: Lengths,
        rates: Rates | None,
        place: Place | None,
        shape: ModelShape | None,
    ) -> None:
        self.settings, self.lengths, self.rates, self.place, self.shape = settings, lengths, rates, place, shape
        self.oracle = _shape_of(settings.oracle)
        self.efficiency = Efficiency()

    def seconds(self, work: StageWork) -> float | None:
        if self.rates:
            return self.rates.seconds(work)
        if self.place is None or self.shape is None:
            return None
        hardware = HARDWARE[self.place.name]
        reckon = {RESPONSES: self._responses, PREFERENCES: self._preferences, CHECKPOINT: self._training}
        if work.stage in reckon:
            return reckon[work.stage](work, hardware)
        return self._evaluation(work, hardware) if work.stage == EVALUATION else 0.0

    def _responses(self, work: StageWork, hardware: Hardware) -> float:
        shape, p, r = self._policy(), self.lengths.prompt, self.lengths.response
        devices = self._devices()
        prompts = work.count / self.settings.generation.num_responses
        reading = forward_flops(shape, prompts * p, scored=0, mean_context=p / 2)
        drawn = decode_seconds(
            shape, hardware, rows=work.count / devices, prompt=p, response=r, efficiency=self.efficiency
        )
        return drawn + reading / (hardware.flops * self.efficiency.scoring * devices)

    def _preferences(self, work: StageWork, hardware: Hardware) -> float | None:
        if work.passes == 0:
            return 0.0
        if self.oracle is None:
            return None
        context = work.tokens / work.passes
        flops = forward_flops(self.oracle, work.tokens, scored=0, mean_context=context)
        share = self._share(self.settings.oracle)
        return flops / (hardware.flops * share * self._devices())

    def _training(self, work: StageWork, hardware: Hardware) -> float:
        shape, settings = self._policy(), self.settings.training
        p, r, kept = self.lengths.prompt, self.lengths.response, responses_per_example(self.settings)
        tokens, scored = work.count * (p + kept * r), work.count * kept * r
        context = p / 2 + r / 2
        once = training_flops(shape, tokens, scored=scored, mean_context=context, again=settings.gradient_checkpointing)
        reference = forward_flops(shape, tokens, scored=scored, mean_context=context)
        devices = min(self._devices(), settings.examples_per_step)
        rate = hardware.flops * devices
        steps = settings.num_train_epochs * work.count / settings.examples_per_step
        sent = steps * sharding_seconds(shape, hardware, devices=devices)
        computed = settings.num_train_epochs * once / (rate * self.efficiency.training)
        return max(computed, sent) + reference / (rate * self.efficiency.scoring)

    def _evaluation(self, work: StageWork, hardware: Hardware) -> float | None:
        drawn = self._responses(replace(work, stage=RESPONSES), hardware)
        judge = self.settings.evaluation.judge
        read = work.count * len(self.settings.evaluation.opponents) * comparisons(judge, 2)
        if read == 0:
            return drawn
        shape = _shape_of(judge)
        if shape is None:
            return None
        context = passage(judge, self.lengths)
        flops = forward_flops(shape, read * context, scored=0, mean_context=context)
        return drawn + flops / (hardware.flops * self._share(judge) * self._devices())

    def _share(self, oracle: KindSettings) -> float:
        return self.efficiency.ranking if isinstance(oracle, PairSettings) else self.efficiency.scoring

    def _policy(self) -> ModelShape:
        assert self.shape is not None
        return self.shape

    def _devices(self) -> int:
        assert self.place is not None
        return self.place.devices

    def assumptions(self) -> list[str]:
        """What the numbers rest on, in sentences."""
        told = [
            f"prompts of {self.lengths.prompt:.0f} tokens and responses of {self.lengths.response:.0f}, "
            f"{self.lengths.source}"
        ]
        if self.rates:
            told.append(self.rates.how)
        elif self.place:
            told.append(
                f"{self.place.devices} x {self.place.name} by its data sheet: {asdict(self.efficiency)} of it reached"
            )
        else:
            told.append("no hours: measure them with --calibrate, or name hardware with --hardware h100:8")
        if self.shape is None:
            told.append(f"{self.settings.model}: size not known here, so neither memory nor the checkpoints' disk")
        return told


def _shape_of(oracle: KindSettings) -> ModelShape | None:
    return model_shape(oracle.model) if isinstance(oracle, WeightsSettings) else None


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
            again=training.gradient_checkpointing,
            shards=min(place.devices, HARDWARE[place.name].per_machine) if place else 1,
        ),
        "weights": float(shape.parameters * size),
        "there": HARDWARE[place.name].memory if place else None,
    }
