"""Seeds from names: every random draw comes from a hash of what it is for, never from a shared generator's state.

So results do not depend on batch layout, number of workers, order or interruptions. Left out: generators (numpy's and
torch's are seeded with these numbers where they are used). Floor 1.
"""

import hashlib
from collections.abc import Sequence


def stable_seed(*parts: str | int) -> int:
    """A 63-bit seed from the parts, the same on every machine and in every process.

    Args:
        parts: What the draw is for, such as (run seed, "responses", iteration, prompt id, sample index).

    Returns:
        An integer in [0, 2**63).
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample_seeds(number: int, *parts: str | int) -> list[int]:
    """The seeds of one prompt's samples: consecutive numbers, so that vLLM can draw all of them in one request.

    There sample i has the seed of its request plus i. Two prompts begin at random places among 2**63 numbers; that any
    two of ten million with five samples each overlap has a chance of 1 in 10,000.

    Args:
        number: How many (K); the first ones do not depend on it.
        parts: What the samples are for, such as (run seed, "responses", iteration, prompt id).
    """
    first = stable_seed(*parts) % (2**63 - number)
    return list(range(first, first + number))


def consecutive_runs(seeds: Sequence[int], *, longest: int) -> list[range]:
    """Seeds cut into the fewest runs of numbers that follow each other, in their order.

    Args:
        seeds: Any numbers.
        longest: Numbers in a run at most.
    """
    runs: list[range] = []
    for seed in seeds:
        if runs and seed == runs[-1].stop and len(runs[-1]) < longest:
            runs[-1] = range(runs[-1].start, seed + 1)
        else:
            runs.append(range(seed, seed + 1))
    return runs
