"""Links phi: from a log-ratio u (or a mean log-prob, where there is no reference) to a reward phi(u).

Left out: the scale beta (`objective.py`). Floor 2. Each maps [rows] to [rows] element by element.
f-DPO's link is the derivative f' of its divergence at the ratio e^u, up to constants that cancel in a margin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fairplay.objectives import stable

Link = Callable[[Tensor], Tensor]


def identity(u: Tensor) -> Tensor:
    """phi(u) = u: reverse KL, so DPO and most others."""
    return u


def forward_kl(u: Tensor) -> Tensor:
    """phi(u) = 1 - e^-u."""
    return 1 - stable.exp(-u)


def jensen_shannon(u: Tensor) -> Tensor:
    """phi(u) = log 2 + log sigmoid(u)."""
    return math.log(2) + functional.logsigmoid(u)


def chi_squared_and_kl(u: Tensor) -> Tensor:
    """phi(u) = e^u + u: chi-PO's mix of chi-squared divergence and reverse KL."""
    return stable.exp(u) + u


def log_odds(mean_logps: Tensor) -> Tensor:
    """phi(A) = A - log(1 - e^A): the log-odds of a response whose probability per token is e^A."""
    return mean_logps - stable.log1mexp(mean_logps)


def probability(mean_logps: Tensor) -> Tensor:
    """phi(A) = e^A: the probability per token, so 1 / perplexity."""
    return stable.exp(mean_logps)


@dataclass(frozen=True)
class Power:
    """phi(u) = (1 - e^(-alpha u)) / alpha: f-DPO's alpha-divergence and AlphaPO's reward are this one function."""

    alpha: float

    def __call__(self, u: Tensor) -> Tensor:
        return (1 - stable.exp(-self.alpha * u)) / self.alpha
