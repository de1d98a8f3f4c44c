"""Random batches with every kind of data that any objective may ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, TokenLogps

STATISTICS = ("log_sum_sq", "kl_ref_policy", "kl_policy_ref", "importance", "anchor_logratios")


@dataclass(frozen=True)
class RandomExample:
    """One example, its tokens by response; the last response is an anchor row, which no term learns from."""

    key: int
    policy: tuple[Tensor, ...]
    reference: tuple[Tensor, ...]
    statistics: Mapping[str, tuple[Tensor, ...]]
    columns: Mapping[str, Tensor]
    pairs: tuple[tuple[int, int], ...]


def random_example(generator: torch.Generator, key: int, *, responses: int = 3, most_tokens: int = 6) -> RandomExample:
    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, most_tokens + 1, (responses + 1,), generator=generator).tolist()
    scores = uniform(0.1, 0.9, responses + 1)
    best, *others = scores[:responses].argsort(descending=True).tolist()
    is_anchor = torch.arange(responses + 1) == responses
    return RandomExample(
        key=key,
        policy=tuple(uniform(-2.0, -0.05, n) for n in lengths),
        reference=tuple(uniform(-2.0, -0.05, n) for n in lengths),
        statistics={name: tuple(uniform(0.05, 1.0, n) for n in lengths) for name in STATISTICS},
        columns={
            "scores": scores,
            "win_rates": scores,
            "labels": (scores > scores[:responses].median()).to(torch.float64),
            "anchors": is_anchor.to(torch.float64),
        },
        pairs=tuple((best, other) for other in others),
    )


def assemble(examples: Sequence[RandomExample], **changes: object) -> PreferenceBatch:
    policy = [tokens for example in examples for tokens in example.policy]
    sizes = [len(example.policy) for example in examples]
    first = [sum(sizes[:place]) for place in range(len(sizes))]
    logps = TokenLogps(
        policy=torch.cat(policy),
        reference=torch.cat([tokens for example in examples for tokens in example.reference]),
        response_index=torch.cat([torch.full((len(tokens),), place) for place, tokens in enumerate(policy)]),
        position=torch.cat([torch.arange(len(tokens)) for tokens in policy]),
        num_responses=len(policy),
        statistics={
            name: torch.cat([tokens for example in examples for tokens in example.statistics[name]])
            for name in STATISTICS
        },
    )
    batch = PreferenceBatch(
        logps=logps,
        example_index=torch.tensor([place for place, size in enumerate(sizes) for _ in range(size)]),
        num_examples=len(examples),
        pairs=torch.tensor(
            [
                (start + chosen, start + rejected)
                for start, example in zip(first, examples, strict=True)
                for chosen, rejected in example.pairs
            ],
            dtype=torch.int64,
        ).reshape(-1, 2),
        example_keys=torch.tensor([example.key for example in examples]),
        columns={name: torch.cat([example.columns[name] for example in examples]) for name in examples[0].columns},
    )
    return replace(batch, **changes)


@cache
def random_examples(
    seed: int, *, count: int = 4, responses: int = 3, most_tokens: int = 6
) -> tuple[RandomExample, ...]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randint(0, 2**62, (count,), generator=generator).tolist()
    return tuple(random_example(generator, key, responses=responses, most_tokens=most_tokens) for key in keys)


def with_policy(batch: PreferenceBatch, policy: Tensor) -> PreferenceBatch:
    return replace(batch, logps=replace(batch.logps, policy=policy))


def with_reference(batch: PreferenceBatch, reference: Tensor, *, has_reference: bool = True) -> PreferenceBatch:
    return replace(batch, logps=replace(batch.logps, reference=reference, has_reference=has_reference))
