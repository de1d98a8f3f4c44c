"""All checkpoints on one scale: a Bradley-Terry model of every judged pair with one length coefficient, fitted jointly.

    logit P(j beats i) = theta_j - theta_i + phi * tanh((j's length - i's length) / scale),   theta_start = 0
    win rate of j against i at equal lengths = sigmoid(theta_j - theta_i)

Left out: circles, which no strengths can express (`checkpoint_game` has the pairs one by one). Floor 5; pure numpy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fairplay.errors import DataError
from fairplay.evaluation.columns import JudgementColumns
from fairplay.evaluation.intervals import NUM_IMAGINED, bootstrap, imagined_outcomes, interval_from_draws
from fairplay.evaluation.length_control import DRAW_STEP, LAST_STEP, SLOPE_RIDGE
from fairplay.records import CheckpointStrengths, Interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Pair = tuple[int, int]

ANCHOR = 1e-6
"""Weight of a tie at equal lengths that every pair is given: it moves nothing, but where one checkpoint wins all of its
games its strength ends somewhere beyond 10 nats instead of nowhere."""

_MAX_STEPS = 500
_CELLS = 1 << 17


@dataclass(frozen=True)
class JointDesign:
    """Rows of all pairs, one below the other.

    Attributes:
        features: [rows, strengths + 1]: +1 for the later checkpoint, -1 for the earlier one, the start left out; then
            tanh(length gap / scale).
        excess: P(the later one wins) - 1/2, [rows].
        prompt_index: The prompt of each row, [rows]; the two imagined ones and the anchors come after the others.
        row_weights: Weight of each row within its prompt and pair, [rows].
        pair_index: The pair of each row, [rows]; -1 for rows that nobody judged.
        num_prompts: Prompts that were judged for some pair.
        scale: Length gap that counts as one unit.
    """

    features: Floats
    excess: Floats
    prompt_index: Integers
    row_weights: Floats
    pair_index: Integers
    num_prompts: int
    scale: float


def joint_strengths(
    names: Sequence[str], pairs: Mapping[Pair, JudgementColumns], *, seed: int, num_bootstrap: int = 2000
) -> CheckpointStrengths:
    """Strengths of all checkpoints from every pair that was judged, with covariance and intervals.

    A prompt counts once in each pair that has it. Intervals resample whole prompts, with all their pairs and samples,
    and refit the model in each resample; the covariance is the sandwich estimate, clustered by prompt as well.

    Args:
        names: The checkpoints, the start first.
        pairs: (i, j) with i < j -> judgements of j, as the policy, against i.
        seed: Seed of the run.
        num_bootstrap: Resamples of the prompts.

    Raises:
        DataError: If there are fewer than two checkpoints, or one is not joined to the start by judged pairs.

    Source: Bradley and Terry 1952; sandwich: Liang and Zeger 1986; with length: Dubois et al. 2024, arXiv:2404.04475.
    """
    _refuse_strangers(names, pairs)
    order = sorted(pairs)
    design = joint_design(len(names), order, [pairs[pair] for pair in order])
    seen = np.zeros((1, design.num_prompts + NUM_IMAGINED))
    seen[:, : design.num_prompts] = 1
    found = fit_strengths(design, seen, np.zeros(len(names)), LAST_STEP)[0]
    draws = bootstrap(
        lambda counts: fit_strengths(design, counts, found, DRAW_STEP),
        num_prompts=design.num_prompts,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )

    def interval(contrast: Floats) -> Interval:
        return interval_from_draws(float(contrast @ found), draws @ contrast, num_prompts=design.num_prompts)

    units = np.concatenate([np.zeros((1, len(names))), np.eye(len(names))])  # the start's strength is 0
    rates = [[_rate(interval(units[i] - units[j])) for j in range(len(names))] for i in range(len(names))]
    covariance = np.zeros((len(names), len(names)))
    covariance[1:, 1:] = _covariance(design, found)[:-1, :-1]
    return CheckpointStrengths(
        names=tuple(names),
        num_prompts=design.num_prompts,
        num_judgements=sum(len(columns.win_probs) for columns in pairs.values()),
        strengths=tuple(interval(unit) for unit in units[:-1]),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        lc_win_rates=tuple(map(tuple, rates)),
        length_slope=interval(units[-1]),
        length_scale=design.scale,
        misfit=_misfit(design, found),
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


def joint_design(num_names: int, order: Sequence[Pair], judged: Sequence[JudgementColumns]) -> JointDesign:
    """The rows of the model: for each pair in that order its judgements, two imagined prompts, and its anchor."""
    prompts = sorted(set().union(*(columns.prompt_ids for columns in judged)))
    number = {prompt: place for place, prompt in enumerate(prompts)}
    gaps = [columns.policy_lengths - columns.opponent_lengths for columns in judged]
    squares = np.concatenate([columns.prompt_means(gap**2) for columns, gap in zip(judged, gaps, strict=True)])
    scale = float(np.sqrt(squares.mean()))
    parts = []
    for place, ((i, j), columns, gap) in enumerate(zip(order, judged, gaps, strict=True)):
        outcomes = imagined_outcomes(columns.prompt_scores(), centre=0.5, limit=0.5)
        prompt_index = np.array([number[prompt] for prompt in columns.prompt_ids])[columns.prompt_index]
        extra = len(prompts) + np.arange(NUM_IMAGINED + 1)  # the imagined prompts of `bootstrap`, then the anchor
        rows = np.zeros((len(gap) + NUM_IMAGINED + 1, num_names + 1))
        rows[:, j], rows[:, i] = 1.0, -1.0
        rows[: len(gap), -1] = np.tanh(gap / scale) if scale > 0 else 0.0
        parts.append(
            (
                rows[:, 1:],
                np.concatenate([columns.win_probs - 0.5, outcomes - 0.5, [0.0]]),
                np.concatenate([prompt_index, extra]),
                np.concatenate([columns.row_weights, np.ones(NUM_IMAGINED), [ANCHOR]]),
                np.concatenate([np.full(len(gap), place), np.full(NUM_IMAGINED + 1, -1)]),
            )
        )
    features, excess, prompt_index, row_weights, pair_index = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return JointDesign(features, excess, prompt_index, row_weights, pair_index, len(prompts), scale)


def _ridge(design: JointDesign) -> Floats:
    """The penalty on phi, none on strengths, [strengths + 1]."""
    penalty = np.zeros(design.features.shape[1])
    penalty[-1] = SLOPE_RIDGE
    return penalty


def fit_strengths(design: JointDesign, counts: Floats, start: Floats, last_step: float) -> Floats:
    """Strengths and phi for each row of prompt counts, [fits, strengths + 1]; Newton's damped method, in chunks."""
    chunk = max(1, _CELLS // len(design.excess))
    counts = np.concatenate([counts, np.ones((len(counts), 1))], axis=1)  # anchors count once in every resample
    return np.concatenate(
        [_newton(design, counts[first : first + chunk], start, last_step) for first in range(0, len(counts), chunk)]
    )


def _newton(design: JointDesign, counts: Floats, start: Floats, last_step: float) -> Floats:
    features, ridge = design.features, _ridge(design)
    size = features.shape[1]
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    weights = counts[:, design.prompt_index] * design.row_weights
    wins = (weights * design.excess) @ features
    found = np.tile(start, (len(counts), 1))
    for _ in range(_MAX_STEPS):
        fitted = 0.5 * np.tanh((0.5 * found) @ features.T)
        gradients = wins - (weights * fitted) @ features - ridge * found
        hessians = ((weights * (0.25 - fitted**2)) @ products).reshape(-1, size, size) + np.diag(ridge)
        steps = np.linalg.solve(hessians, gradients[:, :, None])[:, :, 0]
        reach = 2 * np.abs(steps).max(axis=1) + np.abs(steps[:, -1])  # how far a row's log-odds move at most
        found += (np.log1p(reach) / np.maximum(reach, np.finfo(np.float64).tiny))[:, None] * steps
        if reach.max() < last_step * (1 + np.abs(found).max()):
            return found
    raise AssertionError(f"the joint fit did not converge in {_MAX_STEPS} steps")


def _covariance(design: JointDesign, found: Floats) -> Floats:
    """Sandwich estimate, clustered by prompt, of strengths and phi, [strengths + 1, strengths + 1]."""
    judged = design.pair_index >= 0
    features, weights = design.features[judged], design.row_weights[judged]
    fitted = 0.5 * np.tanh(0.5 * (features @ found))
    scores = (weights * (design.excess[judged] - fitted))[:, None] * features
    clusters = np.zeros((design.num_prompts, features.shape[1]))
    np.add.at(clusters, design.prompt_index[judged], scores)
    hessian = (features.T * (weights * (0.25 - fitted**2))) @ features
    anchors = design.features[design.row_weights == ANCHOR]
    bread = np.linalg.inv(hessian + np.diag(_ridge(design)) + 0.25 * ANCHOR * anchors.T @ anchors)
    correction = design.num_prompts / max(1, design.num_prompts - 1)
    return np.asarray(correction * bread @ (clusters.T @ clusters) @ bread)


def _misfit(design: JointDesign, found: Floats) -> float:
    """The largest distance of a pair's win rate from what the strengths give it."""
    judged = design.pair_index >= 0
    fitted = 0.5 * np.tanh(0.5 * (design.features[judged] @ found))
    weights = design.row_weights[judged]
    residuals = np.bincount(design.pair_index[judged], weights=weights * (design.excess[judged] - fitted))
    return float(np.abs(residuals / np.bincount(design.pair_index[judged], weights=weights)).max())
