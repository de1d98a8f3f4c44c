"""How long a stage takes: measured on this machine, or by a data sheet.

Left out: the plan (`plan.py`), the arithmetic (`costs.py`). Floor 7.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from fairplay.errors import SettingsError
from fairplay.lookup import lookup
from fairplay.oracles.kinds.base import KindSettings, PairSettings, WeightsSettings
from fairplay.pipeline.context import CHECKPOINT, EVALUATION, GAME, GATES, PREFERENCES, RESPONSES
from fairplay.pipeline.planning.costs import (
    HARDWARE,
    Efficiency,
    Hardware,
    decode_seconds,
    forward_flops,
    sharding_seconds,
    training_flops,
)
from fairplay.pipeline.planning.shapes import ModelShape, is_here, model_shape
from fairplay.pipeline.planning.work import (
    START,
    Lengths,
    StageWork,
    evaluation_readings,
    passage,
    responses_per_example,
)
from fairplay.pipeline.settings import RunSettings

_JUDGED = (START, GATES, EVALUATION, GAME)
_BY_WORKERS = (RESPONSES, PREFERENCES, *_JUDGED)


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

    def seconds(self, work: StageWork, num_workers: int) -> float | None:
        """Seconds of a stage that so many workers share; None where it was not measured."""
        if work.stage not in self.each:
            return None
        return self.fixed[work.stage] + work.count * self.each[work.stage] / num_workers


@dataclass(frozen=True, slots=True)
class Place:
    """Accelerators on which a run is planned: a name in `costs.HARDWARE`, and how many."""

    name: str
    devices: int

    def __post_init__(self) -> None:
        lookup(HARDWARE, self.name, "hardware")
        if self.devices < 1:
            raise SettingsError(f"hardware: {self.devices} accelerators")


class Clock:
    """Seconds of a stage: measured if there are rates, by the data sheet if there is a place, else none.

    Args:
        settings: The run's settings.
        lengths: Mean tokens.
        rates: How fast this machine is, if it was measured.
        place: Hardware to plan for.
        shape: The policy's sizes, if they are known.
    """

    def __init__(
        self,
        settings: RunSettings,
        lengths: Lengths,
        rates: Rates | None,
        place: Place | None,
        shape: ModelShape | None,
    ) -> None:
        self.settings, self.lengths, self.rates, self.place, self.shape = settings, lengths, rates, place, shape
        self.efficiency = Efficiency()
        self.num_workers = max(1, settings.cluster.num_workers)

    def seconds(self, work: StageWork) -> float | None:
        """Seconds of a stage, once; None where they are not known."""
        if self.rates:
            return self.rates.seconds(work, self.num_workers if work.stage in _BY_WORKERS else 1)
        if self.place is None or self.shape is None:
            return None
        hardware = HARDWARE[self.place.name]
        if work.stage == RESPONSES:
            return self._responses(work, hardware)
        if work.stage == PREFERENCES:
            return self._reading(self.settings.oracle, work.passes, hardware)
        if work.stage == CHECKPOINT:
            return self._training(work, hardware)
        return self._judged(work, hardware) if work.stage in _JUDGED else 0.0

    def _responses(self, work: StageWork, hardware: Hardware) -> float:
        shape, p, r = self._policy(), self.lengths.prompt, self.lengths.response
        devices = self._devices()
        prompts = work.count / self.settings.generation.num_responses
        reading = forward_flops(shape, prompts * p, scored=0, mean_context=p / 2)
        drawn = decode_seconds(
            shape, hardware, rows=work.count / devices, prompt=p, response=r, efficiency=self.efficiency
        )
        return drawn + reading / (hardware.flops * self.efficiency.scoring * devices)

    def _training(self, work: StageWork, hardware: Hardware) -> float:
        shape, settings = self._policy(), self.settings.training
        p, r, kept = self.lengths.prompt, self.lengths.response, responses_per_example(self.settings)
        tokens, scored = work.count * (p + kept * r), work.count * kept * r
        context = p / 2 + r / 2
        once = training_flops(shape, tokens, scored=scored, mean_context=context, again=settings.recomputed_share)
        reference = forward_flops(shape, tokens, scored=scored, mean_context=context)
        devices = self._devices()
        rate = hardware.flops * devices
        steps = settings.num_train_epochs * work.count / (settings.examples_per_step * devices)
        sent = steps * sharding_seconds(shape, hardware, devices=devices)
        computed = settings.num_train_epochs * once / (rate * self.efficiency.training)
        return max(computed, sent) + reference / (rate * self.efficiency.scoring)

    def _judged(self, work: StageWork, hardware: Hardware) -> float | None:
        """Responses that are drawn, and the reading of the judge; of an evaluation that of the training oracle too."""
        parts: list[float | None] = [self._responses(replace(work, count=work.drawn), hardware) if work.drawn else 0.0]
        by_oracle = evaluation_readings(self.settings, work.drawn) if work.stage == EVALUATION else 0
        if work.stage != START:
            parts.append(self._reading(self.settings.evaluation.judge, work.passes - work.drawn - by_oracle, hardware))
        if work.stage == EVALUATION:
            parts.append(self._reading(self.settings.oracle, by_oracle, hardware))
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def _reading(self, oracle: KindSettings, passes: float, hardware: Hardware) -> float | None:
        """Forward passes of an oracle; None for one of unknown size, or on a server."""
        if oracle.asks_server():
            return None
        if passes == 0:
            return 0.0
        shape = shape_of(oracle)
        if shape is None:
            return None
        context = passage(oracle, self.lengths)
        flops = forward_flops(shape, passes * context, scored=0, mean_context=context)
        return flops / (hardware.flops * self._share(oracle) * self._devices())

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
            if self.num_workers > 1:
                told.append(f"{self.num_workers} workers that share evenly, each as fast as this process")
        elif self.place:
            told.append(
                f"{self.place.devices} x {self.place.name} by its data sheet, of which are reached "
                + ", ".join(f"{share:.0%} in {name}" for name, share in asdict(self.efficiency).items())
            )
        else:
            told.append("no hours: measure them with --calibrate, or name hardware with --hardware h100:8")
        model = self.settings.model
        if not is_here(model):
            told.append(f"{model}: no folder here, nor in the hub's cache: that the hub has it was not checked")
        if self.shape is None:
            told.append(f"{model}: size not known here, so neither memory nor the checkpoints' disk")
        return told


def shape_of(oracle: KindSettings) -> ModelShape | None:
    """The sizes of an oracle's model; None if it has none, or they are not known."""
    return model_shape(oracle.model) if isinstance(oracle, WeightsSettings) else None
