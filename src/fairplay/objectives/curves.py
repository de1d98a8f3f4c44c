"""Loss curves: what an objective makes of one pair as its margin moves, for figures and for a first look.

Left out: drawing (the command line). Floor 2. The pair is a step of its own, so statistics of the step are its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fairplay.logps import PreferenceBatch, TokenLogps
from fairplay.objectives.evaluate import evaluate
from fairplay.objectives.likelihood import batch_totals
from fairplay.objectives.objective import Objective

LENGTHS = (12, 8)
"""Tokens of the chosen and of the rejected response."""
REFERENCE_LOGP = -2.0
"""Log-prob of every token under the reference, nats; margins beyond +-32 would need probabilities above 1."""
PREFERENCE = (0.75, 0.25)
"""Score and win rate of the chosen and of the rejected response."""
STATISTICS = {
    "log_sum_sq": -1.5,
    "kl_ref_policy": 0.1,
    "kl_policy_ref": 0.1,
    "importance": 1.0,
    "anchor_logratios": 0.0,
}


def one_pair(margin: float) -> PreferenceBatch:
    """A pair with the margin u_w - u_l, in nats, half of it from either side and evenly over the tokens.

    A row of one token with log-ratio 0 comes with it, for objectives that ask for anchor rows.
    """
    sizes = torch.tensor([*LENGTHS, 1])
    logratios = torch.tensor([margin / 2, -margin / 2, 0.0], dtype=torch.float64) / sizes
    reference = torch.full((int(sizes.sum()),), REFERENCE_LOGP, dtype=torch.float64)
    response_index = torch.arange(3).repeat_interleave(sizes)
    return PreferenceBatch(
        logps=TokenLogps(
            policy=reference + logratios[response_index],
            reference=reference,
            response_index=response_index,
            position=torch.cat([torch.arange(int(size)) for size in sizes]),
            num_responses=3,
            statistics={name: torch.full_like(reference, value) for name, value in STATISTICS.items()},
        ),
        example_index=torch.zeros(3, dtype=torch.int64),
        num_examples=1,
        pairs=torch.tensor([[0, 1]]),
        example_keys=torch.zeros(1, dtype=torch.int64),
        columns={
            "scores": torch.tensor([*PREFERENCE, 0.0], dtype=torch.float64),
            "win_rates": torch.tensor([*PREFERENCE, 0.5], dtype=torch.float64),
            "labels": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),
            "anchors": torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        },
    )


def loss_curve(objective: Objective, margins: Sequence[float]) -> Tensor:
    """The loss of one pair at each margin.

    Args:
        objective: What is evaluated; in expectation where it draws.
        margins: u_w - u_l, in nats, within +-32.

    Returns:
        Losses, [margins], float64.
    """
    expected = objective.in_expectation()
    with torch.no_grad():
        losses = [evaluate(expected, pair, batch_totals(pair)).loss for pair in map(one_pair, margins)]
    return torch.stack(losses)
