"""Scalar losses f(m) of a margin m, all in the direction "a large margin is good".

Left out: losses of a whole group of responses (`group_losses.py`), label noise (`objective.py`). Floor 2.
Each maps margins [rows] to losses [rows]; the second argument, the comparisons, is there for losses that read data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fairplay.objectives import stable
from fairplay.objectives.sides import Comparisons

Loss = Callable[[Tensor, Comparisons], Tensor]


def logistic(margins: Tensor, _: Comparisons) -> Tensor:
    """-log sigmoid(m)."""
    return -functional.logsigmoid(margins)


def sigmoid(margins: Tensor, _: Comparisons) -> Tensor:
    """1 / (1 + e^m): bounded, so hopeless rows stop pulling (KTO, APO)."""
    return torch.sigmoid(-margins)


def square(margins: Tensor, _: Comparisons) -> Tensor:
    """m^2: regression of the contrast to its offset."""
    return margins.square()


def hinge(margins: Tensor, _: Comparisons) -> Tensor:
    """max(0, 1 - m)."""
    return functional.relu(1 - margins)


def ranking(margins: Tensor, _: Comparisons) -> Tensor:
    """max(0, -m): only rows in the wrong order count."""
    return functional.relu(-margins)


def linear(margins: Tensor, _: Comparisons) -> Tensor:
    """-m."""
    return -margins


def exponential(margins: Tensor, _: Comparisons) -> Tensor:
    """e^-m."""
    return stable.exp(-margins)


def truncated_quadratic(margins: Tensor, _: Comparisons) -> Tensor:
    """max(0, 1 - m)^2."""
    return functional.relu(1 - margins).square()


def savage(margins: Tensor, _: Comparisons) -> Tensor:
    """1 / (1 + e^m)^2; not convex."""
    return torch.sigmoid(-margins).square()


@dataclass(frozen=True)
class LogRatioModulated:
    """(1 - g) * -log sigmoid(m) + g * e^-m with g = sigmoid(m / tau): DiscoPOP's discovered loss."""

    tau: float

    def __call__(self, margins: Tensor, _: Comparisons) -> Tensor:
        gate = torch.sigmoid(margins / self.tau)
        return (1 - gate) * stable.softplus(-margins) + gate * stable.exp(-margins)


@dataclass(frozen=True)
class ClippedLogistic:
    """-log sigmoid(clip(m, -limit, limit))."""

    limit: float

    def __call__(self, margins: Tensor, _: Comparisons) -> Tensor:
        return stable.softplus(-margins.clamp(-self.limit, self.limit))


@dataclass(frozen=True)
class ClippedExponential:
    """e^-max(m, -limit): no gradient below -limit."""

    limit: float

    def __call__(self, margins: Tensor, _: Comparisons) -> Tensor:
        return stable.exp(-margins.clamp(min=-self.limit))


@dataclass(frozen=True)
class ReverseKlToHardLabel:
    """KL(Bernoulli(sigmoid(m)) || Bernoulli(1 - epsilon)): the model's distribution comes first."""

    epsilon: float

    def __call__(self, margins: Tensor, _: Comparisons) -> Tensor:
        log_right, log_wrong = functional.logsigmoid(margins), functional.logsigmoid(-margins)
        right = log_right.exp() * (log_right - math.log1p(-self.epsilon))
        return right + log_wrong.exp() * (log_wrong - math.log(self.epsilon))


@dataclass(frozen=True)
class KlFromScores:
    """KL(Bernoulli(p) || Bernoulli(sigmoid(m))) with p = sigmoid(eta * (score of chosen - score of rejected))."""

    eta: float
    needs = frozenset({"scores"})

    def __call__(self, margins: Tensor, comparisons: Comparisons) -> Tensor:
        gap = comparisons.column("scores", comparisons.chosen) - comparisons.column("scores", comparisons.rejected)
        log_p, log_q = functional.logsigmoid(self.eta * gap), functional.logsigmoid(-self.eta * gap)
        chosen = log_p.exp() * (log_p - functional.logsigmoid(margins))
        return chosen + log_q.exp() * (log_q - functional.logsigmoid(-margins))
