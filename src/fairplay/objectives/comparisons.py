"""Which responses are held against which: the rows that an objective's terms are evaluated on.

Left out: log-probs, rewards and losses; a comparison reads only indices and data columns. Floor 2.
A row has a chosen and a rejected response; where a response stands by itself, it is both. The shares of an example's
rows say how they make up its loss: 1 / (number of rows) for a mean over them, 1 for a sum.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fairplay.errors import DataError
from fairplay.logps import PreferenceBatch

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

    chosen: Tensor
    rejected: Tensor
    example: Tensor
    share: Tensor
    draw: Tensor
    desirable: Tensor


class Comparison(Protocol):
    """Makes rows from a batch."""

    def __call__(self, batch: PreferenceBatch) -> Rows: ...


@dataclass(frozen=True)
class Pairs:
    """Every pair of the batch; an example's loss is the mean over its pairs."""

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        return _averaged(batch, batch.pairs[:, 0], batch.pairs[:, 1])


@dataclass(frozen=True)
class Each:
    """Every response by itself; an example's loss is the mean over its responses."""

    def __call__(self, batch: PreferenceBatch) -> Rows:
        responses = learned_responses(batch)
        return _averaged(batch, responses, responses)


@dataclass(frozen=True)
class Listed:
    """The scored responses of an example as one list; its loss is the *sum* over them."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        return _summed(Each()(batch))


@dataclass(frozen=True)
class Chosen:
    """Every response that some pair chooses, or simply every response of a batch without pairs."""

    def __call__(self, batch: PreferenceBatch) -> Rows:
        responses = torch.unique(batch.pairs[:, 0]) if len(batch.pairs) else learned_responses(batch)
        return _averaged(batch, responses, responses)


@dataclass(frozen=True)
class Labelled:
    """Every response with its label; the two sides of each pair where the data are pairs instead."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        if "labels" in batch.columns:
            responses = learned_responses(batch)
            labels = batch.columns["labels"][responses]
        else:
            responses = batch.pairs.T.flatten()
            labels = torch.arange(2, device=responses.device).flip(0).repeat_interleave(len(batch.pairs))
        return replace(_averaged(batch, responses, responses), desirable=labels.to(torch.float64))


@dataclass(frozen=True)
class ByScore:
    """Every two responses of an example with different scores, the better one chosen; the loss is the *sum*."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        responses = learned_responses(batch)
        scores = batch.columns["scores"][responses]
        is_better = same_example(batch.example_index[responses]) & (scores[:, None] > scores[None, :])
        better, worse = is_better.nonzero(as_tuple=True)
        return _summed(_averaged(batch, responses[better], responses[worse]))


@dataclass(frozen=True)
class Best:
    """The response with the highest score of each example (the first of equals)."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        responses = learned_responses(batch)
        scores = batch.columns["scores"][responses]
        is_earlier = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).tril(-1)
        loses = (scores[None, :] > scores[:, None]) | ((scores[None, :] == scores[:, None]) & is_earlier)
        best = responses[~(loses & same_example(batch.example_index[responses])).any(dim=1)]
        return _averaged(batch, best, best)


@dataclass(frozen=True)
class Ranked:
    """The rows of `ByScore`, and the best response of each example by itself; the loss is the *sum*."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __call__(self, batch: PreferenceBatch) -> Rows:
        by_score, best = ByScore()(batch), Best()(batch)
        return Rows(*(torch.cat([getattr(by_score, f.name), getattr(best, f.name)]) for f in fields(Rows)))


@dataclass(frozen=True)
class RepeatedPairs:
    """Every pair `draws` times, each with a random draw of its own; the loss is the mean over the draws."""

    draws: int
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    once: ClassVar[Comparison] = Pairs()

    def __call__(self, batch: PreferenceBatch) -> Rows:
        pair = torch.arange(len(batch.pairs), device=batch.pairs.device).repeat_interleave(self.draws)
        rows = _averaged(batch, batch.pairs[pair, 0], batch.pairs[pair, 1])
        return replace(rows, draw=torch.arange(len(pair), device=pair.device) % self.draws)


@dataclass(frozen=True)
class PairsBySubset:
    """Every pair once for each way to keep as many tokens of its longer response as the shorter has.

    The number of ways is a binomial coefficient, so this is for short responses: more than 20,000 are refused.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    once: ClassVar[Comparison] = Pairs()

    def __call__(self, batch: PreferenceBatch) -> Rows:
        lengths = batch.logps.lengths()[batch.pairs]
        ways = [math.comb(max(pair), min(pair)) for pair in lengths.tolist()]
        if max(ways) > MOST_SUBSETS:
            raise DataError(
                f"the exact expectation runs over every subset of kept tokens: {max(ways):.3g} for one pair",
                hint="use `sampo` with several draws, or `sampo_mean`",
            )
        counts = torch.tensor(ways, device=batch.pairs.device)
        pair = torch.arange(len(ways), device=counts.device).repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        rows = Pairs()(batch)
        return Rows(
            chosen=rows.chosen[pair],
            rejected=rows.rejected[pair],
            example=rows.example[pair],
            share=(rows.share / counts)[pair],
            draw=torch.arange(len(pair), device=counts.device) - first[pair],
            desirable=rows.desirable[pair],
        )


def learned_responses(batch: PreferenceBatch) -> Tensor:
    """Indices of the responses that terms learn from: all but anchor rows (column "anchors"), [responses]."""
    every = torch.arange(batch.logps.num_responses, device=batch.example_index.device)
    anchors = batch.columns.get("anchors")
    return every if anchors is None else every[anchors == 0]


def same_example(example: Tensor) -> Tensor:
    """Whether two rows belong to the same example, [rows] -> [rows, rows]."""
    return example[:, None] == example[None, :]


def _averaged(batch: PreferenceBatch, chosen: Tensor, rejected: Tensor) -> Rows:
    """Rows whose shares make an example's loss the mean over its rows."""
    example = batch.example_index[chosen]
    counts = torch.bincount(example, minlength=batch.num_examples)
    share = 1.0 / counts[example].to(torch.float64)
    return Rows(chosen, rejected, example, share, torch.zeros_like(example), torch.ones_like(share))


def _summed(rows: Rows) -> Rows:
    """The same rows, with an example's loss their sum."""
    return replace(rows, share=torch.ones_like(rows.share))
