"""Scalars that stay finite, with finite gradients, for any finite input in float32.

Left out: everything about preferences. Floor 2, below all other files of `objectives/`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_EXPONENT = 40.0
SMALLEST_LOGP = -1e-12


def exp(values: Tensor) -> Tensor:
    """e^x, continued as a straight line above x = 40, where float32 would soon overflow.

    The continuation keeps the slope e^40, so a diverging log-ratio still pulls back instead of giving inf - inf.
    """
    capped = values.clamp(max=LARGEST_EXPONENT)
    return torch.exp(capped) * (1 + (values - capped))


def log1mexp(logps: Tensor) -> Tensor:
    """log(1 - e^x) for x <= 0, without the cancellation that makes `log1p(-exp(x))` -inf near 0.

    Two branches that meet at -log 2; x is held at or below -1e-12, where the gradient vanishes instead of exploding.

    Source: Maechler 2012, "Accurately computing log(1 - exp(-|a|))"; huggingface/trl#4763.
    """
    below = logps.clamp(max=SMALLEST_LOGP)
    is_near = below > -math.log(2)
    near = torch.where(is_near, below, torch.full_like(below, -math.log(2)))
    far = torch.where(is_near, torch.full_like(below, -math.log(2)), below)
    return torch.where(is_near, torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))


def softplus(values: Tensor) -> Tensor:
    """log(1 + e^x), exact in both tails (torch's own `softplus` turns linear at 20, an error of 2e-9)."""
    return -functional.logsigmoid(-values)
