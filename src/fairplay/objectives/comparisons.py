"""Which responses are held against which: the rows that an objective's terms are evaluated on.

Left out: log-probs, rewards and losses; a comparison reads only indices and data columns, in numpy on the host, so that
no device is waited for where their number depends on the data. Floor 2.
A row has a chosen and a rejected response; where a response stands by itself, it is both. The shares of an example's
rows say how they make up its loss: 1 / (number of rows) for a mean over them, 1 for a sum.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairplay.errors import DataError
from fairplay.logps import Ints, Structure, to_device

MOST_SUBSETS = 20_000


@dataclass(frozen=True)
class Rows:
    """Comparisons as indices, each [rows].

    Attributes:
        chosen, rejected: Response indices within the batch.
        example: The example that the row belongs to.
        share: Weight of the row in its example's loss, float64.
        draw: Number of the random draw, for token weights that draw.
        desirable: 1 if the chosen response is to become likelier, 0 if less likely (unpaired data).
    """

    chosen: Ints
    rejected: Ints
    example: Ints
    share: NDArray[np.float64]
    draw: Ints
    desirable: NDArray[np.float64]

    def are_examples(self, num_examples: int) -> bool:
        """Whether each row is the only one of its example, and its whole loss, in the order of the examples."""
        examples, shares = list(range(num_examples)), [1.0] * num_examples
        return bool(self.example.tolist() == examples and self.share.tolist() == shares)


@dataclass(frozen=True)
class RowsOnDevice:
    """What losses read of rows, as tensors, [rows] each.

    Attributes:
        planned: The rows on the host.
        device: Where the tensors lie.
    """

    planned: Rows
    device: torch.device

    @cached_property
    def example(self) -> Tensor:
        """The example that the row belongs to, int64."""
        return to_device(self.planned.example, self.device)

    @cached_property
    def share(self) -> Tensor:
        """Weight of the row in its example's loss, float64."""
        return to_device(self.planned.share, self.device)

    @cached_property
    def desirable(self) -> Tensor:
        """1 if the chosen response is to become likelier, 0 if less likely, float64."""
        return to_device(self.planned.desirable, self.device)


class Comparison(Protocol):
    """Makes rows from a batch."""

    def __call__(self, batch: Structure) -> Rows: ...


@dataclass(frozen=True)
class Pairs:
    """Every pair of the batch; an example's loss is the mean over its pairs."""

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def __call__(self, batch: Structure) -> Rows:
        return _averaged(batch, batch.pairs[:, 0], batch.pairs[:, 1])


@dataclass(frozen=True)
class Each:
    """Every response by itself; an example's loss is the mean over its responses."""

    def __call__(self, batch: Structure) -> Rows:
        responses = learned_responses(batch)
        return _averaged(batch, responses, responses)


@dataclass(frozen=True)
class Listed:
    """The scored responses of an example as one list; its loss is the *sum* over them."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: Structure) -> Rows:
        return _summed(Each()(batch))


@dataclass(frozen=True)
class Chosen:
    """Every response that some pair chooses, or simply every response of a batch without pairs."""

    def __call__(self, batch: Structure) -> Rows:
        responses = np.unique(batch.pairs[:, 0]) if len(batch.pairs) else learned_responses(batch)
        return _averaged(batch, responses, responses)


@dataclass(frozen=True)
class Labelled:
    """Every response with its label; the two sides of each pair where the data are pairs instead."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __call__(self, batch: Structure) -> Rows:
        if "labels" in batch.columns:
            responses = learned_responses(batch)
            labels = batch.columns["labels"][responses]
        else:
            responses = batch.pairs.T.flatten()
            labels = np.repeat([1.0, 0.0], len(batch.pairs))
        return replace(_averaged(batch, responses, responses), desirable=labels.astype(np.float64))


