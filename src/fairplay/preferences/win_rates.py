"""From win probabilities among K responses to each response's win rate against the policy that wrote them.

Left out: how the probabilities come about (`win_matrix.py`). Floor 2; pure.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fairplay.lookup import lookup

Vector = NDArray[np.float64]


def win_rates(win_probs: NDArray[np.floating], *, opponents: str) -> Vector:
    """P(y_i beats the policy), estimated on the K responses that the policy wrote.

    Args:
        win_probs: P(i beats j), [K, K], in [0, 1], with P[i, j] + P[j, i] = 1 and 1/2 on the diagonal; NaN, both ways,
            where the two were not compared: a rate is the mean over those that were.
        opponents: `leave-one-out` (mean over j != i: unbiased) or `with-self` (mean over all j, which shrinks the
            advantage over 1/2 by (K - 1) / K).

    Returns:
        Win rates, [K], in [0, 1]; their mean is 1/2 where all pairs were compared.

    Raises:
        ValueError: If the probabilities are not a square matrix within [0, 1], do not complement each other, or, with
            `leave-one-out`, K = 1 or a response was compared with no other.
        SettingsError: If there is no such choice of opponents.

    Source: Wu et al. 2024, arXiv:2405.00675, Algorithm 1 (with-self).
    """
    mean_over = lookup(MEANS_OVER, opponents, "choice of opponents")
    return mean_over(check_win_probs(win_probs, complete=False))


def check_win_probs(win_probs: NDArray[np.floating], *, complete: bool = True) -> Vector:
    """A win matrix as float64.

    Args:
        win_probs: P(i beats j), [K, K].
        complete: Whether every pair must have been compared; else NaN stands, both ways, where it was not.

    Returns:
        The same, [K, K].

    Raises:
        ValueError: If it is not a square matrix within [0, 1] whose two triangles complement each other.
    """
    probs = np.asarray(win_probs, dtype=np.float64)
    if probs.ndim != 2 or probs.shape[0] != probs.shape[1] or not len(probs):
        raise ValueError(f"win probabilities must be a square matrix, not of shape {probs.shape}")
    is_unknown = np.isnan(probs) & (not complete)
    if not (((probs >= 0) & (probs <= 1)) | is_unknown).all():
        raise ValueError("win probabilities must lie within [0, 1]")
    both = np.where(is_unknown & is_unknown.T & ~np.eye(len(probs), dtype=np.bool_), 1.0, probs + probs.T)
    if not (np.abs(both - 1) <= 1e-6).all():
        raise ValueError("P(i beats j) and P(j beats i) must add up to 1, and the diagonal must be 1/2")
    return probs


def _leave_one_out(probs: Vector) -> Vector:
    if len(probs) < 2:
        raise ValueError("leave-one-out needs at least 2 responses")
    num_opponents = (~np.isnan(probs)).sum(axis=1) - 1
    if not num_opponents.all():
        raise ValueError(f"response {np.argmin(num_opponents)} was compared with no other")
    rates: Vector = (np.nansum(probs, axis=1) - probs.diagonal()) / num_opponents
    return np.clip(rates, 0.0, 1.0)


def _with_self(probs: Vector) -> Vector:
    return np.asarray(np.nanmean(probs, axis=1))


MEANS_OVER: Mapping[str, Callable[[Vector], Vector]] = MappingProxyType(
    {"leave-one-out": _leave_one_out, "with-self": _with_self}
)
