"""The win rate that remains when both responses have the same length and as much markdown.

A fractional logit of the prompt's win probability on style differences, uncentred, evaluated where they are all zero:

    logit P(policy wins) = theta + gamma . z,   controlled win rate = sigmoid(theta)

Left out: judging. Floor 5; pure numpy. The features are Arena-Hard's; there they are centred, which evaluates at the
average difference instead of none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairplay.evaluation.intervals import bootstrap, imagined_outcomes, interval_from_draws
from fairplay.records import Interval

Floats = NDArray[np.float64]

FEATURES = ("length", "headers", "lists", "bold")
RIDGE = 0.04
"""Penalty on gamma, RIDGE / 2 * gamma^2 beside a log-likelihood in which each prompt counts 1; theta is free."""

ENOUGH_DECIDED = 40
"""Prompts won, and prompts lost, from which the intervals of the coefficients keep their word: ten for each of them
(Peduzzi et al. 1996)."""

_EDGE = 1e-6
_TOLERANCE = 1e-8
_MAX_STEPS = 500
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


@dataclass(frozen=True)
class StyleControl:
    """The controlled win rate, and what style is worth.

    Attributes:
        win_rate: sigmoid(theta), in [0, 1].
        coefficients: gamma by feature, in nats of log-odds for one typical difference (root mean square); positive
            where the judge rewards more of it. None where fewer than `ENOUGH_DECIDED` prompts are won, or lost: their
            intervals would be too narrow.
    """

    win_rate: Interval
    coefficients: dict[str, Interval]


def style_differences(policy: Sequence[str], opponent: Sequence[str], lengths: Floats, other_lengths: Floats) -> Floats:
    """Style of the policy's responses against the opponent's, [pairs, features], antisymmetric, in [-1, 1].

    Args:
        policy, opponent: The texts, [pairs]; code blocks are no markdown.
        lengths, other_lengths: Their lengths, [pairs], in tokens or characters.

    Returns:
        (a - b) / (a + b) for lengths; (a - b) / (a + b + 1) for headers, list items and bold stretches, each counted
        per 1000 units of length; 0 where both are empty.

    Source: arena-hard-auto, show_result.py and utils/math_utils.py (densities per token there).
    """
    columns = [_ratio(lengths, other_lengths, 0.0)]
    for pattern in (_HEADER, _LIST, _BOLD):
        one, other = (
            np.array([len(pattern.findall(_CODE.sub("", text))) for text in texts]) * 1000 / np.maximum(size, 1)
            for texts, size in ((policy, lengths), (opponent, other_lengths))
        )
        columns.append(_ratio(one, other, 1.0))
    return np.stack(columns, axis=1)


def _ratio(one: Floats, other: Floats, extra: float) -> Floats:
    total = one + other + extra
    return np.divide(one - other, total, out=np.zeros_like(total, dtype=np.float64), where=total > 0)


def style_control(win_probs: Floats, differences: Floats, *, seed: int, num_bootstrap: int) -> StyleControl:
    """Fit, and refit in each resample of the prompts.

    Args:
        win_probs: P(policy wins) by prompt, [prompts].
        differences: Style differences, [prompts, features]; means over a prompt's samples.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts. The two imagined ones of `bootstrap` have no style difference.
    """
    scale = np.sqrt((differences**2).mean(axis=0))
    scaled = np.divide(differences, scale, out=np.zeros_like(differences), where=scale > 0)
    rows = np.concatenate([win_probs, imagined_outcomes(win_probs, centre=0.5, limit=0.5)])
    design = np.concatenate([scaled, np.zeros((2, scaled.shape[1]))])
    seen = np.ones((1, len(rows)))
    seen[:, len(win_probs) :] = 0
    value = fit_style(rows, design, seen)[0]
    draws = bootstrap(
        lambda counts: fit_style(rows, design, counts),
        num_prompts=len(win_probs),
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    told = [
        interval_from_draws(float(one), column, num_prompts=len(win_probs), unbiased=place > 0)
        for place, (one, column) in enumerate(zip(value, draws.T, strict=True))
    ]
    enough = min((win_probs > 0.5).sum(), (win_probs < 0.5).sum()) >= ENOUGH_DECIDED
    return StyleControl(told[0], dict(zip(FEATURES, told[1:], strict=True)) if enough else {})


def fit_style(win_probs: Floats, differences: Floats, weights: Floats) -> Floats:
    """Controlled win rate and coefficients, one fit for each row of weights, [fits, 1 + features].

    Damped Newton as in `length_control`. Where the mean win probability is within 1e-6 of 0 or 1, theta has no finite
    value: the rate is that mean, and style is worth nothing.

    Args:
        win_probs: [rows].
        differences: [rows, features].
        weights: [fits, rows], >= 0, each row with a positive sum.
    """
    design = np.concatenate([np.ones((len(win_probs), 1)), differences], axis=1)
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    excess = win_probs - 0.5
    means = weights @ excess / weights.sum(axis=1)
    result = np.zeros((len(weights), size))
    result[:, 0] = 0.5 + means
    inner = np.abs(means) < 0.5 - _EDGE
    if not inner.any():
        return result
    weights = weights[inner]
    beta = np.zeros((len(weights), size))
    beta[:, 0] = 2 * np.arctanh(2 * means[inner])
    ridge = np.diag([0.0] + [RIDGE] * (size - 1))
    wins = weights @ (excess[:, None] * design)
    for _ in range(_MAX_STEPS):
        fitted = 0.5 * np.tanh(0.5 * (beta @ design.T))
        gradient = wins - (weights * fitted) @ design - beta @ ridge
        hessian = ((weights * (0.25 - fitted**2)) @ products).reshape(-1, size, size) + ridge
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        norm = np.sqrt(2 * (step**2).sum(axis=1, keepdims=True))
        beta += np.where(norm > 0, np.log1p(norm) / np.maximum(norm, np.finfo(np.float64).tiny), 0) * step
        if norm.max() < _TOLERANCE * (1 + np.abs(beta[:, 1:]).max(initial=0.0)):
            break
    else:
        raise AssertionError(f"the style model did not converge in {_MAX_STEPS} steps")
    result[inner, 0] = 0.5 + 0.5 * np.tanh(0.5 * beta[:, 0])
    result[inner, 1:] = beta[:, 1:]
    return result
