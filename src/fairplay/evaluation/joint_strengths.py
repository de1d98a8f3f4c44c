"""All checkpoints on one scale: a Bradley-Terry model of every judged pair with one length coefficient, fitted jointly.

    logit P(j beats i) = theta_j - theta_i + phi * tanh((j's length - i's length) / scale),   theta_start = 0
    win rate of j against i at equal lengths = sigmoid(theta_j - theta_i)

Left out: the fit (`joint_fit`); circles, which no strengths can express (`checkpoint_game` has the pairs one by one).
Floor 5; pure numpy.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from fairplay.errors import DataError
from fairplay.evaluation.columns import JudgementColumns
from fairplay.evaluation.joint_fit import (
    Pair,
    fit_strengths,
    jackknife_covariance,
    joint_design,
    misfit,
    verdict_spread,
)
from fairplay.records import CheckpointStrengths, Interval

Floats = NDArray[np.float64]

ANCHOR = 1e-6
"""Weight of a tie at equal lengths that every pair is given: it moves nothing, but where one checkpoint wins all of its
games its strength ends somewhere beyond 10 nats instead of nowhere."""

_LEVEL = 0.975


def joint_strengths(names: Sequence[str], pairs: Mapping[Pair, JudgementColumns]) -> CheckpointStrengths:
    """Strengths of all checkpoints from every pair that was judged, with covariance and intervals.

    A prompt counts once in each pair that has it. For the errors the model is fitted again with a tie in every pair
    that counts as much as one letter would (`verdict_spread`), half won and half lost; prompts are left out one by one,
    with all their pairs and samples. An interval is t standard errors to both sides of that fit, t Student's with one
    degree of freedom less than there are prompts, stretched to hold the fit without ties.

    Args:
        names: The checkpoints, the start first.
        pairs: (i, j) with i < j -> judgements of j, as the policy, against i.

    Raises:
        DataError: If there are fewer than two checkpoints, or one is not joined to the start by judged pairs.

    Source: Bradley and Terry 1952; with length: Dubois et al. 2024, arXiv:2404.04475; the tie is what half a win and
        half a loss are to a single log-odds: Gart 1966.
    """
    _refuse_strangers(names, pairs)
    order = sorted(pairs)
    design = joint_design(len(names), order, [pairs[pair] for pair in order])
    found = fit_strengths(design, np.full(len(order), ANCHOR))
    ties = verdict_spread(design, found)
    centre = fit_strengths(design, ties)
    spread = jackknife_covariance(design, ties, centre)
    expansion = float(stats.t.ppf(_LEVEL, max(1, design.num_prompts - 1)))

    def interval(contrast: Floats) -> Interval:
        value, middle = float(contrast @ found), float(contrast @ centre)
        half = expansion * float(np.sqrt(contrast @ spread @ contrast))
        return Interval(value, min(middle - half, value), max(middle + half, value))

    units = np.concatenate([np.zeros((1, len(names))), np.eye(len(names))])  # the start's strength is 0
    rates = [[_rate(interval(units[i] - units[j])) for j in range(len(names))] for i in range(len(names))]
    covariance = np.zeros((len(names), len(names)))
    covariance[1:, 1:] = spread[:-1, :-1]
    return CheckpointStrengths(
        names=tuple(names),
        num_prompts=design.num_prompts,
        num_judgements=sum(len(columns.win_probs) for columns in pairs.values()),
        strengths=tuple(interval(unit) for unit in units[:-1]),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        lc_win_rates=tuple(map(tuple, rates)),
        length_slope=interval(units[-1]),
        length_scale=design.scale,
        misfit=misfit(design, found),
    )


def _rate(strength: Interval) -> Interval:
    return Interval(*(float(expit(end)) for end in (strength.value, strength.low, strength.high)))


def _refuse_strangers(names: Sequence[str], pairs: Mapping[Pair, JudgementColumns]) -> None:
    joined = {0}
    for _ in names:
        joined |= {end for pair in pairs if joined & set(pair) for end in pair}
    strangers = [name for number, name in enumerate(names) if number not in joined]
    if strangers or len(names) < 2:
        what = f"{strangers[0]} was judged against nobody that leads to {names[0]}" if strangers else "one checkpoint"
        raise DataError(f"no common scale: {what}", hint="judge every checkpoint against the start, or the one before")
