"""Seeds from names: every random draw comes from a hash of what it is for, never from a shared generator's state.

So results do not depend on batch layout, number of workers, order or interruptions. Left out: generators (numpy's and
torch's are seeded with these numbers where they are used). Floor 1.
"""

import hashlib


def stable_seed(*parts: str | int) -> int:
    """A 63-bit seed from the parts, the same on every machine and in every process.

    Args:
        parts: What the draw is for, such as (run seed, "responses", iteration, prompt id, sample index).

    Returns:
        An integer in [0, 2**63).
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
