"""From the examples of a step to what an objective reads: rows to score, sizes, log-probs with preference data.

Left out: which examples make a step (`plan.py`), scoring tokens (`models.token_logps`), the reference's numbers
(`reference.py`). Floor 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, StepTotals, Structure, TokenLogps, to_device
from fairplay.models.encoding import EncodedExample
from fairplay.models.layouts import Row
from fairplay.models.token_logps import RowScores
from fairplay.seeds import stable_seed
from fairplay.training.plan import longest_row

COLUMNS = ("win_rates", "labels", "scores")


def example_rows(examples: Sequence[EncodedExample]) -> list[Row]:
    """(prompt ids, response ids) of every response, in the order of the examples."""
    return [(example.prompt_ids, response) for example in examples for response in example.response_ids]


def num_input_tokens(examples: Sequence[EncodedExample]) -> int:
    """Tokens that the model reads for these examples, each response with its own copy of the prompt, no padding."""
    return sum(len(prompt) + len(response) for prompt, response in example_rows(examples))


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
class ReferenceLogps:
    """The reference's log-probs, flat on the CPU; empty where the objective needs no reference.

    Attributes:
        examples: Index of an example -> log-probs of all its response tokens.
        anchors: Number of a step -> log-probs of each of its anchor rows.
    """

    examples: Mapping[int, Tensor] = field(default_factory=dict)
    anchors: Mapping[int, tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSet:
    """All examples of a training with the reference's log-probs of their response tokens.

    Attributes:
        examples: Encoded examples.
        reference: The reference's log-probs, of the examples and of anchor rows.
        prompt_loss_weight: Weight of prompt tokens; above 0 they are scored too.
        start_logps: Index of an example -> log-prob of each of its responses before the first step, as far as known.
        anchor: Index of an example -> the anchor model's log-probs of all its response tokens, where there is one.
        importance: Index of an example -> weights of all its response tokens, where contrastive models give them.
    """

    examples: tuple[EncodedExample, ...]
    reference: ReferenceLogps
    prompt_loss_weight: float
    start_logps: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    anchor: Mapping[int, Tensor] = field(default_factory=dict)
    importance: Mapping[int, Tensor] = field(default_factory=dict)

    @cached_property
    def longest_row(self) -> int:
        """Tokens of the longest row of all, prompt included."""
        return max(longest_row(example) for example in self.examples)


def preference_batch(
    data: TrainingSet, indices: Sequence[int], scores: RowScores, *, epoch: int, anchors: Sequence[Tensor] = ()
) -> PreferenceBatch:
    """What an objective reads, for these examples as they were scored.

    Args:
        data: The training set.
        indices: Examples of the micro-batch, in the order of the scored rows.
        scores: Token log-probs of `example_rows` of these examples, and of the anchor rows behind them.
        epoch: Number of the pass over the data, from 0.
        anchors: The reference's log-probs of each anchor row; they all belong to the last example.
    """
    examples = [data.examples[index] for index in indices]
    known = _structure(examples, anchors, prompt_tokens=data.prompt_loss_weight > 0, epoch=epoch)
    values = _columns(examples)
    if all(index in data.start_logps for index in indices):
        values["start_logps"] = [value for index in indices for value in data.start_logps[index]]
    if anchors:
        values = {name: [*given, *([0.0] * len(anchors))] for name, given in values.items()}
        values["anchors"] = [0.0] * (known.num_responses - len(anchors)) + [1.0] * len(anchors)
    dtype = np.float64 if scores.logps.dtype == torch.float64 else np.float32
    known = replace(known, columns={name: np.array(given, dtype=dtype) for name, given in values.items()})
    device = scores.logps.device
    return PreferenceBatch(
        logps=_token_logps(data, indices, scores, anchors, num_responses=known.num_responses),
        example_index=to_device(known.example_index, device),
        num_examples=known.num_examples,
        pairs=to_device(known.pairs, device),
        example_keys=to_device(known.example_keys, device),
        columns={name: to_device(given, device).to(scores.logps.dtype) for name, given in known.columns.items()},
        epoch=epoch,
        known=known,
    )


def _token_logps(
    data: TrainingSet, indices: Sequence[int], scores: RowScores, anchors: Sequence[Tensor], *, num_responses: int
) -> TokenLogps:
    known = [data.reference.examples[index] for index in indices] if data.reference.examples else []
    reference = _flat([*known, *anchors], scores) if known or anchors else torch.zeros_like(scores.logps.detach())
    statistics = dict(scores.statistics)
    behind = [torch.zeros_like(logps) for logps in anchors]
    if data.anchor:
        statistics["anchor_logratios"] = _flat([*(data.anchor[i] for i in indices), *behind], scores) - reference
    if data.importance:
        statistics["importance"] = _flat([*(data.importance[i] for i in indices), *behind], scores)
    if data.prompt_loss_weight:
        statistics["weight"] = torch.where(scores.position < 0, data.prompt_loss_weight, 1.0)
    return TokenLogps(
        policy=scores.logps,
        reference=reference,
        response_index=scores.response_index,
        position=scores.position,
        num_responses=num_responses,
        has_reference=bool(known or anchors),
        statistics=statistics,
    )


def _flat(parts: Sequence[Tensor], scores: RowScores) -> Tensor:
    """Known values of all scored tokens, on their device and in their dtype, [tokens]."""
    return to_device(torch.cat(tuple(parts)), scores.logps.device).to(scores.logps.dtype)


def _structure(
    examples: Sequence[EncodedExample], anchors: Sequence[Tensor], *, prompt_tokens: bool, epoch: int
) -> Structure:
    """The batch without its columns; anchor rows stand behind the examples' responses."""
    lengths: list[int] = []
    example_index: list[int] = []
    pairs: list[tuple[int, int]] = []
    for number, example in enumerate(examples):
        first, before = len(lengths), len(example.prompt_ids) - 1 if prompt_tokens else 0
        pairs += [(first + chosen, first + rejected) for chosen, rejected in example.example.pairs]
        example_index += [number] * len(example.response_ids)
        lengths += [before + len(response) for response in example.response_ids]
    return Structure(
        lengths=np.array([*lengths, *map(len, anchors)], dtype=np.int64),
        example_index=np.array([*example_index, *[len(examples) - 1] * len(anchors)], dtype=np.int64),
        num_examples=len(examples),
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        example_keys=np.array([stable_seed(example.example.id) for example in examples], dtype=np.int64),
        columns={},
        epoch=epoch,
    )


def _columns(examples: Sequence[EncodedExample]) -> dict[str, list[float]]:
    """Per-response data that every example of the batch has."""
    return {
        name: [float(value) for example in examples for value in getattr(example.example, name)]
        for name in COLUMNS
        if all(getattr(example.example, name) for example in examples)
    }
