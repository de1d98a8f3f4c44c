"""The optimiser steps of a training: which examples, in which order and micro-batches.

Left out: what a step's examples are turned into (`batches.py`). The order is a pure function of (seed, epoch) and the
lengths, so a resumed training meets the same batches, and what a later step reads is known ahead. Floor 5.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fairplay.models.encoding import EncodedExample
from fairplay.seeds import stable_seed
from fairplay.training.settings import TrainingSettings

Step = tuple[tuple[int, ...], ...]

# Micro-batches among which examples are sorted by length: enough to save most of the padding, few enough that an
# optimiser step still mixes lengths once several micro-batches are accumulated.
WINDOW_MICRO_BATCHES = 8


def longest_row(example: EncodedExample) -> int:
    """Tokens of the example's longest row, prompt included: what its micro-batch is padded to at least."""
    return len(example.prompt_ids) + max(len(response) for response in example.response_ids)


def steps_per_epoch(num_examples: int, *, batch_size: int, accumulation: int) -> int:
    """Optimiser steps of one pass; the last may be smaller."""
    return math.ceil(math.ceil(num_examples / batch_size) / accumulation)


def epoch_steps(
    row_lengths: Sequence[int], *, batch_size: int, accumulation: int, seed: int, epoch: int
) -> tuple[Step, ...]:
    """The optimiser steps of one epoch as indices of examples, every example once.

    Examples are shuffled, sorted by length within windows of a few micro-batches, and the micro-batches of a window are
    shuffled again. A smaller rest comes last.

    Args:
        row_lengths: Longest row of each example, [examples].
        batch_size: Examples in a micro-batch.
        accumulation: Micro-batches in a step.
        seed: The run's seed.
        epoch: Number of the pass, from 0.

    Returns:
        Steps of micro-batches of indices; a pure function of the arguments.
    """
    generator = np.random.default_rng(stable_seed(seed, "order", epoch))
    order = generator.permutation(len(row_lengths)).tolist()
    window = batch_size * accumulation * math.ceil(WINDOW_MICRO_BATCHES / accumulation)
    micro_batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda index: row_lengths[index])
        cut = [tuple(by_length[i : i + batch_size]) for i in range(0, len(by_length), batch_size)]
        rest = [cut.pop()] if len(cut[-1]) < batch_size else []
        micro_batches += [cut[i] for i in generator.permutation(len(cut))] + rest
    return tuple(tuple(micro_batches[i : i + accumulation]) for i in range(0, len(micro_batches), accumulation))


@dataclass(frozen=True)
class StepPlan:
    """All optimiser steps of a training.

    Attributes:
        row_lengths: Longest row of each example.
        batch_size: Examples in a micro-batch.
        accumulation: Micro-batches in a step.
        num_steps: Steps in all.
        seed: The run's seed.
    """

    row_lengths: tuple[int, ...]
    batch_size: int
    accumulation: int
    num_steps: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps of one pass."""
        return steps_per_epoch(len(self.row_lengths), batch_size=self.batch_size, accumulation=self.accumulation)

    def steps(self, first: int, end: int) -> Iterator[tuple[int, Step]]:
        """(number, step) of the steps from `first` on, up to but without `end`."""
        numbers = range(first, min(end, self.num_steps))
        while numbers:
            epoch, place = divmod(numbers[0], self.per_epoch)
            order = epoch_steps(
                self.row_lengths,
                batch_size=self.batch_size,
                accumulation=self.accumulation,
                seed=self.seed,
                epoch=epoch,
            )[place:]
            yield from zip(numbers, order, strict=False)
            numbers = numbers[len(order) :]


def plan_steps(examples: Sequence[EncodedExample], settings: TrainingSettings, *, seed: int) -> StepPlan:
    """The steps of a training on these examples."""
    sizes = {
        "batch_size": settings.per_device_train_batch_size,
        "accumulation": settings.gradient_accumulation_steps,
    }
    per_epoch = steps_per_epoch(len(examples), **sizes)
    num_steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.num_train_epochs * per_epoch)
    lengths = tuple(longest_row(example) for example in examples)
    return StepPlan(lengths, **sizes, num_steps=num_steps, seed=seed)
