"""How often an interval holds the truth in simulated evaluations; shared by the coverage tests of this folder."""

from collections import Counter

import numpy as np


def coverage(draw, num_simulations, seed=11):
    """Name of an interval -> share of simulations in which it holds its truth; `draw(rng, seed)` names both."""
    rng, hits = np.random.default_rng(seed), Counter()
    for number in range(num_simulations):
        for name, (interval, truth) in draw(rng, number).items():
            hits[name] += interval.low <= truth <= interval.high
    return {name: count / num_simulations for name, count in hits.items()}


def assert_covered(draw, *, num_simulations):
    found = coverage(draw, num_simulations)
    print(found)
    assert found, "no interval"
    wrong = {name: share for name, share in found.items() if not 0.93 <= share <= 0.97}
    assert not wrong, f"{wrong} of {found}"