@dataclass(frozen=True)
class ByScore:
    """Every two responses of an example with different scores, the better one chosen; the loss is the *sum*."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: Structure) -> Rows:
        responses = learned_responses(batch)
        scores = batch.columns["scores"][responses]
        is_better = _share_example(batch, responses) & (scores[:, None] > scores[None, :])
        better, worse = is_better.nonzero()
        return _summed(_averaged(batch, responses[better], responses[worse]))


@dataclass(frozen=True)
class Best:
    """The response with the highest score of each example (the first of equals)."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: Structure) -> Rows:
        responses = learned_responses(batch)
        scores = batch.columns["scores"][responses]
        is_earlier = np.tri(len(scores), k=-1, dtype=np.bool_)
        loses = (scores[None, :] > scores[:, None]) | ((scores[None, :] == scores[:, None]) & is_earlier)
        best = responses[~(loses & _share_example(batch, responses)).any(axis=1)]
        return _averaged(batch, best, best)


@dataclass(frozen=True)
class Ranked:
    """The rows of `ByScore`, and the best response of each example by itself; the loss is the *sum*."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: Structure) -> Rows:
        by_score, best = ByScore()(batch), Best()(batch)
        return Rows(*(np.concatenate([getattr(by_score, f.name), getattr(best, f.name)]) for f in fields(Rows)))


@dataclass(frozen=True)
class RepeatedPairs:
    """Every pair `draws` times, each with a random draw of its own; the loss is the mean over the draws."""

    draws: int
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    once: ClassVar[Comparison] = Pairs()

    def __call__(self, batch: Structure) -> Rows:
        pair = np.repeat(np.arange(len(batch.pairs)), self.draws)
        rows = _averaged(batch, batch.pairs[pair, 0], batch.pairs[pair, 1])
        return replace(rows, draw=np.arange(len(pair)) % self.draws)


@dataclass(frozen=True)
class PairsBySubset:
    """Every pair once for each way to keep as many tokens of its longer response as the shorter has.

    The number of ways is a binomial coefficient, so this is for short responses: more than 20,000 are refused.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    once: ClassVar[Comparison] = Pairs()

    def __call__(self, batch: Structure) -> Rows:
        ways = [math.comb(max(pair), min(pair)) for pair in batch.lengths[batch.pairs].tolist()]
        if max(ways) > MOST_SUBSETS:
            raise DataError(
                f"the exact expectation runs over every subset of kept tokens: {max(ways):.3g} for one pair",
                hint="use `sampo` with several draws, or `sampo_mean`",
            )
        counts = np.array(ways)
        pair = np.repeat(np.arange(len(ways)), counts)
        first = counts.cumsum() - counts
        rows = Pairs()(batch)
        return Rows(
            chosen=rows.chosen[pair],
            rejected=rows.rejected[pair],
            example=rows.example[pair],
            share=(rows.share / counts)[pair],
            draw=np.arange(len(pair)) - first[pair],
            desirable=rows.desirable[pair],
        )


def learned_responses(batch: Structure) -> Ints:
    """Indices of the responses that terms learn from: all but anchor rows (column "anchors"), [responses]."""
    anchors = batch.columns.get("anchors")
    return np.arange(batch.num_responses) if anchors is None else np.flatnonzero(anchors == 0)


def same_example(example: Tensor) -> Tensor:
    """Whether two rows belong to the same example, [rows] -> [rows, rows]."""
    return example[:, None] == example[None, :]


def _share_example(batch: Structure, responses: Ints) -> NDArray[np.bool_]:
    example = batch.example_index[responses]
    return np.equal(example[:, None], example[None, :])


def _averaged(batch: Structure, chosen: Ints, rejected: Ints) -> Rows:
    """Rows whose shares make an example's loss the mean over its rows."""
    example = batch.example_index[chosen]
    share = 1.0 / np.bincount(example, minlength=batch.num_examples)[example]
    return Rows(chosen, rejected, example, share, np.zeros_like(example), np.ones_like(share))


def _summed(rows: Rows) -> Rows:
    """The same rows, with an example's loss their sum."""
    return replace(rows, share=np.ones_like(rows.share))
