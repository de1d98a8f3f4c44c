"""From pair logits to win probabilities by named rules, and the part of the logits that is mere presentation order.

Left out: fitting the temperature (`training/oracle_training.py`) and what probabilities are used for. Floor 2; pure.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairplay.errors import DataError, SettingsError
from fairplay.lookup import lookup
from fairplay.records import PreferenceGroup

Matrix = NDArray[np.float64]


def symmetric_logits(pair_logits: NDArray[np.floating]) -> Matrix:
    """The logit that i beats j with presentation order averaged out: d = (L - L^T) / 2.

    Args:
        pair_logits: L[i, j], the logit that i beats j when i is shown first, [K, K]; NaN, both ways, where the two were
            not compared.

    Returns:
        d, [K, K], antisymmetric; exactly 0 on the diagonal; NaN where L is.

    Raises:
        ValueError: If the logits are not a square matrix of finite numbers, pairs that were not compared apart.
    """
    logits = _checked(pair_logits)
    return 0.5 * (logits - logits.T)


def order_bias(pair_logits: NDArray[np.floating]) -> Matrix:
    """What the first-shown response gains by being first: (L + L^T) / 2.

    Args:
        pair_logits: As for `symmetric_logits`, [K, K].

    Returns:
        The bias in nats of logit, [K, K], symmetric; positive favours the response shown first.

    Raises:
        ValueError: If the logits are not a square matrix of finite numbers.
    """
    logits = _checked(pair_logits)
    return 0.5 * (logits + logits.T)


def win_matrix(pair_logits: NDArray[np.floating], *, rule: str = "calibrated", temperature: float = 1.0) -> Matrix:
    """P(i beats j) by a named rule.

    Args:
        pair_logits: As for `symmetric_logits`, [K, K].
        rule: A name in `WIN_RULES`.
        temperature: T > 0; divides the rule's logit. It belongs to the oracle, which fitted it on labelled pairs.

    Returns:
        Probabilities, [K, K]; P[i, j] + P[j, i] = 1, and exactly 1/2 on the diagonal and wherever the logit is 0; NaN
        where the pair was not compared.

    Raises:
        ValueError: As `symmetric_logits`, or if the temperature is not positive.
        SettingsError: If there is no such rule, or it needs a verdict on every pair and there is not.

    Source: Wu et al. 2024, arXiv:2405.00675; uclaml/SPPO scripts/compute_prob.py:45 and its issue 15; Jiang et al.
        2023, arXiv:2306.02561 (the pair ranker's training loss, which makes sigmoid(L_ij) its own probability).
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature} is not a positive number")
    logit_of_rule = lookup(WIN_RULES, rule, "probability rule")
    return np.asarray(expit(logit_of_rule(symmetric_logits(pair_logits)) / temperature))


def group_logits(preferences: PreferenceGroup) -> Matrix:
    """The pair logits of a group as a matrix, checked against its responses.

    Args:
        preferences: A group with an oracle's verdicts.

    Returns:
        L, [K, K]. Where a pair was read in one order only, L_ij = -L_ji: that order's logit is all there is to know of
        the pair, its order bias included. NaN where the pair was not to be compared (`PreferenceGroup.anchors`) and was
        not; finite elsewhere.

    Raises:
        DataError: If the logits are not K x K, one is not finite, or a pair that was to be compared was read in neither
            order; the message names the prompt. A verdict that is missing or no number is never read as a tie.
    """
    group = preferences.group
    num_responses = len(group.responses)
    rows = preferences.pair_logits
    if len(rows) != num_responses or any(len(row) != num_responses for row in rows):
        raise DataError(f"prompt {group.prompt.id}: pair logits are not {num_responses} x {num_responses}")
    is_read = orders_read(preferences)
    is_compared = is_read | is_read.T
    is_lost = asked_pairs(preferences) & ~is_compared
    if is_lost.any():
        i, j = np.argwhere(is_lost)[0]
        raise DataError(
            f"prompt {group.prompt.id}: there is no verdict on responses {i} and {j}",
            hint="rank the responses again; every pair must be read in one order at least",
        )
    logits = np.asarray(rows, dtype=np.float64).reshape(num_responses, num_responses)
    logits = np.where(is_read, logits, -logits.T)
    is_broken = is_compared & ~np.isfinite(logits)
    if is_broken.any():
        i, j = np.argwhere(is_broken)[0]
        raise DataError(
            f"prompt {group.prompt.id}: the pair logit of responses {i} and {j} is {logits[i, j]}",
            hint="the oracle overflowed or was given broken weights; try float32, then look at these two responses",
        )
    return logits


def orders_read(preferences: PreferenceGroup) -> NDArray[np.bool_]:
    """Which entries of a group's pair logits were read, [K, K]: all of them, or one order of some pairs."""
    return np.asarray([[logit is not None for logit in row] for row in preferences.pair_logits], dtype=np.bool_)


def asked_pairs(preferences: PreferenceGroup) -> NDArray[np.bool_]:
    """Which pairs of a group an oracle was to compare, [K, K]: all of them, or those with an anchor."""
    is_anchor = np.zeros(len(preferences.group.responses), dtype=np.bool_)
    is_anchor[list(preferences.anchors or range(len(is_anchor)))] = True
    return is_anchor[:, None] | is_anchor[None, :]


def _calibrated(d: Matrix) -> Matrix:
    return d


def _raw_table(d: Matrix) -> Matrix:
    return 2 * d


def _sppo_code(d: Matrix) -> Matrix:
    if np.isnan(d).any():
        raise SettingsError(
            "the rule `sppo-code` needs a verdict on every pair, and some were not compared",
            hint="use `calibrated`, or let the oracle compare all (num_anchors: 0)",
        )
    rank_scores: Matrix = 2 * d.mean(axis=1)
    return np.subtract.outer(rank_scores, rank_scores)


WIN_RULES: Mapping[str, Callable[[Matrix], Matrix]] = MappingProxyType(
    {"calibrated": _calibrated, "raw-table": _raw_table, "sppo-code": _sppo_code}
)


def _checked(pair_logits: NDArray[np.floating]) -> Matrix:
    logits = np.asarray(pair_logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"pair logits must be a square matrix, not of shape {logits.shape}")
    is_unknown = np.isnan(logits) & np.isnan(logits.T) & ~np.eye(len(logits), dtype=np.bool_)
    if not (np.isfinite(logits) | is_unknown).all():
        raise ValueError("pair logits must be finite, or NaN both ways where a pair was not compared")
    return logits
