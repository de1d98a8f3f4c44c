"""From encoded examples to optimiser steps: their order, their micro-batches, their sizes, what an objective reads.

Left out: scoring tokens (`models.token_logps`), the reference's numbers (`reference.py`). The order is a pure function
of (seed, epoch) and the lengths, so a resumed training meets the same batches. Floor 5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, StepTotals, TokenLogps
from fairplay.models.encoding import EncodedExample
from fairplay.models.token_logps import Row, RowScores
from fairplay.seeds import stable_seed

Step = tuple[tuple[int, ...], ...]

# Micro-batches among which examples are sorted by length: enough to save most of the padding, few enough that an
# optimiser step still mixes lengths once several micro-batches are accumulated.
WINDOW_MICRO_BATCHES = 8
COLUMNS = ("win_rates", "labels", "scores")


def example_rows(examples: Sequence[EncodedExample]) -> list[Row]:
    """(prompt ids, response ids) of every response, in the order of the examples."""
    return [(example.prompt_ids, response) for example in examples for response in example.response_ids]


def num_input_tokens(examples: Sequence[EncodedExample]) -> int:
    """Tokens that the model reads for these examples, each response with its own copy of the prompt, no padding."""
    return sum(len(prompt) + len(response) for prompt, response in example_rows(examples))


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


def step_totals(examples: Sequence[EncodedExample], *, prompt_loss_weight: float) -> StepTotals:
    """Sizes of a whole optimiser step.

    Args:
        examples: All examples of the step, over its micro-batches.
        prompt_loss_weight: Weight of prompt tokens in the likelihood; the first one has nothing that predicts it.
    """
    likelihood_tokens = 0.0
    for example in examples:
        pairs, responses = example.example.pairs, example.response_ids
        learnt = [responses[chosen] for chosen in {chosen for chosen, _ in pairs}] if pairs else responses
        likelihood_tokens += sum(len(response) for response in learnt)
        likelihood_tokens += prompt_loss_weight * max(len(example.prompt_ids) - 1, 0) * len(learnt)
    return StepTotals(
        num_examples=len(examples),
        num_pairs=sum(len(example.example.pairs) for example in examples),
        num_responses=sum(len(example.response_ids) for example in examples),
        num_chosen_tokens=likelihood_tokens,
    )


@dataclass(frozen=True)
class TrainingSet:
    """All examples of a training with the reference's log-probs of their response tokens.

    Attributes:
        examples: Encoded examples.
        reference: For each example the log-probs of all its response tokens, flat, on the CPU; empty where the
            objective needs no reference.
        prompt_loss_weight: Weight of prompt tokens; above 0 they are scored too.
    """

    examples: tuple[EncodedExample, ...]
    reference: tuple[Tensor, ...]
    prompt_loss_weight: float


def preference_batch(data: TrainingSet, indices: Sequence[int], scores: RowScores, *, epoch: int) -> PreferenceBatch:
    """What an objective reads, for these examples as they were scored.

    Args:
        data: The training set.
        indices: Examples of the micro-batch, in the order of the scored rows.
        scores: Token log-probs of `example_rows` of these examples.
        epoch: Number of the pass over the data, from 0.
    """
    examples = [data.examples[index] for index in indices]
    device = scores.logps.device
    example_index, pairs = _structure(examples)
    columns = {
        name: torch.tensor(values, dtype=scores.logps.dtype, device=device)
        for name, values in _columns(examples).items()
    }
    return PreferenceBatch(
        logps=_token_logps(data, indices, scores, num_responses=len(example_index)),
        example_index=torch.tensor(example_index, device=device),
        num_examples=len(examples),
        pairs=torch.tensor(pairs, dtype=torch.int64, device=device).reshape(-1, 2),
        example_keys=torch.tensor([stable_seed(example.example.id) for example in examples], device=device),
        columns=columns,
        epoch=epoch,
    )


def _token_logps(data: TrainingSet, indices: Sequence[int], scores: RowScores, *, num_responses: int) -> TokenLogps:
    reference = torch.zeros_like(scores.logps, requires_grad=False)
    if data.reference:
        flat = torch.cat([data.reference[index] for index in indices])
        reference = flat.to(device=scores.logps.device, dtype=scores.logps.dtype)
    statistics = dict(scores.statistics)
    if data.prompt_loss_weight:
        statistics["weight"] = torch.where(scores.position < 0, data.prompt_loss_weight, 1.0)
    return TokenLogps(
        policy=scores.logps,
        reference=reference,
        response_index=scores.response_index,
        position=scores.position,
        num_responses=num_responses,
        has_reference=bool(data.reference),
        statistics=statistics,
    )


def _structure(examples: Sequence[EncodedExample]) -> tuple[list[int], list[tuple[int, int]]]:
    """(example of each response, pairs as indices into the batch's responses)."""
    example_index: list[int] = []
    pairs: list[tuple[int, int]] = []
    for number, example in enumerate(examples):
        first = len(example_index)
        pairs += [(first + chosen, first + rejected) for chosen, rejected in example.example.pairs]
        example_index += [number] * len(example.response_ids)
    return example_index, pairs


def _columns(examples: Sequence[EncodedExample]) -> dict[str, list[float]]:
    """Per-response data that every example of the batch has."""
    return {
        name: [float(value) for example in examples for value in getattr(example.example, name)]
        for name in COLUMNS
        if all(getattr(example.example, name) for example in examples)
    }
